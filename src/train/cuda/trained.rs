//! A student on the GPU: its weights and moments, and its steps.
//!
//! A step is told what changes from step to step ([`Control`]) by a copy, and is else the same work every time, which is
//! recorded once. What it leaves behind adds up in a [`Status`], where the host sees it when it looks.
//!
//! The directions of Shampoo and Muon are made on the host, by the very code of the CPU's engine: at each step it waits for
//! the gradient and sends the direction, which then stands for it. That is right but slow for large students, whose roots
//! and products would suit a GPU.

use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::buffer::{Buffer, floats, write_floats};
use super::device::{Address, Spread};
use super::loss::{self, Beside};
use super::machine::{Machine, Planned, Replay, Task};
use super::operation::{Numbers, u32_of};
use super::transfer::{Peek, Uploads};
use crate::job::{Clip, Decay, Job, Optimizer, Sgd};
use crate::train::model::Blueprint;
use crate::train::optimizer::{self, Layout, State};
use crate::train::status::{CLIP_AT, Given, Loss, STATUS_BYTES, Status, Sums};

const CONTROL_BYTES: usize = 32;

/// The moving average of a student's weights, and its matrices for when it is asked.
struct Average {
    flat: Buffer,
    matrices: Buffer,
}

/// Of an optimiser whose directions are made on the host.
struct Direct {
    layout: Layout,
    /// Whose first vectors are on the GPU.
    state: State,
}

pub struct Trained {
    machine: Rc<Machine>,
    planned: Planned,
    flat: Buffer,
    matrices: Buffer,
    moments: Vec<Buffer>,
    direct: Option<Direct>,
    average: Option<Average>,
    control: Buffer,
    controls: Uploads,
    status: Buffer,
    peek: Peek,
    labels: Option<(Buffer, Uploads)>,
    beside: Beside,
    replay: Replay,
    /// Steps of the epoch before the clock was last reset.
    timed_from: u64,
}

/// Bytes that a student takes for itself.
///
/// # Errors
/// As [`Machine::plan`].
pub fn bytes(machine: &Machine, job: &Job) -> Result<usize> {
    let program = plan(machine, job)?.program;
    let averages = usize::from(!job.ema.is_off());
    let vectors = 1 + moments(&job.optimizer) + averages;
    let matrices = (1 + averages) * program.rows.matrices * program.number.bytes();
    let loss = loss::bytes(Loss::of(&job.objective), job.batch as usize, job.data.classes as usize);
    Ok(4 * program.numbers * vectors + matrices + loss + (64 << 10))
}

/// How many vectors of a state the GPU has.
fn moments(optimizer: &Optimizer) -> usize {
    match optimizer {
        Optimizer::Adam(_) => 2,
        Optimizer::Sgd(_) | Optimizer::Shampoo(_) => 1,
        Optimizer::Muon(_) => 0,
    }
}

fn plan(machine: &Machine, job: &Job) -> Result<Planned> {
    // Weights, moments and matrices of one student, about.
    let beside = 16 * job.student.parameters(job.input()) as usize;
    let meet = Loss::of(&job.objective).distance.is_some_and(|distance| distance.is_of_batch());
    let task = if meet { Task::WholeSteps } else { Task::Steps };
    machine.plan(&job.student, job.input(), job.precision, job.batch as usize, task, beside)
}

