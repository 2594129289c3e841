//! Who lives: each scheduler holds a lock on a file of its own for as long as its process exists, however that ends.
//!
//! On one host this tells at once, and whatever the clocks say, whether a scheduler is gone. Of another host it tells
//! nothing: there a row in the store that is no longer renewed has to do, and for its jobs the lease.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;

use nix::unistd::gethostname;
use serde::Serialize;

use crate::event::now_ms;
use crate::folder::Folder;
use crate::store::{Error, Scheduler, Store};

/// A scheduler of another host whose row was renewed since is taken to live.
const RENEWED_MS: i64 = 60_000;

/// Held by a scheduler while it lives.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    _file: File,
}

impl Presence {
    /// # Errors
    /// When the file cannot be made, or is held: an owner's name is his alone.
    pub fn take(folder: &Folder, owner: &str) -> io::Result<Presence> {
        let path = path(folder, owner);
        fs::create_dir_all(folder.schedulers())?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Err(TryLockError::Error(error)) if !has_no_locks(&error) => return Err(error),
            Err(error @ TryLockError::WouldBlock) => return Err(error.into()),
            // Who looks for it sees by its row whether it lives.
            _ => {}
        }
        Ok(Presence { path, _file: file })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a file cannot be locked because its file system, of a network, knows no locks.
pub fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// Whether a scheduler is certainly gone. `owner_host` is where it ran.
///
/// A scheduler makes its file before it writes its name anywhere, so one without a file has ended.
pub fn is_gone(folder: &Folder, owner: &str, owner_host: Option<&str>) -> bool {
    if owner_host.is_some_and(|name| !name.is_empty() && name != here()) {
        return false;
    }
    // For reading: who only looks need not be allowed to write.
    match File::open(path(folder, owner)) {
        Ok(file) => file.try_lock_shared().is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether this scheduler is at work, as far as can be told from here.
pub fn is_alive(folder: &Folder, scheduler: &Scheduler) -> bool {
    let Scheduler { owner, host, seen_ms, .. } = scheduler;
    let is_silent = *host != here() && now_ms() - seen_ms > RENEWED_MS;
    scheduler.ended_ms.is_none() && !is_silent && !is_gone(folder, owner, Some(host))
}

/// Writes down which schedulers are gone, and removes what is left of them.
///
/// # Errors
/// The store's.
pub async fn bury(folder: &Folder, store: &Store) -> Result<(), Error> {
    for other in store.schedulers().await? {
        if other.ended_ms.is_none() && is_gone(folder, &other.owner, Some(&other.host)) {
            store.unregister(&other.owner).await?;
            let _ = fs::remove_file(path(folder, &other.owner));
        }
    }
    Ok(())
}

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

/// The schedulers that are at work on the store, from the oldest: those with a row, and those that only have attempts
/// without an end, since somebody took their row out.
///
/// # Errors
/// When the store fails.
pub async fn schedulers(folder: &Folder, store: &Store) -> Result<Vec<Alive>, Error> {
    let registered = store.schedulers().await?;
    let mut alive: Vec<Alive> =
        registered.iter().filter(|scheduler| is_alive(folder, scheduler)).map(Alive::of).collect();
    for attempt in store.running().await? {
        let known = registered.iter().any(|scheduler| scheduler.owner == attempt.owner)
            || alive.iter().any(|scheduler| scheduler.owner == attempt.owner);
        let (Some(host), Some(pid)) = (attempt.host, attempt.pid) else { continue };
        if !known && !is_gone(folder, &attempt.owner, Some(&host)) {
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

/// The name of this machine.
pub fn here() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|_| "unknown".to_owned())
}

fn path(folder: &Folder, owner: &str) -> PathBuf {
    let name = owner.replace(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)), "-");
    folder.schedulers().join(format!("{name}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drops_it_is_gone_and_who_holds_it_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        let here = here();
        assert!(is_gone(&folder, "local:a/1/2", Some(&here)), "never seen");
        let presence = Presence::take(&folder, "local:a/1/2").unwrap();
        assert!(!is_gone(&folder, "local:a/1/2", Some(&here)));
        assert!(Presence::take(&folder, "local:a/1/2").is_err());
        assert!(is_gone(&folder, "local:a/1/3", None));
        drop(presence);
        assert!(is_gone(&folder, "local:a/1/2", Some(&here)));
        // Left behind by a kill: the file is there, nobody holds it.
        fs::write(path(&folder, "local:a/1/4"), "").unwrap();
        assert!(is_gone(&folder, "local:a/1/4", Some(&here)));
        assert!(!is_gone(&folder, "local:a/1/4", Some("elsewhere")));
    }

    /// Here by its lock, whatever the clocks say; elsewhere by its row.
    #[test]
    fn a_row_is_believed_of_other_hosts_only() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        let of = |host: &str, age: i64, ended_ms| Scheduler {
            owner: "a".to_owned(),
            host: host.to_owned(),
            pid: 1,
            experiment: None,
            command: None,
            slots: 1,
            started_ms: 0,
            seen_ms: now_ms() - age,
            ended_ms,
            wish: None,
        };
        let hour = 3_600_000;
        assert!(!is_alive(&folder, &of(&here(), 0, None)));
        let _presence = Presence::take(&folder, "a").unwrap();
        assert!([0, hour, -hour].iter().all(|age| is_alive(&folder, &of(&here(), *age, None))));
        assert!(!is_alive(&folder, &of(&here(), 0, Some(1))));
        assert!(is_alive(&folder, &of("elsewhere", 0, None)) && !is_alive(&folder, &of("elsewhere", hour, None)));
    }
}
