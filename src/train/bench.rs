//! Whole training steps of three known workloads, for `distillery bench` and its twins in PyTorch (`benches/torch`).
//!
//! | name | step | batch |
//! |---|---|---|
//! | W1 | distillation by KL at T = 2 of bit-resnet-small 20x16 from 20x32 at 32 px, Adam | 128 |
//! | W2 | BiT-R50x1 at 224 px from labels, forward and backward | 8 |
//! | W3 | ViT of width 192, 6 blocks, patch 4 at 32 px from labels, Adam | 128 |
//!
//! A step is what the training loop does once views are made: teacher forward, student forward and backward, optimiser.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;

use super::engine::Engine;
use super::model::{Blueprint, graph};
use super::ops::loss::Loss;
use super::ops::tile;
use super::optimizer;
use super::random::{Purpose, Stream};
use crate::job::{
    Adam, BitResnet, BitResnetSmall, Clip, Crop, Data, Init, Input, Job, Labels, Model, Objective, Optimizer, Part,
    Precision, Schedule, Slice, Split, View, Vit, Warmup,
};

const TEMPERATURE: f64 = 2.0;

/// A step to be timed.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub batch: u32,
    student: Model,
    teacher: Option<Model>,
    input: Input,
    /// Whether weights are updated.
    optimizes: bool,
}

pub fn workloads() -> [Workload; 3] {
    let small = |width| Model::BitResnetSmall(BitResnetSmall { depth: 20, width });
    let input = |classes, resolution| Input { channels: 3, classes, resolution };
    [
        Workload {
            name: "w1",
            about: "distillation of bit-resnet-small 20x16 from 20x32, 32 px, batch 128",
            batch: 128,
            student: small(16),
            teacher: Some(small(32)),
            input: input(100, 32),
            optimizes: true,
        },
        Workload {
            name: "w2",
            about: "BiT-R50x1 from labels, 224 px, batch 8, no optimiser",
            batch: 8,
            student: Model::BitResnet(BitResnet { depth: 50, width: 1 }),
            teacher: None,
            input: input(1000, 224),
            optimizes: false,
        },
        Workload {
            name: "w3",
            about: "ViT 192x6/4 from labels, 32 px, batch 128",
            batch: 128,
            student: Model::Vit(Vit { width: 192, depth: 6, heads: 3, patch: 4 }),
            teacher: None,
            input: input(100, 32),
            optimizes: true,
        },
    ]
}

impl Workload {
    /// Floating-point operations of a step with so many students, as a direct convolution counts them: two a
    /// multiply-add, three forward passes a student and one the teacher.
    pub fn flops(&self, students: usize) -> f64 {
        let teacher = self.teacher.as_ref().map_or(0.0, |teacher| teacher.forward_flops(self.input));
        f64::from(self.batch) * (teacher + students as f64 * self.student.training_flops(self.input))
    }

    fn images(&self) -> usize {
        (self.batch * self.input.channels * self.input.resolution * self.input.resolution) as usize
    }

    fn job(&self, precision: Precision) -> Job {
        let slice = Slice { part: Part::Train, start: 0, end: self.batch };
        Job {
            data: Data {
                name: "made up".into(),
                sha256: String::new(),
                classes: self.input.classes,
                channels: self.input.channels,
                train_images: self.batch,
                test_images: 0,
            },
            split: Split { train: slice.clone(), validation: slice.clone(), test: slice },
            student: self.student.clone(),
            init: Init::Scratch,
            resolution: self.input.resolution,
            crop: Crop { area: [0.05, 1.0], aspect: [0.75, 1.33], tries: 100, margin: 1.0 },
            flip: false,
            objective: Objective::Labels(Labels { view: View::Resize, mixup: 0.0, label_smoothing: 0.0 }),
            epochs: 1_000_000,
            batch: self.batch,
            optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
            learning_rate: 1e-3,
            // Torch's AdamW with a decay of 0.01.
            weight_decay: 1e-5,
            warmup: Warmup::Steps(0),
            schedule: Schedule::Constant,
            clip: Clip::Off,
            precision,
            seed: 0,
        }
    }
}

struct Student {
    weights: Vec<f32>,
    state: optimizer::State,
    decayed: Vec<std::ops::Range<usize>>,
}

/// A workload in memory, ready for steps.
pub struct Bench {
    workload: Workload,
    job: Job,
    teacher: Option<(Engine<f32>, Vec<f32>)>,
    engine: Engine<f32>,
    students: Vec<Student>,
    gradient: Vec<f32>,
    images: Vec<f32>,
    /// Of labels, where there is no teacher.
    targets: Vec<f32>,
    step: u64,
}

