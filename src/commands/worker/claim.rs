//! One worker a job: the lock that it takes before anything of the job is read or written.
//!
//! The lock is the operating system's (`flock` on `jobs/<id>/lock`) and ends with the process, however that ends; its
//! text says who has it. The store counts the attempts at a job, and the newest is the one that is waited for. An older
//! one that still has the lock has lost its scheduler, was told so by the kernel and is saving: it gets a while. One that
//! does not let go then is frozen, and ended. On another host nothing can be done about it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, gethostname, getpgid};
use serde::{Deserialize, Serialize};

use crate::alive::has_no_locks;
use crate::disk;
use crate::event::Failure;
use crate::folder::Folder;
use crate::job::JobId;
use crate::train::Control;

/// Seconds that an older worker gets; `DISTILLERY_TAKEOVER_SECONDS` sets others, for tests.
const PATIENCE: f64 = 30.0;
/// That one which was killed takes to be gone, at most.
const GONE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// What came of asking for a job's lock.
#[derive(Debug)]
pub enum Claim {
    /// Held until the file is closed.
    Taken(File),
    /// Another has it, and keeps it.
    Refused(Failure, String),
    /// A stop was asked for while waiting.
    Stopped,
}

/// Who has a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    host: String,
    attempt: u32,
}

/// Takes the lock of a job for this process and this attempt.
///
/// # Errors
/// When the lock's file cannot be made or read.
pub fn take(folder: &Folder, job: &JobId, attempt: u32, control: &Control) -> Result<Claim> {
    let path = folder.job_lock(job);
    let open = || {
        fs::create_dir_all(folder.job(job))?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
    };
    let mut file = open().map_err(|error| disk::explain(&path, error))?;
    let mut waiting: Option<(Option<Holder>, Instant)> = None;
    let mut killed: Option<Instant> = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            // The text has to do: who is older reads it before he writes anything.
            Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                if let Some(newer) = read(&mut file).filter(|holder| holder.attempt > attempt) {
                    return Ok(Claim::Refused(Failure::Lost, held(Some(&newer))));
                }
                break;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
            }
        }
        if control.is_stopped() {
            return Ok(Claim::Stopped);
        }
        let holder = read(&mut file);
        if let Some(Holder { pid, host, attempt: other }) = &holder
            && *other >= attempt
        {
            let message = format!("attempt {other} at this job runs as process {pid} on `{host}`; this is {attempt}");
            return Ok(Claim::Refused(Failure::Lost, message));
        }
        let since = match &waiting {
            Some((who, since)) if *who == holder => *since,
            // Another took it meanwhile, or wrote down who it is.
            _ => waiting.insert((holder.clone(), Instant::now())).1,
        };
        if since.elapsed() >= patience() && killed.is_none_or(|killed| killed.elapsed() >= GONE) {
            match holder {
                Some(holder) if killed.is_none() && holder.is_here(&file) => {
                    eprintln!("note: attempt {} (process {}) is frozen and is ended", holder.attempt, holder.pid);
                    holder.end();
                    killed = Some(Instant::now());
                }
                holder => return Ok(Claim::Refused(Failure::Io, held(holder.as_ref()))),
            }
        }
        thread::sleep(POLL);
    }
    let own = Holder { pid: i32::try_from(std::process::id())?, host: host(), attempt };
    write(&mut file, &serde_json::json!(own).to_string()).map_err(|error| disk::explain(&path, error))?;
    Ok(Claim::Taken(file))
}

fn held(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, host, attempt }) => {
            let there = if *host == self::host() { "here".to_owned() } else { format!("on host `{host}`") };
            format!("attempt {attempt} at this job still runs {there}, as process {pid}\nhint: end it, and run again")
        }
        None => "another process has this job's lock and does not say who it is".to_owned(),
    }
}

impl Holder {
    /// Whether it is a process of this host that has the lock's file open: the text may be that of one before.
    fn is_here(&self, lock: &File) -> bool {
        self.host == host() && self.has_open(lock)
    }

    #[cfg(target_os = "linux")]
    fn has_open(&self, lock: &File) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(own) = lock.metadata() else { return false };
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        let mut files = files.flatten().filter_map(|file| fs::metadata(file.path()).ok());
        files.any(|file| (file.dev(), file.ino()) == (own.dev(), own.ino()))
    }

    #[cfg(not(target_os = "linux"))]
    fn has_open(&self, _lock: &File) -> bool {
        kill(Pid::from_raw(self.pid), None).is_ok()
    }

    /// Ends it and what it started. Nothing else reaches a process that is stopped.
    fn end(&self) {
        let pid = Pid::from_raw(self.pid);
        let _ = match getpgid(Some(pid)) {
            Ok(group) if group == pid => killpg(group, Signal::SIGKILL),
            _ => kill(pid, Signal::SIGKILL),
        };
    }
}

fn patience() -> Duration {
    let told = std::env::var("DISTILLERY_TAKEOVER_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::try_from_secs_f64(told.unwrap_or(PATIENCE)).unwrap_or(Duration::MAX)
}

fn host() -> String {
    gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}
