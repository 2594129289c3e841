//! One student of a cohort: its weights, its optimiser, its place in the run, and what it says.

mod on_gpu;
mod saving;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::checkpoint::{self, Place};
use super::cuda::trained::Trained;
use super::evaluation::Evaluated;
use super::metric::Answers;
use super::model::Blueprint;
use super::network::{Answer, Engines, Machine, Shown, forward, with_numbers, with_numbers_of};
use super::ops::loss::Loss;
use super::optimizer::{self, Layout};
use super::teacher::weights_file;
use super::views::{Look, student_look};
use super::weights::{load_body, load_weights};
use crate::disk;
use crate::event::{Epoch, Event, Failure, Message, Which, now_ms};
use crate::folder::{Folder, replace};
use crate::job::{Head, Init, Job, JobId, Objective};
use crate::plan::{self, Manifest, Places, teacher_flops};

/// The moving average's name in a checkpoint.
const AVERAGE: &str = "ema";
/// The weights themselves, beside the student's file, where that is their average.
const LAST_WEIGHTS: &str = "student.last.safetensors";

/// At most this often an [`Event::Step`].
const STEP_EVENT: Duration = Duration::from_millis(500);

/// What a student's logits are compared with in training.
pub struct Target {
    /// Where it has teachers.
    pub answer: Option<Answer>,
    /// Probabilities `[N, classes]`, where it needs them.
    pub labels: Option<Tensor>,
}

pub struct Student {
    pub job: Job,
    pub look: Look,
    id: JobId,
    attempt: u32,
    files: Folder,
    blueprint: Blueprint,
    layout: Layout,
    weights: Vec<f32>,
    gradient: Vec<f32>,
    optimizer: optimizer::State,
    place: Place,
    learning_rate: f64,
    ended: bool,
    /// When it was last saved, or began; by a clock that nobody sets.
    saved: Instant,
    /// The longest that a save took.
    saving: Duration,
    spoken: Option<Instant>,
    /// Where it is trained on a GPU; weights and moments here are then those of the last save.
    on_gpu: Option<Trained>,
    /// The teachers' seconds on a GPU when it last reported.
    asked_before: Option<f64>,
}

impl Student {
    /// From its newest whole checkpoint, or from its beginning.
    pub fn open(
        member: &plan::Student,
        folder: &Folder,
        places: &Places,
        sink: &mut dyn FnMut(Message),
    ) -> Result<Student> {
        let job = member.job.clone();
        let id = job.id();
        let own = folder.job(&id);
        fs::create_dir_all(&own).with_context(|| format!("cannot make `{}`", own.display()))?;
        let text = own.join("job.json");
        replace(&text, job.canonical_text().as_bytes()).map_err(|error| disk::explain(&text, error))?;
        let blueprint = Blueprint::new(&job.student, job.input());
        let found = checkpoint::load(&own, id.as_str())?;
        let layout = Layout::new(&blueprint);
        let mut student = Student {
            look: student_look(&job),
            attempt: member.attempt,
            weights: Vec::new(),
            gradient: Vec::new(),
            optimizer: optimizer::State::new(&job.optimizer, &layout),
            layout,
            place: Place { job: id.as_str().to_owned(), ..Place::default() },
            learning_rate: 0.0,
            ended: false,
            saved: Instant::now(),
            saving: Duration::ZERO,
            spoken: None,
            on_gpu: None,
            asked_before: None,
            files: folder.clone(),
            blueprint,
            id,
            job,
        };
        for file in found.torn {
            student.say(Event::Torn { file }, sink);
        }
        match found.checkpoint {
            None => {
                student.weights = student.first_weights(folder, places)?;
                student.optimizer.average = (!student.job.ema.is_off()).then(|| student.weights.clone());
            }
            Some(checkpoint) => {
                for (name, moment) in &mut student.optimizer.moments {
                    let saved = checkpoint.moments.iter().find(|(saved, _)| saved == name);
                    *moment = saved.with_context(|| format!("the checkpoint has no `{name}`"))?.1.clone();
                }
                if !student.job.ema.is_off() {
                    let saved = checkpoint.moments.into_iter().find(|(saved, _)| saved == AVERAGE);
                    student.optimizer.average =
                        Some(saved.with_context(|| format!("the checkpoint has no `{AVERAGE}`"))?.1);
                }
                (student.weights, student.place) = (checkpoint.weights, checkpoint.place);
            }
        }
        student.say(Event::Started { epoch: student.place.epoch }, sink);
        if student.place.step == student.job.total_steps() {
            student.finish(sink);
        }
        Ok(student)
    }