impl Trained {
    /// `sums` are those of the steps that were done of this epoch: they are added to.
    ///
    /// # Errors
    /// When there is too little memory, or a layer that the GPU cannot do.
    pub fn new(machine: &Rc<Machine>, job: &Job, weights: &[f32], state: &State, sums: Sums) -> Result<Trained> {
        let planned = plan(machine, job)?;
        let (program, gpu) = (&planned.program, &machine.libraries.gpu);
        let flat = gpu.holding_floats(weights)?;
        let matrices = gpu.allocate(program.rows.matrices * program.number.bytes())?;
        program.rows.pack(gpu, program.number, Numbers { flat: flat.address, matrices: matrices.address })?;
        let moments = state.moments.iter().take(moments(&job.optimizer));
        let moments = moments.map(|(_, numbers)| gpu.holding_floats(numbers)).collect::<Result<_>>()?;
        let direct = optimizer::has_direction(&job.optimizer)
            .then(|| Direct { layout: Layout::new(&Blueprint::new(&job.student, job.input())), state: state.clone() });
        let average = state.average.as_deref().map(|numbers| -> Result<Average> {
            let matrices = gpu.allocate(program.rows.matrices * program.number.bytes())?;
            Ok(Average { flat: gpu.holding_floats(numbers)?, matrices })
        });
        let average = average.transpose()?;
        let mut words = [0u64; STATUS_BYTES / 8];
        (words[0], words[1], words[5]) = (sums.loss.to_bits(), sums.norm.to_bits(), sums.steps);
        let status = gpu.holding(&words.map(u64::to_le_bytes).concat())?;
        Ok(Trained {
            flat,
            matrices,
            moments,
            direct,
            average,
            control: gpu.allocate(CONTROL_BYTES)?,
            controls: Uploads::new(gpu, CONTROL_BYTES)?,
            status,
            peek: Peek::new(gpu, STATUS_BYTES)?,
            labels: None,
            beside: Beside::new(gpu, job)?,
            replay: Replay::default(),
            timed_from: sums.steps,
            machine: Rc::clone(machine),
            planned,
        })
    }

    fn weights(&self) -> Numbers {
        Numbers { flat: self.flat.address, matrices: self.matrices.address }
    }

