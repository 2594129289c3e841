//! The store: what is taken, what is refused, what a reader gets back.

use std::collections::BTreeMap;

use distillery::event::{Epoch, Evaluation, Event, Failure, Message, TeacherCheck, Which};
use distillery::job::*;
use distillery::plan::{CohortId, Plan};
use distillery::store::{Block, Ending, Error, Provenance, State, Store, Taken};
use serde_json::json;

use crate::postgres::{Place, places};

pub fn labels_job(seed: u64, epochs: u32) -> Job {
    Job {
        data: Data {
            name: "toy".into(),
            sha256: "00".into(),
            classes: 10,
            channels: 1,
            train_images: 100,
            validation_images: 0,
            test_images: 20,
        },
        split: Split {
            train: Slice { part: Part::Train, start: 0, end: 80 },
            per_class: None,
            validation: Slice { part: Part::Train, start: 80, end: 100 },
            test: Slice { part: Part::Test, start: 0, end: 20 },
        },
        train_on: Vec::new(),
        student: Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 4 }),
        init: Init::Scratch,
        ema: Ema::Off,
        resolution: 16,
        crop: Crop { area: [0.25, 1.0], aspect: [0.75, 1.25], tries: 10, margin: 1.0 },
        resize: Default::default(),
        decode: Default::default(),
        flip: true,
        augment: Default::default(),
        mixing: Default::default(),
        objective: Objective::Labels(Labels { view: View::InceptionCrop, mixup: 0.0, label_smoothing: 0.0 }),
        epochs,
        batch: 20,
        optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
        learning_rate: 0.003,
        weight_decay: 1e-4,
        decay: Default::default(),
        warmup: Warmup::Steps(0),
        schedule: Schedule::Cosine,
        clip: Clip::Norm(1.0),
        precision: Precision::F32,
        seed,
    }
}

pub fn student_job(teacher: &Job, learning_rate: f64, epochs: u32) -> Job {
    Job {
        objective: Objective::Distil(Distil {
            teachers: vec![Teacher {
                source: NetworkSource::Job(std::sync::Arc::new(teacher.clone())),
                resolution: 16,
                weight: 1.0,
            }],
            ensemble: Ensemble::MeanLogits,
            teaching: Teaching::FunctionMatching { mixup: 1.0 },
            distance: Distance::Kl(Kl::new(2.0)),
            labels: LabelShare::default(),
            answers: Default::default(),
        }),
        learning_rate,
        epochs,
        ..labels_job(0, epochs)
    }
}

pub fn epoch(epoch: u32) -> Epoch {
    let evaluation = |split, top1| Evaluation {
        split,
        images: 20,
        loss: 1.0 / 3.0,
        top1,
        top5: 0.9,
        kl: Some(0.1),
        agreement: None,
        agreement5: None,
        distance: None,
        entropy: None,
        teacher_entropy: None,
        calibration_error: None,
        correct: None,
    };
    Epoch {
        epoch,
        step: 4 * u64::from(epoch),
        images: 80 * u64::from(epoch),
        training_loss: 1.0 / f64::from(epoch),
        learning_rate: 0.003,
        gradient_norm: 0.7,
        student_flops: 1e9,
        teacher_flops: 1e9,
        seconds: 0.5,
        images_per_second: 160.0,
        evaluations: vec![
            evaluation(Which::Validation, 0.1 * f64::from(epoch)),
            evaluation(Which::Test, 0.1 * f64::from(epoch) + 0.01),
        ],
    }
}

pub fn says(job: &Job, attempt: u32, at_ms: i64, event: Event) -> Message {
    Message { job: job.id(), attempt, at_ms, event }
}

fn cohort(job: &Job) -> CohortId {
    Plan::new(std::slice::from_ref(job), &Default::default()).cohorts[0].id.clone()
}

async fn recorded(place: &Place, jobs: &[&Job]) -> Store {
    let store = Store::open(&place.location).await.unwrap();
    record(&store, "toy", jobs, &[]).await;
    store
}

