//! A student on the GPU: its weights and moments, and its steps.
//!
//! A step is told what changes from step to step ([`Control`]) by a copy, and is else the same work every time, which is
//! recorded once. What it leaves behind adds up in a [`Status`], where the host sees it when it looks.
//! A direction ([`super::direction`]) is a part of that work; steps that make Shampoo's roots anew are recorded apart.

use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::buffer::{Buffer, floats, write_floats};
use super::device::{Address, Spread};
use super::direction::{Direction, Places};
use super::loss::{self, Beside};
use super::machine::{Machine, Planned, Replay, Task};
use super::operation::{Numbers, u32_of};
use super::program::Program;
use super::transfer::{Peek, Uploads};
use crate::job::{Clip, Job, Optimizer, Sgd};
use crate::train::model::Blueprint;
use crate::train::optimizer::{self, Layout, State};
use crate::train::status::{Given, Loss, STATUS_BYTES, Status, Sums};

/// `struct Control` of `kernels/weights.cu`.
const CONTROL_BYTES: usize = 40;

/// The moving average of a student's weights, and its matrices for when it is asked.
struct Average {
    flat: Buffer,
    matrices: Buffer,
}

pub struct Trained {
    machine: Rc<Machine>,
    planned: Planned,
    flat: Buffer,
    matrices: Buffer,
    moments: Vec<Buffer>,
    direction: Option<Direction>,
    /// Bytes of the piece, and where a direction's scratch lies in it.
    piece: usize,
    scratch: usize,
    average: Option<Average>,
    control: Buffer,
    controls: Uploads,
    status: Buffer,
    peek: Peek,
    labels: Option<(Buffer, Uploads)>,
    beside: Beside,
    /// Of most steps, and of those that do more.
    replays: [Replay; 2],
    /// Steps of the epoch before the clock was last reset.
    timed_from: u64,
}

/// Bytes that a student takes for itself.
///
/// # Errors
/// As [`Machine::plan`].
pub fn bytes(machine: &Machine, job: &Job) -> Result<usize> {
    let program = plan(machine, job)?.program;
    let layout = Layout::new(&Blueprint::new(&job.student, job.input()));
    let averages = usize::from(!job.ema.is_off());
    let numbers = (1 + averages) * program.numbers + state(&job.optimizer, &layout);
    let direction = Direction::of(&job.optimizer, layout);
    let tables = direction.as_ref().map_or(0, |direction| direction.tables(&program.rows));
    // All students share it.
    machine.piece(piece(&program, direction.as_ref()).1)?;
    let matrices = (1 + averages) * program.rows.matrices * program.number.bytes();
    let loss = loss::bytes(Loss::of(&job.objective), job.batch as usize, job.data.classes as usize);
    Ok(4 * numbers + tables + matrices + loss + (64 << 10))
}

/// Numbers of an optimiser's state.
fn state(optimizer: &Optimizer, layout: &Layout) -> usize {
    optimizer::moments(optimizer, layout).iter().map(|(_, len)| len).sum()
}

/// Where a direction's scratch lies in the piece, and how long that is.
fn piece(program: &Program, direction: Option<&Direction>) -> (usize, usize) {
    program.between(direction.map_or(0, Direction::scratch))
}

