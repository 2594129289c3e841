//! What of a student is written while it trains, and when: its state, weights that are to stay, its result.
//!
//! A file that cannot be written is its student's failure and nobody else's. What is written never stands in for what it
//! replaces before it is whole, and weights are there before the state that says so: a student that was killed in
//! between makes them again, to the same bits. Nothing is written by an attempt that is not the newest: it may be on a machine that
//! was cut off, whose lock another one does not see.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{AVERAGE, LAST_WEIGHTS, Student};
use crate::card::Card;
use crate::event::{Evaluation, Event, Message};
use crate::plan::Checkpoints;
use crate::train::checkpoint::{self, replace_file};
use crate::train::failure::{TakenOver, class};

impl Student {
    /// Whether it was trained for so long since its last save, or its begin, that the epoch's end is not waited for.
    pub fn is_to_save(&self, checkpoints: &Checkpoints) -> bool {
        let every = checkpoints.every.0;
        !self.ended && !every.is_zero() && self.saved.elapsed() >= every
    }

    /// Saves in the middle of an epoch and goes on.
    ///
    /// # Errors
    /// The machine's.
    pub fn save_between(&mut self, asked: f64, sink: &mut dyn FnMut(Message)) -> Result<()> {
        self.settle(asked, sink)?;
        self.save(sink);
        Ok(())
    }

    /// Saves in the middle of an epoch and says so.
    ///
    /// # Errors
    /// The machine's.
    pub fn stop(&mut self, asked: f64, sink: &mut dyn FnMut(Message)) -> Result<()> {
        if !self.ended {
            self.settle(asked, sink)?;
        }
        self.save(sink);
        if !self.ended {
            self.ended = true;
            self.say(Event::Stopped { epoch: self.place.epoch, step: self.place.step }, sink);
        }
        Ok(())
    }

    /// The longest that a save took.
    pub fn saving(&self) -> Duration {
        self.saving
    }

    /// Saves at the end of an epoch, where it is time for that. `validation` is what was just measured, if anything was.
    pub(super) fn save_epoch(
        &mut self,
        validation: Option<&Evaluation>,
        checkpoints: &Checkpoints,
        sink: &mut dyn FnMut(Message),
    ) {
        let kept = self.keep(validation, checkpoints);
        self.written(kept, sink);
        let is_last = self.place.epoch == self.job.epochs;
        if is_last || checkpoints.every.0.is_zero() || self.is_to_save(checkpoints) {
            self.save(sink);
        }
        if is_last {
            self.finish(sink);
        }
    }

    /// Writes the weights that are to stay.
    fn keep(&mut self, validation: Option<&Evaluation>, checkpoints: &Checkpoints) -> Result<()> {
        if checkpoints.epochs.contains(&self.place.epoch) {
            self.export(&self.files.student_after(&self.id, self.place.epoch), self.result_weights())?;
        }
        let better = validation.filter(|found| self.place.best.is_none_or(|best| found.top1 > best));
        if let (true, Some(found)) = (checkpoints.best, better) {
            self.export(&self.files.best_student(&self.id), self.result_weights())?;
            self.place.best = Some(found.top1);
        }
        Ok(())
    }

    fn save(&mut self, sink: &mut dyn FnMut(Message)) {
        if self.ended {
            return;
        }
        let started = Instant::now();
        self.place.serial += 1;
        let moments = self.optimizer.moments.iter().map(|(name, numbers)| (*name, numbers.as_slice()));
        let average = self.optimizer.average.as_deref().map(|average| (AVERAGE, average));
        let moments: Vec<(&str, &[f32])> = moments.chain(average).collect();
        let folder = self.files.job(&self.id);
        let saved = self.fence().and_then(|()| checkpoint::save(&folder, &self.place, &self.weights, &moments));
        self.written(saved, sink);
        self.saved = Instant::now();
        self.saving = self.saving.max(started.elapsed());
    }

    /// The result first, then the word that it is there: whoever reads the word finds the file.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(Message)) {
        if self.ended {
            return;
        }
        let exported = self.export_result();
        self.written(exported, sink);
        if self.ended {
            return;
        }
        self.ended = true;
        self.say(Event::Finished, sink);
        if let Err(error) = checkpoint::remove(&self.files.job(&self.id)) {
            eprintln!("warning: {error:#}");
        }
    }

    fn export_result(&self) -> Result<()> {
        let result = self.files.student(&self.id);
        if self.optimizer.average.is_some() {
            self.export(&result.with_file_name(LAST_WEIGHTS), &self.weights)?;
        }
        self.export(&result, self.result_weights())
    }

    /// Weights with their card, which is there before them.
    fn export(&self, path: &Path, weights: &[f32]) -> Result<()> {
        self.fence()?;
        let text = serde_json::to_string_pretty(&Card::of(&self.job).to_json()).context("a card is JSON")?;
        replace_file(&path.with_extension("json"), text.as_bytes())?;
        checkpoint::save_student(path, &self.blueprint, weights, self.id.as_str())
    }

    /// That no newer attempt has the job.
    fn fence(&self) -> Result<()> {
        match self.files.attempt_at_work(&self.id) {
            Some(newer) if newer > self.attempt => Err(TakenOver { own: self.attempt, newer }.into()),
            _ => Ok(()),
        }
    }

    fn written(&mut self, result: Result<()>, sink: &mut dyn FnMut(Message)) {
        if let Err(error) = result {
            self.fail(class(&error), format!("{error:#}"), sink);
        }
    }
}
