//! Outcomes that nobody trained, as the store would tell them.

use std::collections::BTreeMap;

use distillery::event::{Epoch, Evaluation, TeacherCheck, Which};
use distillery::job::{
    Adam, BitResnetSmall, Clip, Crop, Data, Distance, Distil, Ema, Ensemble, Init, Job, Kl, LabelShare, Labels, Model,
    NetworkSource, Objective, Optimizer, Part, Precision, Schedule, Slice, Split, Teacher, Teaching, View, Warmup,
};
use distillery::store::{Outcome, State};

pub const FUNCTION_MATCHING: Teaching = Teaching::FunctionMatching { mixup: 1.0 };

/// All modes there are.
pub fn modes() -> Vec<Teaching> {
    vec![
        Teaching::FixedResize,
        Teaching::FixedCentralCrop,
        Teaching::FixedInceptionEnsemble { crops: 1024 },
        Teaching::IndependentMildCrop,
        Teaching::IndependentInceptionCrop,
        Teaching::ConsistentMildCrop,
        Teaching::ConsistentInceptionCrop,
        FUNCTION_MATCHING,
        Teaching::IndependentMixup { mixup: 1.0 },
    ]
}

fn net(depth: u32, width: u32) -> Model {
    Model::BitResnetSmall(BitResnetSmall { depth, width })
}

pub fn from_labels(epochs: u32, seed: u64) -> Job {
    let slice = |part, start, end| Slice { part, start, end };
    Job {
        data: Data {
            name: "fashion-mnist-8k2k".to_owned(),
            sha256: "00".repeat(32),
            classes: 10,
            channels: 1,
            train_images: 8000,
            validation_images: 0,
            test_images: 2000,
        },
        split: Split {
            train: slice(Part::Train, 0, 6000),
            per_class: None,
            validation: slice(Part::Train, 7000, 8000),
            test: slice(Part::Test, 0, 2000),
        },
        train_on: Vec::new(),
        student: net(8, 8),
        init: Init::Scratch,
        ema: Ema::Off,
        resolution: 28,
        crop: Crop { area: [0.08, 1.0], aspect: [0.75, 4.0 / 3.0], tries: 10, margin: 1.25 },
        resize: Default::default(),
        decode: Default::default(),
        flip: true,
        augment: Default::default(),
        mixing: Default::default(),
        objective: Objective::Labels(Labels { view: View::InceptionCrop, mixup: 0.0, label_smoothing: 0.0 }),
        epochs,
        batch: 128,
        optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
        learning_rate: 3e-3,
        weight_decay: 1e-4,
        decay: Default::default(),
        warmup: Warmup::Share(0.1),
        schedule: Schedule::Cosine,
        clip: Clip::Norm(1.0),
        precision: Precision::F32,
        seed,
    }
}

pub fn from_teacher(teaching: Teaching, epochs: u32, seed: u64) -> Job {
    let mut teacher = from_labels(40, 0);
    teacher.student = net(14, 32);
    Job {
        objective: Objective::Distil(Distil {
            teachers: vec![Teacher {
                source: NetworkSource::Job(std::sync::Arc::new(teacher)),
                resolution: 28,
                weight: 1.0,
            }],
            ensemble: Ensemble::MeanLogits,
            teaching,
            distance: Distance::Kl(Kl::new(1.0)),
            labels: LabelShare::default(),
            answers: Default::default(),
        }),
        ..from_labels(epochs, seed)
    }
}

/// Numbers in [-1, 1] that look drawn at random and are the same everywhere.
fn noise(job: &Job, salt: u64) -> f64 {
    let text = format!("{} {} {}", job.teaching_name(), job.epochs, job.seed);
    let mut state = text.bytes().fold(salt ^ 0x9E37_79B9_7F4A_7C15, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(23)
    });
    state ^= state >> 31;
    state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Top-1 and final training loss as the paper would have it: fixed first and flat, function matching last and high.
