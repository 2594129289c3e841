//! Runs a plan: starts cohorts as slots fall free and needs are done, listens, retries, blocks, stops.
//!
//! Input: a [`Plan`], a [`Store`] open for writing, an [`Engine`] that runs one cohort. Output: rows in the store,
//! [`Notice`]s for whoever shows progress, a [`Summary`]. It knows neither candle nor the terminal, and is generic over
//! the engine, so that its tests use one that trains nothing.
//!
//! - **Order**: see [`board`]. **Slots**: at most [`Settings::slots`] cohorts run at once.
//! - **One student's failure** is its own: the worker says so and goes on with the others. What needs that job is
//!   blocked, transitively, and named; everything else runs.
//! - **A worker that ends without a word** about some of its students: first their spools are read, which know more
//!   than the broken pipe; what is still unfinished is [`Failure::Lost`] and goes again as a cohort, at most
//!   [`LOST_ATTEMPTS`] times in one run. A job that failed is open again for the next run.
//! - **Stopping**: at the first level nothing more starts and the engines save; at the second they are ended.
//!
//! A run holds the folder's [`Lock`] and begins with [`ingest_spools`]; planning comes after both.

mod board;
mod local;
mod lock;
mod origin;
mod running;
mod signals;
mod spool;
mod stop;

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::event::Message;
use crate::folder::Folder;
use crate::job::JobId;
use crate::plan::{Checkpoints, CohortId, Device, Evaluations, Manifest, Places, Plan, Retries};
use crate::source::Keep;
use crate::store::{self, Provenance, Store};

pub use local::LocalEngine;
pub use lock::{Holder, Lock};
pub use origin::provenance;
pub use signals::listen;
pub use spool::{Ingested, ingest_spools, read_spool};
pub use stop::{Level, Stop, Stopper, stop};

/// Attempts of a cohort that may be lost in one run.
pub const LOST_ATTEMPTS: u32 = 3;

/// Runs one cohort to its end, here or elsewhere.
pub trait Engine {
    /// Sends every message of the worker before it returns. Heeds `stop`. If the future is dropped the worker must
    /// end.
    fn run(&self, manifest: Manifest, messages: mpsc::Sender<Message>, stop: Stop) -> impl Future<Output = Ended>;
}

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

/// What is not in the plan, and decides no number.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cohorts at once.
    pub slots: usize,
    /// Shared by the workers of all slots.
    pub threads: u32,
    pub device: Device,
    pub evaluations: Evaluations,
    pub minitrain: u32,
    pub allow_teacher_at_chance: bool,
    pub record_teacher: bool,
    pub images: Keep,
    pub checkpoints: Checkpoints,
    pub retries: Retries,
    pub places: Places,
    pub folder: Folder,
    pub provenance: Provenance,
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
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}", held(folder, holder.as_ref(), *gone))]
    Held { folder: PathBuf, holder: Option<Holder>, gone: bool },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] store::Error),
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

fn held(folder: &std::path::Path, holder: Option<&Holder>, gone: bool) -> String {
    let folder = folder.display();
    match holder {
        Some(Holder { pid, host, since_ms }) if gone => format!(
            "workers of an earlier run are still at work in `{folder}` (its scheduler, process {pid} on `{host}`, began \
             {} ago and is gone)\nhint: wait for them to save and end, or end them by hand",
            lock::ago(*since_ms)
        ),
        Some(Holder { pid, host, since_ms }) => format!(
            "another run is at work in `{folder}`: process {pid} on host `{host}`, for {}\nhint: wait for it, stop it \
             with Ctrl-C where it runs, or name another folder with `--folder`",
            lock::ago(*since_ms)
        ),
        None => format!("another run is at work in `{folder}`\nhint: wait for it, or name another with `--folder`"),
    }
}
