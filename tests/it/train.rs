//! The cohort loop: company, threads, interruptions and teachers.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use distillery::event::{Event, Failure, Message, Which};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::train::{self, End};

use crate::small::{MODES, distil, labels, manifest, rows, train};

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path());
    (place, folder)
}

/// A folder in which the teacher is trained.
fn taught() -> (tempfile::TempDir, Folder, Job) {
    let (place, folder) = folder();
    let teacher = labels(2);
    train(&manifest(&[&teacher], 1), &folder);
    (place, folder, teacher)
}

fn weights(folder: &Folder, job: &Job) -> Vec<u8> {
    fs::read(folder.student(&job.id())).unwrap()
}

/// Alone, in a cohort of four that differ in learning rate, temperature, student, view and length, and on one, two or
/// three threads: the same bits, in every row and in the weights.
#[test]
fn company_and_threads_change_nothing() {
    let (_place, alone, teacher) = taught();
    let (_place, together, _) = taught();
    let x = distil(&teacher, Teaching::IndependentInceptionCrop, 2);
    let others = [
        Job { learning_rate: 0.003, epochs: 3, ..distil(&teacher, Teaching::ConsistentInceptionCrop, 3) },
        Job {
            student: Model::BitResnetSmall(BitResnetSmall { depth: 14, width: 8 }),
            resolution: 12,
            ..distil(&teacher, Teaching::IndependentInceptionCrop, 2)
        },
        distil(&teacher, Teaching::IndependentInceptionCrop, 1),
    ];
    let said = train(&manifest(&[&x], 1), &alone);
    let single = rows(&said, &x);
    assert_eq!(single.len(), 2);
    for threads in [1, 2, 3] {
        let pool = rayon_pool(threads);
        let all = [&others[0], &x, &others[1], &others[2]];
        let said = pool.install(|| train(&manifest(&all, 1), &together));
        assert_eq!(rows(&said, &x), single, "{threads} threads");
        assert_eq!(weights(&together, &x), weights(&alone, &x));
        for job in all {
            assert_eq!(rows(&said, job).len(), job.epochs as usize);
            fs::remove_dir_all(together.job(&job.id())).unwrap();
        }
    }
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Every mode trains, is asked what it should be, and learns something.
#[test]
fn every_mode_trains() {
    let (_place, folder, teacher) = taught();
    for teaching in MODES {
        let job = distil(&teacher, teaching, 2);
        let said = train(&manifest(&[&job], 1), &folder);
        let losses: Vec<f64> = said
            .iter()
            .filter_map(|message| match &message.event {
                Event::Epoch(epoch) => Some(epoch.training_loss),
                _ => None,
            })
            .collect();
        assert_eq!(losses.len(), 2, "{}", teaching.name());
        assert!(losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{}: {losses:?}", teaching.name());
        let evaluation = said.iter().rev().find_map(|message| match &message.event {
            Event::Epoch(epoch) => epoch.evaluations.iter().find(|e| e.split == Which::Validation).cloned(),
            _ => None,
        });
        let evaluation = evaluation.unwrap();
        assert_eq!(evaluation.images, 60);
        assert!(evaluation.kl.is_some() && evaluation.agreement.is_some());
    }
}

/// Stopped after every possible step and started again, a cohort of two ends in the same bits.
#[test]
fn a_stop_at_any_step_changes_nothing() {
    let (_place, undisturbed, teacher) = taught();
    let jobs = [
        distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 2),
        Job { learning_rate: 0.001, ..distil(&teacher, Teaching::IndependentMixup { mixup: 1.0 }, 3) },
    ];
    let both = [&jobs[0], &jobs[1]];
    let expected = train(&manifest(&both, 1), &undisturbed);
    let (_place, disturbed, _) = taught();
    let mut said: Vec<Message> = Vec::new();
    let mut attempt = 0;
    // The flag is raised at the first word after each start: one step more is made, or none.
    loop {
        attempt += 1;
        let stop = AtomicBool::new(false);
        let mut words = 0;
        // The scheduler does not start what is finished.
        let open: Vec<&Job> = both.into_iter().filter(|job| !disturbed.student(&job.id()).is_file()).collect();
        let end = train::run(&manifest(&open, attempt), &disturbed, &stop, &mut |message| {
            if matches!(message.event, Event::Step { .. } | Event::Epoch(_)) {
                words += 1;
                stop.store(words >= attempt % 3, Ordering::Relaxed);
            }
            said.push(message);
        });
        match end.unwrap() {
            End::Complete => break,
            End::Stopped => assert!(attempt < 200, "no progress"),
        }
    }
    assert!(attempt > 5, "only {attempt} attempts");
    for job in both {
        let mut met = rows(&said, job);
        met.dedup();
        assert_eq!(met, rows(&expected, job));
        assert_eq!(weights(&disturbed, job), weights(&undisturbed, job));
    }
}

/// A torn checkpoint is reported, the one before it used, and the result is the same.
#[test]
fn a_torn_checkpoint_costs_an_epoch_and_nothing_else() {
    let (_place, undisturbed) = folder();
    let job = labels(4);
    let expected = train(&manifest(&[&job], 1), &undisturbed);
    let (_place, disturbed) = folder();
    let stop = AtomicBool::new(false);
    let mut said = Vec::new();
    let end = train::run(&manifest(&[&job], 1), &disturbed, &stop, &mut |message| {
        stop.store(matches!(&message.event, Event::Epoch(epoch) if epoch.epoch == 3), Ordering::Relaxed);
        said.push(message);
    });
    assert_eq!(end.unwrap(), End::Stopped);
    let newest = ["checkpoint-a.safetensors", "checkpoint-b.safetensors"]
        .map(|name| disturbed.job(&job.id()).join(name))
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let again = train(&manifest(&[&job], 2), &disturbed);
    assert!(again.iter().any(|message| matches!(&message.event, Event::Torn { .. })));
    assert!(matches!(again.iter().find(|m| matches!(m.event, Event::Started { .. })).unwrap().event,
        Event::Started { epoch } if epoch > 0));
    said.extend(again);
    let mut met = rows(&said, &job);
    met.sort_by_key(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["epoch"].as_u64());
    met.dedup();
    assert_eq!(met, rows(&expected, &job));
    assert_eq!(weights(&disturbed, &job), weights(&undisturbed, &job));
}

/// A student whose loss overflows leaves, with the step and the rate in its message; its cohort goes on.
#[test]
fn one_student_diverges_and_the_others_do_not_notice() {
    let (_place, folder, teacher) = taught();
    let mode = Teaching::ConsistentInceptionCrop;
    let good = distil(&teacher, mode, 2);
    let bad = Job { weight_decay: 1e30, clip: Clip::Off, learning_rate: 1e30, ..distil(&teacher, mode, 2) };
    let said = train(&manifest(&[&bad, &good], 1), &folder);
    let failure = said.iter().find_map(|message| match &message.event {
        Event::Failed { class, message: text } if message.job == bad.id() => Some((*class, text.clone())),
        _ => None,
    });
    let (class, text) = failure.expect("it fails");
    assert_eq!(class, Failure::NotFinite);
    assert!(text.contains("step") && text.contains("learning rate"), "{text}");
    let (_place, alone, _) = taught();
    assert_eq!(rows(&said, &good), rows(&train(&manifest(&[&good], 1), &alone), &good));
}

/// A teacher that guesses stops its students before their first step, unless the file allows it.
#[test]
fn a_teacher_at_chance_is_noticed() {
    let (_place, folder) = folder();
    let teacher = Job { learning_rate: 1e-12, epochs: 1, ..labels(1) };
    train(&manifest(&[&teacher], 1), &folder);
    let student = distil(&teacher, Teaching::ConsistentInceptionCrop, 1);
    let strict = distillery::plan::Manifest { allow_teacher_at_chance: false, ..manifest(&[&student], 1) };
    let said = train(&strict, &folder);
    let failure = said.iter().find_map(|message| match &message.event {
        Event::Failed { class, message } => Some((*class, message.clone())),
        _ => None,
    });
    let (class, text) = failure.unwrap();
    assert_eq!(class, Failure::TeacherAtChance);
    assert!(text.contains("60 validation images") && text.contains("hint: "), "{text}");
    assert!(rows(&said, &student).is_empty());
    assert!(said.iter().any(|message| matches!(&message.event, Event::Teacher(check) if check.split == Which::Test)));
    let said = train(&manifest(&[&student], 2), &folder);
    assert_eq!(rows(&said, &student).len(), 1);
}