fn level(job: &Job) -> (f64, f64) {
    let patience = f64::from(job.epochs).log10() - 1.0;
    match job.teaching_name().split(['/', '-']).next() {
        Some("labels") => (0.795 + 0.010 * patience, 0.30),
        Some("fixed") => (0.788 + 0.018 * patience, 0.06),
        Some("independent") => (0.792 + 0.024 * patience, 0.31),
        Some("consistent") => (0.797 + 0.036 * patience, 0.12),
        _ => (0.782 + 0.053 * patience, 0.18),
    }
}

/// A job that ran to its end.
pub fn done(job: Job, axes: &[(&str, &str)]) -> Outcome {
    let (top1, floor) = level(&job);
    let distilled = !job.teachers().is_empty();
    let epochs = (1..=job.epochs)
        .map(|epoch| {
            let share = f64::from(epoch) / f64::from(job.epochs);
            let top1 = top1 + 0.004 * noise(&job, 1) - 0.3 * (-6.0 * share).exp();
            let of = |split: Which, images: u64, top1: f64| Evaluation {
                split,
                images,
                loss: 1.8 - 1.5 * top1,
                top1,
                top5: 1.0 - 0.1 * (1.0 - top1),
                kl: distilled.then_some(0.9 - top1),
                agreement: distilled.then_some(top1 + 0.035 + 0.004 * noise(&job, 2)),
                agreement5: None,
                distance: None,
                entropy: None,
                teacher_entropy: None,
                calibration_error: None,
                correct: None,
            };
            Epoch {
                epoch,
                step: job.steps_at(epoch),
                images: u64::from(epoch) * job.train_images(),
                training_loss: floor
                    + 1.6 * (-0.09 * f64::from(epoch)).exp()
                    + 0.03 * noise(&job, 100 + u64::from(epoch) / 3),
                learning_rate: job.learning_rate * (1.0 - share),
                gradient_norm: 1.0,
                student_flops: 1e9 * f64::from(epoch),
                teacher_flops: 5e9 * f64::from(epoch),
                seconds: 1.0,
                images_per_second: 6000.0,
                evaluations: vec![of(Which::Validation, 1000, top1 + 0.005), of(Which::Test, 2000, top1)],
            }
        })
        .collect();
    let check =
        |split: Which, images: u64, top1: f64| TeacherCheck { teacher: Some(0), split, images, top1, top5: 0.99 };
    let teachers = if distilled {
        vec![check(Which::Validation, 1000, 0.871), check(Which::Test, 2000, 0.8615)]
    } else {
        Vec::new()
    };
    let mut all = BTreeMap::from([
        ("epochs".to_owned(), job.epochs.to_string()),
        ("seed".to_owned(), job.seed.to_string()),
        ("teaching".to_owned(), job.teaching_name().to_owned()),
    ]);
    all.extend(axes.iter().map(|(axis, place)| ((*axis).to_owned(), (*place).to_owned())));
    let job_epochs = job.epochs;
    Outcome {
        id: job.id(),
        job,
        axes: all,
        state: State::Done,
        message: None,
        seconds: f64::from(job_epochs),
        epochs,
        teachers,
        flags: BTreeMap::new(),
    }
}

/// The same job before it ran.
pub fn open(job: Job) -> Outcome {
    Outcome { state: State::Open, epochs: Vec::new(), teachers: Vec::new(), ..done(job, &[]) }
}

/// The quickstart's grid: four modes and labels, three durations, `seeds` seeds.
pub fn grid(seeds: u64) -> Vec<Outcome> {
    let four = [
        Teaching::FixedCentralCrop,
        Teaching::IndependentInceptionCrop,
        Teaching::ConsistentInceptionCrop,
        FUNCTION_MATCHING,
    ];
    product(&four, &[10, 30, 100], seeds)
}

pub fn product(modes: &[Teaching], durations: &[u32], seeds: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for &epochs in durations {
        for seed in 0..seeds {
            outcomes.extend(modes.iter().map(|&mode| done(from_teacher(mode, epochs, seed), &[])));
            outcomes.push(done(from_labels(epochs, seed), &[]));
        }
    }
    outcomes
}
