//! How far everything is, reckoned from the notices: pure, given the time since the run began.
//!
//! Progress is measured in floating-point operations, since jobs differ in length by orders of magnitude: time left is
//! what is left of them over the rate seen in this run.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{Event, Message, Which};
use crate::job::{Job, JobId};
use crate::plan::{Cohort, CohortId, Plan, cohort_cost, job_cost};
use crate::schedule::Notice;

pub(super) struct Tally {
    jobs: HashMap<JobId, JobTally>,
    cohorts: HashMap<CohortId, CohortTally>,
    /// Jobs of the plan, with those that were done before.
    pub total: usize,
    pub done: usize,
    pub failed: usize,
    pub blocked: usize,
}

struct JobTally {
    label: String,
    epochs: u32,
    steps: u64,
    /// Of the student alone.
    flops: f64,
    /// Finished epochs.
    epoch: u32,
    /// Finished steps as a share of all, now and when this run took the job up.
    share: f64,
    base: f64,
    /// Steps after each number of epochs, as a share, are `epoch * this`, but for rounding.
    share_of_epoch: f64,
    validation: Option<f64>,
    ended: bool,
    /// Of what ended: so that a job that is tried again counts no more.
    failed: bool,
}

struct CohortTally {
    label: String,
    jobs: Vec<JobId>,
    /// Of the shared teacher.
    flops: f64,
    started: Duration,
    images_per_second: Option<f64>,
}

impl Tally {
    pub fn new(plan: &Plan) -> Tally {
        let jobs = plan.jobs.iter().map(|planned| (planned.id.clone(), JobTally::new(&planned.job, planned.done)));
        let cohorts = plan.cohorts.iter().map(|cohort| (cohort.id.clone(), CohortTally::new(cohort)));
        Tally {
            jobs: jobs.collect(),
            cohorts: cohorts.collect(),
            total: plan.jobs.len(),
            done: plan.jobs.iter().filter(|planned| planned.done).count(),
            failed: 0,
            blocked: 0,
        }
    }

    pub fn notice(&mut self, notice: &Notice, now: Duration) {
        match notice {
            Notice::CohortStarted { cohort, .. } => {
                if let Some(tally) = self.cohorts.get_mut(cohort) {
                    tally.started = now;
                }
            }
            Notice::Message { cohort, message } => self.message(cohort, message),
            Notice::Lost { jobs, again: false, .. } => {
                for job in jobs {
                    self.mark(job, true);
                }
            }
            Notice::Blocked { job, .. } => {
                self.end(job);
                self.blocked += 1;
            }
            Notice::CohortEnded { .. } | Notice::Lost { .. } | Notice::Stopping { .. } | Notice::Note(_) => {}
            Notice::Again { jobs, .. } => {
                for job in jobs {
                    self.mark(job, false);
                }
            }
        }
    }

    /// `3fa2c1de function-matching, 20 epochs, learning rate 0.003, seed 0`.
    pub fn job(&self, job: &JobId) -> String {
        let label = self.jobs.get(job).map_or("", |tally| tally.label.as_str());
        format!("{:.8} {label}", job.as_str())
    }

    pub fn cohort(&self, cohort: &CohortId) -> &str {
        self.cohorts.get(cohort).map_or("", |tally| tally.label.as_str())
    }

    pub fn validation(&self, job: &JobId) -> Option<f64> {
        self.jobs.get(job)?.validation
    }

    /// `epoch 12/20, 1.2k images/s, validation 81.3 %, 2 min left`.
    pub fn cohort_line(&self, cohort: &CohortId, now: Duration) -> String {
        let Some(tally) = self.cohorts.get(cohort) else { return String::new() };
        let members = || tally.jobs.iter().filter_map(|job| self.jobs.get(job));
        let mut parts = Vec::new();
        // The student that has most before it: the cohort ends with it.
        let longest = members().filter(|job| !job.ended).max_by_key(|job| job.epochs);
        if let Some(job) = longest.or_else(|| members().max_by_key(|job| job.epochs)) {
            parts.push(format!("epoch {}/{}", job.epoch, job.epochs));
        }
        if let Some(rate) = tally.images_per_second {
            parts.push(format!("{} images/s", short(rate)));
        }
        let shares: Vec<f64> = members().filter_map(|job| job.validation).collect();
        if let (Some(best), Some(worst)) =
            (shares.iter().copied().max_by(f64::total_cmp), shares.iter().copied().min_by(f64::total_cmp))
        {
            let range = if shares.len() > 1 {
                format!("{:.1} to {:.1} %", 100.0 * worst, 100.0 * best)
            } else {
                format!("{:.1} %", 100.0 * best)
            };
            parts.push(format!("validation {range}"));
        }
        let (worked, left) = self.work(tally);
        parts.extend(time_left(worked, left, now.saturating_sub(tally.started)));
        parts.join(", ")
    }

    /// `3/27 jobs, 1 failed, 12 min left`.
    pub fn total_line(&self, now: Duration) -> String {
        let mut parts = vec![format!("{}/{} jobs done", self.done, self.total)];
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        if self.blocked > 0 {
            parts.push(format!("{} blocked", self.blocked));
        }
        let work = self.cohorts.values().map(|cohort| self.work(cohort));
        let (worked, left) = work.fold((0.0, 0.0), |sum, work| (sum.0 + work.0, sum.1 + work.1));
        parts.extend(time_left(worked, left, now));
        parts.join(", ")
    }

