//! Teachers on the GPU: networks that only answer.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::buffer::{Buffer, floats};
use super::device::{Address, Gpu, Number, Spread};
use super::machine::{Machine, Planned, Replay, Task};
use super::operation::{Numbers, u32_of};
use super::transfer::{Peek, Uploads};
use crate::job::{Ensemble, Input, Model, Precision};
use crate::train::status::{STATUS_BYTES, Status};
use crate::train::teacher::Voice;

/// A network with its weights.
pub struct Frozen {
    machine: Rc<Machine>,
    planned: Planned,
    flat: Buffer,
    matrices: Buffer,
    replay: RefCell<Replay>,
}

impl Frozen {
    /// For batches of `batch` images.
    ///
    /// # Errors
    /// When there is too little memory, or a layer that the GPU cannot do.
    pub fn new(
        machine: &Rc<Machine>,
        model: &Model,
        input: Input,
        precision: Precision,
        batch: usize,
        weights: &[f32],
    ) -> Result<Frozen> {
        let planned = machine.plan(model, input, precision, batch, Task::Answers, 8 * weights.len())?;
        let program = &planned.program;
        let gpu = &machine.libraries.gpu;
        let flat = gpu.holding_floats(weights)?;
        let matrices = gpu.allocate(program.rows.matrices * program.number.bytes())?;
        program.rows.pack(gpu, program.number, Numbers { flat: flat.address, matrices: matrices.address })?;
        Ok(Frozen { machine: Rc::clone(machine), planned, flat, matrices, replay: RefCell::default() })
    }

    fn weights(&self) -> Numbers {
        Numbers { flat: self.flat.address, matrices: self.matrices.address }
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]`, from the host to the host.
    ///
    /// # Errors
    /// As [`Machine::logits`].
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.machine.logits(&self.planned.program, self.weights(), images)
    }

    /// Answers a batch at `images`, as one of several teachers whose answers are taken together at `to`, or lie side by
    /// side there.
    ///
    /// # Errors
    /// The driver's and the libraries'.
    pub fn answer(&self, images: Address, to: Address, voice: Voice) -> Result<()> {
        let Planned { program, passes } = &self.planned;
        let (piece, generation) = self.machine.piece(program.bytes)?;
        let gpu = &self.machine.libraries.gpu;
        let (some, classes) = (program.images, program.classes);
        self.replay.borrow_mut().run(&self.machine, generation, [images, to, 0], || {
            for pass in 0..*passes {
                let from = images + (pass * some * program.image * program.number.bytes()) as u64;
                program.answer(piece, self.weights(), from)?;
                let to = to + (pass * some * voice.width(classes) * 4) as u64;
                gather(gpu, program.logits(piece), to, (some, classes), voice)?;
            }
            Ok(())
        })
    }
}

/// Takes a teacher's logits `[N, classes]` into what several answer.
///
/// # Errors
/// The driver's.
pub fn gather(gpu: &Gpu, logits: Address, to: Address, (images, classes): (usize, usize), voice: Voice) -> Result<()> {
    let (n, place, count) = (images * classes, u32_of(voice.place), u32_of(voice.count));
    let (weight, total) = (voice.weight as f32, voice.total as f32);
    let (logits, to, numbers, classes) = (logits.into(), to.into(), (n as u64).into(), u32_of(classes).into());
    let (place, count, weight, total) = (place.into(), count.into(), weight.into(), total.into());
    match voice.ensemble {
        Ensemble::MeanLogits => {
            let arguments = [logits, to, numbers, place, count, weight, total];
            gpu.launch(Number::F32, "mean_logits", Spread::over(n), &arguments)
        }
        Ensemble::MeanProbabilities => {
            let arguments = [logits, to, classes, place, count, weight, total];
            gpu.launch(Number::F32, "mean_probabilities", Spread::blocks([images, 1, 1], 128), &arguments)
        }
        Ensemble::SumOfKl => {
            let arguments = [logits, to, numbers, classes, place, count];
            gpu.launch(Number::F32, "each_logits", Spread::over(n), &arguments)
        }
    }
}

/// Where the teachers' answers to a batch lie, f32.
pub struct Answers {
    machine: Rc<Machine>,
    buffer: Buffer,
    /// Of the GPU's time: a `Status` of `kernels/weights.cu`.
    clock: Buffer,
    numbers: usize,
    uploads: Option<Uploads>,
    /// Answers on their way to the host, by their step.
    coming: Vec<(u64, Peek)>,
    idle: Vec<Peek>,
}

impl Answers {
    /// Of so many numbers.
    ///
    /// # Errors
    /// When there is too little memory.
    pub fn new(machine: &Rc<Machine>, numbers: usize) -> Result<Answers> {
        let buffer = machine.libraries.gpu.allocate(4 * numbers)?;
        Ok(Answers {
            machine: Rc::clone(machine),
            buffer,
            clock: machine.libraries.gpu.holding(&[0; STATUS_BYTES])?,
            numbers,
            uploads: None,
            coming: Vec::new(),
            idle: Vec::new(),
        })
    }

    pub fn address(&self) -> Address {
        self.buffer.address
    }

    /// Starts the clock.
    ///
    /// # Errors
    /// The driver's.
    pub fn begin(&self) -> Result<()> {
        self.clock("begin_step")
    }

    /// Stops it.
    ///
    /// # Errors
    /// The driver's.
    pub fn end(&self) -> Result<()> {
        self.clock("end_step")
    }

    fn clock(&self, kernel: &'static str) -> Result<()> {
        let spread = Spread::blocks([1, 1, 1], 1);
        self.machine.libraries.gpu.launch(Number::F32, kernel, spread, &[self.clock.address.into()])
    }

    /// Seconds between starts and stops so far; waits for the GPU.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn seconds(&self) -> Result<f64> {
        let mut bytes = [0; STATUS_BYTES];
        self.machine.libraries.gpu.download(self.clock.address, &mut bytes)?;
        Ok(Status::read(&bytes).seconds)
    }

    /// Takes answers that the host has.
    ///
    /// # Errors
    /// The driver's.
    pub fn put(&mut self, logits: &[f32]) -> Result<()> {
        if self.uploads.is_none() {
            self.uploads = Some(Uploads::new(&self.machine.libraries.gpu, 4 * self.numbers)?);
        }
        let uploads = self.uploads.as_mut().context("it was just made")?;
        uploads.send_floats(self.buffer.address, logits)
    }

    /// Asks for the answers to step `step`, for the host to keep.
    ///
    /// # Errors
    /// The driver's.
    pub fn ask(&mut self, step: u64) -> Result<()> {
        let mut peek = match self.idle.pop() {
            Some(peek) => peek,
            None => Peek::new(&self.machine.libraries.gpu, 4 * self.numbers)?,
        };
        peek.ask(self.buffer.address)?;
        self.coming.push((step, peek));
        Ok(())
    }

    /// Gives `keep` the answers that have come, or all that were asked for.
    ///
    /// # Errors
    /// `keep`'s and the driver's.
    pub fn take(&mut self, all: bool, mut keep: impl FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        while let Some((step, peek)) = self.coming.first_mut() {
            let Some(bytes) = peek.look(all)? else { break };
            keep(*step, &floats(bytes).collect::<Vec<f32>>())?;
            self.idle.push(self.coming.remove(0).1);
        }
        Ok(())
    }
}
