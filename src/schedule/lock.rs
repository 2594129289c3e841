//! One scheduler at a time begins in a folder: it migrates the store, writes its experiment down, reads the spools that others
//! left, and plans. Then it lets go, and several work beside one another by leases (see `store::lease`).
//!
//! The lock is the operating system's (`flock` on `scheduler.lock`), so it ends with the process that holds it, however
//! that ends; the file's text only says who it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::alive::{has_no_locks, here};
use crate::event::now_ms;
use crate::folder::Folder;

/// Beginning takes moments; with many spools to read, longer.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Held while it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub since_ms: i64,
}

impl Lock {
    /// Takes the folder for this process, which makes it where it is missing. Waits a while for another that begins.
    ///
    /// # Errors
    /// [`Error::Held`] says by whom and since when.
    pub async fn take(folder: &Folder) -> Result<Lock, Error> {
        let path = folder.lock();
        let io = |source| Error::Io { path: path.clone(), source };
        fs::create_dir_all(folder.root()).map_err(io)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // A server's store is migrated by one at a time anyway.
                Err(TryLockError::Error(source)) if has_no_locks(&source) => break,
                Err(TryLockError::Error(source)) => return Err(io(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = read(&mut file);
            if waited >= PATIENCE {
                return Err(Error::Held { folder: folder.root().to_owned(), holder });
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
        let text = serde_json::json!(Holder { pid: std::process::id(), host: here(), since_ms: now_ms() }).to_string();
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// `5 min`, for messages.
pub(super) fn ago(since_ms: i64) -> String {
    let seconds = (now_ms() - since_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}
