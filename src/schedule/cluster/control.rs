//! The controller: submits what is ready, looks at what became of it, submits again what came to nothing.

mod again;
mod compare;
mod submit;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::submit::Full;
use super::manifest::Header;
use super::resources::Resources;
use super::slurm::{Seen, Slurm, Trouble};
use super::words::is_over;
use crate::alive::{here, is_gone};
use crate::folder::Folder;
use crate::job::JobId;
use crate::plan::{Plan, Retries, Site};
use crate::schedule::board::{Board, Place};
use crate::schedule::spool::ingest_spool;
use crate::schedule::stop::{Level, Stop};
use crate::schedule::{Error, Notice, Summary};
use crate::store::{Block, SchedulerWish, Stand, State, Store, Task, Wish};

/// Tasks of one array, where Slurm allows more.
const MOST: u32 = 1000;
/// What a controller works with.
pub struct Cluster<'a> {
    pub plan: &'a Plan,
    pub folder: &'a Folder,
    pub store: &'a Store,
    pub slurm: Slurm,
    pub site: &'a Site,
    /// Of all arrays, but for tag and count.
    pub header: Header,
    /// What tasks start.
    pub program: PathBuf,
    pub retries: &'a Retries,
    /// Of this process.
    pub owner: &'a str,
    pub lease: Duration,
    /// Between two looks.
    pub every: Duration,
    pub flops_per_second: Option<f64>,
    /// Variables that tasks get, beside those of this process.
    pub environment: Vec<(String, String)>,
}

/// Submits and looks after a plan's cohorts until nothing is left that can run, or a stop is heeded: then what was submitted
/// goes on by itself.
///
/// # Errors
/// When another controller has the experiment, Slurm refuses what is asked for, or the store fails.
pub async fn control(cluster: Cluster<'_>, observer: impl FnMut(&Notice), stop: Stop) -> Result<Summary, Error> {
    let open: Vec<JobId> = cluster.plan.open().map(|planned| planned.id.clone()).collect();
    let board = Board::new(cluster.plan);
    let mut control = Control {
        cluster,
        observer,
        stop,
        board,
        failed_before: HashMap::new(),
        old: HashSet::new(),
        ordered: None,
        cancelled: HashSet::new(),
        largest: MOST,
        full: HashMap::new(),
        blocked: HashSet::new(),
        absent: HashMap::new(),
        said: HashSet::new(),
        last: String::new(),
        counter: 0,
    };
    control.begin(&open).await?;
    let result = control.rounds().await;
    // Nobody waits for the end of a lease that nobody has.
    let _ = control.cluster.store.leave_control(control.cluster.owner).await;
    result?;
    let count = |place| control.board.count(place);
    Ok(Summary {
        done: count(Place::Done) - control.cluster.plan.jobs.iter().filter(|planned| planned.done).count() as u64,
        failed: count(Place::Failed),
        blocked: count(Place::Blocked),
        interrupted: count(Place::Interrupted) + count(Place::Running) + count(Place::Elsewhere),
        open: count(Place::Waiting) + count(Place::Resting),
        unwanted: count(Place::Unwanted),
    })
}

struct Control<'a, O> {
    cluster: Cluster<'a>,
    observer: O,
    stop: Stop,
    board: Board<'a>,
    /// Attempts of jobs that had failed before this run: those are tried again.
    failed_before: HashMap<JobId, u32>,
    /// Arrays from before this run.
    old: HashSet<String>,
    /// What a person wants of this process.
    ordered: Option<SchedulerWish>,
    /// Jobs that a person wants to be left.
    cancelled: HashSet<JobId>,
    /// Tasks of one array.
    largest: u32,
    /// Of what Slurm takes no more at present.
    full: HashMap<Resources, Full>,
    /// Since the stands were read, which do not say so.
    blocked: HashSet<JobId>,
    /// Tasks that Slurm does not show, and since when.
    absent: HashMap<(String, u32), Instant>,
    /// What was said, and need not be again.
    said: HashSet<String>,
    /// The last line about the whole.
    last: String,
    counter: u32,
}

