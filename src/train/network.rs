//! Networks with their weights, and the machine that computes them: where candle's tensors meet the engines.

use std::rc::Rc;

use candle_core::{Device, Storage, Tensor, bail};

use super::cuda;
use super::engine::Engine;
use super::model::graph;
use super::moment::Moment;
use super::views::Look;
use crate::job::{Input, Job, Model, Precision};
use crate::plan;

/// What a cohort is trained on.
pub enum Machine {
    /// With the engines of the networks it trains.
    Cpu(Engines),
    Cuda(Rc<cuda::machine::Machine>),
}

/// A batch as one look shows it, `[N, S, S, C]` in [-1, 1].
#[derive(Clone)]
pub enum Shown {
    Cpu(Tensor),
    /// A place in the GPU's memory.
    Cuda(u64),
}

/// Teachers' logits for a batch, `[N, classes]`; where the student is given those of K teachers, `[N, K * classes]`.
#[derive(Clone)]
pub enum Answer {
    Cpu(Tensor),
    /// A place in the GPU's memory.
    Cuda(u64),
}

impl Machine {
    /// # Errors
    /// When the device is not there, or this program was built without it.
    pub fn open(device: plan::Device) -> anyhow::Result<Machine> {
        match device {
            plan::Device::Cpu => Ok(Machine::Cpu(Engines::default())),
            plan::Device::Cuda { ordinal, deterministic } => {
                cuda::machine::Machine::open(ordinal, deterministic).map(Machine::Cuda)
            }
        }
    }

    /// # Errors
    /// The device's.
    pub fn show(&self, moment: &Moment<'_, '_>, look: Look, precision: Precision) -> anyhow::Result<Shown> {
        match self {
            Machine::Cpu(_) => Ok(Shown::Cpu(moment.views.show(moment.batch, look)?)),
            Machine::Cuda(machine) => Ok(Shown::Cuda(machine.show(moment, look, precision)?)),
        }
    }

    /// The bits of an answer depend on this, besides on what is asked.
    pub fn identity(&self) -> String {
        match self {
            Machine::Cpu(_) => "cpu 1".to_owned(),
            Machine::Cuda(machine) => format!("cuda 1 {}", machine.identity()),
        }
    }
}

/// A network with its weights, ready for forward passes: a teacher.
pub enum Frozen {
    Cpu { engine: Box<Engine<f32>>, weights: Vec<f32> },
    Cuda(cuda::frozen::Frozen),
}

impl Frozen {
    /// `batch` is the number of images that are mostly asked about at once.
    ///
    /// # Errors
    /// When the device has no room for it.
    pub fn new(
        machine: &Machine,
        model: &Model,
        input: Input,
        precision: Precision,
        batch: u32,
        weights: Vec<f32>,
    ) -> anyhow::Result<Frozen> {
        match machine {
            Machine::Cpu(_) => {
                let mut engine = Box::new(Engine::frozen(graph(model, input).with_precision(precision)));
                engine.load(&weights);
                Ok(Frozen::Cpu { engine, weights })
            }
            Machine::Cuda(machine) => {
                let batch = batch as usize;
                cuda::frozen::Frozen::new(machine, model, input, precision, batch, &weights).map(Frozen::Cuda)
            }
        }
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]` in [-1, 1], from the host to the host.
    ///
    /// # Errors
    /// When the images are not on the CPU, or not of the network's size.
    pub fn forward(&self, images: &Tensor) -> anyhow::Result<Tensor> {
        match self {
            Frozen::Cpu { engine, weights } => Ok(forward(engine, weights, images)?),
            Frozen::Cuda(network) => network.forward(images),
        }
    }
}

/// Engines of the networks a cohort trains: students of one architecture take turns with one engine's memory.
#[derive(Default)]
pub struct Engines(Vec<(Model, Input, Precision, Engine<f32>)>);

impl Engines {
    /// The engine of a job's student.
    pub fn get(&mut self, job: &Job) -> &mut Engine<f32> {
        let (model, input, precision) = (&job.student, job.input(), job.precision);
        let found = self.0.iter().position(|(m, i, p, _)| (m, *i, *p) == (model, input, precision));
        let place = found.unwrap_or_else(|| {
            let graph = graph(model, input).with_precision(precision);
            self.0.push((model.clone(), input, precision, Engine::trainable(graph)));
            self.0.len() - 1
        });
        &mut self.0[place].3
    }
}

/// Logits of an engine whose weights are loaded.
///
/// # Errors
/// As [`Frozen::forward`].
pub fn forward(engine: &Engine<f32>, weights: &[f32], images: &Tensor) -> candle_core::Result<Tensor> {
    let (count, extent) = (images.dim(0)?, engine.graph().extents[0]);
    if images.dims()[1..] != [extent.h, extent.w, extent.c] {
        bail!("expected images [N, {}, {}, {}], got {:?}", extent.h, extent.w, extent.c, images.dims())
    }
    let logits = with_numbers(images, |images| engine.forward(weights, images))?;
    Tensor::from_vec(logits, (count, engine.classes()), &Device::Cpu)
}

/// As [`with_numbers`], where there may be no tensor.
///
/// # Errors
/// As there.
pub fn with_numbers_of<R>(tensor: Option<&Tensor>, body: impl FnOnce(Option<&[f32]>) -> R) -> candle_core::Result<R> {
    match tensor {
        Some(tensor) => with_numbers(tensor, |numbers| body(Some(numbers))),
        None => Ok(body(None)),
    }
}

/// Runs `body` on the numbers of a tensor on the CPU, contiguous or made so.
///
/// # Errors
/// When the tensor is not f32 on the CPU.
pub fn with_numbers<R>(tensor: &Tensor, body: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => Ok(body(&storage.as_slice::<f32>()?[start..end])),
        _ => bail!("expected a tensor on the CPU"),
    }
}