    fn message(&mut self, cohort: &CohortId, message: &Message) {
        let Some(job) = self.jobs.get_mut(&message.job) else { return };
        let speed = match &message.event {
            Event::Started { epoch } => {
                job.epoch = *epoch;
                job.share = (f64::from(*epoch) * job.share_of_epoch).min(1.0);
                job.base = job.share;
                self.failed -= usize::from(job.failed);
                (job.ended, job.failed) = (false, false);
                None
            }
            Event::Epoch(row) => {
                job.epoch = row.epoch;
                job.share = job.share.max(row.step as f64 / job.steps as f64);
                let validation = row.evaluations.iter().find(|evaluation| evaluation.split == Which::Validation);
                job.validation = validation.map(|evaluation| evaluation.top1).or(job.validation);
                Some(row.images_per_second)
            }
            Event::Step { step, images_per_second, .. } => {
                job.share = job.share.max(*step as f64 / job.steps as f64);
                Some(*images_per_second)
            }
            Event::Finished => {
                self.done += 1;
                job.share = 1.0;
                job.ended = true;
                None
            }
            Event::Failed { .. } => {
                self.failed += usize::from(!job.failed);
                (job.ended, job.failed) = (true, true);
                None
            }
            Event::Teacher(_) | Event::Torn { .. } | Event::Flagged { .. } | Event::Stopped { .. } => None,
        };
        if let (Some(speed), Some(tally)) = (speed, self.cohorts.get_mut(cohort)) {
            tally.images_per_second = Some(speed);
        }
    }

    /// A job that failed counts once, and no more when it is tried again.
    fn mark(&mut self, job: &JobId, failed: bool) {
        if let Some(job) = self.jobs.get_mut(job) {
            self.failed = self.failed + usize::from(failed) - usize::from(job.failed);
            (job.ended, job.failed) = (failed, failed);
        }
    }

    fn end(&mut self, job: &JobId) {
        if let Some(job) = self.jobs.get_mut(job) {
            job.ended = true;
        }
    }

    /// Floating-point operations of a cohort done in this run, and still to be done.
    fn work(&self, cohort: &CohortTally) -> (f64, f64) {
        let (mut worked, mut left) = (0.0, 0.0);
        // In epochs of the longest member, as far as the teacher was asked.
        let (mut longest, mut asked, mut asked_before, mut to_ask) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        for job in cohort.jobs.iter().filter_map(|job| self.jobs.get(job)) {
            let epochs = f64::from(job.epochs);
            worked += job.flops * (job.share - job.base);
            longest = longest.max(epochs);
            asked = asked.max(job.share * epochs);
            asked_before = asked_before.max(job.base * epochs);
            if !job.ended {
                left += job.flops * (1.0 - job.share);
                to_ask = to_ask.max(epochs);
            }
        }
        if longest > 0.0 {
            worked += cohort.flops * (asked - asked_before).max(0.0) / longest;
            left += cohort.flops * (to_ask - asked).max(0.0) / longest;
        }
        (worked, left)
    }
}

impl JobTally {
    fn new(job: &Job, done: bool) -> JobTally {
        let steps = job.total_steps().max(1);
        JobTally {
            label: label(job),
            epochs: job.epochs,
            steps,
            flops: job_cost(job).student_flops,
            epoch: 0,
            share: 0.0,
            base: 0.0,
            share_of_epoch: job.train_images() as f64 / f64::from(job.batch) / steps as f64,
            validation: None,
            ended: done,
            failed: false,
        }
    }
}

impl CohortTally {
    fn new(cohort: &Cohort) -> CohortTally {
        let mut modes: Vec<&str> = Vec::new();
        for (_, job) in &cohort.jobs {
            if !modes.contains(&job.teaching_name()) {
                modes.push(job.teaching_name());
            }
        }
        let epochs = || cohort.jobs.iter().map(|(_, job)| job.epochs);
        let range = match (epochs().min(), epochs().max()) {
            (Some(least), Some(most)) if least < most => format!("{least} to {most} epochs"),
            (_, most) => format!("{} epochs", most.unwrap_or(0)),
        };
        let seed = cohort.jobs.first().map_or(0, |(_, job)| job.seed);
        let students = match cohort.jobs.len() {
            1 => String::new(),
            students => format!(" x{students}"),
        };
        CohortTally {
            label: format!("{}{students}, {range}, seed {seed}", modes.join(" + ")),
            jobs: cohort.jobs.iter().map(|(id, _)| id.clone()).collect(),
            flops: cohort_cost(cohort).teacher_flops,
            started: Duration::ZERO,
            images_per_second: None,
        }
    }
}

fn label(job: &Job) -> String {
    let Job { epochs, learning_rate, seed, .. } = job;
    format!("{}, {epochs} epochs, learning rate {learning_rate}, seed {seed}", job.teaching_name())
}

/// None until something was done that a rate could be taken from.
fn time_left(worked: f64, left: f64, elapsed: Duration) -> Option<String> {
    if worked <= 0.0 || left <= 0.0 || elapsed.is_zero() {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * left / worked;
    Some(format!("{} left", duration(seconds)))
}

/// `40 s`, `12 min`, `3.2 h`, `4.5 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..99.5 => format!("{seconds:.0} s"),
        ..5970.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Three digits: `85.1`, `851`, `8.51k`.
pub fn short(number: f64) -> String {
    let (number, unit) = if number < 1000.0 { (number, "") } else { (number / 1000.0, "k") };
    let decimals = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}{unit}")
}

/// Three digits or four: `2.302`, `0.0412`, `3e-5`.
pub fn loss(loss: f64) -> String {
    match loss {
        l if l >= 1000.0 => format!("{l:.0}"),
        l if l >= 10.0 => format!("{l:.1}"),
        l if l >= 0.1 => format!("{l:.3}"),
        l if l >= 0.001 => format!("{l:.4}"),
        l => format!("{l:.0e}"),
    }
}
