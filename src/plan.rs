//! From jobs to cohorts: what must run, in which order, in whose company, at what price. Pure.
//!
//! Input: the experiment's jobs and which job ids are already done. Output: a [`Plan`].

mod checkpoints;
mod cohort;
mod cost;
mod device;
mod evaluations;
mod halving;
mod retries;
mod settings;
mod site;
mod span;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::{Job, JobId};
use crate::source::Source;

pub use checkpoints::Checkpoints;
pub use cohort::{Cohort, CohortId, Manifest, Member, Student, stream_key};
use cost::cohort_bytes;
pub use cost::{Cost, cohort_cost, job_cost, teacher_flops};
pub use device::{Device, Devices};
pub use evaluations::Evaluations;
pub use halving::{Ended as Halved, Halving, Halvings};
pub use retries::{Backoff, Retries, Retry};
pub use settings::RunSettings;
pub use site::Site;
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
    pub job: Arc<Job>,
    pub done: bool,
    /// Not in the grid itself, only needed as a teacher.
    pub only_needed: bool,
}

impl Plan {
    /// Gathers the open jobs among `wanted` and their needs into cohorts.
    pub fn new(wanted: &[Job], done: &BTreeSet<JobId>) -> Plan {
        let wanted: Vec<(JobId, Arc<Job>)> = wanted.iter().map(|job| (job.id(), Arc::new(job.clone()))).collect();
        Plan::of(&wanted, done)
    }

    /// The same of jobs whose ids are known: to find one costs more than all the rest.
    pub fn of(wanted: &[(JobId, Arc<Job>)], done: &BTreeSet<JobId>) -> Plan {
        let grid: HashSet<&JobId> = wanted.iter().map(|(id, _)| id).collect();
        let mut gathering = Gathering { grid, done, ids: HashMap::new(), seen: HashSet::new(), jobs: Vec::new() };
        for (id, job) in wanted {
            gathering.add(id, job);
        }
        let jobs = gathering.jobs;
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

/// Every job once, after what it needs.
struct Gathering<'a> {
    grid: HashSet<&'a JobId>,
    done: &'a BTreeSet<JobId>,
    /// Of needs, by where they lie: many jobs need the same one.
    ids: HashMap<*const Job, JobId>,
    seen: HashSet<JobId>,
    jobs: Vec<Planned>,
}

impl Gathering<'_> {
    fn add(&mut self, id: &JobId, job: &Arc<Job>) {
        if !self.seen.insert(id.clone()) {
            return;
        }
        for need in job.needs() {
            let id = self.ids.entry(Arc::as_ptr(need)).or_insert_with(|| need.id()).clone();
            self.add(&id, need);
        }
        let (done, only_needed) = (self.done.contains(id), !self.grid.contains(id));
        self.jobs.push(Planned { id: id.clone(), job: Arc::clone(job), done, only_needed });
    }
}
