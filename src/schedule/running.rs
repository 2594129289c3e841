//! One run of a plan: the loop that starts and listens. What starts next and where is in `start.rs`, what becomes of failures
//! in `trouble.rs`, what is looked at from time to time in `look.rs`.

mod halve;
mod look;
mod shape;
mod start;
mod trouble;
mod workers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::board::{Board, Place};
use super::stop::{Level, Stop};
use super::{Engine, Error, Notice, Order, Settings, Summary, Voice};
use crate::event::{Event, Line, Message};
use crate::job::JobId;
use crate::plan::{CohortId, Device, Halvings, Plan};
use crate::store::{Store, Taken};
use look::Others;
use shape::Shape;
use trouble::{Disk, Resting, Stall};
use workers::Workers;

/// Messages that workers may be ahead of the store before they wait.
const CHANNEL: usize = 1024;
/// Messages of one transaction.
const BATCH: usize = 256;
/// For workers to save when the store is gone.
const SAVING: Duration = Duration::from_secs(300);
/// Between two tries of what the store could not do.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does something with the store again and again while it is locked or the disk is full: neither is a reason to end a
/// sweep, and workers wait as long as nobody takes their words. Ends with the error when all is to end at once.
macro_rules! patiently {
    ($run:ident, $what:expr) => {{
        let mut told = false;
        loop {
            let result = $what.await.map_err(Error::from);
            match result {
                Err(error) if error.passing().is_some() && $run.stop.level() < Level::Now && !$run.is_cut_off() => {
                    if !std::mem::replace(&mut told, true) {
                        $run.note(format!("waiting: {}", error.passing().unwrap_or_default()));
                    }
                    tokio::time::sleep(PATIENCE).await;
                    // If that is not possible now, it is the next time.
                    let _ = $run.store.reconnect().await;
                }
                result => break result?,
            }
        }
    }};
}
use patiently;

pub(super) struct Run<'a, E, O> {
    plan: &'a Plan,
    settings: &'a Settings,
    store: &'a Store,
    engine: &'a E,
    observer: O,
    stop: Stop,
    board: Board<'a>,
    /// Cohorts that have a worker.
    working: BTreeMap<usize, Working>,
    /// Cohort and attempt of every job that was started.
    started: HashMap<JobId, (usize, u32)>,
    /// How much at once what is alike was found to have memory for.
    shapes: HashMap<String, Shape>,
    /// Tries of jobs by class of failure.
    tries: HashMap<(JobId, &'static str), u32>,
    stalls: HashMap<JobId, Stall>,
    /// What waits to be tried again.
    resting: Vec<Resting>,
    others: Others,
    disk: Option<Disk>,
    halving: Option<Halvings>,
    /// Time of devices that had something to do.
    spent: Duration,
    /// When it last looked.
    looked: Instant,
    /// When leases were last to be renewed, and when they were.
    renewed: Instant,
    held: Instant,
    done: u64,
}

