//! Runs a plan: starts cohorts as slots fall free and needs are done, listens, retries, blocks, stops.
//!
//! Input: a [`Plan`], a [`Store`] open for writing, an [`Engine`] that runs one cohort. Output: rows in the store,
//! [`Notice`]s for whoever shows progress, a [`Summary`]. It knows neither candle nor the terminal, and is generic over
//! the engine, so that its tests use one that trains nothing.
//!
//! - **Order**: see [`board`]. **Slots**: at most [`Settings::slots`] cohorts run on each device at once; on a GPU the next
//!   one starts only when the one before has begun to train, and if what they were seen to take leaves room for it.
//! - **One student's failure** is its own: the worker says so and goes on with the others. What needs that job is
//!   blocked, transitively, and named; everything else runs.
//! - **A worker that ends without a word** about some of its students: first their spools are read, which know more
//!   than the broken pipe; what is still unfinished is [`Failure::Lost`]. One that says nothing for a lease's length, not
//!   even that it lives, is killed, and lost too. What is tried again, how often and how soon, is [`Retries`]'s.
//! - **Want of memory** is met by half as many students at once, and at last by smaller parts of a batch; **a full disk** by
//!   waiting until there is room. Neither counts as a try.
//! - **Others** may run on the same store, each with leases on what it runs ([`store::lease`](crate::store)): a job that
//!   another has is waited for, and taken over when that one is gone.
//! - **Stopping**: at the first level nothing more starts, at the second the engines save, at the third they are ended.
//!
//! A run begins under the folder's [`Lock`] with [`ingest_spools`]; planning comes after that, then it lets go.

mod board;
pub mod cluster;
mod local;
mod lock;
mod memory;
mod origin;
mod running;
mod signals;
mod spool;
mod stop;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::event::{Failure, Line, Message, Request};
use crate::folder::Folder;
use crate::job::JobId;
use crate::plan::{CohortId, Device, Halvings, Manifest, Places, Plan, RunSettings};
use crate::store::{self, Provenance, Store};

pub use local::LocalEngine;
pub use lock::{Holder, Lock};
pub use origin::provenance;
pub use signals::{listen, listen_for_end};
pub use spool::{Ingested, ingest_spool, ingest_spools, read_spool};
pub use stop::{Level, Stop, Stopper, stop};

/// Runs one cohort to its end, here or elsewhere.
pub trait Engine {
    /// Passes on every line of the worker before it returns. Heeds `orders` and `stop`. If the future is dropped the worker
    /// must end.
    fn run(&self, manifest: Manifest, voice: Voice, orders: Orders, stop: Stop) -> impl Future<Output = Ended>;
}

/// Takes what one worker says.
#[derive(Clone, Debug)]
pub struct Voice {
    cohort: usize,
    lines: mpsc::Sender<(usize, Line)>,
}

impl Voice {
    pub async fn say(&self, line: Line) {
        // Closed means that the scheduler no longer listens; the spool has it.
        let _ = self.lines.send((self.cohort, line)).await;
    }
}

/// What is to be done with one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Pass it on.
    Ask(Request),
    /// End it at once, even if it is frozen.
    Kill,
}

pub type Orders = mpsc::UnboundedReceiver<Order>;

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub how: How,
    /// The end of what it wrote for people, to be quoted if it left students unfinished.
    pub last_words: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// With 0: all students ended, well or badly; with [`STOPPED`]: it was asked to stop and saved.
    Exit(i32),
    Signal(i32),
    /// There was no worker; trying again would not help.
    NotStarted(String),
}

/// Exit code of what was stopped in order and can go on: `EX_TEMPFAIL`.
pub const STOPPED: i32 = 75;

/// Exit code of a task whose store did not answer: `EX_UNAVAILABLE`. It can go on, too.
pub const AWAY: i32 = 69;

