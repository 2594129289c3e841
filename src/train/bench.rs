//! Whole training steps of known workloads, for `distillery bench` and its twins in PyTorch (`benches/torch`).
//!
//! | name | step | batch |
//! |---|---|---|
//! | W1 | distillation by KL at T = 2 of bit-resnet-small 20x16 from 20x32 at 32 px, Adam | 128 |
//! | W2 | BiT-R50x1 at 224 px from labels, forward and backward | 8 |
//! | W3 | ViT of width 192, 6 blocks, patch 4 at 32 px from labels, Adam | 128 |
//! | r50 | BiT-R50x1 at 224 px from labels, Adam | 64 |
//! | r152-r50 | distillation by KL at T = 2 of BiT-R50x1 from BiT-R152x2 at 224 px, Adam | 64 |
//!
//! A step is what the training loop does once views are made: teacher forward, student forward and backward, optimiser.

mod numbers;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::engine::Engine;
use super::model::graph;
use super::network::Machine;
use super::ops::loss::Loss;
use super::ops::tile;
use super::{cuda, memory, optimizer};
use crate::job::{
    Adam, Augment, BitResnet, BitResnetSmall, Clip, Crop, Data, Decode, Ema, Init, Input, Job, Labels, Mixing, Model,
    Objective, Optimizer, Part, Precision, Resize, Schedule, Slice, Split, View, Vit, Warmup,
};
use crate::plan::Device;
use numbers::Numbers;

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

pub fn workloads() -> [Workload; 5] {
    let small = |width| Model::BitResnetSmall(BitResnetSmall { depth: 20, width });
    let bit = |depth, width| Model::BitResnet(BitResnet { depth, width });
    let input = |classes, resolution| Input::new(3, classes, resolution);
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
            student: bit(50, 1),
            teacher: None,
            input: input(1000, 224),
            optimizes: false,
        },
        Workload {
            name: "w3",
            about: "ViT 192x6/4 from labels, 32 px, batch 128",
            batch: 128,
            student: Model::Vit(Vit::new(192, 6, 3, 4)),
            teacher: None,
            input: input(100, 32),
            optimizes: true,
        },
        Workload {
            name: "r50",
            about: "BiT-R50x1 from labels, 224 px, batch 64",
            batch: 64,
            student: bit(50, 1),
            teacher: None,
            input: input(1000, 224),
            optimizes: true,
        },
        Workload {
            name: "r152-r50",
            about: "distillation of BiT-R50x1 from BiT-R152x2, 224 px, batch 64",
            batch: 64,
            student: bit(50, 1),
            teacher: Some(bit(152, 2)),
            input: input(1000, 224),
            optimizes: true,
        },
    ]
}

impl Workload {
    /// The same with steps of so many images.
    pub fn with_batch(self, batch: Option<u32>) -> Workload {
        Workload { batch: batch.unwrap_or(self.batch), ..self }
    }

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
        job(&self.student, self.input, self.batch, precision)
    }
}

/// A job of made-up data, whose student is trained with Adam at a constant rate.
pub fn job(student: &Model, input: Input, batch: u32, precision: Precision) -> Job {
    let slice = Slice { part: Part::Train, start: 0, end: batch };
    Job {
        data: Data {
            name: "made up".into(),
            sha256: String::new(),
            classes: input.classes,
            channels: input.channels,
            train_images: batch,
            validation_images: 0,
            test_images: 0,
        },
        split: Split { train: slice.clone(), per_class: None, validation: slice.clone(), test: slice },
        train_on: Vec::new(),
        student: student.clone(),
        init: Init::Scratch,
        ema: Ema::Off,
        resolution: input.resolution,
        crop: Crop { area: [0.05, 1.0], aspect: [0.75, 1.33], tries: 100, margin: 1.0 },
        resize: Resize::Bilinear,
        decode: Decode::Full,
        flip: false,
        augment: Augment::Off,
        mixing: Mixing::Mixup,
        objective: Objective::Labels(Labels { view: View::Resize, mixup: 0.0, label_smoothing: 0.0 }),
        epochs: 1_000_000,
        batch,
        optimizer: Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
        learning_rate: 1e-3,
        // Torch's AdamW with a decay of 0.01.
        weight_decay: 1e-5,
        decay: Default::default(),
        warmup: Warmup::Steps(0),
        schedule: Schedule::Constant,
        clip: Clip::Off,
        precision,
        seed: 0,
    }
}

/// A workload in memory, ready for steps.
pub struct Bench {
    pub workload: Workload,
    side: Side,
}

enum Side {
    Cpu(Box<OnCpu>),
    Cuda(Rc<cuda::machine::Machine>, Box<cuda::bench::Bench>),
}

struct OnCpu {
    job: Job,
    teacher: Option<(Engine<f32>, Vec<f32>)>,
    engine: Engine<f32>,
    students: Vec<Student>,
    gradient: Vec<f32>,
    images: Vec<f32>,
    targets: Vec<f32>,
    updates: bool,
    step: u64,
    loss: f64,
}