    /// Logits `[N, classes]` of images `[N, S, S, C]`, from the host to the host; by the average where there is one.
    ///
    /// # Errors
    /// As [`Machine::logits`].
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let program = &self.planned.program;
        let weights = match &self.average {
            None => self.weights(),
            Some(average) => {
                let weights = Numbers { flat: average.flat.address, matrices: average.matrices.address };
                program.rows.pack(&self.machine.libraries.gpu, program.number, weights)?;
                weights
            }
        };
        self.machine.logits(program, weights, images)
    }

    /// Takes labels that the host has, `[N, classes]`; returns where they lie.
    ///
    /// # Errors
    /// The driver's.
    pub fn labels(&mut self, numbers: &[f32]) -> Result<Address> {
        let gpu = &self.machine.libraries.gpu;
        if self.labels.is_none() {
            let bytes = 4 * numbers.len();
            self.labels = Some((gpu.allocate(bytes)?, Uploads::new(gpu, bytes)?));
        }
        let (buffer, uploads) = self.labels.as_mut().context("it was just made")?;
        uploads.send_floats(buffer.address, numbers)?;
        Ok(buffer.address)
    }

    /// Enqueues step `step` (from 0) on what it is given. With `update` false weights stay as they are.
    ///
    /// # Errors
    /// The driver's and the libraries'.
    pub fn step(&mut self, job: &Job, step: u64, given: Given, loss: Loss, update: bool) -> Result<()> {
        let constants = optimizer::constants(job, step);
        let direct = self.direct.is_some();
        // A direction has it already.
        let coupled = if direct { 0.0 } else { constants.coupled };
        let most = match job.clip {
            Clip::Norm(most) => most as f32,
            Clip::Off => f32::INFINITY,
        };
        self.controls.send(self.control.address, |bytes| {
            write_floats(&[constants.rate, constants.correction, constants.keep, most], &mut bytes[..16]);
            bytes[16..24].copy_from_slice(&step.to_le_bytes());
            write_floats(&[constants.take, coupled], &mut bytes[24..]);
            anyhow::Ok(())
        })?;
        let (piece, generation) = self.machine.piece(self.planned.program.bytes)?;
        let machine = Rc::clone(&self.machine);
        let mut replay = std::mem::take(&mut self.replay);
        let places = [given.images, given.answers.unwrap_or(0), given.labels.unwrap_or(0)];
        let done = replay.run(&machine, generation, places, || {
            self.learn(piece, given, loss)?;
            match (direct, update) {
                (true, _) => Ok(()),
                (false, true) => self.update(&job.optimizer, piece).and_then(|()| self.end()),
                (false, false) => self.end(),
            }
        });
        self.replay = replay;
        done?;
        if direct {
            if update {
                self.send_direction(job, step, piece)?;
                self.update(&job.optimizer, piece)?;
            }
            self.end()?;
        }
        Ok(())
    }

    /// Waits for the gradient and puts the direction in its place, which needs no clipping any more.
    fn send_direction(&mut self, job: &Job, step: u64, piece: Address) -> Result<()> {
        let gpu = Rc::clone(&self.machine.libraries.gpu);
        let mut status = [0; STATUS_BYTES];
        gpu.download(self.status.address, &mut status)?;
        if Status::read(&status).failed.is_some() {
            return Ok(());
        }
        let gradient = self.gradient()?;
        let mut weights = vec![0.0; gradient.len()];
        let mut bytes = vec![0; 4 * gradient.len()];
        if job.decay == Decay::Gradient {
            gpu.download(self.flat.address, &mut bytes)?;
            weights.iter_mut().zip(floats(&bytes)).for_each(|(to, value)| *to = value);
        }
        let Direct { layout, state } = self.direct.as_mut().context("the optimiser has a direction")?;
        let clip = Status::clip(&status) as f32;
        let direction = optimizer::direction(job, step, layout, (&gradient, clip), &weights, state);
        write_floats(&direction, &mut bytes);
        gpu.upload(self.planned.program.gradient(piece).flat, &bytes)?;
        gpu.upload(self.status.address + CLIP_AT as u64, &1f64.to_le_bytes())
    }

    /// Loss and gradient.
    fn learn(&self, piece: Address, given: Given, loss: Loss) -> Result<()> {
        let Planned { program, passes } = &self.planned;
        let (gpu, number, rows) = (&self.machine.libraries.gpu, program.number, &program.rows);
        let (status, control) = (self.status.address, self.control.address);
        gpu.launch(number, "begin_step", Spread::blocks([1, 1, 1], 1), &[status.into()])?;
        program.train(piece, self.weights(), given, (loss, &self.beside), *passes)?;
        let (squares, losses) = program.sums(piece);
        let batch = program.images * passes;
        let arguments = [
            losses.into(),
            u32_of(batch).into(),
            squares.into(),
            u32_of(rows.count).into(),
            control.into(),
            status.into(),
        ];
        gpu.launch(number, "judge", Spread::blocks([1, 1, 1], 1024), &arguments)
    }

    /// From the gradient, or the direction in its place, to the next weights.
    fn update(&self, optimizer: &Optimizer, piece: Address) -> Result<()> {
        let program = &self.planned.program;
        let (gpu, number, rows) = (&self.machine.libraries.gpu, program.number, &program.rows);
        let (status, control) = (self.status.address, self.control.address);
        let gradient = program.gradient(piece).flat;
        // A momentum that keeps nothing of itself is what it is given.
        let moment = |place: usize| self.moments.get(place).map_or(gradient, |moment| moment.address);
        let (flat, matrices) = (self.flat.address, self.matrices.address);
        let table = rows.table();
        let descend = |sgd: Sgd| {
            let arguments = [
                table.into(),
                gradient.into(),
                moment(0).into(),
                flat.into(),
                matrices.into(),
                control.into(),
                status.into(),
                (sgd.momentum as f32).into(),
                sgd.nesterov.into(),
            ];
            gpu.launch(number, "sgd_rows", rows.spread(), &arguments)
        };
        match optimizer {
            Optimizer::Adam(adam) => {
                let arguments = [
                    table.into(),
                    gradient.into(),
                    moment(0).into(),
                    moment(1).into(),
                    flat.into(),
                    matrices.into(),
                    control.into(),
                    status.into(),
                    (adam.beta1 as f32).into(),
                    (adam.beta2 as f32).into(),
                    (adam.epsilon as f32).into(),
                ];
                gpu.launch(number, "adam_rows", rows.spread(), &arguments)?;
            }
            Optimizer::Sgd(sgd) => descend(*sgd)?,
            Optimizer::Shampoo(_) | Optimizer::Muon(_) => descend(optimizer::after_direction(optimizer))?,
        }
        program.running.settle(gpu, number, program.moments(piece), self.flat.address, status)?;
        if let Some(average) = &self.average {
            let count = program.numbers;
            let arguments =
                [average.flat.address.into(), flat.into(), u32_of(count).into(), control.into(), status.into()];
            gpu.launch(number, "average", Spread::over(count), &arguments)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        let (gpu, number) = (&self.machine.libraries.gpu, self.planned.program.number);
        gpu.launch(number, "end_step", Spread::blocks([1, 1, 1], 1), &[self.status.address.into()])
    }

    /// The gradient of the last step, flat.
    ///
    /// # Errors
    /// The driver's.
    pub fn gradient(&self) -> Result<Vec<f32>> {
        let (piece, _) = self.machine.piece(self.planned.program.bytes)?;
        let mut bytes = vec![0; 4 * self.planned.program.numbers];
        self.machine.libraries.gpu.download(self.planned.program.gradient(piece).flat, &mut bytes)?;
        let mut gradient: Vec<f32> = floats(&bytes).collect();
        // Nobody writes or reads what is there.
        self.planned.program.fixed.iter().for_each(|range| gradient[range.clone()].fill(0.0));
        Ok(gradient)
    }

    /// Copies weights and moments to the host.
    ///
    /// # Errors
    /// The driver's, those of earlier work among them.
    pub fn save(&self, weights: &mut [f32], state: &mut State) -> Result<()> {
        let gpu = &self.machine.libraries.gpu;
        if let Some(direct) = &self.direct {
            state.moments.clone_from(&direct.state.moments);
        }
        let mut bytes = vec![0; 4 * weights.len()];
        let vectors = std::iter::once(weights).chain(state.moments.iter_mut().map(|(_, moment)| &mut moment[..]));
        let averages = self.average.iter().map(|average| &average.flat).zip(state.average.as_deref_mut());
        for (buffer, to) in std::iter::once(&self.flat).chain(&self.moments).zip(vectors).chain(averages) {
            gpu.download(buffer.address, &mut bytes)?;
            to.iter_mut().zip(floats(&bytes)).for_each(|(to, value)| *to = value);
        }
        Ok(())
    }

    /// What is known of the steps so far, asked for some time ago; asks for more. Does not wait.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn glance(&mut self) -> Result<Option<Status>> {
        let status = self.peek.look(false)?.map(Status::read);
        self.peek.ask(self.status.address)?;
        let timed = |status: Status| Status { timed: status.sums.steps.saturating_sub(self.timed_from), ..status };
        Ok(status.map(timed))
    }

    /// What all steps so far left behind; the clock is reset, the sums are not. Waits for them.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn take(&mut self) -> Result<Status> {
        let gpu = &self.machine.libraries.gpu;
        let _ = self.peek.look(true)?;
        let mut bytes = [0; STATUS_BYTES];
        gpu.download(self.status.address, &mut bytes)?;
        let status = Status::read(&bytes);
        let status = Status { timed: status.sums.steps.saturating_sub(self.timed_from), ..status };
        gpu.zero(self.status.address + 16, 8)?;
        self.timed_from = status.sums.steps;
        Ok(status)
    }

    /// Begins an epoch's sums.
    ///
    /// # Errors
    /// The driver's.
    pub fn forget(&mut self) -> Result<()> {
        let gpu = &self.machine.libraries.gpu;
        gpu.zero(self.status.address, 16)?;
        gpu.zero(self.status.address + 40, 8)?;
        self.timed_from = 0;
        Ok(())
    }
}
