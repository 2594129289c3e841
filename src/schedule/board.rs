//! Where every job of a plan stands, and which cohort is to start next. Pure: no clock, no store, no process.
//!
//! A cohort is ready when the jobs it needs are done. Among the ready ones that with the longest chain starts first:
//! its own cost plus that of the costliest chain of cohorts waiting for it. So a teacher does not wait behind the
//! students of another, and the last slot to fall idle does so early. Equal chains start in the plan's order.

use std::collections::{BTreeSet, HashMap};

use crate::job::{Job, JobId};
use crate::plan::{Cohort, Plan, cohort_cost};

/// A job's place in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Waiting,
    Running,
    Done,
    Failed,
    /// By a job that failed.
    Blocked,
    /// Stopped in order, or in haste.
    Interrupted,
}

pub(super) struct Board<'a> {
    cohorts: &'a [Cohort],
    places: HashMap<JobId, Place>,
    /// Cohorts in order of start, were all of them ready; the rank is the position here.
    ranked: Vec<usize>,
    rank: Vec<usize>,
    /// Ranks of cohorts that may start.
    ready: BTreeSet<usize>,
    /// Needs of each cohort that are not done.
    unmet: Vec<usize>,
    /// Cohorts that need a job.
    dependants: HashMap<&'a JobId, Vec<usize>>,
}

/// A job that just became blocked.
pub(super) struct Blocked {
    pub job: JobId,
    pub by: JobId,
}

impl<'a> Board<'a> {
    pub fn new(plan: &'a Plan) -> Board<'a> {
        let cohorts = plan.cohorts.as_slice();
        let mut places: HashMap<JobId, Place> = plan
            .jobs
            .iter()
            .map(|planned| (planned.id.clone(), if planned.done { Place::Done } else { Place::Waiting }))
            .collect();
        let mut dependants: HashMap<&JobId, Vec<usize>> = HashMap::new();
        for (index, cohort) in cohorts.iter().enumerate() {
            for (job, _) in &cohort.jobs {
                places.entry(job.clone()).or_insert(Place::Waiting);
            }
            for need in &cohort.needs {
                dependants.entry(need).or_default().push(index);
            }
        }
        let unmet: Vec<usize> = cohorts
            .iter()
            .map(|cohort| cohort.needs.iter().filter(|need| places.get(*need) != Some(&Place::Done)).count())
            .collect();
        let chains = chains(cohorts, &dependants);
        let mut ranked: Vec<usize> = (0..cohorts.len()).collect();
        ranked.sort_by(|&a, &b| chains[b].total_cmp(&chains[a]).then(a.cmp(&b)));
        let mut rank = vec![0; cohorts.len()];
        for (position, &cohort) in ranked.iter().enumerate() {
            rank[cohort] = position;
        }
        let ready = (0..cohorts.len()).filter(|&cohort| unmet[cohort] == 0).map(|cohort| rank[cohort]).collect();
        Board { cohorts, places, ranked, rank, ready, unmet, dependants }
    }

    /// Takes the next cohort to start, with those of its jobs that nobody has run or is running. They are running now.
    pub fn next(&mut self) -> Option<(usize, Vec<&'a (JobId, Job)>)> {
        loop {
            let cohort = self.ranked[self.ready.pop_first()?];
            let students: Vec<&(JobId, Job)> =
                self.cohorts[cohort].jobs.iter().filter(|(job, _)| self.places[job] == Place::Waiting).collect();
            if students.is_empty() {
                continue;
            }
            for (job, _) in &students {
                self.places.insert(job.clone(), Place::Running);
            }
            return Some((cohort, students));
        }
    }

    /// Cohorts that could start now.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    pub fn place(&self, job: &JobId) -> Option<&Place> {
        self.places.get(job)
    }

    pub fn done(&mut self, job: &JobId) {
        if self.places.insert(job.clone(), Place::Done) == Some(Place::Done) {
            return;
        }
        for &cohort in self.dependants.get(job).map_or(&[][..], Vec::as_slice) {
            self.unmet[cohort] -= 1;
            if self.unmet[cohort] == 0 {
                self.ready.insert(self.rank[cohort]);
            }
        }
    }

    pub fn interrupted(&mut self, job: &JobId) {
        self.places.insert(job.clone(), Place::Interrupted);
    }

    /// Puts jobs of a cohort whose worker was lost back, to be started again as a cohort.
    pub fn again(&mut self, cohort: usize, jobs: &[JobId]) {
        for job in jobs {
            self.places.insert(job.clone(), Place::Waiting);
        }
        self.ready.insert(self.rank[cohort]);
    }

    /// The job failed; returns all that can no longer start because of it, next first.
    pub fn failed(&mut self, job: &JobId) -> Vec<Blocked> {
        self.places.insert(job.clone(), Place::Failed);
        let mut blocked = Vec::new();
        let mut stack = vec![job.clone()];
        while let Some(need) = stack.pop() {
            for &cohort in self.dependants.get(&need).map_or(&[][..], Vec::as_slice) {
                for (dependant, _) in &self.cohorts[cohort].jobs {
                    if self.places[dependant] == Place::Waiting {
                        self.places.insert(dependant.clone(), Place::Blocked);
                        blocked.push(Blocked { job: dependant.clone(), by: job.clone() });
                        stack.push(dependant.clone());
                    }
                }
            }
        }
        blocked
    }

    pub fn count(&self, place: &Place) -> u64 {
        self.places.values().filter(|&there| there == place).count() as u64
    }
}

/// Cost of each cohort and of the costliest chain of those that wait for it.
fn chains(cohorts: &[Cohort], dependants: &HashMap<&JobId, Vec<usize>>) -> Vec<f64> {
    let mut chains: Vec<f64> = cohorts.iter().map(|cohort| cohort_cost(cohort).total()).collect();
    // Needs come first in a plan, so from the back every dependant's chain is known. One that a hand-made plan put
    // before its need counts with its own cost only.
    for index in (0..cohorts.len()).rev() {
        let behind = cohorts[index]
            .jobs
            .iter()
            .flat_map(|(job, _)| dependants.get(job).into_iter().flatten())
            .map(|&dependant| chains[dependant])
            .max_by(f64::total_cmp);
        chains[index] += behind.unwrap_or(0.0);
    }
    chains
}
