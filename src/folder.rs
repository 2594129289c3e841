//! Where things lie in the folder of a sweep (`runs` by default), and how a file there is replaced.
//!
//! ```text
//! runs/
//!   store.sqlite               jobs, attempts, epochs, events
//!   jobs/<id>/                 job.json  spool.jsonl  log.txt  checkpoint-a.safetensors  checkpoint-b.safetensors
//!                              student.safetensors (the result)
//!   schedulers/<owner>.lock    held by a scheduler while it lives
//!   cohorts/<id>.json          what a worker was asked to do
//!   streams/<key>.safetensors  what teachers answered that are asked once, where that took long
//!   streams/<key>.logits       what live teachers answered, where that is recorded
//!   reports/                   what `run` and `report` draw
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::job::{JobId, short_hash};

#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store.sqlite")
    }

    /// Held by a scheduler while it begins: one at a time migrates the store and reads spools.
    pub fn lock(&self) -> PathBuf {
        self.root.join("scheduler.lock")
    }

    /// Where each scheduler holds a file of its own for as long as it lives.
    pub fn schedulers(&self) -> PathBuf {
        self.root.join("schedulers")
    }

    pub fn job(&self, id: &JobId) -> PathBuf {
        self.root.join("jobs").join(id.as_str())
    }

    /// Every lasting event of the job, one JSON object a line.
    pub fn spool(&self, id: &JobId) -> PathBuf {
        self.job(id).join("spool.jsonl")
    }

    /// The trained student.
    pub fn student(&self, id: &JobId) -> PathBuf {
        self.job(id).join("student.safetensors")
    }

    /// What a teacher answered to a stream of questions, by the stream's key.
    pub fn stream(&self, key: &str) -> PathBuf {
        let name = short_hash("distillery stream 1\n", key);
        self.root.join("streams").join(format!("{name}.safetensors"))
    }

    /// What a live teacher answered, step by step, where that is recorded.
    pub fn recording(&self, key: &str) -> PathBuf {
        self.stream(key).with_extension("logits")
    }

    pub fn cohorts(&self) -> PathBuf {
        self.root.join("cohorts")
    }

    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }
}

/// Writes `path` so that a reader, also one after a power cut, sees the old file or the new one, never half of it: a
/// temporary name, synced, renamed, and the folder's entry synced.
///
/// # Errors
/// When any of that fails; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
