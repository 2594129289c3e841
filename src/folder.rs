//! Where things lie in the folder of a sweep (`runs` by default), and how a file there is replaced.
//!
//! ```text
//! runs/
//!   store.sqlite               jobs, attempts, epochs, events; or
//!   store.url                  where else they are kept, without a password
//!   jobs/<id>/                 job.json  spool.jsonl  lock  checkpoint-a.safetensors  checkpoint-b.safetensors
//!                              student.safetensors (the result)
//!                              student.best.safetensors  student.epoch-N.safetensors (where they are asked for)
//!                              student.json  student.best.json  student.epoch-N.json (what the weights are)
//!   schedulers/<owner>.lock    held by a scheduler while it lives
//!   cohorts/<id>.<scheduler>-<attempt>.json  what a worker was asked to do; <id>.log what it said to people
//!   streams/<key>.safetensors  what teachers answered that are asked once, where that took long
//!   streams/<key>.logits       what live teachers answered, where that is recorded
//!   cluster/<tag>/             an array of a batch system: manifest.jsonl  job.sh  <array>_<index>.log
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

    /// Says where the store is, if not in the folder.
    pub fn store_url(&self) -> PathBuf {
        self.root.join("store.url")
    }

    /// Names the folder, wherever it is mounted.
    pub fn name_file(&self) -> PathBuf {
        self.root.join("folder.id")
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

    /// The student where it was best on validation images, if that is kept.
    pub fn best_student(&self, id: &JobId) -> PathBuf {
        self.job(id).join("student.best.safetensors")
    }

    /// The student after so many epochs, if that is kept.
    pub fn student_after(&self, id: &JobId, epoch: u32) -> PathBuf {
        self.job(id).join(format!("student.epoch-{epoch}.safetensors"))
    }

    /// Held by the worker that trains the job.
    pub fn job_lock(&self, id: &JobId) -> PathBuf {
        self.job(id).join("lock")
    }

    /// The newest attempt that took the job's lock, if its text says so: where several machines share the folder and locks are
    /// not theirs, an older attempt sees by it that it is not wanted any more.
    pub fn attempt_at_work(&self, id: &JobId) -> Option<u32> {
        let text = fs::read_to_string(self.job_lock(id)).ok()?;
        let holder: serde_json::Value = serde_json::from_str(&text).ok()?;
        holder.get("attempt")?.as_u64().and_then(|attempt| u32::try_from(attempt).ok())
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

    /// Of what was handed to a batch system, a folder each.
    pub fn arrays(&self) -> PathBuf {
        self.root.join("cluster")
    }

    /// What an array of tasks of a batch system is made of, and what its tasks say.
    pub fn array(&self, tag: &str) -> PathBuf {
        self.arrays().join(tag)
    }

    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }
}

/// Writes `path` so that a reader, also one after a power cut, sees the old file or the new one, never half of it: a
/// temporary name, synced, renamed, and the folder's entry synced.
///
/// # Errors
/// When any of that fails; the old file is then still there, and nothing beside it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()));
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // Half of a file would only take room.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