/// A cohort that has a worker.
struct Working {
    jobs: Vec<JobId>,
    device: Device,
    orders: mpsc::UnboundedSender<Order>,
    /// When it last said something. By a clock that does not jump, and not by tokio's, which tests stop.
    heard: Instant,
    /// Whether it has begun to train: until then nobody knows what it takes.
    begun: bool,
    memory_bytes: u64,
    /// Of the kernel, for want of memory, before it began.
    kills: u64,
    /// Whether we ended it because it was frozen.
    frozen: bool,
    /// Students that were asked to leave.
    asked: HashSet<JobId>,
    /// Students that were saved and left, and not because they were asked.
    stopped: Vec<JobId>,
    /// Students that had too little memory.
    short: Vec<(JobId, String)>,
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
            working: BTreeMap::new(),
            started: HashMap::new(),
            shapes: HashMap::new(),
            tries: HashMap::new(),
            stalls: HashMap::new(),
            resting: Vec::new(),
            others: Others::default(),
            disk: None,
            halving: settings.halving.clone(),
            spent: Duration::ZERO,
            looked: Instant::now(),
            renewed: Instant::now(),
            held: Instant::now(),
            done: 0,
        }
    }

    pub async fn finish(mut self) -> Result<Summary, Error> {
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let mut workers = Workers::default();
        if let Err(error) = self.go(&sender, &mut receiver, &mut workers).await {
            if self.is_cut_off() {
                self.note("the store is away for longer than a lease: all is saved, and left".to_owned());
                self.leave(&mut receiver, &mut workers).await;
            }
            return Err(error);
        }
        Ok(Summary {
            done: self.done,
            failed: self.board.count(Place::Failed),
            blocked: self.board.count(Place::Blocked),
            // Nothing runs any more: what was left running was left.
            interrupted: self.board.count(Place::Interrupted) + self.board.count(Place::Running),
            open: [Place::Waiting, Place::Resting, Place::Elsewhere].map(|place| self.board.count(place)).iter().sum(),
            unwanted: self.board.count(Place::Unwanted),
        })
    }

    async fn go(
        &mut self,
        sender: &mpsc::Sender<(usize, Line)>,
        receiver: &mut mpsc::Receiver<(usize, Line)>,
        workers: &mut Workers<'a>,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut stop = self.stop.clone();
        let mut level = Level::Go;
        self.recall().await?;
        // The first tick comes at once: what people want is known before anything starts.
        self.look().await?;
        let mut looks = interval(self.settings.watch.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        loop {
            // Here and not in the branch below: the asked may end before the asking was seen.
            if stop.level() > level {
                level = stop.level();
                self.tell(&Notice::Stopping { level });
            }
            while let Some(device) = self.free() {
                let Some((cohort, manifest, orders)) = self.start_next(device).await? else { break };
                let voice = Voice { cohort, lines: sender.clone() };
                let engine = self.engine;
                workers.add(cohort, engine.run(manifest, voice, orders, self.stop.clone()));
            }
            if self.working.is_empty() && !self.waits() {
                return Ok(());
            }
            let rested = self.resting.iter().map(|resting| resting.until).min();
            tokio::select! {
                biased;
                _ = receiver.recv_many(&mut batch, BATCH) => self.take(&mut batch).await?,
                (cohort, ended) = workers.next() => {
                    // A worker's engine has sent all there was before it ended.
                    while let Ok(line) = receiver.try_recv() {
                        batch.push(line);
                    }
                    self.take(&mut batch).await?;
                    self.ended(cohort, &ended).await?;
                }
                _ = stop.above(level) => {}
                () = wait_until(rested) => self.wake(),
                _ = looks.tick() => self.look().await?,
            }
        }
    }

    /// Whether our jobs may be another's by now, for nobody could say that they are ours.
    fn is_cut_off(&self) -> bool {
        self.settings.watch.is_task && self.held.elapsed() > self.settings.watch.lease
    }

    /// Lets workers save and end. What they say meanwhile is in their spools.
    async fn leave(&mut self, receiver: &mut mpsc::Receiver<(usize, Line)>, workers: &mut Workers<'a>) {
        self.stop.raise(Level::Finish);
        let mut batch = Vec::new();
        let end = tokio::time::Instant::now() + SAVING;
        while !workers.is_empty() {
            batch.clear();
            tokio::select! {
                _ = receiver.recv_many(&mut batch, BATCH) => {}
                _ = workers.next() => {}
                () = sleep_until(end) => return,
            }
        }
    }

    /// Whether something may still come without a worker: others' jobs, second tries, room on the disk.
    fn waits(&self) -> bool {
        let others = !self.settings.watch.is_task && self.board.count(Place::Elsewhere) > 0;
        self.stop.level() == Level::Go && (!self.resting.is_empty() || self.disk.is_some() || others)
    }

    fn tell(&mut self, notice: &Notice) {
        (self.observer)(notice);
    }

    fn note(&mut self, text: String) {
        self.tell(&Notice::Note(text));
    }

    fn id(&self, cohort: usize) -> CohortId {
        self.plan.cohorts[cohort].id.clone()
    }

    async fn take(&mut self, batch: &mut Vec<(usize, Line)>) -> Result<(), Error> {
        let mut messages: Vec<Message> = Vec::with_capacity(batch.len());
        for (cohort, line) in batch.drain(..) {
            let working = self.working.get_mut(&cohort);
            match line {
                Line::Message(message) => {
                    if let Some(working) = working {
                        working.heard = Instant::now();
                        working.begun |= matches!(message.event, Event::Step { .. } | Event::Epoch(_));
                    }
                    messages.push(*message);
                }
                Line::Beat { beat } => {
                    if let Some(working) = working {
                        working.heard = Instant::now();
                        working.memory_bytes = working.memory_bytes.max(beat.memory_bytes);
                    }
                }
            }
        }
        let answers = patiently!(self, self.store.take_all(&messages));
        for (message, taken) in messages.into_iter().zip(answers) {
            let Some(&(cohort, attempt)) = self.started.get(&message.job) else { continue };
            if let Taken::Refused { .. } = taken
                && message.attempt == attempt
            {
                self.taken_away(&message.job, cohort);
            }
            // Refused and unknown messages are those of a worker that nobody waits for any more.
            if matches!(taken, Taken::Refused { .. } | Taken::Unknown) {
                continue;
            }
            self.hear(cohort, message).await?;
        }
        Ok(())
    }

    /// What the store took.
    async fn hear(&mut self, cohort: usize, message: Message) -> Result<(), Error> {
        let (job, event) = (message.job.clone(), message.event.clone());
        let id = self.id(cohort);
        self.tell(&Notice::Message { cohort: id, message });
        if self.board.place(&job) != Some(Place::Running) {
            return Ok(());
        }
        match event {
            Event::Epoch(row) => {
                self.stalls.entry(job.clone()).or_default().seen(row.step);
                self.measured(&job, &row).await?;
            }
            Event::Finished => self.finished(&job),
            Event::Stopped { step, .. } => {
                self.stalls.entry(job.clone()).or_default().seen(step);
                let working = self.working.get_mut(&cohort);
                let asked = working.as_ref().is_some_and(|working| working.asked.contains(&job));
                self.board.put(&job, if asked { Place::Unwanted } else { Place::Interrupted });
                if let Some(working) = working.filter(|_| !asked) {
                    working.stopped.push(job);
                }
            }
            Event::Failed { class, message } => self.failed(cohort, job, class, message).await?,
            _ => {}
        }
        Ok(())
    }

    fn finished(&mut self, job: &JobId) {
        self.done += 1;
        self.board.done(job);
    }
}

/// For ever, where there is no time.
async fn wait_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