    fn first_weights(&self, folder: &Folder, places: &Places) -> Result<Vec<f32>> {
        let scratch = || self.blueprint.scratch(self.job.seed);
        let Init::Trained(trained) = &self.job.init else { return Ok(scratch()) };
        let path = weights_file(&trained.source, folder, places)?;
        match trained.head {
            Head::Keep => load_weights(&path, &self.blueprint),
            Head::Reset => load_body(&path, &self.blueprint, &scratch()),
        }
    }

    /// What is measured, and what the job results in.
    fn result_weights(&self) -> &[f32] {
        self.optimizer.average.as_deref().unwrap_or(&self.weights)
    }

    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// The step it waits for; none when it has ended.
    pub fn next_step(&self) -> Option<u64> {
        (!self.ended).then_some(self.place.step)
    }

    /// One optimiser step on `images` `[N, S, S, C]`. `shared` is the time loader and teacher took for it on the CPU.
    ///
    /// # Errors
    /// The machine's.
    pub fn step(
        &mut self,
        machine: &mut Machine,
        images: &Shown,
        target: &Target,
        shared: Duration,
        sink: &mut dyn FnMut(Message),
    ) -> Result<()> {
        match (machine, images) {
            (Machine::Cpu(engines), Shown::Cpu(images)) => self.step_on_cpu(engines, images, target, shared, sink),
            (Machine::Cuda(_), Shown::Cuda(images)) => self.step_on_gpu(*images, target, sink),
            _ => unreachable!("a machine shows images where it is"),
        }
    }

    fn step_on_cpu(
        &mut self,
        engines: &mut Engines,
        images: &Tensor,
        target: &Target,
        shared: Duration,
        sink: &mut dyn FnMut(Message),
    ) -> Result<()> {
        let started = Instant::now();
        let engine = engines.get(&self.job);
        self.gradient.resize(self.weights.len(), 0.0);
        let answer = target.answer.as_ref().map(|answer| match answer {
            Answer::Cpu(answer) => answer,
            Answer::Cuda(_) => unreachable!("a machine answers where it is"),
        });
        let value = with_numbers(images, |images| {
            with_numbers_of(answer, |answer| {
                with_numbers_of(target.labels.as_ref(), |labels| {
                    let (weights, loss);
                    match (&self.job.objective, answer, labels) {
                        (Objective::Distil(distil), Some(answer), labels) => {
                            weights = distil.weights();
                            loss = Loss::distil(distil, &weights, answer, labels);
                        }
                        (_, _, Some(labels)) => loss = Loss::cross_entropy(labels),
                        _ => unreachable!("a student has a target"),
                    }
                    engine.step(&self.weights, images, loss, &mut self.gradient)
                })
            })
        })???;
        self.learning_rate = self.job.learning_rate * optimizer::share_of_peak(&self.job, self.place.step);
        if !value.is_finite() {
            self.diverge(&format!("the loss is {value}"), sink);
            return Ok(());
        }
        engine.settle(&mut self.weights);
        let norm = optimizer::apply(
            &self.job,
            self.place.step,
            &self.layout,
            &self.gradient,
            &mut self.optimizer,
            &mut self.weights,
        );
        if !norm.is_finite() || self.weights.iter().any(|weight| !weight.is_finite()) {
            self.diverge(&format!("the gradient's norm is {norm:e}, or a weight is not finite"), sink);
            return Ok(());
        }
        if let Some(average) = &mut self.optimizer.average {
            optimizer::average(average, &self.weights, optimizer::constants(&self.job, self.place.step).take);
        }
        let seconds = (shared + started.elapsed()).as_secs_f64();
        let place = &mut self.place;
        place.step += 1;
        place.steps += 1;
        place.loss += value;
        place.gradient_norm += norm;
        place.seconds += seconds;
        if self.spoken.is_none_or(|spoken| spoken.elapsed() >= STEP_EVENT) {
            self.spoken = Some(Instant::now());
            let images_per_second = f64::from(self.job.batch) / seconds;
            self.say(Event::Step { step: self.place.step, loss: value, images_per_second }, sink);
        }
        Ok(())
    }

    pub fn at_end_of_epoch(&self) -> bool {
        !self.ended && self.place.step == self.job.steps_at(self.place.epoch + 1)
    }

