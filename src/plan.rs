//! From jobs to cohorts: what must run, in which order, in whose company, at what price. Pure.
//!
//! Input: the experiment's jobs and which job ids are already done. Output: a [`Plan`].

mod checkpoints;
mod cohort;
mod cost;
mod device;
mod evaluations;
mod retries;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{Job, JobId};
use crate::source::Source;

pub use checkpoints::Checkpoints;
pub use cohort::{Cohort, CohortId, Manifest, Student, stream_key};
use cost::cohort_bytes;
pub use cost::{Cost, cohort_cost, job_cost, teacher_flops};
pub use device::Device;
pub use evaluations::Evaluations;
pub use retries::{Backoff, Retries, Retry};
pub use span::Span;

/// Where content lies on this machine, by its SHA-256.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Places {
    pub weights: BTreeMap<String, PathBuf>,
    /// Data sets; one that is built in may be missing.
    pub data: BTreeMap<String, Source>,
}

/// The whole of an experiment's work.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every job of the experiment and every job those need, once, needs first.
    pub jobs: Vec<Planned>,
    /// What is still to be run, in an order in which every need comes first.
    pub cohorts: Vec<Cohort>,
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub id: JobId,
    pub job: Job,
    pub done: bool,
    /// Not in the grid itself, only needed as a teacher.
    pub only_needed: bool,
}

impl Plan {
    /// Gathers the open jobs among `wanted` and their needs into cohorts.
    pub fn new(wanted: &[Job], done: &BTreeSet<JobId>) -> Plan {
        let mut jobs: Vec<Planned> = Vec::new();
        let mut seen = BTreeSet::new();
        let grid: BTreeSet<JobId> = wanted.iter().map(Job::id).collect();
        for job in wanted {
            add_with_needs(job, &grid, done, &mut seen, &mut jobs);
        }
        let cohorts = cohort::gather(&jobs);
        Plan { jobs, cohorts }
    }

    pub fn open(&self) -> impl Iterator<Item = &Planned> {
        self.jobs.iter().filter(|planned| !planned.done)
    }

    /// What is still to be computed, teachers shared.
    pub fn cost(&self) -> Cost {
        self.cohorts.iter().map(cohort_cost).sum()
    }

    /// Bytes that are left on disk when all that is open is done, but for the store and what only a run that is going on
    /// needs.
    pub fn bytes(&self) -> f64 {
        self.cohorts.iter().map(cohort_bytes).sum()
    }
}

fn add_with_needs(
    job: &Job,
    grid: &BTreeSet<JobId>,
    done: &BTreeSet<JobId>,
    seen: &mut BTreeSet<JobId>,
    jobs: &mut Vec<Planned>,
) {
    let id = job.id();
    if !seen.insert(id.clone()) {
        return;
    }
    for need in job.needs() {
        add_with_needs(need, grid, done, seen, jobs);
    }
    jobs.push(Planned { job: job.clone(), done: done.contains(&id), only_needed: !grid.contains(&id), id });
}