struct Student {
    weights: Vec<f32>,
    state: optimizer::State,
    layout: optimizer::Layout,
}

impl Bench {
    /// `inputs` is a file of weights, images and labels that a twin wrote; without it they are made up.
    ///
    /// # Errors
    /// When the file does not hold what the workload needs, or the device is not there or too small.
    pub fn new(
        workload: Workload,
        students: usize,
        precision: Precision,
        inputs: Option<&Path>,
        device: Device,
    ) -> Result<Bench> {
        let numbers = Numbers::read(&workload, inputs)?;
        let job = workload.job(precision);
        let side = match Machine::open(device)? {
            Machine::Cpu(_) => Side::Cpu(Box::new(OnCpu::new(&workload, job, students, numbers))),
            Machine::Cuda(machine) => {
                let inputs = cuda::bench::Inputs {
                    weights: &numbers.student,
                    teacher: workload.teacher.as_ref().zip(numbers.teacher.as_deref()),
                    images: &numbers.images,
                    targets: &numbers.targets,
                    temperature: TEMPERATURE,
                };
                let bench = cuda::bench::Bench::new(&machine, &job, students, &inputs, workload.optimizes)?;
                Side::Cuda(machine, Box::new(bench))
            }
        };
        Ok(Bench { workload, side })
    }

    /// One step of all students; on a GPU it is only enqueued.
    ///
    /// # Errors
    /// The GPU's.
    pub fn step(&mut self) -> Result<()> {
        match &mut self.side {
            Side::Cpu(bench) => {
                bench.step();
                Ok(())
            }
            Side::Cuda(_, bench) => bench.step(),
        }
    }

    /// The first student's loss in the last step, when all is done.
    ///
    /// # Errors
    /// The GPU's.
    pub fn finish(&mut self) -> Result<f64> {
        match &mut self.side {
            Side::Cpu(bench) => Ok(bench.loss),
            Side::Cuda(_, bench) => bench.finish(),
        }
    }

    /// Bytes of memory, of the process or of the GPU, that were held at most.
    pub fn peak_bytes(&self) -> Option<u64> {
        match &self.side {
            Side::Cpu(_) => memory::peak_bytes(),
            Side::Cuda(_, bench) => bench.peak_bytes(),
        }
    }

    /// Floating-point operations a second that the device reaches at best: on the CPU a multiply-add loop in f32 whose
    /// operands stay in the first cache, on all of the pool's threads; on a GPU a large product in `precision`.
    ///
    /// # Errors
    /// The GPU's.
    pub fn peak(&self, precision: Precision) -> Result<f64> {
        match &self.side {
            Side::Cpu(_) => Ok(peak()),
            Side::Cuda(machine, _) => cuda::bench::peak(machine, precision),
        }
    }

    /// The device's name.
    pub fn device(&self) -> String {
        match &self.side {
            Side::Cpu(_) => "cpu".to_owned(),
            Side::Cuda(machine, _) => machine.name().to_owned(),
        }
    }
}

impl OnCpu {
    fn new(workload: &Workload, job: Job, students: usize, numbers: Numbers) -> OnCpu {
        let Numbers { student, teacher, images, targets } = numbers;
        let (input, precision) = (workload.input, job.precision);
        let engine = Engine::trainable(graph(&workload.student, input).with_precision(precision));
        let layout = optimizer::Layout::new(&engine.graph().blueprint);
        let one = || Student {
            weights: student.clone(),
            state: optimizer::State::new(&job.optimizer, &layout),
            layout: layout.clone(),
        };
        let teacher = workload.teacher.as_ref().zip(teacher).map(|(model, weights)| {
            let mut engine = Engine::frozen(graph(model, input).with_precision(precision));
            engine.load(&weights);
            (engine, weights)
        });
        OnCpu {
            teacher,
            students: (0..students).map(|_| one()).collect(),
            gradient: vec![0.0; student.len()],
            engine,
            images,
            targets,
            updates: workload.optimizes,
            step: 0,
            loss: 0.0,
            job,
        }
    }

    fn step(&mut self) {
        let answer = self.teacher.as_ref().map(|(engine, weights)| engine.forward(weights, &self.images));
        let mut first = None;
        for student in &mut self.students {
            let loss = match &answer {
                Some(teacher) => Loss::kl(teacher, TEMPERATURE),
                None => Loss::cross_entropy(&self.targets),
            };
            let value = self.engine.step(&student.weights, &self.images, loss, &mut self.gradient);
            first.get_or_insert(value);
            if self.updates {
                let Student { weights, state, layout } = student;
                optimizer::apply(&self.job, self.step, layout, &self.gradient, state, weights);
            }
        }
        self.step += 1;
        self.loss = first.unwrap_or(0.0);
    }
}

/// Of all of the pool's threads together.
fn peak() -> f64 {
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
