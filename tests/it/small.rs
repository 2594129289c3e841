//! Jobs small enough for tests, on the data set in the binary.

use std::sync::OnceLock;

use distillery::event::{Event, Line, Message};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::plan::{Manifest, Plan, Student};
use distillery::source::{Origin, Source};
use distillery::train::data;
use distillery::train::{self, Control, End};

pub fn data() -> Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    let read = || data::identify(&Source::of(Origin::BuiltIn), &data::open(&Source::of(Origin::BuiltIn)).unwrap());
    DATA.get_or_init(read).clone()
}

pub fn labels(epochs: u32) -> Job {
    let slice = |part, start, end| Slice { part, start, end };
    Job {
        data: data(),
        split: Split {
            train: slice(Part::Train, 0, 100),
            per_class: None,
            validation: slice(Part::Train, 7000, 7060),
            test: slice(Part::Test, 0, 50),
        },
        train_on: Vec::new(),
        student: Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 4 }),
        init: Init::Scratch,
        ema: Ema::Off,
        resolution: 10,
        crop: Crop { area: [0.25, 1.0], aspect: [0.75, 1.3333], tries: 100, margin: 1.2 },
        resize: Resize::Bilinear,
        decode: Decode::Full,
        flip: true,
        augment: Default::default(),
        mixing: Default::default(),
        objective: Objective::Labels(Labels { view: View::InceptionCrop, mixup: 0.0, label_smoothing: 0.0 }),
        epochs,
        // 100 images are six batches and a quarter: epochs do not end where batches do.
        batch: 16,
        optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
        learning_rate: 0.01,
        weight_decay: 1e-4,
        decay: Default::default(),
        warmup: Warmup::Share(0.1),
        schedule: Schedule::Cosine,
        clip: Clip::Norm(1.0),
        precision: Precision::F32,
        seed: 0,
    }
}

pub fn distil(teacher: &Job, teaching: Teaching, epochs: u32) -> Job {
    Job {
        objective: Objective::Distil(Distil {
            teachers: vec![Teacher {
                source: NetworkSource::Job(std::sync::Arc::new(teacher.clone())),
                resolution: 10,
                weight: 1.0,
            }],
            ensemble: Ensemble::MeanLogits,
            teaching,
            distance: Distance::Kl(Kl::new(2.0)),
            labels: LabelShare::default(),
            answers: Answers::Live,
        }),
        ..labels(epochs)
    }
}

pub const MODES: [Teaching; 9] = [
    Teaching::FixedResize,
    Teaching::FixedCentralCrop,
    Teaching::FixedInceptionEnsemble { crops: 3 },
    Teaching::IndependentMildCrop,
    Teaching::IndependentInceptionCrop,
    Teaching::ConsistentMildCrop,
    Teaching::ConsistentInceptionCrop,
    Teaching::FunctionMatching { mixup: 1.0 },
    Teaching::IndependentMixup { mixup: 1.0 },
];

pub fn manifest(jobs: &[&Job], attempt: u32) -> Manifest {
    let jobs: Vec<Job> = jobs.iter().map(|job| (*job).clone()).collect();
    let done = jobs.iter().flat_map(|job| job.needs().map(|need| need.id())).collect();
    let plan = Plan::new(&jobs, &done);
    assert_eq!(plan.cohorts.len(), 1, "the jobs are one cohort");
    Manifest {
        cohort: plan.cohorts[0].id.clone(),
        students: jobs.into_iter().map(|job| Student { attempt, job }).collect(),
        places: Default::default(),
        evaluations: distillery::plan::Evaluations::Every(1),
        minitrain: 512,
        allow_teacher_at_chance: true,
        record_teacher: false,
        images: Default::default(),
        checkpoints: Default::default(),
        at_once: None,
        parts: None,
        device: distillery::plan::Device::Cpu,
        threads: 1,
    }
}

/// Trains to the end and returns what was said.
pub fn train(manifest: &Manifest, folder: &Folder) -> Vec<Message> {
    let mut messages = Vec::new();
    let end = train::run(manifest, folder, &Control::default(), &mut |message| messages.push(message)).unwrap();
    assert_eq!(end, End::Complete);
    messages
}

/// What a worker said on its standard output, but for its heartbeat.
pub fn messages(said: &str) -> Vec<Message> {
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("`{line}`")));
    let messages = lines.filter_map(|line| match line {
        Line::Message(message) => Some(*message),
        Line::Beat { .. } => None,
    });
    messages.collect()
}

/// The rows of one job without its times, as text: equal texts are equal bits.
pub fn rows(messages: &[Message], job: &Job) -> Vec<String> {
    let own = messages.iter().filter(|message| message.job == job.id());
    let rows = own.filter_map(|message| match &message.event {
        Event::Epoch(epoch) => {
            let mut epoch = epoch.clone();
            (epoch.seconds, epoch.images_per_second) = (0.0, 0.0);
            Some(serde_json::to_string(&epoch).unwrap())
        }
        _ => None,
    });
    rows.collect()
}
