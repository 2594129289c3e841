//! Which schedulers are at work, as far as can be told from the store and this machine.
//!
//! A scheduler is known by its row in the store, which it renews every few seconds, and failing that by attempts of its
//! that have no end. On its own host the process is looked for, too.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, gethostname};
use serde::Serialize;

use crate::event::now_ms;
use crate::store::{Error, Scheduler, Store};

/// A row that was renewed since is that of a scheduler that lives.
const RENEWED_MS: i64 = 30_000;

/// A scheduler at work.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alive {
    pub owner: String,
    pub host: String,
    pub pid: u32,
    /// Where it says so.
    pub experiment: Option<String>,
    pub slots: Option<u32>,
    pub started_ms: i64,
    pub wish: Option<String>,
    /// Whether it has a row in the store, and so reads what is asked of it.
    pub is_registered: bool,
}

/// The schedulers that are at work on the store, from the oldest.
///
/// # Errors
/// When the store fails.
pub async fn schedulers(store: &Store) -> Result<Vec<Alive>, Error> {
    let registered = store.schedulers().await?;
    let mut alive: Vec<Alive> = registered.iter().filter(|scheduler| is_alive(scheduler)).map(Alive::of).collect();
    for attempt in store.running().await? {
        let known = registered.iter().any(|scheduler| scheduler.owner == attempt.owner)
            || alive.iter().any(|scheduler| scheduler.owner == attempt.owner);
        let (Some(host), Some(pid)) = (attempt.host, attempt.pid) else { continue };
        if !known && !is_gone(&host, pid) {
            alive.push(Alive {
                owner: attempt.owner,
                host,
                pid,
                experiment: None,
                slots: None,
                started_ms: attempt.started_ms,
                wish: None,
                is_registered: false,
            });
        }
    }
    alive.sort_by_key(|scheduler| scheduler.started_ms);
    Ok(alive)
}

/// Whether this scheduler may still be at work.
pub fn is_alive(scheduler: &Scheduler) -> bool {
    scheduler.ended_ms.is_none()
        && now_ms() - scheduler.seen_ms < RENEWED_MS
        && !is_gone(&scheduler.host, scheduler.pid)
}

impl Alive {
    fn of(scheduler: &Scheduler) -> Alive {
        Alive {
            owner: scheduler.owner.clone(),
            host: scheduler.host.clone(),
            pid: scheduler.pid,
            experiment: scheduler.experiment.clone(),
            slots: Some(scheduler.slots),
            started_ms: scheduler.started_ms,
            wish: scheduler.wish.clone(),
            is_registered: true,
        }
    }

    /// `process 4711`, with its host where that is another one.
    pub fn name(&self) -> String {
        process(&self.host, self.pid)
    }
}

/// `process 4711`, with its host where that is another one.
pub fn process(host: &str, pid: u32) -> String {
    if host == here() { format!("process {pid}") } else { format!("process {pid} on `{host}`") }
}

/// Only certain on its own host.
fn is_gone(host: &str, pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    host == here() && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// The name of this machine.
pub fn here() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|_| "unknown".to_owned())
}
