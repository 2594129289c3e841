//! Where every job of a plan stands, and which cohort is to start next. Pure: no clock, no store, no process.
//!
//! A cohort is ready when the jobs it needs are done. Among the ready ones those start first that a person wants first; then
//! those of the first seed, so that every figure is there with one seed before any has a second; then that with the longest
//! chain: its own cost plus that of the costliest chain of cohorts waiting for it. So a teacher does not wait behind the
//! students of another, and the last slot to fall idle does so early. Equal chains start in the plan's order.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::job::JobId;
use crate::plan::{Cohort, Member, Plan, cohort_cost};

/// A job's place in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Waiting,
    /// Until it is tried again.
    Resting,
    Running,
    /// Another scheduler has it.
    Elsewhere,
    /// A person wants it not to be started.
    Unwanted,
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
    /// The cohort of each job that is in one.
    cohort_of: HashMap<&'a JobId, usize>,
    /// What each cohort, and the costliest chain of those waiting for it, cost.
    chains: Vec<f64>,
    /// The first block of seeds that waits for each cohort.
    blocks: Vec<usize>,
    /// How much more urgent than others a person wants jobs.
    priorities: HashMap<JobId, i64>,
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
        let mut cohort_of = HashMap::new();
        for (index, cohort) in cohorts.iter().enumerate() {
            for (job, _) in &cohort.jobs {
                places.entry(job.clone()).or_insert(Place::Waiting);
                cohort_of.entry(job).or_insert(index);
            }
            for need in &cohort.needs {
                dependants.entry(need).or_default().push(index);
            }
        }
        let unmet: Vec<usize> = cohorts
            .iter()
            .map(|cohort| cohort.needs.iter().filter(|need| places.get(*need) != Some(&Place::Done)).count())
            .collect();
        let mut board = Board {
            cohorts,
            places,
            cohort_of,
            chains: chains(cohorts, &dependants),
            blocks: blocks(cohorts, &dependants),
            priorities: HashMap::new(),
            ranked: Vec::new(),
            rank: Vec::new(),
            ready: BTreeSet::new(),
            unmet,
            dependants,
        };
        board.order();
        board.ready = (0..cohorts.len()).filter(|&cohort| board.unmet[cohort] == 0).map(|c| board.rank[c]).collect();
        board
    }

    /// Takes how urgent a person wants jobs, 0 where nothing is said; what they need is as urgent.
    pub fn prioritize(&mut self, priorities: HashMap<JobId, i64>) {
        if priorities != self.priorities {
            let ready: Vec<usize> = self.ready.iter().map(|&rank| self.ranked[rank]).collect();
            self.priorities = priorities;
            self.order();
            self.ready = ready.into_iter().map(|cohort| self.rank[cohort]).collect();
        }
    }

    fn order(&mut self) {
        let mut urgency: Vec<i64> = self
            .cohorts
            .iter()
            .map(|cohort| cohort.jobs.iter().map(|(job, _)| self.priorities.get(job).copied().unwrap_or(0)).max())
            .map(Option::unwrap_or_default)
            .collect();
        for index in (0..self.cohorts.len()).rev() {
            let behind = behind(self.cohorts, &self.dependants, index).map(|after| urgency[after]).max();
            urgency[index] = behind.map_or(urgency[index], |behind| urgency[index].max(behind));
        }
        self.ranked = (0..self.cohorts.len()).collect();
        self.ranked.sort_by(|&a, &b| {
            let of = |cohort: usize| (Reverse(urgency[cohort]), self.blocks[cohort]);
            of(a).cmp(&of(b)).then(self.chains[b].total_cmp(&self.chains[a])).then(a.cmp(&b))
        });
        self.rank = vec![0; self.cohorts.len()];
        for (position, &cohort) in self.ranked.iter().enumerate() {
            self.rank[cohort] = position;
        }
    }

    /// Takes the next cohort to start, with those of its jobs that nobody has run or is running. They are running now. One
    /// that is busy stays ready: its worker has its files, and its jobs come after.
    pub fn next(&mut self, is_busy: impl Fn(usize) -> bool) -> Option<(usize, Vec<&'a Member>)> {
        loop {
            let rank = *self.ready.iter().find(|&&rank| !is_busy(self.ranked[rank]))?;
            self.ready.remove(&rank);
            let cohort = self.ranked[rank];
            let students: Vec<&Member> =
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

    pub fn place(&self, job: &JobId) -> Option<Place> {
        self.places.get(job).copied()
    }

    /// The cohort that a job of this plan is in.
    pub fn cohort_of(&self, job: &JobId) -> Option<usize> {
        self.cohort_of.get(job).copied()
    }

    /// Jobs at a place.
    pub fn at(&self, place: Place) -> Vec<JobId> {
        self.places.iter().filter(|(_, there)| **there == place).map(|(job, _)| job.clone()).collect()
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

    /// Puts a job somewhere that changes nothing for others.
    pub fn put(&mut self, job: &JobId, place: Place) {
        debug_assert!(!matches!(place, Place::Done | Place::Failed), "others depend on it");
        self.places.insert(job.clone(), place);
    }

    /// Puts jobs back that are to be started again, with their cohorts; not what is done or running.
    pub fn again(&mut self, jobs: &[JobId]) {
        for job in jobs {
            if matches!(self.places.get(job), Some(Place::Done | Place::Running)) {
                continue;
            }
            self.places.insert(job.clone(), Place::Waiting);
            if let Some(cohort) = self.cohort_of(job)
                && self.unmet[cohort] == 0
            {
                self.ready.insert(self.rank[cohort]);
            }
        }
    }

    /// The job failed; returns all that can no longer start because of it, next first.
    pub fn failed(&mut self, job: &JobId) -> Vec<Blocked> {
        self.places.insert(job.clone(), Place::Failed);
        let mut blocked = Vec::new();
        let mut stack = vec![job.clone()];
        while let Some(need) = stack.pop() {
            for &cohort in self.dependants.get(&need).map_or(&[][..], Vec::as_slice) {
                for (dependant, _) in &self.cohorts[cohort].jobs {
                    if matches!(self.places[dependant], Place::Waiting | Place::Resting | Place::Unwanted) {
                        self.places.insert(dependant.clone(), Place::Blocked);
                        blocked.push(Blocked { job: dependant.clone(), by: job.clone() });
                        stack.push(dependant.clone());
                    }
                }
            }
        }
        blocked
    }

    pub fn count(&self, place: Place) -> u64 {
        self.places.values().filter(|&&there| there == place).count() as u64
    }
}

/// Cohorts that wait for one of this cohort's jobs.
fn behind<'b>(
    cohorts: &'b [Cohort],
    dependants: &'b HashMap<&JobId, Vec<usize>>,
    index: usize,
) -> impl Iterator<Item = usize> + 'b {
    cohorts[index].jobs.iter().flat_map(|(job, _)| dependants.get(job).into_iter().flatten().copied())
}

