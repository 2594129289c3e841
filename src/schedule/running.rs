//! One run of a plan: the loop that starts and listens. What becomes of failures is in `trouble.rs`, what is looked at from
//! time to time in `look.rs`.

mod halve;
mod look;
mod trouble;
mod workers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::board::{Board, Place};
use super::stop::{Level, Stop};
use super::{Engine, Error, Notice, Order, Settings, Summary, Voice, memory};
use crate::event::{Event, Line, Message};
use crate::job::{Job, JobId};
use crate::plan::{CohortId, Device, Halvings, Manifest, Member, Plan, Student, cohort_cost};
use crate::store::{Claim, Provenance, Store, Taken};
use look::Others;
use trouble::{Disk, Resting, Shape, Stall};
use workers::Workers;

/// Messages that workers may be ahead of the store before they wait.
const CHANNEL: usize = 1024;
/// Messages of one transaction.
const BATCH: usize = 256;
/// Between two tries of what the store could not do.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of a GPU's memory, what cohorts that share it may take together.
const SHARE: f64 = 0.9;

/// Does something with the store again and again while it is locked or the disk is full: neither is a reason to end a
/// sweep, and workers wait as long as nobody takes their words. Ends with the error when all is to end at once.
macro_rules! patiently {
    ($run:ident, $what:expr) => {{
        let mut told = false;
        loop {
            let result = $what.await.map_err(Error::from);
            match result {
                Err(error) if error.passing().is_some() && $run.stop.level() < Level::Now => {
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
    /// When leases were last renewed.
    renewed: Instant,
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
            done: 0,
        }
    }

    pub async fn finish(mut self) -> Result<Summary, Error> {
        let (sender, mut receiver) = mpsc::channel(CHANNEL);
        let mut workers = Workers::default();
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
                workers.add(cohort, self.engine.run(manifest, voice, orders, self.stop.clone()));
            }
            if self.working.is_empty() && !self.waits() {
                break;
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

    /// Whether something may still come without a worker: others' jobs, second tries, room on the disk.
    fn waits(&self) -> bool {
        self.stop.level() == Level::Go
            && (!self.resting.is_empty() || self.disk.is_some() || self.board.count(Place::Elsewhere) > 0)
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

    /// The device that the next cohort may start on: of those that have a slot the one with the fewest cohorts.
    fn free(&self) -> Option<Device> {
        if self.stop.level() > Level::Go || self.disk.is_some() {
            return None;
        }
        let on = |device: Device| self.working.values().filter(move |working| working.device == device);
        let free = self.settings.devices.iter().filter(|(device, memory)| {
            let count = on(*device).count();
            if count == 0 || !device.is_cuda() {
                return count < self.settings.slots.max(1);
            }
            // As much as the largest took is assumed of the next.
            let taken = on(*device).map(|working| working.memory_bytes);
            let (sum, most) = (taken.clone().sum::<u64>(), taken.max().unwrap_or(0));
            count < self.settings.slots
                && on(*device).all(|working| working.begun)
                && memory.is_none_or(|memory| (sum + most) as f64 <= SHARE * memory as f64)
        });
        free.map(|(device, _)| *device).min_by_key(|device| on(*device).count())
    }

    /// A cohort gets its share of the threads among those that run and those that could: all of them while a teacher is
    /// the only one, one each in the thick of a sweep. Its numbers do not depend on it.
    async fn start_next(
        &mut self,
        device: Device,
    ) -> Result<Option<(usize, Manifest, mpsc::UnboundedReceiver<Order>)>, Error> {
        loop {
            let slots = (self.settings.slots * self.settings.devices.len()).max(1);
            let sharing = (self.working.len() + self.board.ready()).clamp(1, slots);
            let threads = (self.settings.threads / u32::try_from(sharing).unwrap_or(u32::MAX)).max(1);
            let Some((cohort, students)) = self.board.next(|cohort| self.working.contains_key(&cohort)) else {
                return Ok(None);
            };
            let students = self.claim(cohort, &students, device, threads).await?;
            if students.is_empty() {
                continue;
            }
            let jobs: Vec<JobId> = students.iter().map(|student| student.job.id()).collect();
            let shape = self.shapes.get(&self.likeness(cohort)).copied().unwrap_or_default();
            let settings = self.settings;
            let manifest = Manifest {
                cohort: self.id(cohort),
                students,
                places: settings.places.clone(),
                evaluations: settings.evaluations,
                minitrain: settings.minitrain,
                allow_teacher_at_chance: settings.allow_teacher_at_chance,
                record_teacher: settings.record_teacher,
                images: settings.images,
                checkpoints: settings.checkpoints.clone(),
                at_once: shape.at_once,
                parts: shape.parts,
                threads,
                device,
            };
            let (orders, receiver) = mpsc::unbounded_channel();
            let now = Instant::now();
            let working = Working {
                jobs: jobs.clone(),
                device,
                orders,
                heard: now,
                begun: false,
                memory_bytes: 0,
                kills: memory::kills(),
                frozen: false,
                asked: HashSet::new(),
                short: Vec::new(),
            };
            self.working.insert(cohort, working);
            self.tell(&Notice::CohortStarted { cohort: self.id(cohort), jobs });
            return Ok(Some((cohort, manifest, receiver)));
        }
    }

    /// Takes those of a cohort's jobs that may be taken, on the store's word.
    async fn claim(
        &mut self,
        cohort: usize,
        students: &[&Member],
        device: Device,
        threads: u32,
    ) -> Result<Vec<Student>, Error> {
        let jobs: Vec<JobId> = students.iter().map(|(job, _)| job.clone()).collect();
        let expected = self.settings.flops_per_second.filter(|_| !device.is_cuda()).map(|rate| {
            let seconds = cohort_cost(&self.plan.cohorts[cohort]).total() / rate / f64::from(threads);
            (1e3 * seconds) as u64
        });
        let own = self.settings.provenance.clone();
        let provenance = Provenance { threads, device: device.to_string(), expected_ms: expected, ..own };
        let (lease, dead) = (self.settings.watch.lease, &self.others.dead);
        let (id, dead) = (self.id(cohort), dead.clone());
        let claims = patiently!(self, self.store.claim(&jobs, &id, &provenance, lease, &dead));
        let mut ours = Vec::new();
        for ((id, job), claim) in students.iter().zip(claims) {
            match claim {
                Claim::Begun(attempt) => {
                    self.others.dead.remove(id);
                    self.started.insert(id.clone(), (cohort, attempt));
                    ours.push(Student { attempt, job: Job::clone(job) });
                }
                Claim::Done => self.board.done(id),
                Claim::Theirs => self.board.put(id, Place::Elsewhere),
                Claim::Unwanted => self.board.put(id, Place::Unwanted),
                // Recorded before the plan was made, so somebody took it out of the store.
                Claim::Unknown => {
                    let blocked = self.board.failed(id);
                    self.block(&blocked, "it is not in the store").await?;
                }
            }
        }
        Ok(ours)
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
                let asked = self.working.get(&cohort).is_some_and(|working| working.asked.contains(&job));
                self.board.put(&job, if asked { Place::Unwanted } else { Place::Interrupted });
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
