//! The cohort loop: company, threads, interruptions and teachers.

use std::fs;

use distillery::event::{Event, Failure, Message, Which};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::train::{self, Control, End, network, optimizer, teacher};

use crate::small::{MODES, distil, labels, manifest, messages, rows, train};

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
    let mixed = || distil(&teacher, Teaching::IndependentMixup { mixup: 1.0 }, 3);
    let jobs =
        [distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 2), Job { learning_rate: 0.001, ..mixed() }];
    cut_everywhere([&jobs[0], &jobs[1]], &undisturbed);
    let jobs = [
        Job { optimizer: shampoo(), learning_rate: 0.001, ..mixed() },
        Job { optimizer: muon(), decay: Decay::LearningRate, ..mixed() },
    ];
    cut_everywhere([&jobs[0], &jobs[1]], &undisturbed);
}

fn cut_everywhere(both: [&Job; 2], undisturbed: &Folder) {
    let expected = train(&manifest(&both, 1), undisturbed);
    let (_place, disturbed, _) = taught();
    let mut said: Vec<Message> = Vec::new();
    let mut attempt = 0;
    // The flag is raised at the first word after each start: one step more is made, or none.
    loop {
        attempt += 1;
        let stop = Control::default();
        let mut words = 0;
        // The scheduler does not start what is finished.
        let open: Vec<&Job> = both.into_iter().filter(|job| !disturbed.student(&job.id()).is_file()).collect();
        let end = train::run(&manifest(&open, attempt), &disturbed, &stop, &mut |message| {
            if matches!(message.event, Event::Step { .. } | Event::Epoch(_)) {
                words += 1;
                if words >= attempt % 3 {
                    stop.stop();
                }
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
        assert_eq!(weights(&disturbed, job), weights(undisturbed, job));
    }
}

/// A torn checkpoint is reported, the one before it used, and the result is the same.
#[test]
fn a_torn_checkpoint_costs_an_epoch_and_nothing_else() {
    let (_place, undisturbed) = folder();
    let job = labels(4);
    let expected = train(&manifest(&[&job], 1), &undisturbed);
    let (_place, disturbed) = folder();
    let stop = Control::default();
    let mut said = Vec::new();
    let end = train::run(&manifest(&[&job], 1), &disturbed, &stop, &mut |message| {
        if matches!(&message.event, Event::Epoch(epoch) if epoch.epoch == 3) {
            stop.stop();
        }
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

/// A network that breaks without its loss showing it is noticed all the same: at the step, not in a report.
#[test]
fn a_broken_network_is_never_done() {
    let (_place, folder) = folder();
    for job in [
        Job { learning_rate: 1e300, warmup: Warmup::Steps(0), ..labels(1) },
        Job {
            optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-300 }),
            learning_rate: 1.0,
            ..labels(3)
        },
    ] {
        let said = train(&manifest(&[&job], 1), &folder);
        let last = &said.last().unwrap().event;
        assert!(matches!(last, Event::Failed { class: Failure::NotFinite, .. }), "{last:?}");
        assert!(!folder.student(&job.id()).exists());
    }
}

/// A stop is heeded while a teacher answers for all, and what it answered is kept.
#[test]
fn a_teacher_that_is_asked_once_can_be_stopped() {
    let (_place, folder, teacher) = taught();
    let mut job = distil(&teacher, Teaching::FixedInceptionEnsemble { crops: 40 }, 1);
    job.split.train.end = 600;
    let (_place, undisturbed, _) = taught();
    let expected = rows(&train(&manifest(&[&job], 1), &undisturbed), &job);
    let mut stopped = 0;
    let mut said = Vec::new();
    loop {
        let stop = std::sync::Arc::new(Control::default());
        let presser = std::sync::Arc::clone(&stop);
        // Longer each time, until everything is answered.
        let patience = std::time::Duration::from_millis(150 * (1 + stopped));
        let pressing = std::thread::spawn(move || {
            std::thread::sleep(patience);
            presser.stop();
        });
        let end = train::run(&manifest(&[&job], 1), &folder, &stop, &mut |message| said.push(message)).unwrap();
        pressing.join().unwrap();
        match end {
            End::Complete => break,
            End::Stopped => stopped += 1,
        }
        assert!(stopped < 100, "no progress");
    }
    assert!(stopped > 0, "it was never stopped");
    assert_eq!(rows(&said, &job), expected);
    assert_eq!(weights(&folder, &job), weights(&undisturbed, &job));
    // A kept file that is torn is not believed.
    let file = fs::read_dir(folder.root().join("streams")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::remove_file(folder.student(&job.id())).unwrap();
    assert_eq!(rows(&train(&manifest(&[&job], 2), &folder), &job), expected);
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

/// Warm-up from zero, then the decay counted from its end (paper.md 1.2).
#[test]
fn schedules_by_hand() {
    let job = Job { epochs: 16, warmup: Warmup::Steps(20), ..labels(16) };
    assert_eq!(job.total_steps(), 100);
    let share = |job: &Job, step| optimizer::share_of_peak(job, step);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    near(share(&job, 0), 0.0);
    near(share(&job, 5), 0.25);
    near(share(&job, 20), 1.0);
    near(share(&job, 60), 0.5);
    near(share(&job, 80), 0.5 * (1.0 + (0.75 * std::f64::consts::PI).cos()));
    near(share(&job, 100), 0.0);
    let linear = Job { schedule: Schedule::Linear, ..job.clone() };
    near(share(&linear, 70), 0.375);
    let constant = Job { schedule: Schedule::Constant, warmup: Warmup::Share(0.1), ..job.clone() };
    near(share(&constant, 5), 0.5);
    near(share(&constant, 99), 1.0);
    let quadratic = Job { schedule: Schedule::Quadratic, ..job.clone() };
    near(share(&quadratic, 60), 0.25);
    near(share(&quadratic, 100), 0.0);
    // Of 80 steps after the warm-up the last 20 fall.
    let cooldown = Job { schedule: Schedule::Cooldown(0.25), ..job.clone() };
    for (step, expected) in [(10, 0.5), (20, 1.0), (80, 1.0), (90, 0.5), (99, 0.05), (100, 0.0)] {
        near(share(&cooldown, step), expected);
    }
}

/// Decay in the paper's convention: `weight -= share * (rate * update + decay * weight)`, on kernels and head only, and
/// clipping before Adam.
#[test]
fn decay_follows_the_schedule_but_not_the_rate() {
    let job = Job { warmup: Warmup::Steps(0), schedule: Schedule::Linear, weight_decay: 0.1, ..labels(1) };
    let step = |job: &Job, step: u64, gradient: [f32; 2]| {
        let mut weights = [2.0f32, 2.0];
        let layout = optimizer::Layout { len: 2, decayed: std::iter::once(0..1).collect(), matrices: Vec::new() };
        let mut state = optimizer::State::new(&job.optimizer, &layout);
        let norm = optimizer::apply(job, step, &layout, &gradient, &mut state, &mut weights);
        (weights, norm, state)
    };
    let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
    // No gradient: only decay, whatever the learning rate, and only where it applies.
    for learning_rate in [1e-3, 1.0] {
        let (weights, norm, _) = step(&Job { learning_rate, ..job.clone() }, 0, [0.0, 0.0]);
        near(weights[0], 2.0 - 0.1 * 2.0);
        near(weights[1], 2.0);
        assert_eq!(norm, 0.0);
    }
    // Half way down the schedule it is half as much.
    let half = job.total_steps() / 2;
    let (weights, ..) = step(&job, half, [0.0, 0.0]);
    near(weights[0], 2.0 - 0.5 * 0.1 * 2.0);
    // Clipped at norm 1: (3, 4) becomes (0.6, 0.8), of which Adam keeps a tenth; the norm reported is the one before.
    let (_, norm, clipped) = step(&job, 0, [3.0, 4.0]);
    assert_eq!(norm, 5.0);
    near(clipped.moments[0].1[0], 0.06);
    near(clipped.moments[0].1[1], 0.08);
    let (_, _, kept) = step(&Job { clip: Clip::Off, ..job }, 0, [3.0, 4.0]);
    near(kept.moments[0].1[1], 0.4);
}

/// A student's file is a teacher as well: by content, with what does not fit listed by name.
#[test]
fn weights_on_disk_teach() {
    let (_place, folder, teacher) = taught();
    let path = folder.student(&teacher.id());
    let from_file = |model: Model| {
        let mut job = distil(&teacher, Teaching::ConsistentInceptionCrop, 1);
        let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
        distil.teachers[0].source =
            NetworkSource::Weights(Weights { sha256: "w".into(), model, normalization: Normalization::default() });
        let mut manifest = manifest(&[&job], 1);
        manifest.places.weights.insert("w".into(), path.clone());
        (job, manifest)
    };
    let (job, manifest_) = from_file(teacher.student.clone());
    let by_file = rows(&train(&manifest_, &folder), &job);
    let by_job = distil(&teacher, Teaching::ConsistentInceptionCrop, 1);
    assert_eq!(by_file, rows(&train(&manifest(&[&by_job], 1), &folder), &by_job));

    let (_, wrong) = from_file(Model::BitResnetSmall(BitResnetSmall { depth: 14, width: 4 }));
    let error = train::run(&wrong, &folder, &Control::default(), &mut |_| {}).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("missing: `stages.0.blocks.1.norm1.weight`")
            && error.contains("`stages.0.blocks.1.conv1.weight`"),
        "{error}"
    );
    let (_, wrong) = from_file(Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 8 }));
    let error = format!("{:#}", train::run(&wrong, &folder, &Control::default(), &mut |_| {}).unwrap_err());
    assert!(error.contains("expected F32 [8, 1, 3, 3]"), "{error}");
}

/// Two teachers at their own resolutions, by every rule, asked at every step and once: the ensemble is measured too, and is
/// no single teacher; a weight is heard; what is recorded is what was answered.
#[test]
fn two_teachers_are_an_ensemble() {
    let (_place, folder, first) = taught();
    let second = Job { seed: 5, resolution: 14, ..labels(2) };
    train(&manifest(&[&second], 1), &folder);
    let mut seen = Vec::new();
    for teaching in [
        Teaching::FunctionMatching { mixup: 1.0 },
        Teaching::FixedCentralCrop,
        Teaching::FixedInceptionEnsemble { crops: 3 },
    ] {
        let mut measured = Vec::new();
        for (ensemble, weight) in [
            (Ensemble::MeanLogits, 1.0),
            (Ensemble::MeanLogits, 3.0),
            (Ensemble::MeanProbabilities, 1.0),
            (Ensemble::MeanProbabilities, 3.0),
            (Ensemble::SumOfKl, 1.0),
            (Ensemble::SumOfKl, 3.0),
        ] {
            let mut job = distil(&first, teaching, 1);
            let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
            distil.ensemble = ensemble;
            distil.distance = Distance::Kl(Kl::new(1.0));
            let source = NetworkSource::Job(std::sync::Arc::new(second.clone()));
            distil.teachers.push(Teacher { source, resolution: 14, weight });
            let said = train(&manifest(&[&job], 1), &folder);
            let checked: Vec<(Option<u32>, u64)> = said
                .iter()
                .filter_map(|message| match &message.event {
                    Event::Teacher(check) if check.split == Which::Test => Some((check.teacher, check.top1.to_bits())),
                    _ => None,
                })
                .collect();
            assert_eq!(checked.iter().map(|(who, _)| *who).collect::<Vec<_>>(), [Some(0), Some(1), None]);
            measured.push((checked[2].1, said.clone()));
            let numbers = rows(&said, &job);
            assert!(!seen.contains(&numbers), "{ensemble:?} {weight}");
            if teaching.mixes() {
                fs::remove_dir_all(folder.job(&job.id())).unwrap();
                let recorded = distillery::plan::Manifest { record_teacher: true, ..manifest(&[&job], 1) };
                assert_eq!(rows(&train(&recorded, &folder), &job), numbers);
                fs::remove_dir_all(folder.job(&job.id())).unwrap();
                assert_eq!(rows(&train(&recorded, &folder), &job), numbers);
            }
            seen.push(numbers);
        }
        // Where it is measured, a sum of divergences is the mean of probabilities.
        assert_eq!((measured[4].0, measured[5].0), (measured[2].0, measured[3].0));
    }
}

/// A sum of divergences is so many times the divergence from the mean of probabilities, at temperature 1 and up to a
/// constant: without clipping plain descent at half the rate takes the same way.
#[test]
fn a_sum_of_divergences_is_a_mean_of_probabilities() {
    let (_place, folder, first) = taught();
    let second = Job { seed: 5, resolution: 14, ..labels(2) };
    train(&manifest(&[&second], 1), &folder);
    let run = |ensemble, rate| {
        let mut job = distil(&first, Teaching::ConsistentInceptionCrop, 1);
        job.optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: false });
        (job.clip, job.learning_rate, job.weight_decay) = (Clip::Off, rate, 0.0);
        let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
        (distil.ensemble, distil.distance) = (ensemble, Distance::Kl(Kl::new(1.0)));
        let source = NetworkSource::Job(std::sync::Arc::new(second.clone()));
        distil.teachers.push(Teacher { source, resolution: 14, weight: 1.0 });
        train(&manifest(&[&job], 1), &folder);
        let bytes = weights(&folder, &job);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = tensors.names();
        names.sort_unstable();
        let numbers: Vec<u8> = names.iter().flat_map(|name| tensors.tensor(name).unwrap().data().to_vec()).collect();
        numbers.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect::<Vec<f32>>()
    };
    let (sum, mean) = (run(Ensemble::SumOfKl, 0.05), run(Ensemble::MeanProbabilities, 0.1));
    assert_ne!(sum, mean);
    for (a, b) in sum.iter().zip(&mean) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

/// Every distance, with labels and without: finite numbers, a falling loss, and the same bits on one thread and on three,
/// alone or with others.
#[test]
fn every_distance_trains() {
    let (_place, alone, teacher) = taught();
    let (_place, together, _) = taught();
    let plain = Distance::Kl(Kl { temperature: 4.0, scale: Scale::Plain });
    let mut jobs = Vec::new();
    for distance in [
        Distance::Kl(Kl::new(4.0)),
        plain,
        Distance::Squared,
        Distance::Euclidean,
        Distance::PseudoLabels(PseudoLabels { smoothing: 0.1 }),
        Distance::Dist(Dist { beta: 1.0, gamma: 1.0, temperature: 2.0 }),
        Distance::Dkd(Dkd { alpha: 1.0, beta: 8.0, temperature: 4.0 }),
    ] {
        for weight in [0.0, 0.5] {
            let mut job = distil(&teacher, Teaching::ConsistentInceptionCrop, 4);
            let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
            (distil.distance, distil.labels) = (distance, LabelShare { weight, smoothing: 0.2 * weight });
            jobs.push(job);
        }
    }
    let all: Vec<&Job> = jobs.iter().collect();
    let said = rayon_pool(3).install(|| train(&manifest(&all, 1), &together));
    for job in &jobs {
        let Objective::Distil(distil) = &job.objective else { unreachable!() };
        let losses: Vec<f64> = said
            .iter()
            .filter(|message| message.job == job.id())
            .filter_map(|message| match &message.event {
                Event::Epoch(epoch) => Some(epoch.training_loss),
                _ => None,
            })
            .collect();
        let what = format!("{:?} {:?}: {losses:?}", distil.distance, distil.labels);
        assert!(losses.len() == 4 && losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{what}");
        assert!(losses[3] < losses[0], "{what}");
        let single = rayon_pool(1).install(|| train(&manifest(&[job], 1), &alone));
        assert_eq!(rows(&single, job), rows(&said, job), "{what}");
        assert_eq!(weights(&alone, job), weights(&together, job), "{what}");
    }
}

/// Labels beside a teacher are mixed as the student's own images are.
#[test]
fn labels_beside_a_teacher_train_where_images_are_mixed() {
    let (_place, folder, teacher) = taught();
    for teaching in [Teaching::FunctionMatching { mixup: 1.0 }, Teaching::IndependentMixup { mixup: 1.0 }] {
        let run = |weight| {
            let mut job = distil(&teacher, teaching, 2);
            let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
            distil.labels.weight = weight;
            rows(&train(&manifest(&[&job], 1), &folder), &job)
        };
        let (with, without) = (run(0.5), run(0.0));
        assert!(with.len() == 2 && with != without, "{}", teaching.name());
    }
}

/// A recorded teacher stream: whoever records, resumes or replays gets the bits of the live teacher; a student that
/// replays does look at the record; a damaged record is asked for again.
#[test]
fn a_recorded_stream_is_the_live_teacher() {
    let (_place, live, teacher) = taught();
    let job = distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 2);
    let other = Job { learning_rate: 0.003, ..job.clone() };
    let recorded = |job: &Job| distillery::plan::Manifest { record_teacher: true, ..manifest(&[job], 1) };
    let expected = rows(&train(&manifest(&[&job], 1), &live), &job);

    let (_place, folder, _) = taught();
    // Another student records the first epoch only, and a bit.
    let stop = Control::default();
    let end = train::run(&recorded(&other), &folder, &stop, &mut |message| {
        if matches!(message.event, Event::Epoch(_)) {
            stop.stop();
        }
    });
    assert_eq!(end.unwrap(), End::Stopped);
    let path = folder.recording(&distillery::plan::stream_key(&job));
    let half = fs::metadata(&path).unwrap().len();
    assert_eq!(rows(&train(&recorded(&job), &folder), &job), expected);
    assert_eq!(weights(&folder, &job), weights(&live, &job));
    let whole = fs::read(&path).unwrap();
    assert!(half > 0 && half < whole.len() as u64);

    // A record with other numbers and a true checksum: the student follows it, so it is the record that it sees.
    let again = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fs::remove_dir_all(folder.job(&job.id())).unwrap();
        rows(&train(&recorded(&job), &folder), &job)
    };
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    assert_eq!(again(&damaged), expected);
    assert_eq!(fs::read(&path).unwrap(), whole);
    let Objective::Distil(asked) = &job.objective else { unreachable!() };
    let machine = network::Machine::open(distillery::plan::Device::Cpu).unwrap();
    let teachers = teacher::Teachers::load(&machine, &job, asked, &folder, &Default::default()).unwrap();
    // Other weights and other machines answer otherwise.
    let key = teachers.key(&distillery::plan::stream_key(&job));
    let recording = teacher::Recording::open(&path, &key, 160).unwrap();
    let mut logits = recording.get(3).unwrap().unwrap();
    logits.iter_mut().for_each(|logit| *logit = -*logit);
    recording.put(3, &logits).unwrap();
    let forged = fs::read(&path).unwrap();
    assert_ne!(again(&forged), expected);
}

/// The vectors of another processor give the same bits: a worker that is told to use fewer says the same.
#[test]
fn bits_are_those_of_lesser_processors() {
    let networks = [
        (Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 }), 11, Precision::F32),
        (Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 }), 11, Precision::Bf16),
        (Model::BitResnet(BitResnet { depth: 26, width: 1 }), 33, Precision::F32),
        (Model::Vit(Vit::new(48, 1, 3, 4)), 12, Precision::F32),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Batch }), 32, Precision::F32),
    ];
    for (student, resolution, precision) in networks {
        let mut job = Job { student, resolution, precision, ..labels(1) };
        job.split.train.end = 32;
        job.split.validation.end = job.split.validation.start + 10;
        job.split.test.end = 10;
        let with = |vectors: &str| {
            let place = tempfile::tempdir().unwrap();
            let file = place.path().join("manifest.json");
            fs::write(&file, serde_json::to_string(&manifest(&[&job], 1)).unwrap()).unwrap();
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_distillery"))
                .env("DISTILLERY_VECTORS", vectors)
                .arg("worker")
                .arg("--manifest")
                .arg(file)
                .arg("--folder")
                .arg(place.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            rows(&messages(&said), &job)
        };
        let all = with("");
        assert_eq!(all.len(), 1);
        let less = with("avx2");
        if precision == Precision::F32 {
            assert_eq!(less, all, "{} with AVX2", job.student.label());
        } else {
            // Pairs of bf16 are added otherwise where a processor multiplies them itself.
            let loss = |rows: &[String]| {
                serde_json::from_str::<serde_json::Value>(&rows[0]).unwrap()["training-loss"].as_f64().unwrap()
            };
            assert!((loss(&less) / loss(&all) - 1.0).abs() < 1e-2, "{less:?} {all:?}");
        }
    }
}

