//! Failures: what is tried again and when, what is given up, and what that blocks. Want of memory is in `shape.rs`.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::super::board::{Blocked, Place};
use super::super::spool::ingest_spool;
use super::super::stop::Level;
use super::super::{Ended, Engine, Error, How, Notice, Order, STOPPED, memory, read_spool};
use super::{PATIENCE, Run, Working, patiently};
use crate::event::{Event, Failure};
use crate::job::JobId;
use crate::store::{Block, Ending};

/// Jobs that wait for their next try.
pub(super) struct Resting {
    pub until: Instant,
    pub jobs: Vec<JobId>,
}

/// How far a job was when an attempt of it last ended badly, and how often that was as far as before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    step: u64,
    before: Option<u64>,
    times: u32,
}

impl Stall {
    pub fn seen(&mut self, step: u64) {
        self.step = self.step.max(step);
    }

    /// An attempt ended; how many have now ended one after another without a step forward.
    fn ended(&mut self) -> u32 {
        let forward = self.step > self.before.unwrap_or(0);
        self.times = if forward { 0 } else { self.times + 1 };
        self.before = Some(self.step);
        self.times
    }
}

/// Waiting for room on the disk.
pub(super) struct Disk {
    pub jobs: Vec<JobId>,
    /// Bytes that must be free before anything goes on.
    pub wanted: u64,
}