pub async fn record(store: &Store, name: &str, jobs: &[&Job], needed: &[&Job]) {
    let axes: Vec<BTreeMap<String, String>> =
        jobs.iter().map(|job| BTreeMap::from([("epochs".to_owned(), job.epochs.to_string())])).collect();
    let listed: Vec<_> = jobs.iter().zip(&axes).map(|(job, axes)| (job.id(), *job, axes)).collect();
    let needed: Vec<_> = needed.iter().map(|job| (job.id(), *job)).collect();
    store.record_experiment(name, "hash", Some("A toy"), "[base]", &listed, &needed).await.unwrap();
}

#[tokio::test]
async fn what_was_said_comes_back() {
    for place in places().await {
        let job = labels_job(0, 2);
        let store = recorded(&place, &[&job]).await;
        let attempt = store.begin_attempt(&job.id(), &cohort(&job), &Provenance::default()).await.unwrap();
        assert_eq!(attempt, 1);
        let check = TeacherCheck { teacher: None, split: Which::Validation, images: 20, top1: 0.9, top5: 1.0 };
        let messages = [
            says(&job, 1, 1, Event::Started { epoch: 0 }),
            says(&job, 1, 2, Event::Teacher(check.clone())),
            says(&job, 1, 3, Event::Step { step: 1, loss: 1.0, images_per_second: 1.0 }),
            says(&job, 1, 4, Event::Epoch(epoch(1))),
            says(&job, 1, 5, Event::Epoch(epoch(2))),
            says(&job, 1, 6, Event::Finished),
        ];
        let taken = store.take_all(&messages).await.unwrap();
        assert_eq!(taken, [Taken::Stored, Taken::Stored, Taken::Passing, Taken::Stored, Taken::Stored, Taken::Stored]);

        let outcomes = store.outcomes("toy").await.unwrap();
        assert_eq!(outcomes.len(), 1);
        assert_eq!(outcomes[0].job, job);
        assert_eq!(outcomes[0].axes["epochs"], "2");
        assert_eq!(outcomes[0].state, State::Done);
        assert_eq!(outcomes[0].epochs, [epoch(1), epoch(2)], "to the last bit");
        assert_eq!(outcomes[0].teachers, [check]);
        assert_eq!(outcomes[0].final_evaluation(Which::Test).unwrap().images, 20);
        assert!(store.done().await.unwrap().contains(&job.id()));

        // Read twice, nothing changes: neither the rows nor the state.
        let taken = store.take_all(&messages).await.unwrap();
        assert!(taken.iter().all(|taken| matches!(taken, Taken::Known | Taken::Passing)), "{taken:?}");
        assert_eq!(store.outcomes("toy").await.unwrap(), outcomes);
    }
}

#[tokio::test]
async fn an_older_attempt_gives_rows_but_no_state() {
    for place in places().await {
        let job = labels_job(0, 3);
        let store = recorded(&place, &[&job]).await;
        for attempt in 1..=2 {
            let begun = store.begin_attempt(&job.id(), &cohort(&job), &Provenance::default()).await.unwrap();
            assert_eq!(begun, attempt);
        }
        let taken = store
            .take_all(&[
                says(&job, 1, 1, Event::Epoch(epoch(1))),
                says(&job, 1, 2, Event::Finished),
                says(&job, 1, 3, Event::Failed { class: Failure::Io, message: "no".into() }),
                says(&job, 2, 4, Event::Epoch(Epoch { seconds: 9.0, ..epoch(1) })),
                says(&job, 3, 5, Event::Epoch(epoch(2))),
                says(&labels_job(9, 1), 1, 6, Event::Epoch(epoch(1))),
            ])
            .await
            .unwrap();
        let refused = Taken::Refused { newest: 2 };
        assert_eq!(taken, [Taken::Stored, refused, refused, Taken::Known, Taken::Unknown, Taken::Unknown]);
        let outcomes = store.outcomes("toy").await.unwrap();
        assert_eq!(outcomes[0].state, State::Running);
        assert_eq!(outcomes[0].epochs, [epoch(1)], "the first copy stays");
        let late = store.end_attempt(&job.id(), 1, &Ending::Stopped { message: String::new() }).await.unwrap();
        assert_eq!(late, refused);
    }
}