fn plan(machine: &Machine, job: &Job) -> Result<Planned> {
    // Weights, moments and matrices of one student, about, and a direction's scratch, as if activations left no place.
    let layout = Layout::new(&Blueprint::new(&job.student, job.input()));
    let own = 8 * layout.len + 4 * state(&job.optimizer, &layout);
    let beside = own + Direction::of(&job.optimizer, layout).map_or(0, |direction| direction.scratch());
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
        let moments = state.moments.iter();
        let moments = moments.map(|(_, numbers)| gpu.holding_floats(numbers)).collect::<Result<_>>()?;
        let direction = Direction::of(&job.optimizer, Layout::new(&Blueprint::new(&job.student, job.input())));
        let (scratch, piece) = piece(program, direction.as_ref());
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
            direction,
            piece,
            scratch,
            average,
            control: gpu.allocate(CONTROL_BYTES)?,
            controls: Uploads::new(gpu, CONTROL_BYTES)?,
            status,
            peek: Peek::new(gpu, STATUS_BYTES)?,
            labels: None,
            beside: Beside::new(gpu, job)?,
            replays: Default::default(),
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
        let most = match job.clip {
            Clip::Norm(most) => most as f32,
            Clip::Off => f32::INFINITY,
        };
        self.controls.send(self.control.address, |bytes| {
            write_floats(&[constants.rate, constants.correction, constants.keep, most], &mut bytes[..16]);
            bytes[16..24].copy_from_slice(&step.to_le_bytes());
            write_floats(&[constants.take, constants.coupled, constants.first], &mut bytes[24..]);
            anyhow::Ok(())
        })?;
        let (piece, generation) = self.machine.piece(self.piece)?;
        let machine = Rc::clone(&self.machine);
        let rare = self.direction.as_ref().is_some_and(|direction| direction.is_rare(step));
        if let Some(mut direction) = self.direction.take() {
            let prepared = direction.prepare(&machine.libraries.gpu, generation, self.direction_places(piece));
            self.direction = Some(direction);
            prepared?;
        }
        let mut replay = std::mem::take(&mut self.replays[usize::from(rare)]);
        let places = [given.images, given.answers.unwrap_or(0), given.labels.unwrap_or(0)];
        let done = replay.run(&machine, generation, places, || {
            self.learn(piece, given, loss)?;
            if update {
                self.update(&job.optimizer, piece, rare)?;
            }
            self.end()
        });
        self.replays[usize::from(rare)] = replay;
        done
    }

    fn direction_places(&self, piece: Address) -> Places<'_> {
        let program = &self.planned.program;
        Places {
            rows: &program.rows,
            gradient: program.gradient(piece).flat,
            weights: self.flat.address,
            moments: &self.moments,
            control: self.control.address,
            status: self.status.address,
            squares: program.sums(piece).0,
            scratch: piece + self.scratch as u64,
        }
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

    /// From the gradient to the next weights. `rare` is for a direction.
    fn update(&self, optimizer: &Optimizer, piece: Address, rare: bool) -> Result<()> {
        let program = &self.planned.program;
        let (gpu, number, rows) = (&self.machine.libraries.gpu, program.number, &program.rows);
        let (status, control) = (self.status.address, self.control.address);
        let gradient = match &self.direction {
            None => program.gradient(piece).flat,
            Some(direction) => direction.enqueue(gpu, number, self.direction_places(piece), rare)?,
        };
        let moment = |place: usize| self.moments[place].address;
        let (flat, matrices) = (self.flat.address, self.matrices.address);
        let table = rows.table();
        let descend = |sgd: Sgd, momentum: Address| {
            let arguments = [
                table.into(),
                gradient.into(),
                momentum.into(),
                flat.into(),
                matrices.into(),
                control.into(),
                status.into(),
                (sgd.momentum as f32).into(),
                sgd.nesterov.into(),
                self.direction.is_some().into(),
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
            Optimizer::Sgd(sgd) => descend(*sgd, moment(0))?,
            Optimizer::Shampoo(_) => descend(optimizer::after_direction(optimizer), moment(0))?,
            // A momentum that keeps nothing of itself is what it is given.
            Optimizer::Muon(_) => descend(optimizer::after_direction(optimizer), gradient)?,
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
        let (piece, _) = self.machine.piece(self.piece)?;
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
        let mut bytes = Vec::new();
        let vectors = std::iter::once(weights).chain(state.moments.iter_mut().map(|(_, moment)| &mut moment[..]));
        let averages = self.average.iter().map(|average| &average.flat).zip(state.average.as_deref_mut());
        for (buffer, to) in std::iter::once(&self.flat).chain(&self.moments).zip(vectors).chain(averages) {
            bytes.resize(4 * to.len(), 0);
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