/// Does something with the store until it can be done, or a stop is asked for.
macro_rules! patiently {
    ($control:ident, $what:expr) => {{
        loop {
            let result = $what.await.map_err(Error::from);
            match result {
                Err(error) if error.passing().is_some() && $control.stop.level() == Level::Go => {
                    $control.once(format!("waiting: {}", error.passing().unwrap_or_default()));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                result => break result?,
            }
        }
    }};
}

use patiently;

impl<O: FnMut(&Notice)> Control<'_, O> {
    async fn begin(&mut self, open: &[JobId]) -> Result<(), Error> {
        self.take_control().await?;
        patiently!(self, self.cluster.store.unblock(open));
        for stand in patiently!(self, self.cluster.store.stands(&self.cluster.header.experiment)) {
            if stand.state == State::Failed {
                self.failed_before.insert(stand.job, stand.attempt);
            }
        }
        let tasks = patiently!(self, self.cluster.store.tasks(Some(&self.cluster.header.experiment)));
        self.old = tasks.into_iter().map(|task| task.tag).collect();
        match self.cluster.slurm.largest_array().await {
            // The highest index is one less than that.
            Ok(largest) => self.largest = largest.saturating_sub(1).clamp(1, MOST),
            Err(trouble @ Trouble::Missing(..)) => return Err(Error::Slurm(trouble)),
            Err(trouble) => self.once(format!("waiting: {trouble}")),
        }
        Ok(())
    }

    /// Waits for the lease of one that is not known to live, once.
    async fn take_control(&mut self) -> Result<(), Error> {
        let host = here();
        let mut waited: Option<String> = None;
        let mut gone: Option<String> = None;
        loop {
            let (experiment, owner) = (self.cluster.header.experiment.clone(), self.cluster.owner);
            let lease = self.cluster.lease;
            let other =
                patiently!(self, self.cluster.store.take_control(&experiment, (owner, &host), lease, gone.as_deref()));
            let Some(other) = other else { return Ok(()) };
            if other.host == host && gone.is_none() && is_gone(self.cluster.folder, &other.owner, Some(&other.host)) {
                gone = Some(other.owner);
                continue;
            }
            // One that lives renews it while we wait.
            if other.host == host || waited.is_some() || self.stop.level() > Level::Go {
                return Err(Error::Controlled(other));
            }
            self.once(format!("waiting {} s for the lease of `{}`", other.left.as_secs() + 1, other.owner));
            waited = Some(other.owner);
            tokio::time::sleep(other.left + Duration::from_secs(1)).await;
        }
    }

    async fn rounds(&mut self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        loop {
            if self.round().await? {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(self.cluster.every) => {}
                _ = stop.above(Level::Go) => {
                    self.note("what is in Slurm goes on there; the same command looks after it again, `distillery cancel` ends it");
                    return Ok(());
                }
            }
        }
    }

    /// Whether nothing is left to do.
    async fn round(&mut self) -> Result<bool, Error> {
        let (experiment, owner, host) = (self.cluster.header.experiment.clone(), self.cluster.owner, here());
        let lease = self.cluster.lease;
        let other = patiently!(self, self.cluster.store.take_control(&experiment, (owner, &host), lease, None));
        if let Some(other) = other {
            return Err(Error::Controlled(other));
        }
        // Shown as one who is alive.
        patiently!(self, self.cluster.store.renew(owner, lease));
        let order = patiently!(self, self.cluster.store.order(owner));
        if order.is_some() && order != self.ordered {
            self.ordered = order;
            self.note(match order {
                Some(SchedulerWish::Drain) => {
                    "asked to drain: what runs goes on to its end, what waits in Slurm is taken back"
                }
                _ => "asked to stop: what runs saves and leaves, what waits in Slurm is taken back",
            });
        }
        let seen = match self.cluster.slurm.tasks().await {
            Ok(seen) => {
                // Said anew when it is so again.
                self.said.retain(|text| !text.starts_with("waiting: "));
                Some(seen)
            }
            Err(trouble @ Trouble::Missing(..)) => return Err(Error::Slurm(trouble)),
            Err(trouble) => {
                self.once(format!("waiting: {trouble}"));
                None
            }
        };
        let tasks = patiently!(self, self.cluster.store.tasks(Some(&experiment)));
        let tasks = self.compare(tasks, seen.as_deref()).await?;
        // After the tasks: what ended before they were looked at is seen to have ended.
        let stands = patiently!(self, self.cluster.store.stands(&experiment));
        let known: HashSet<&JobId> = stands.iter().map(|stand| &stand.job).collect();
        if self.cluster.plan.open().any(|planned| !known.contains(&planned.id)) {
            return Err(Error::Replaced(experiment));
        }
        let alive: HashMap<&JobId, &Task> =
            tasks.iter().filter(|task| !task.is_over).map(|task| (&task.job, task)).collect();
        let mut past: HashMap<&JobId, Vec<&Task>> = HashMap::new();
        for task in tasks.iter().filter(|task| task.is_over) {
            past.entry(&task.job).or_default().push(task);
        }
        let cancelled = stands.iter().filter(|stand| stand.wish.is_some());
        self.cancelled = cancelled.map(|stand| stand.job.clone()).collect();
        let epochs: HashMap<&JobId, u32> = stands.iter().map(|stand| (&stand.job, stand.epoch)).collect();
        let urgent = stands.iter().filter(|stand| stand.priority != 0);
        self.board.prioritize(urgent.map(|stand| (stand.job.clone(), stand.priority)).collect());
        self.blocked.clear();
        for stand in &stands {
            if self.blocked.contains(&stand.job) {
                continue;
            }
            let past = past.get(&stand.job).map_or(&[][..], Vec::as_slice);
            self.place(stand, alive.get(&stand.job).copied(), past).await?;
        }
        let is_taken_back = seen.is_some() && self.retract(&tasks).await;
        if let Some(order) = self.ordered {
            let runs = self.let_go(&tasks, order).await;
            // One without a number may be there, and could not be taken back.
            return Ok(is_taken_back && !runs && tasks.iter().all(|task| task.is_over || task.number.is_some()));
        }
        let before = self.counter;
        if seen.is_some() && self.stop.level() == Level::Go {
            let there: HashSet<(&str, u32)> =
                tasks.iter().filter(|task| !task.is_over).map(|task| (task.tag.as_str(), task.place)).collect();
            let others = seen.iter().flatten().any(|one| !is_over(&one.state));
            self.submit(&epochs, there.len(), others).await?;
        }
        // What was just submitted is counted when it was seen.
        if self.counter == before {
            self.summarize(&tasks);
        }
        let waits = [Place::Running, Place::Elsewhere, Place::Resting, Place::Interrupted];
        // While nobody says what became of things, nothing was concluded.
        Ok(seen.is_some() && waits.iter().all(|place| self.board.count(*place) == 0))
    }

    /// Where a job is now, by the store and by Slurm.
    async fn place(&mut self, stand: &Stand, alive: Option<&Task>, past: &[&Task]) -> Result<(), Error> {
        let job = &stand.job;
        let Some(now) = self.board.place(job) else { return Ok(()) };
        match (now, stand.state) {
            (Place::Done, _) | (Place::Failed, State::Failed) => return Ok(()),
            // A person wants it tried again, whatever came of it before.
            (Place::Failed, State::Open) => {
                self.failed_before.insert(job.clone(), stand.attempt);
                self.old.extend(past.iter().map(|task| task.tag.clone()));
            }
            _ => {}
        }
        let folder = self.cluster.folder;
        match stand.state {
            // The file may take a moment to be seen on this machine.
            State::Done if folder.student(job).exists() => self.board.done(job),
            State::Done => {
                self.once(format!("waiting for `{}`, which the store says is there", folder.student(job).display()));
                self.board.put(job, Place::Elsewhere);
            }
            _ if stand.wish.is_some() && alive.is_none() && !stand.is_held => self.board.put(job, Place::Unwanted),
            State::Running if stand.is_held => self.board.put(job, Place::Running),
            // A person took it back, but it is on its way out.
            _ if stand.wish == Some(Wish::Cancel) => self.board.put(job, Place::Resting),
            _ if alive.is_some() => self.board.put(job, Place::Resting),
            State::Running => {
                // Its lease is over, and Slurm does not know of it: whatever it said is in its spool.
                patiently!(self, ingest_spool(folder, self.cluster.store, job));
                patiently!(self, self.cluster.store.take_over(std::slice::from_ref(job), None));
                self.board.put(job, Place::Interrupted);
            }
            State::Failed if self.failed_before.get(job).is_none_or(|attempt| stand.attempt > *attempt) => {
                self.fail(job, stand.message.as_deref().unwrap_or_default()).await?;
            }
            State::Blocked if now == Place::Blocked => {}
            State::Failed | State::Blocked | State::Open | State::Interrupted => self.again(stand, past).await?,
        }
        Ok(())
    }

    async fn fail(&mut self, job: &JobId, why: &str) -> Result<(), Error> {
        if matches!(self.board.place(job), Some(Place::Failed)) {
            return Ok(());
        }
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.once(format!("job {job} failed: {first}"));
        let blocked = self.board.failed(job);
        let message = format!("it needs {job}, which failed: {first}");
        let blocks: Vec<Block> = blocked
            .iter()
            .map(|one| Block { job: one.job.clone(), by: one.by.clone(), message: message.clone() })
            .collect();
        patiently!(self, self.cluster.store.block(&blocks));
        for one in blocked {
            self.blocked.insert(one.job.clone());
            self.tell(&Notice::Blocked { job: one.job, by: one.by });
        }
        Ok(())
    }

    fn tell(&mut self, notice: &Notice) {
        (self.observer)(notice);
    }

    fn note(&mut self, text: &str) {
        self.tell(&Notice::Note(text.to_owned()));
    }

    /// Says it the first time.
    fn once(&mut self, text: String) {
        if self.said.insert(text.clone()) {
            self.note(&text);
        }
    }
}
