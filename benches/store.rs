//! How many rows a second the store takes: a worker's epochs, each with three evaluations, in the batches in which a
//! scheduler writes them, synced to the disk. `cargo bench --bench store`.

use std::collections::BTreeMap;

use distillery::event::{Epoch, Evaluation, Event, Message, Which};
use distillery::job::{Job, JobId};
use distillery::plan::CohortId;
use distillery::store::{Provenance, Store};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn epoch(epoch: u32) -> Epoch {
    let evaluation = |split| Evaluation {
        split,
        images: 1000,
        loss: 0.5,
        top1: 0.8,
        top5: 0.9,
        kl: Some(0.1),
        agreement: Some(0.7),
        agreement5: Some(0.9),
        distance: Some(1.0),
        entropy: Some(1.0),
        teacher_entropy: Some(1.0),
        calibration_error: Some(0.1),
        correct: None,
    };
    Epoch {
        epoch,
        step: u64::from(epoch),
        images: 1000,
        training_loss: 0.5,
        learning_rate: 0.01,
        gradient_norm: 1.0,
        student_flops: 1e9,
        teacher_flops: 1e9,
        seconds: 1.0,
        images_per_second: 1000.0,
        evaluations: [Which::Train, Which::Validation, Which::Test].map(evaluation).to_vec(),
    }
}

/// A row is an epoch or an evaluation.
#[divan::bench(args = [1, 16, 256])]
fn rows(bencher: Bencher<'_, '_>, messages: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let text = include_str!("job.json");
    let job: Job = serde_json::from_str(text).expect("a job");
    let id: JobId = job.id();
    let cohort: CohortId = serde_json::from_str("\"c\"").expect("an id");
    let store = runtime.block_on(async {
        let store = Store::open(&folder.path().join("store.sqlite")).await.expect("a store");
        let axes = BTreeMap::new();
        store
            .record_experiment("bench", "hash", None, "", &[(id.clone(), &job, &axes)], &[])
            .await
            .expect("it is recorded");
        store.begin_attempt(&id, &cohort, &Provenance::default()).await.expect("it begins");
        store
    });
    let mut next = 0;
    bencher.counter(ItemsCount::new(4 * messages)).bench_local(|| {
        let batch: Vec<Message> = (0..messages)
            .map(|_| {
                next += 1;
                Message { job: id.clone(), attempt: 1, at_ms: 0, event: Event::Epoch(epoch(next)) }
            })
            .collect();
        runtime.block_on(store.take_all(&batch)).expect("they are taken")
    });
}
