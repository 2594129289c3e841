//! A student on a GPU: it moves there, its steps are enqueued, and what they leave behind is fetched now and then.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{STEP_EVENT, Student, Target};
use crate::event::{Event, Message};
use crate::train::checkpoint::Place;
use crate::train::cuda::{machine, trained};
use crate::train::network::{Answer, Machine, with_numbers};
use crate::train::optimizer;
use crate::train::status::{Given, Loss, Sums, What};

impl Student {
    /// Bytes of a GPU that it would take for itself.
    ///
    /// # Errors
    /// When even its step does not fit.
    pub fn bytes(&self, machine: &machine::Machine) -> Result<usize> {
        trained::bytes(machine, &self.job)
    }

    /// Moves to the machine it is trained on, where its clock begins.
    ///
    /// # Errors
    /// When there is no room.
    pub fn enter(&mut self, machine: &Machine) -> Result<()> {
        self.saved = Instant::now();
        if let (Machine::Cuda(machine), false) = (machine, self.ended) {
            let Place { loss, gradient_norm: norm, steps, .. } = self.place;
            let sums = Sums { loss, norm, steps };
            self.on_gpu = Some(trained::Trained::new(machine, &self.job, &self.weights, &self.optimizer, sums)?);
        }
        Ok(())
    }

    /// Whether its first step here is still to come.
    pub fn is_new(&self) -> bool {
        self.on_gpu.is_some() && self.asked_before.is_none()
    }

    /// Says what teachers had already done on the GPU, in seconds, before its first step.
    pub fn begin(&mut self, asked: f64) {
        self.asked_before = Some(asked);
    }

    /// Leaves the machine to others.
    pub fn leave(&mut self) {
        self.on_gpu = None;
    }

    /// Enqueues a step. What came of earlier ones is seen in passing, so a failure is noticed some steps later; the GPU
    /// has stopped this student by itself.
    pub(super) fn step_on_gpu(&mut self, images: u64, target: &Target, sink: &mut dyn FnMut(Message)) -> Result<()> {
        let trained = self.on_gpu.as_mut().context("the student has entered the GPU")?;
        let answers = target.answer.as_ref().map(|answer| match answer {
            Answer::Cuda(answers) => *answers,
            Answer::Cpu(_) => unreachable!("a machine answers where it is"),
        });
        let labels = target.labels.as_ref().map(|labels| with_numbers(labels, |labels| trained.labels(labels))?);
        let given = Given { images, answers, labels: labels.transpose()? };
        trained.step(&self.job, self.place.step, given, Loss::of(&self.job.objective), true)?;
        self.learning_rate = self.job.learning_rate * optimizer::share_of_peak(&self.job, self.place.step);
        self.place.step += 1;
        if self.spoken.is_none_or(|spoken| spoken.elapsed() >= STEP_EVENT) {
            self.spoken = Some(Instant::now());
            if let Some(status) = trained.glance()? {
                if let Some(broken) = status.failed {
                    self.broke(broken.step, broken.what, status.last_loss, status.last_norm, sink);
                } else if status.timed > 0 {
                    let images_per_second = f64::from(self.job.batch) * status.timed as f64 / status.seconds.max(1e-9);
                    let step = self.place.step;
                    self.say(Event::Step { step, loss: status.last_loss, images_per_second }, sink);
                }
            }
        }
        Ok(())
    }

    fn broke(&mut self, step: u64, what: What, loss: f64, norm: f64, sink: &mut dyn FnMut(Message)) {
        self.place.step = step;
        self.learning_rate = self.job.learning_rate * optimizer::share_of_peak(&self.job, step);
        match what {
            What::Loss => self.diverge(&format!("the loss is {loss}"), sink),
            What::Gradient => self.diverge(&format!("the gradient's norm is {norm:e}"), sink),
            What::Weight => self.diverge("a weight is not finite", sink),
        }
    }

    /// Fetches what a GPU knows: sums of the steps, weights, moments. `asked` are the teachers' seconds there so far.
    pub(super) fn settle(&mut self, asked: f64, sink: &mut dyn FnMut(Message)) -> Result<()> {
        let Some(trained) = &mut self.on_gpu else { return Ok(()) };
        let status = trained.take()?;
        trained.save(&mut self.weights, &mut self.optimizer)?;
        let place = &mut self.place;
        // Added up there in one row, whoever stops and resumes it.
        (place.loss, place.gradient_norm, place.steps) = (status.sums.loss, status.sums.norm, status.sums.steps);
        // Shared work counts for each: its time is what it would take alone.
        place.seconds += status.seconds + asked - self.asked_before.unwrap_or(asked);
        self.asked_before = Some(asked);
        if let Some(broken) = status.failed {
            self.broke(broken.step, broken.what, status.last_loss, status.last_norm, sink);
        } else if self.weights.iter().any(|weight| !weight.is_finite()) {
            self.diverge("a weight is not finite", sink);
        }
        Ok(())
    }
}