    /// Measures, reports and saves; after the last epoch, ends.
    pub fn finish_epoch(
        &mut self,
        machine: &mut Machine,
        evaluated: &[Evaluated<'_>],
        told: &Manifest,
        asked: f64,
        sink: &mut dyn FnMut(Message),
    ) -> Result<()> {
        self.settle(asked, sink)?;
        let started = Instant::now();
        if self.ended {
            return Ok(());
        }
        if self.at_end_of_epoch() {
            self.place.epoch += 1;
            let due = told.evaluations.is_due(self.place.epoch, self.job.epochs);
            let row = self.row(machine, if due { evaluated } else { &[] }, started)?;
            if !row.is_finite() {
                self.diverge("an evaluation is not finite", sink);
                return Ok(());
            }
            let validation = row.evaluations.iter().find(|evaluation| evaluation.split == Which::Validation).cloned();
            self.say(Event::Epoch(row), sink);
            if let Some(validation) = &validation {
                let Place { epoch, watch, .. } = &mut self.place;
                let flags = watch.look(validation, self.job.data.classes, *epoch, *epoch == self.job.epochs);
                for (flag, message) in flags {
                    self.say(Event::Flagged { flag, message }, sink);
                }
            }
            let place = &mut self.place;
            (place.loss, place.gradient_norm, place.steps, place.seconds) = (0.0, 0.0, 0, 0.0);
            self.on_gpu.as_mut().map_or(Ok(()), Trained::forget)?;
            self.save_epoch(validation.as_ref(), &told.checkpoints, sink);
        }
        Ok(())
    }

    /// Logits `[N * classes]` of a split.
    fn logits(&self, machine: &mut Machine, set: &Evaluated<'_>) -> Result<Vec<f32>> {
        match (machine, &self.on_gpu) {
            (Machine::Cpu(engines), _) => {
                let engine = engines.get(&self.job);
                let weights = self.result_weights();
                engine.load(weights);
                set.logits(self.job.resolution, |some| Ok(forward(engine, weights, some)?))
            }
            (Machine::Cuda(_), trained) => {
                let trained = trained.as_ref().context("the student is on the GPU")?;
                set.logits(self.job.resolution, |some| trained.forward(some))
            }
        }
    }

    fn row(&self, machine: &mut Machine, evaluated: &[Evaluated<'_>], started: Instant) -> Result<Epoch> {
        let mut evaluations = Vec::new();
        if !evaluated.is_empty() {
            for set in evaluated {
                let logits = self.logits(machine, set)?;
                let classes = self.job.data.classes as usize;
                let answers = Answers { logits: &logits, labels: &set.labels, classes };
                evaluations.push(answers.evaluate(
                    set.which,
                    set.together.as_deref(),
                    self.place.epoch == self.job.epochs,
                ));
            }
        }
        let place = &self.place;
        let images = place.step * u64::from(self.job.batch);
        let trained = (place.steps * u64::from(self.job.batch)) as f64;
        let mean = |sum: f64| if place.steps == 0 { 0.0 } else { sum / place.steps as f64 };
        Ok(Epoch {
            epoch: place.epoch,
            step: place.step,
            images,
            training_loss: mean(place.loss),
            learning_rate: self.learning_rate,
            gradient_norm: mean(place.gradient_norm),
            student_flops: images as f64 * self.job.student.training_flops(self.job.input()),
            teacher_flops: teacher_flops(&self.job, images as f64),
            images_per_second: if place.seconds > 0.0 { trained / place.seconds } else { 0.0 },
            seconds: place.seconds + started.elapsed().as_secs_f64(),
            evaluations,
        })
    }

    fn diverge(&mut self, what: &str, sink: &mut dyn FnMut(Message)) {
        let message = format!("{what} at step {}, learning rate {:e}", self.place.step, self.learning_rate);
        self.fail(Failure::NotFinite, message, sink);
    }

    /// Leaves the cohort; the others go on.
    pub fn fail(&mut self, class: Failure, message: String, sink: &mut dyn FnMut(Message)) {
        if !self.ended {
            self.ended = true;
            self.say(Event::Failed { class, message }, sink);
        }
    }

    pub fn say(&self, event: Event, sink: &mut dyn FnMut(Message)) {
        sink(Message { job: self.id.clone(), attempt: self.attempt, at_ms: now_ms(), event });
    }
}
