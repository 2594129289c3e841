//! Where things lie in the folder of a sweep (`runs` by default). Path arithmetic only.
//!
//! ```text
//! runs/
//!   store.sqlite               jobs, attempts, epochs, events
//!   jobs/<id>/                 job.json  spool.jsonl  log.txt  checkpoint-a.safetensors  checkpoint-b.safetensors
//!                              student.safetensors (the result)
//!   cohorts/<id>.json          what a worker was asked to do
//!   reports/                   what `run` and `report` draw
//! ```

use std::path::{Path, PathBuf};

use crate::job::JobId;

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

    /// Held by the scheduler while it runs.
    pub fn lock(&self) -> PathBuf {
        self.root.join("scheduler.lock")
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

    pub fn cohorts(&self) -> PathBuf {
        self.root.join("cohorts")
    }

    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }
}