impl<E: Engine, O: FnMut(&Notice)> Run<'_, E, O> {
    /// A worker said that a student failed.
    pub(super) async fn failed(
        &mut self,
        cohort: usize,
        job: JobId,
        class: Failure,
        message: String,
    ) -> Result<(), Error> {
        match class {
            Failure::OutOfMemory => {
                self.board.put(&job, Place::Interrupted);
                if let Some(working) = self.working.get_mut(&cohort) {
                    working.short.push((job, message));
                }
                Ok(())
            }
            // Where there is room, by our measure, it was another limit than the disk's.
            Failure::DiskFull if self.is_full() => {
                self.board.put(&job, Place::Waiting);
                self.pause(vec![job], &message);
                Ok(())
            }
            _ => match self.next_try(&job, if class == Failure::DiskFull { Failure::Io } else { class }) {
                Ok(after) => self.rest(cohort, vec![job], class, after).await,
                Err(given_up) => self.give_up(&job, &with(&message, given_up)).await,
            },
        }
    }

    /// How long to wait before a job is tried again; or that it is not, and why, if there were tries.
    fn next_try(&mut self, job: &JobId, class: Failure) -> Result<Duration, Option<String>> {
        let Some(retry) = self.settings.run.retries.of(class) else { return Err(None) };
        let most = self.settings.run.retries.no_progress;
        let stalled = self.stalls.entry(job.clone()).or_default().ended();
        if stalled >= most {
            return Err((most > 1).then(|| format!("{stalled} attempts ended without a step forward")));
        }
        let tries = self.tries.entry((job.clone(), class.name())).or_default();
        *tries += 1;
        let draw = rand::rng().random::<f64>();
        retry.delay(*tries, draw).ok_or_else(|| (*tries > 1).then(|| format!("it was tried {tries} times")))
    }

    async fn rest(&mut self, cohort: usize, jobs: Vec<JobId>, class: Failure, after: Duration) -> Result<(), Error> {
        for job in &jobs {
            self.board.put(job, Place::Resting);
        }
        // So that others know that it is not given up, and a person when it goes on.
        let (owner, again) = (self.settings.provenance.owner.clone(), jobs.clone());
        patiently!(self, self.store.rest(&again, &owner, after));
        let cohort = self.id(cohort);
        self.tell(&Notice::Again { cohort, jobs: jobs.clone(), class, after });
        self.resting.push(Resting { until: Instant::now() + after, jobs });
        Ok(())
    }

    /// Puts back what has rested, if nothing else became of it meanwhile.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.resting).into_iter().partition(|resting| resting.until <= now);
        self.resting = rest;
        for Resting { jobs, .. } in due {
            let rested: Vec<JobId> =
                jobs.into_iter().filter(|job| self.board.place(job) == Some(Place::Resting)).collect();
            self.board.again(&rested);
        }
    }

    /// A running job came to its end for this run.
    pub(super) async fn give_up(&mut self, job: &JobId, why: &str) -> Result<(), Error> {
        let blocked = self.board.failed(job);
        self.block(&blocked, why).await?;
        Box::pin(self.not_measured(job)).await
    }

    pub(super) async fn block(&mut self, blocked: &[Blocked], why: &str) -> Result<(), Error> {
        if blocked.is_empty() {
            return Ok(());
        }
        let first = why.lines().next().unwrap_or_default();
        let blocks: Vec<Block> = blocked
            .iter()
            .map(|Blocked { job, by }| Block {
                job: job.clone(),
                by: by.clone(),
                message: format!("needs job `{by}`, which failed: {first}"),
            })
            .collect();
        patiently!(self, self.store.block(&blocks));
        for Blocked { job, by } in blocked {
            self.tell(&Notice::Blocked { job: job.clone(), by: by.clone() });
        }
        Ok(())
    }

    pub(super) async fn ended(&mut self, cohort: usize, ended: &Ended) -> Result<(), Error> {
        let running = |run: &Self, job: &JobId| run.board.place(job) == Some(Place::Running);
        let students = self.working.get(&cohort).map(|working| working.jobs.clone()).unwrap_or_default();
        for job in students.iter().filter(|job| running(self, job)).cloned().collect::<Vec<_>>() {
            self.read_spool(&job).await?;
        }
        let left: Vec<JobId> = students.into_iter().filter(|job| running(self, job)).collect();
        let Some(mut working) = self.working.remove(&cohort) else { return Ok(()) };
        let attempts: Vec<(JobId, u32)> =
            working.jobs.iter().filter_map(|job| Some((job.clone(), self.started.get(job)?.1))).collect();
        if working.memory_bytes > 0 {
            patiently!(self, self.store.record_memory(&attempts, working.memory_bytes));
        }
        if !left.is_empty() {
            self.unfinished(cohort, left, ended, &mut working).await?;
        }
        let stopped = std::mem::take(&mut working.stopped);
        if !stopped.is_empty() {
            self.start_again(cohort, stopped).await?;
        }
        if !working.short.is_empty() {
            self.shrink(cohort, working).await?;
        }
        let cohort = self.id(cohort);
        self.tell(&Notice::CohortEnded { cohort });
        Ok(())
    }

    /// What the worker wrote down but did not live to say.
    async fn read_spool(&mut self, job: &JobId) -> Result<(), Error> {
        let Some(&(cohort, attempt)) = self.started.get(job) else { return Ok(()) };
        patiently!(self, ingest_spool(&self.settings.folder, self.store, job));
        let (messages, _) = read_spool(&self.settings.folder, job)?;
        for message in messages.iter().filter(|message| message.attempt == attempt) {
            if let Event::Epoch(row) = &message.event {
                self.stalls.entry(job.clone()).or_default().seen(row.step);
            }
        }
        let Some(last) = messages.into_iter().rfind(|message| message.attempt == attempt) else { return Ok(()) };
        let is_end = match &last.event {
            Event::Finished => self.settings.folder.student(job).exists(),
            Event::Failed { .. } | Event::Stopped { .. } => true,
            _ => false,
        };
        if is_end { self.hear(cohort, last).await } else { Ok(()) }
    }

    /// The worker is gone and these of its students never came to an end.
    async fn unfinished(
        &mut self,
        cohort: usize,
        jobs: Vec<JobId>,
        ended: &Ended,
        working: &mut Working,
    ) -> Result<(), Error> {
        if self.stop.level() >= Level::Finish || ended.how == How::Exit(STOPPED) {
            let ending = Ending::Stopped { message: "stopped before it said how far it was".to_owned() };
            self.end_all(&jobs, &ending).await?;
            jobs.iter().for_each(|job| self.board.put(job, Place::Interrupted));
            working.stopped.extend(jobs);
            return Ok(());
        }
        let mut why = why(ended);
        if working.frozen {
            why = format!("the worker gave no sign of life for {:?} and was killed", self.settings.watch.lease);
        }
        let class = match ended.how {
            How::NotStarted(_) => Failure::Error,
            How::Signal(9) if !working.frozen && memory::kills() > working.kills => Failure::OutOfMemory,
            How::Exit(_) | How::Signal(_) => Failure::Lost,
        };
        if class == Failure::OutOfMemory {
            self.end_all(&jobs, &Ending::Failed { class, message: why.clone() }).await?;
            jobs.iter().for_each(|job| self.board.put(job, Place::Interrupted));
            working.short.extend(jobs.into_iter().map(|job| (job, why.clone())));
            return Ok(());
        }
        // Each has its own count: those that took no step forward are given up, the others go again together.
        let (mut again, mut after) = (Vec::new(), Duration::ZERO);
        for job in &jobs {
            let one = std::slice::from_ref(job);
            match self.next_try(job, class) {
                Ok(delay) => {
                    self.end_all(one, &Ending::Failed { class, message: why.clone() }).await?;
                    after = after.max(delay);
                    again.push(job.clone());
                }
                Err(given_up) => {
                    let message = with(&why, given_up);
                    self.end_all(one, &Ending::Failed { class, message: message.clone() }).await?;
                    self.give_up(job, &message).await?;
                }
            }
        }
        let id = self.id(cohort);
        self.tell(&Notice::Lost { cohort: id, jobs, why, again: !again.is_empty() });
        match (again.is_empty(), after.is_zero()) {
            (true, _) => {}
            (false, true) => {
                again.iter().for_each(|job| self.board.put(job, Place::Interrupted));
                self.board.again(&again);
            }
            (false, false) => self.rest(cohort, again, class, after).await?,
        }
        Ok(())
    }

    /// Somebody stopped a worker, and not this run: a person, or a guard of the memory. It is started again as often as one
    /// that is lost; then its jobs stay as they are, to go on with the next run.
    async fn start_again(&mut self, cohort: usize, stopped: Vec<JobId>) -> Result<(), Error> {
        if self.stop.level() > Level::Go {
            return Ok(());
        }
        let (mut again, mut after) = (Vec::new(), Duration::ZERO);
        for job in stopped {
            if let Ok(delay) = self.next_try(&job, Failure::Lost) {
                after = after.max(delay);
                again.push(job);
            }
        }
        let how = if again.is_empty() { "too often: it is left until the next run" } else { "it is started again" };
        let id = self.id(cohort);
        self.note(format!("cohort {:.8}: its worker was stopped, and not by this run; {how}", id.as_str()));
        if after.is_zero() {
            self.board.again(&again);
            return Ok(());
        }
        self.rest(cohort, again, Failure::Lost, after).await
    }

    async fn end_all(&mut self, jobs: &[JobId], ending: &Ending) -> Result<(), Error> {
        for job in jobs {
            if let Some(&(_, attempt)) = self.started.get(job) {
                patiently!(self, self.store.end_attempt(job, attempt, ending));
            }
        }
        Ok(())
    }

    /// Another scheduler began this job anew: ours must not go on with it, and its worker cannot be asked one by one what it
    /// has already written.
    pub(super) fn taken_away(&mut self, job: &JobId, cohort: usize) {
        if self.board.place(job) == Some(Place::Running) {
            self.board.put(job, Place::Elsewhere);
            if let Some(working) = self.working.get(&cohort) {
                let _ = working.orders.send(Order::Kill);
            }
            self.note(format!("job {job} was taken over by another run"));
        }
    }
}

fn with(message: &str, given_up: Option<String>) -> String {
    match given_up {
        Some(why) => format!("{message}\ngiven up: {why}"),
        None => message.to_owned(),
    }
}

fn why(ended: &Ended) -> String {
    let how = match &ended.how {
        How::Exit(code) => format!("the worker ended with code {code} and without a word"),
        // Nobody here sent it.
        How::Signal(9) => "the worker was killed (signal 9), perhaps by the kernel for want of memory".to_owned(),
        How::Signal(signal) => format!("the worker was ended by signal {signal}"),
        How::NotStarted(why) => format!("the worker could not be started: {why}"),
    };
    if ended.last_words.is_empty() { how } else { format!("{how}; its last words:\n{}", ended.last_words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_without_a_step_count_as_stalls() {
        let mut stall = Stall::default();
        assert_eq!(stall.ended(), 1);
        stall.seen(10);
        assert_eq!(stall.ended(), 0);
        assert_eq!([stall.ended(), stall.ended()], [1, 2]);
        stall.seen(11);
        assert_eq!(stall.ended(), 0);
    }
}