#[tokio::test]
async fn the_first_end_of_an_attempt_counts_but_a_result_always() {
    for place in places().await {
        let job = labels_job(0, 3);
        let store = recorded(&place, &[&job]).await;
        store.begin_attempt(&job.id(), &cohort(&job), &Provenance::default()).await.unwrap();
        let lost = Ending::Failed { class: Failure::Lost, message: "gone".into() };
        assert_eq!(store.end_attempt(&job.id(), 1, &lost).await.unwrap(), Taken::Stored);
        assert_eq!(store.end_attempt(&job.id(), 1, &lost).await.unwrap(), Taken::Known);
        let outcome = store.outcomes("toy").await.unwrap().remove(0);
        assert_eq!((outcome.state, outcome.message.as_deref()), (State::Failed, Some("gone")));
        store.take(&says(&job, 1, 9, Event::Finished)).await.unwrap();
        let outcome = store.outcomes("toy").await.unwrap().remove(0);
        assert_eq!((outcome.state, outcome.message), (State::Done, None));
        let again = store.begin_attempt(&job.id(), &cohort(&job), &Provenance::default()).await;
        assert!(matches!(again, Err(Error::NotStartable { .. })), "a job that is done is not begun again");
    }
}

#[tokio::test]
async fn blocked_jobs_are_named_and_open_again() {
    for place in places().await {
        let teacher = labels_job(0, 1);
        let student = student_job(&teacher, 0.01, 2);
        let store = Store::open(&place.location).await.unwrap();
        record(&store, "toy", &[&student], &[&teacher]).await;
        let block = Block { job: student.id(), by: teacher.id(), message: "needs the teacher".into() };
        store.block(&[block]).await.unwrap();
        let outcomes = store.outcomes("toy").await.unwrap();
        assert_eq!(outcomes.len(), 1, "teachers are not the grid's");
        assert_eq!((outcomes[0].state, outcomes[0].message.as_deref()), (State::Blocked, Some("needs the teacher")));
        let summary = store.experiments().await.unwrap().remove(0);
        assert_eq!(summary.jobs, BTreeMap::from([(State::Blocked, 1)]));
        assert_eq!(summary.needed, BTreeMap::from([(State::Open, 1)]));
        store.unblock(&[student.id()]).await.unwrap();
        assert_eq!(store.outcomes("toy").await.unwrap()[0].state, State::Open);
    }
}