/// In blocks smaller than some of its matrices, with roots that wait.
fn shampoo() -> Optimizer {
    let graft = Graft::Rmsprop(Rmsprop { beta2: 0.99, epsilon: 1e-8 });
    let (block, every, beta2, momentum, nesterov, epsilon) = (24, 4, 0.99, 0.9, true, 1e-6);
    Optimizer::Shampoo(Shampoo { block, every, beta2, momentum, nesterov, epsilon, graft })
}

fn muon() -> Optimizer {
    let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    Optimizer::Muon(Muon { momentum: 0.95, nesterov: true, iterations: 5, adam })
}

/// Students of every kind of network, optimiser and precision go through the loop, and are the same on any number of threads.
#[test]
fn every_network_and_optimizer_trains() {
    let networks = [
        (Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 }), 10),
        (Model::BitResnet(BitResnet { depth: 26, width: 1 }), 32),
        (Model::Vit(Vit::new(32, 1, 2, 4)), 12),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Group }), 32),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Large, norm: Norm::Batch }), 32),
        (Model::CifarResnet(CifarResnet { depth: 20 }), 12),
    ];
    for (student, resolution) in networks {
        let sgd = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true });
        let choices = [
            (labels(1).optimizer, Precision::F32),
            (sgd, Precision::Bf16),
            (shampoo(), Precision::F32),
            (muon(), Precision::F32),
        ];
        // Matrices of all kinds are in the small ones; the large take long.
        let small = matches!(student, Model::BitResnetSmall(_) | Model::Vit(_) | Model::CifarResnet(_));
        for (optimizer, precision) in choices.into_iter().take(if small { 4 } else { 2 }) {
            let mut job = Job { student: student.clone(), resolution, optimizer, precision, ..labels(1) };
            job.split.train.end = 32;
            job.split.validation.end = job.split.validation.start + 10;
            job.split.test.end = 10;
            let run = |threads| {
                let (_place, folder) = folder();
                let said = rayon_pool(threads).install(|| train(&manifest(&[&job], 1), &folder));
                (rows(&said, &job), weights(&folder, &job))
            };
            let one = run(1);
            assert_eq!(one.0.len(), 1, "{}", student.label());
            assert!(one == run(2), "{}: bits depend on the number of threads", student.label());
        }
    }
}
