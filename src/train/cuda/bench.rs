//! Whole training steps on the GPU, for [`crate::train::bench`].

use std::rc::Rc;

use anyhow::Result;

use super::buffer::Buffer;
use super::frozen::{Answers, Frozen};
use super::machine::{Machine, number};
use super::mark::Mark;
use super::products::{Layout, Operands, Plus, Shape};
use super::trained::Trained;
use crate::job::{Job, Model, Precision};
use crate::train::model::Blueprint;
use crate::train::optimizer::{self, State};
use crate::train::random::{Purpose, Stream};
use crate::train::status::{Given, Loss, Sums};
use crate::train::teacher::Voice;

/// What a step needs, as the host has it.
pub struct Inputs<'a> {
    pub weights: &'a [f32],
    pub teacher: Option<(&'a Model, &'a [f32])>,
    pub images: &'a [f32],
    /// Of labels, where there is no teacher.
    pub targets: &'a [f32],
    pub temperature: f64,
}

/// A workload on the GPU, ready for steps.
pub struct Bench {
    machine: Rc<Machine>,
    job: Job,
    teacher: Option<(Frozen, Answers)>,
    students: Vec<Trained>,
    images: Buffer,
    targets: Buffer,
    loss: Loss,
    updates: bool,
    step: u64,
}

impl Bench {
    /// # Errors
    /// When there is too little memory, or a layer that the GPU cannot do.
    pub fn new(machine: &Rc<Machine>, job: &Job, students: usize, inputs: &Inputs<'_>, updates: bool) -> Result<Bench> {
        let gpu = &machine.libraries.gpu;
        let (batch, classes, kind) = (job.batch as usize, job.data.classes as usize, number(job.precision));
        let images = gpu.allocate(inputs.images.len() * kind.bytes())?;
        machine.put(inputs.images, kind, images.address)?;
        let targets = gpu.holding_floats(inputs.targets)?;
        let teacher = inputs.teacher.map(|(model, weights)| -> Result<_> {
            let frozen = Frozen::new(machine, model, job.input(), job.precision, batch, weights)?;
            Ok((frozen, Answers::new(machine, batch * classes)?))
        });
        let layout = optimizer::Layout::new(&Blueprint::new(&job.student, job.input()));
        let state = State::new(&job.optimizer, &layout);
        Ok(Bench {
            teacher: teacher.transpose()?,
            students: (0..students)
                .map(|_| Trained::new(machine, job, inputs.weights, &state, Sums::default()))
                .collect::<Result<_>>()?,
            machine: Rc::clone(machine),
            job: job.clone(),
            loss: if inputs.teacher.is_some() { Loss::kl(inputs.temperature) } else { Loss::LABELS },
            images,
            targets,
            updates,
            step: 0,
        })
    }

    /// Enqueues one step of all students.
    ///
    /// # Errors
    /// The driver's and the libraries'.
    pub fn step(&mut self) -> Result<()> {
        let images = self.images.address;
        let given = match &self.teacher {
            Some((frozen, answers)) => {
                frozen.answer(images, answers.address(), Voice::ALONE)?;
                Given { images, answers: Some(answers.address()), labels: None }
            }
            None => Given { images, answers: None, labels: Some(self.targets.address) },
        };
        for student in &mut self.students {
            student.step(&self.job, self.step, given, self.loss, self.updates)?;
        }
        self.step += 1;
        if self.step == 1 {
            // Algorithms have been chosen.
            self.machine.libraries.gpu.forget_most()?;
        }
        Ok(())
    }

    /// Waits for all steps; the first student's last loss.
    ///
    /// # Errors
    /// What went wrong on the GPU.
    pub fn finish(&mut self) -> Result<f64> {
        let first = self.students.first_mut().map(Trained::take);
        Ok(first.transpose()?.map_or(0.0, |status| status.last_loss))
    }

    /// The most bytes of memory that were taken from the driver at once, but for trials of algorithms.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.machine.libraries.gpu.most_held().ok().map(|bytes| bytes as u64)
    }
}

/// Floating-point operations a second of a large matrix product: what the GPU reaches at best now.
///
/// # Errors
/// The libraries', and too little memory.
pub fn peak(machine: &Machine, precision: Precision) -> Result<f64> {
    const SIDE: usize = 8192;
    const TIMES: usize = 8;
    let (libraries, gpu, kind) = (&machine.libraries, &machine.libraries.gpu, number(precision));
    // Numbers of all kinds, as a network has them: zeros would cost less power. Their period is no divisor of the rows.
    let mut stream = Stream::new(0, Purpose::Init, 0);
    let some: Vec<f32> = (0..100_003).map(|_| stream.between(-1.0, 1.0) as f32).collect();
    let numbers: Vec<f32> = some.into_iter().cycle().take(SIDE * SIDE).collect();
    let [left, right, to] = [(); 3].map(|()| gpu.allocate(numbers.len() * kind.bytes()));
    let (left, right, to) = (left?, right?, to?);
    machine.put(&numbers, kind, left.address)?;
    machine.put(&numbers, kind, right.address)?;
    let shape = Shape {
        rows: SIDE,
        columns: SIDE,
        inner: SIDE,
        left: Layout::rows(SIDE),
        right: Layout::transposed(SIDE),
        to: Layout::rows(SIDE),
        batch: 1,
        number: kind,
        out: kind,
        plus: Plus::Nothing,
        bias: false,
    };
    let operands = Operands::new(left.address, right.address, to.address);
    libraries.products.multiply(&shape, &operands)?;
    let (begin, end) = (Mark::new(gpu, true)?, Mark::new(gpu, true)?);
    begin.set()?;
    for _ in 0..TIMES {
        libraries.products.multiply(&shape, &operands)?;
    }
    end.set()?;
    end.wait()?;
    let seconds = f64::from(end.since(&begin)?) / 1e3;
    Ok((TIMES * 2 * SIDE.pow(3)) as f64 / seconds)
}