#[tokio::test]
async fn two_experiments_share_a_job() {
    for place in places().await {
        let (shared, own) = (labels_job(0, 1), labels_job(1, 1));
        let store = recorded(&place, &[&shared, &own]).await;
        record(&store, "other", &[&shared], &[]).await;
        // The file was changed: `own` is no longer asked for, but its rows are kept.
        record(&store, "toy", &[&shared], &[]).await;
        assert_eq!(store.outcomes("toy").await.unwrap().len(), 1);
        assert_eq!(store.outcomes("other").await.unwrap().len(), 1);
        assert_eq!(store.not_done().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_query_reads_and_cannot_write() {
    for place in places().await {
        let job = labels_job(0, 2);
        let writer = recorded(&place, &[&job]).await;
        let reader = Store::open_read_only(writer.location()).await.unwrap();
        let (bytes, unknown) = match place.location.file() {
            Some(_) => ("x'0aff'", "no such column: colour"),
            None => (r"'\x0aff'::bytea", "column \"colour\" does not exist"),
        };
        let wide = format!(
            "SELECT teaching, epochs, learning_rate, temperature, 'a;b', {bytes} AS b, (SELECT count(*) FROM jobs)
             FROM jobs; -- done"
        );
        let result = reader.query(&wide).await.unwrap();
        assert_eq!(result.columns[..4], ["teaching", "epochs", "learning_rate", "temperature"]);
        assert_eq!(
            result.rows,
            [[json!("labels"), json!(2), json!(0.003), json!(null), json!("a;b"), json!("0aff"), json!(1)]]
        );
        let empty = reader.query("select id as job from jobs where 1 = 0").await.unwrap();
        assert_eq!((empty.columns, empty.rows), (vec!["job".to_owned()], vec![]));

        let elsewhere = place.folder.path().join("copy.sqlite");
        for sql in [
            "DELETE FROM jobs",
            "WITH x AS (SELECT 1) DELETE FROM jobs",
            "SELECT 1; DELETE FROM jobs",
            "/* SELECT */ PRAGMA query_only = OFF",
            &format!("VACUUM INTO '{}'", elsewhere.display()),
            &format!("ATTACH '{}' AS other", elsewhere.display()),
            r"SELECT E'\'', '; COMMIT; DELETE FROM jobs; SELECT 1 --'",
            "SELECT 1) AS q (c0); DELETE FROM jobs; SELECT (1",
            "EXPLAIN ANALYZE DELETE FROM jobs",
            "  -- nothing",
        ] {
            let error = reader.query(sql).await.unwrap_err();
            assert!(matches!(error, Error::Refused { .. } | Error::Query { .. }), "{sql}: {error}");
        }
        assert!(!elsewhere.exists());
        assert_eq!(reader.query("SELECT count(*) FROM jobs").await.unwrap().rows, [[json!(1)]]);
        assert!(matches!(writer.query("SELECT 1").await, Err(Error::Refused { .. })));
        let error = reader.query("SELECT colour FROM jobs").await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("the query failed: {unknown}\nhint: ")), "{error}");
        let sum = reader.query("SELECT sum(epochs) AS n, avg(epochs) AS m, epochs, epochs FROM jobs GROUP BY 3 -- all");
        assert_eq!(sum.await.unwrap().columns, ["n", "m", "epochs", "epochs"]);
        assert!(!reader.query("EXPLAIN SELECT 1 FROM jobs").await.unwrap().rows.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let missing = Store::open_read_only(&path).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    std::fs::write(&path, "certainly not a database, but long enough to be asked about it ".repeat(20)).unwrap();
    for error in [Store::open(&path).await.unwrap_err(), Store::open_read_only(&path).await.unwrap_err()] {
        assert!(matches!(error, Error::NotADatabase { .. }), "{error:?}");
    }
    std::fs::remove_file(&path).unwrap();
    Store::open(&path).await.unwrap().close().await.unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let older = Store::open_read_only(&folder.path().join("empty")).await.unwrap_err();
    assert!(matches!(older, Error::Older { .. }), "{older:?}");
    // Its first page is whole, the rest is not.
    let damaged = folder.path().join("damaged");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xff);
    std::fs::write(&damaged, bytes).unwrap();
    for error in [Store::open_read_only(&damaged).await.unwrap_err(), Store::open(&damaged).await.unwrap_err()] {
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    }
    // A later version's migration is in the file.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (999, 'later', '2030-01-01', 1, x'00', 1)")
        .execute(&mut connection)
        .await
        .unwrap();
    for error in [Store::open(&path).await.unwrap_err(), Store::open_read_only(&path).await.unwrap_err()] {
        assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_large_sweep_is_recorded_in_seconds() {
    for place in places().await {
        let jobs: Vec<Job> = (0..20_000).map(|seed| labels_job(seed, 1)).collect();
        let store = Store::open(&place.location).await.unwrap();
        let begun = std::time::Instant::now();
        record(&store, "toy", &jobs.iter().collect::<Vec<_>>(), &[]).await;
        println!("20,000 jobs recorded in {:?}", begun.elapsed());
        assert_eq!(store.not_done().await.unwrap().len(), 20_000);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
