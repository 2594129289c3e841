//! One run of a plan: the loop that starts, listens and retries.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::mpsc;

use super::board::{Blocked, Board, Place};
use super::spool::ingest_spool;
use super::stop::{Level, Stop};
use super::{Ended, Engine, Error, How, LOST_ATTEMPTS, Notice, STOPPED, Settings, Summary};
use crate::event::{Event, Failure, Message};
use crate::job::JobId;
use crate::plan::{CohortId, Manifest, Plan, Student};
use crate::store::{Block, Ending, Provenance, Store, Taken};

/// Messages that workers may be ahead of the store before they wait.
const CHANNEL: usize = 1024;
/// Messages of one transaction.
const BATCH: usize = 256;

pub(super) struct Run<'a, E, O> {
    plan: &'a Plan,
    settings: &'a Settings,
    store: &'a Store,
    engine: &'a E,
    observer: O,
    stop: Stop,
    board: Board<'a>,
    /// Cohort and attempt of every job that was started.
    started: HashMap<JobId, (usize, u32)>,
    /// Students of the running workers, by cohort.
    students: HashMap<usize, Vec<JobId>>,
    /// Workers lost in this run, by cohort.
    lost: HashMap<usize, u32>,
    done: u64,
}

impl<'a, E: Engine, O: FnMut(&Notice)> Run<'a, E, O> {
    pub fn new(
        plan: &'a Plan,
        settings: &'a Settings,
        store: &'a Store,
        engine: &'a E,
        observer: O,
        stop: Stop,
    ) -> Run<'a, E, O> {
        Run {
            plan,
            settings,
            store,
            engine,
            observer,
            stop,
            board: Board::new(plan),
            started: HashMap::new(),
            students: HashMap::new(),
            lost: HashMap::new(),
            done: 0,
        }
    }

    pub async fn finish(mut self) -> Result<Summary, Error> {
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let mut workers = Workers::default();
        let mut batch = Vec::new();
        let mut stop = self.stop.clone();
        let mut level = Level::Go;
        loop {
            // Here and not in the branch below: the asked may end before the asking was seen.
            if stop.level() > level {
                level = stop.level();
                self.tell(&Notice::Stopping { level });
            }
            while self.stop.level() == Level::Go && workers.len() < self.settings.slots.max(1) {
                let Some((cohort, manifest)) = self.start_next(workers.len()).await? else { break };
                workers.add(cohort, self.engine.run(manifest, sender.clone(), self.stop.clone()));
            }
            if workers.len() == 0 {
                break;
            }
            tokio::select! {
                biased;
                _ = receiver.recv_many(&mut batch, BATCH) => self.take(&mut batch).await?,
                (cohort, ended) = workers.next() => {
                    // A worker's engine has sent all there was before it ended.
                    while let Ok(message) = receiver.try_recv() {
                        batch.push(message);
                    }
                    self.take(&mut batch).await?;
                    self.ended(cohort, &ended).await?;
                }
                _ = stop.above(level) => {}
            }
        }
        Ok(Summary {
            done: self.done,
            failed: self.board.count(&Place::Failed),
            blocked: self.board.count(&Place::Blocked),
            interrupted: self.board.count(&Place::Interrupted),
            open: self.board.count(&Place::Waiting),
        })
    }

    fn tell(&mut self, notice: &Notice) {
        (self.observer)(notice);
    }

    fn id(&self, cohort: usize) -> CohortId {
        self.plan.cohorts[cohort].id.clone()
    }

    /// A cohort gets its share of the threads among those that run and those that could: all of them while a teacher is
    /// the only one, one each in the thick of a sweep. Its numbers do not depend on it.
    async fn start_next(&mut self, running: usize) -> Result<Option<(usize, Manifest)>, Error> {
        let sharing = (running + self.board.ready()).min(self.settings.slots).max(1);
        let threads = (self.settings.threads / u32::try_from(sharing).unwrap_or(u32::MAX)).max(1);
        let Some((cohort, students)) = self.board.next() else { return Ok(None) };
        let id = self.id(cohort);
        let jobs: Vec<JobId> = students.iter().map(|(job, _)| job.clone()).collect();
        let provenance = Provenance { threads, ..self.settings.provenance.clone() };
        let attempts = self.store.begin_attempts(&jobs, &id, &provenance).await?;
        for (job, &attempt) in jobs.iter().zip(&attempts) {
            self.started.insert(job.clone(), (cohort, attempt));
        }
        let manifest = Manifest {
            cohort: id.clone(),
            students: attempts
                .into_iter()
                .zip(&students)
                .map(|(attempt, (_, job))| Student { attempt, job: job.clone() })
                .collect(),
            places: self.settings.places.clone(),
            evaluations: self.settings.evaluations,
            minitrain: self.settings.minitrain,
            allow_teacher_at_chance: self.settings.allow_teacher_at_chance,
            record_teacher: self.settings.record_teacher,
            images: self.settings.images,
            checkpoints: self.settings.checkpoints.clone(),
            at_once: None,
            parts: None,
            threads,
            device: self.settings.device,
        };
        self.students.insert(cohort, jobs.clone());
        self.tell(&Notice::CohortStarted { cohort: id, jobs });
        Ok(Some((cohort, manifest)))
    }

    async fn take(&mut self, batch: &mut Vec<Message>) -> Result<(), Error> {
        let answers = self.store.take_all(batch).await?;
        for (message, taken) in batch.drain(..).zip(answers) {
            let Some(&(cohort, _)) = self.started.get(&message.job) else { continue };
            // Refused and unknown messages are those of a worker that nobody waits for any more.
            if matches!(taken, Taken::Refused { .. } | Taken::Unknown) {
                continue;
            }
            let end = match &message.event {
                Event::Finished => Some(Place::Done),
                Event::Stopped { .. } => Some(Place::Interrupted),
                Event::Failed { .. } => Some(Place::Failed),
                _ => None,
            };
            let why = match &message.event {
                Event::Failed { message, .. } => message.clone(),
                _ => String::new(),
            };
            let job = message.job.clone();
            let cohort = self.id(cohort);
            self.tell(&Notice::Message { cohort, message });
            match end {
                Some(place) if self.board.place(&job) == Some(&Place::Running) => {
                    self.settle(&job, place, &why).await?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A running job came to its end for this run.
    async fn settle(&mut self, job: &JobId, place: Place, why: &str) -> Result<(), Error> {
        match place {
            Place::Done => {
                self.done += 1;
                self.board.done(job);
            }
            Place::Failed => {
                let blocked = self.board.failed(job);
                self.block(&blocked, why).await?;
            }
            _ => self.board.interrupted(job),
        }
        Ok(())
    }

    async fn block(&mut self, blocked: &[Blocked], why: &str) -> Result<(), Error> {
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
        self.store.block(&blocks).await?;
        for Blocked { job, by } in blocked {
            self.tell(&Notice::Blocked { job: job.clone(), by: by.clone() });
        }
        Ok(())
    }

    async fn ended(&mut self, cohort: usize, ended: &Ended) -> Result<(), Error> {
        let students = self.students.remove(&cohort).unwrap_or_default();
        let is_running = |board: &Board<'_>, job: &JobId| board.place(job) == Some(&Place::Running);
        for job in students.iter().filter(|job| is_running(&self.board, job)).cloned().collect::<Vec<_>>() {
            self.read_spool(&job).await?;
        }
        let left: Vec<JobId> = students.into_iter().filter(|job| is_running(&self.board, job)).collect();
        if !left.is_empty() {
            self.unfinished(cohort, left, ended).await?;
        }
        let cohort = self.id(cohort);
        self.tell(&Notice::CohortEnded { cohort });
        Ok(())
    }

    /// What the worker wrote down but did not live to say.
    async fn read_spool(&mut self, job: &JobId) -> Result<(), Error> {
        let Some(&(cohort, attempt)) = self.started.get(job) else { return Ok(()) };
        ingest_spool(&self.settings.folder, self.store, job).await?;
        let (messages, _) = super::read_spool(&self.settings.folder, job)?;
        let Some(last) = messages.into_iter().rfind(|message| message.attempt == attempt) else { return Ok(()) };
        let (place, why) = match &last.event {
            Event::Finished if self.settings.folder.student(job).exists() => (Place::Done, String::new()),
            Event::Failed { message, .. } => (Place::Failed, message.clone()),
            Event::Stopped { .. } => (Place::Interrupted, String::new()),
            _ => return Ok(()),
        };
        let cohort = self.id(cohort);
        self.tell(&Notice::Message { cohort, message: last });
        self.settle(job, place, &why).await
    }

    /// The worker is gone and these of its students never came to an end.
    async fn unfinished(&mut self, cohort: usize, jobs: Vec<JobId>, ended: &Ended) -> Result<(), Error> {
        if self.stop.level() > Level::Go || ended.how == How::Exit(STOPPED) {
            let ending = Ending::Stopped { message: "stopped before it said how far it was".to_owned() };
            return self.end_all(&jobs, &ending, Place::Interrupted).await;
        }
        let why = why(ended);
        let (class, again) = match ended.how {
            How::NotStarted(_) => (Failure::Error, false),
            How::Exit(_) | How::Signal(_) => {
                let lost = self.lost.entry(cohort).or_default();
                *lost += 1;
                (Failure::Lost, *lost < LOST_ATTEMPTS)
            }
        };
        let id = self.id(cohort);
        self.tell(&Notice::Lost { cohort: id, jobs: jobs.clone(), why: why.clone(), again });
        let ending = Ending::Failed { class, message: why };
        if again {
            self.end_all(&jobs, &ending, Place::Waiting).await?;
            self.board.again(cohort, &jobs);
            return Ok(());
        }
        self.end_all(&jobs, &ending, Place::Failed).await
    }

    async fn end_all(&mut self, jobs: &[JobId], ending: &Ending, place: Place) -> Result<(), Error> {
        for job in jobs {
            if let Some(&(_, attempt)) = self.started.get(job) {
                self.store.end_attempt(job, attempt, ending).await?;
            }
            let (Ending::Stopped { message } | Ending::Failed { message, .. }) = ending;
            if place != Place::Waiting {
                self.settle(job, place.clone(), message).await?;
            }
        }
        Ok(())
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

type Worker<'a> = Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// The running workers' futures. Polled in place and not spawned: they borrow, and need not be `Send`. A handful of
/// slots does not want more than a list.
#[derive(Default)]
struct Workers<'a> {
    running: Vec<(usize, Worker<'a>)>,
}

impl<'a> Workers<'a> {
    fn len(&self) -> usize {
        self.running.len()
    }

    fn add(&mut self, cohort: usize, worker: impl Future<Output = Ended> + 'a) {
        self.running.push((cohort, Box::pin(worker)));
    }

    /// The next to end; never, if there is none.
    async fn next(&mut self) -> (usize, Ended) {
        poll_fn(|context| {
            for at in 0..self.running.len() {
                if let Poll::Ready(ended) = self.running[at].1.as_mut().poll(context) {
                    let (cohort, _) = self.running.remove(at);
                    return Poll::Ready((cohort, ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}