/// What is not in the plan, and decides no number.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is trained on, each with its memory in bytes where that is known.
    pub devices: Vec<(Device, Option<u64>)>,
    /// Cohorts at once on each.
    pub slots: usize,
    /// Shared by the workers of all slots.
    pub threads: u32,
    pub run: RunSettings,
    pub places: Places,
    pub folder: Folder,
    pub provenance: Provenance,
    /// Who is ended early, where that is wanted.
    pub halving: Option<Halvings>,
    /// Floating-point operations that one thread did in a second so far, where that is known.
    pub flops_per_second: Option<f64>,
    /// Hours of devices after which everything is saved and left.
    pub budget: Option<f64>,
    pub watch: Watch,
}

/// How closely a run looks at what it started, and at others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// For how long a job is ours without a sign of life; a worker has as long to give one.
    pub lease: Duration,
    /// Between two looks.
    pub look: Duration,
    /// Of the disk, in bytes: below it nothing starts.
    pub reserve: Option<u64>,
    /// Only for these jobs, as a task of a batch system: what others have is left to them, and a store that is away for longer
    /// than the lease ends the run, for its jobs may be another's by then.
    pub is_task: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { lease: Duration::from_secs(60), look: Duration::from_secs(2), reserve: None, is_task: false }
    }
}

/// What happens, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    CohortStarted {
        cohort: CohortId,
        /// Those that run now: all, or what a lost worker left.
        jobs: Vec<JobId>,
    },
    /// What a worker said, after the store took it.
    Message {
        cohort: CohortId,
        message: Message,
    },
    /// The worker of these jobs ended without a word.
    Lost {
        cohort: CohortId,
        jobs: Vec<JobId>,
        why: String,
        again: bool,
    },
    Blocked {
        job: JobId,
        by: JobId,
    },
    /// These jobs failed in a way that may pass, and are tried again.
    Again {
        cohort: CohortId,
        jobs: Vec<JobId>,
        class: Failure,
        after: Duration,
    },
    /// Something about the whole, in words.
    Note(String),
    CohortEnded {
        cohort: CohortId,
    },
    /// A stop was asked for.
    Stopping {
        level: Level,
    },
}

/// What a run brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// In this run.
    pub done: u64,
    pub failed: u64,
    pub blocked: u64,
    pub interrupted: u64,
    /// Never started, because the run was stopped.
    pub open: u64,
    /// Not started because a person wants it so.
    pub unwanted: u64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}", held(folder, holder.as_ref()))]
    Held { folder: PathBuf, holder: Option<Holder> },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}", controlled(.0))]
    Controlled(store::Controller),
    #[error(
        "`{0}` was run with other jobs meanwhile, so nobody looks after those of this run any more\nhint: what is in Slurm goes on; the same command takes it up again"
    )]
    Replaced(String),
    #[error("{0}")]
    Slurm(cluster::Trouble),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// What is in the way, where trying again may help.
    pub fn passing(&self) -> Option<&'static str> {
        if let Error::Store(error) = self { error.passing() } else { None }
    }
}

/// Runs what the plan has open. Returns when nothing is left that can run, or a stop was heeded.
///
/// # Errors
/// Only when the store fails; jobs that fail are counted in the summary.
pub async fn schedule<E: Engine>(
    plan: &Plan,
    settings: &Settings,
    store: &Store,
    engine: &E,
    observer: impl FnMut(&Notice),
    stop: Stop,
) -> Result<Summary, Error> {
    let open: Vec<JobId> = plan.open().map(|planned| planned.id.clone()).collect();
    store.unblock(&open).await?;
    running::Run::new(plan, settings, store, engine, observer, stop).finish().await
}

fn held(folder: &std::path::Path, holder: Option<&Holder>) -> String {
    let folder = folder.display();
    let hint = "hint: wait for it, stop it with Ctrl-C where it runs, or name another folder with `--folder`";
    match holder {
        Some(Holder { pid, host, since_ms }) => format!(
            "another run begins in `{folder}` and does not come to an end: process {pid} on host `{host}`, for {}\n{hint}",
            lock::ago(*since_ms)
        ),
        None => format!("another run begins in `{folder}` and does not come to an end\n{hint}"),
    }
}

fn controlled(other: &store::Controller) -> String {
    format!(
        "another process submits and looks after this experiment's tasks: `{}`, whose lease ends in {} s unless it renews it\n\
         hint: watch it with `distillery status`, or stop it; what it submitted goes on",
        other.owner,
        other.left.as_secs()
    )
}
