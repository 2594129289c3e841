//! Networks with their weights, where candle's tensors meet the engine.

use candle_core::{Device, Result, Storage, Tensor, bail};

use super::engine::Engine;
use super::model::graph;
use crate::job::{Input, Job, Model, Precision};

/// A network with its weights, ready for forward passes: a teacher.
pub struct Frozen {
    engine: Engine<f32>,
    weights: Vec<f32>,
}

impl Frozen {
    pub fn new(model: &Model, input: Input, precision: Precision, weights: Vec<f32>) -> Frozen {
        let mut engine = Engine::frozen(graph(model, input).with_precision(precision));
        engine.load(&weights);
        Frozen { engine, weights }
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]` in [-1, 1].
    ///
    /// # Errors
    /// When the images are not on the CPU, or not of the network's size.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        forward(&self.engine, &self.weights, images)
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
pub fn forward(engine: &Engine<f32>, weights: &[f32], images: &Tensor) -> Result<Tensor> {
    let (count, extent) = (images.dim(0)?, engine.graph().extents[0]);
    if images.dims()[1..] != [extent.h, extent.w, extent.c] {
        bail!("expected images [N, {}, {}, {}], got {:?}", extent.h, extent.w, extent.c, images.dims())
    }
    let logits = with_numbers(images, |images| engine.forward(weights, images))?;
    Tensor::from_vec(logits, (count, engine.classes()), &Device::Cpu)
}

/// Runs `body` on the numbers of a tensor on the CPU, contiguous or made so.
///
/// # Errors
/// When the tensor is not f32 on the CPU.
pub fn with_numbers<R>(tensor: &Tensor, body: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => Ok(body(&storage.as_slice::<f32>()?[start..end])),
        _ => bail!("expected a tensor on the CPU"),
    }
}