/// Cost of each cohort and of the costliest chain of those that wait for it.
fn chains(cohorts: &[Cohort], dependants: &HashMap<&JobId, Vec<usize>>) -> Vec<f64> {
    let mut chains: Vec<f64> = cohorts.iter().map(|cohort| cohort_cost(cohort).total()).collect();
    // Needs come first in a plan, so from the back every dependant's chain is known. One that a hand-made plan put
    // before its need counts with its own cost only.
    for index in (0..cohorts.len()).rev() {
        let longest = behind(cohorts, dependants, index).map(|after| chains[after]).max_by(f64::total_cmp);
        chains[index] += longest.unwrap_or(0.0);
    }
    chains
}

/// The place of each cohort's seed among all seeds, in the order of the plan's students; what others wait for belongs to
/// the first of them.
fn blocks(cohorts: &[Cohort], dependants: &HashMap<&JobId, Vec<usize>>) -> Vec<usize> {
    let mut blocks = vec![usize::MAX; cohorts.len()];
    let mut seeds: Vec<u64> = Vec::new();
    for (index, cohort) in cohorts.iter().enumerate() {
        if behind(cohorts, dependants, index).next().is_none() {
            let places = cohort.jobs.iter().map(|(_, job)| match seeds.iter().position(|seed| *seed == job.seed) {
                Some(place) => place,
                None => {
                    seeds.push(job.seed);
                    seeds.len() - 1
                }
            });
            blocks[index] = places.min().unwrap_or(0);
        }
    }
    for index in (0..cohorts.len()).rev() {
        let first = behind(cohorts, dependants, index).map(|after| blocks[after]).min();
        blocks[index] = first.map_or(blocks[index], |first| blocks[index].min(first));
    }
    blocks
}