impl Bench {
    /// `inputs` is a file of weights, images and labels that a twin wrote; without it they are made up.
    ///
    /// # Errors
    /// When the file does not hold what the workload needs.
    pub fn new(workload: Workload, students: usize, precision: Precision, inputs: Option<&Path>) -> Result<Bench> {
        let bytes = inputs.map(|path| fs::read(path).with_context(|| format!("cannot read `{}`", path.display())));
        let bytes = bytes.transpose()?;
        let file =
            bytes.as_deref().map(SafeTensors::deserialize).transpose().context("the inputs are no safetensors")?;
        let input = workload.input;
        let weights = |prefix: &str, blueprint: &Blueprint| -> Result<Vec<f32>> {
            let Some(file) = &file else { return Ok(blueprint.scratch(0)) };
            let mut flat = Vec::with_capacity(blueprint.len());
            for (entry, _) in blueprint.places() {
                flat.extend(floats(file, &format!("{prefix}.{}", entry.name), entry.len())?);
            }
            Ok(flat)
        };
        let job = workload.job(precision);
        let engine = Engine::trainable(graph(&workload.student, input).with_precision(precision));
        let blueprint = engine.graph().blueprint.clone();
        let own = weights("student", &blueprint)?;
        let student = || Student {
            weights: own.clone(),
            state: optimizer::State::new(&job.optimizer, if workload.optimizes { own.len() } else { 0 }),
            decayed: blueprint.decayed(),
        };
        let teacher = workload.teacher.as_ref().map(|teacher| -> Result<_> {
            let mut engine = Engine::frozen(graph(teacher, input).with_precision(precision));
            let weights = weights("teacher", &engine.graph().blueprint)?;
            engine.load(&weights);
            Ok((engine, weights))
        });
        let (batch, classes) = (workload.batch as usize, input.classes as usize);
        let mut stream = Stream::new(0, Purpose::TeacherView, 0);
        let images = match &file {
            Some(file) => floats(file, "images", workload.images())?,
            None => (0..workload.images()).map(|_| stream.between(-1.0, 1.0) as f32).collect(),
        };
        let mut targets = vec![0.0; batch * classes];
        for i in 0..batch {
            let label = match &file {
                Some(file) => floats(file, "labels", batch)?[i] as usize,
                None => stream.below(input.classes) as usize,
            };
            *targets.get_mut(i * classes + label).context("a label is beyond the classes")? = 1.0;
        }
        Ok(Bench {
            teacher: teacher.transpose()?,
            students: (0..students).map(|_| student()).collect(),
            gradient: vec![0.0; own.len()],
            engine,
            images,
            targets,
            step: 0,
            job,
            workload,
        })
    }

    /// One step of all students; the first one's loss.
    pub fn step(&mut self) -> f64 {
        let answer = self.teacher.as_ref().map(|(engine, weights)| engine.forward(weights, &self.images));
        let mut first = None;
        for student in &mut self.students {
            let loss = match &answer {
                Some(teacher) => Loss::Kl { teacher, temperature: TEMPERATURE },
                None => Loss::CrossEntropy { probabilities: &self.targets },
            };
            let (value, _) = self.engine.step(&student.weights, &self.images, loss, &mut self.gradient);
            first.get_or_insert(value);
            if self.workload.optimizes {
                let Student { weights, state, decayed } = student;
                optimizer::apply(&self.job, self.step, decayed, &self.gradient, state, weights);
            }
        }
        self.step += 1;
        first.unwrap_or(0.0)
    }
}

fn floats(file: &SafeTensors<'_>, name: &str, count: usize) -> Result<Vec<f32>> {
    let view = file.tensor(name).with_context(|| format!("the inputs have no `{name}`"))?;
    ensure!(view.data().len() == 4 * count, "`{name}` has not {count} numbers of 4 bytes");
    Ok(view.data().chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// Floating-point operations a second of all of the pool's threads together, from a multiply-add loop whose operands stay
/// in the first cache: what a kernel can reach at best on this machine, now.
pub fn peak() -> f64 {
    const TIME: Duration = Duration::from_millis(300);
    let rates = rayon::broadcast(|_| {
        let started = Instant::now();
        let mut flops = 0.0;
        while started.elapsed() < TIME {
            flops += tile::exercise();
        }
        flops / started.elapsed().as_secs_f64()
    });
    rates.iter().sum()
}
