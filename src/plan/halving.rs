//! Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): of jobs that differ in hyper-parameters alone, those that
//! do badly on validation images early on are ended, so that more can be tried.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Evaluations;
use crate::job::JobId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Halving {
    /// What is chosen among: axes of the grid. Jobs that differ in anything else, seeds too, are not compared.
    pub axes: Vec<String>,
    /// After these epochs, ascending.
    pub at: Vec<u32>,
    /// The share that goes on, rounded up.
    #[serde(default = "half")]
    pub keep: f64,
}

fn half() -> f64 {
    0.5
}

impl Halving {
    /// # Errors
    /// What is wrong with it, given the axes there are and the epochs at which is measured.
    pub fn check(&self, axes: &[String], evaluations: Evaluations) -> Result<(), String> {
        if let Some(unknown) = self.axes.iter().find(|axis| !axes.contains(axis)) {
            return Err(format!("`halving` chooses along `{unknown}`, which the grid does not vary"));
        }
        if self.axes.is_empty() || self.at.is_empty() {
            return Err("`halving` needs axes to choose along and epochs to choose at".to_owned());
        }
        if self.axes.iter().any(|axis| axis == "seed" || axis == "epochs") {
            return Err("`halving` chooses hyper-parameters: neither seeds nor lengths".to_owned());
        }
        if !self.at.is_sorted_by(|a, b| a < b) || self.at[0] == 0 {
            return Err("the epochs of `halving` ascend, from 1 on".to_owned());
        }
        if !(self.keep > 0.0 && self.keep < 1.0) {
            return Err("what `halving` keeps is a share between 0 and 1".to_owned());
        }
        match self.at.iter().find(|&&epoch| !evaluations.is_due(epoch, u32::MAX)) {
            Some(epoch) => {
                Err(format!("`halving` chooses after epoch {epoch}, at which `evaluate-every` does not measure"))
            }
            None => Ok(()),
        }
    }

    /// Jobs that are compared with one another, by their places on the grid's axes.
    pub fn groups<'a>(&self, jobs: impl Iterator<Item = (&'a JobId, &'a BTreeMap<String, String>)>) -> Vec<Vec<JobId>> {
        let mut groups: Vec<Vec<JobId>> = Vec::new();
        let mut places: HashMap<Vec<(&String, &String)>, usize> = HashMap::new();
        for (job, axes) in jobs {
            let rest: Vec<_> = axes.iter().filter(|(axis, _)| !self.axes.contains(axis)).collect();
            let place = *places.entry(rest).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(job.clone());
        }
        groups.retain(|group| group.len() > 1);
        groups
    }
}

/// A job that is ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub job: JobId,
    pub epoch: u32,
    /// From 1, and of how many.
    pub rank: usize,
    pub of: usize,
}

/// What is known so far. What is decided follows from the numbers alone, not from when they came.
#[derive(Clone, Debug)]
pub struct Halvings {
    rule: Halving,
    groups: Vec<Vec<JobId>>,
    group_of: HashMap<JobId, usize>,
    /// Shares of the validation images that are right.
    seen: HashMap<(JobId, u32), f64>,
    out: HashMap<JobId, u32>,
}

impl Halvings {
    pub fn new(rule: Halving, groups: Vec<Vec<JobId>>) -> Halvings {
        let members = groups.iter().enumerate().flat_map(|(at, group)| group.iter().map(move |job| (job.clone(), at)));
        let group_of = members.collect();
        Halvings { rule, groups, group_of, seen: HashMap::new(), out: HashMap::new() }
    }

    /// The epochs at which is chosen.
    pub fn epochs(&self) -> &[u32] {
        &self.rule.at
    }

    /// Takes that a job has failed: it is not compared any more.
    pub fn failed(&mut self, job: &JobId) -> Vec<Ended> {
        let Some(&group) = self.group_of.get(job) else { return Vec::new() };
        self.out.insert(job.clone(), 0);
        self.decide(group)
    }

    /// Takes a job's accuracy after an epoch; returns who is ended by it.
    pub fn measured(&mut self, job: &JobId, epoch: u32, top1: f64) -> Vec<Ended> {
        let Some(&group) = self.group_of.get(job) else { return Vec::new() };
        if !self.rule.at.contains(&epoch) {
            return Vec::new();
        }
        self.seen.insert((job.clone(), epoch), top1);
        self.decide(group)
    }

    fn decide(&mut self, group: usize) -> Vec<Ended> {
        let mut ended = Vec::new();
        for &epoch in &self.rule.at {
            // Those that were not ended at an earlier choice; what was decided at this one is decided again, the same.
            let alive = |job: &&JobId| self.out.get(*job).is_none_or(|&out| out >= epoch && out != 0);
            let members: Vec<&JobId> = self.groups[group].iter().filter(alive).collect();
            let values: Option<Vec<f64>> =
                members.iter().map(|job| self.seen.get(&((*job).clone(), epoch)).copied()).collect();
            let Some(values) = values else { break };
            let mut ranked: Vec<usize> = (0..members.len()).collect();
            ranked.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
            let keep = ((members.len() as f64 * self.rule.keep).ceil() as usize).max(1);
            let losers: Vec<(usize, JobId)> =
                ranked.iter().enumerate().skip(keep).map(|(rank, &at)| (rank + 1, members[at].clone())).collect();
            let of = members.len();
            for (rank, job) in losers {
                if self.out.insert(job.clone(), epoch).is_none() {
                    ended.push(Ended { job, epoch, rank, of });
                }
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: usize) -> JobId {
        JobId::from_stored(name.to_string())
    }

    fn rule() -> Halving {
        Halving { axes: vec!["learning-rate".into()], at: vec![3, 9], keep: 0.5 }
    }

    /// Whatever the order in which numbers come, the same jobs are ended, for the same reasons.
    #[test]
    fn what_is_decided_does_not_depend_on_the_order() {
        let early = [0.5, 0.7, 0.6, 0.1, 0.65];
        let late = [0.0, 0.71, 0.8, 0.0, 0.72];
        let numbers: Vec<(usize, u32, f64)> = (0..5).flat_map(|at| [(at, 3, early[at]), (at, 9, late[at])]).collect();
        let mut outcomes = Vec::new();
        for turn in 0..numbers.len() {
            let mut halvings = Halvings::new(rule(), vec![(0..5).map(job).collect()]);
            let mut ended = Vec::new();
            for at in 0..numbers.len() {
                let (who, epoch, value) = numbers[(at * 3 + turn) % numbers.len()];
                ended.extend(halvings.measured(&job(who), epoch, value));
            }
            ended.sort_by_key(|ended| (ended.epoch, ended.rank));
            outcomes.push(ended);
        }
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{outcomes:?}");
        let told: Vec<_> = outcomes[0].iter().map(|e| (e.job.to_string(), e.epoch, e.rank, e.of)).collect();
        // Three of five go on, then two of three.
        assert_eq!(told, [("0".into(), 3, 4, 5), ("3".into(), 3, 5, 5), ("1".into(), 9, 3, 3)]);
    }

    #[test]
    fn nobody_is_ended_before_all_were_measured_and_failures_do_not_hold_it_up() {
        let mut halvings = Halvings::new(rule(), vec![(0..3).map(job).collect()]);
        assert_eq!(halvings.measured(&job(0), 3, 0.5), []);
        assert_eq!(halvings.measured(&job(1), 3, 0.9), []);
        assert_eq!(halvings.measured(&job(7), 3, 0.9), [], "a stranger");
        let ended = halvings.failed(&job(2));
        assert_eq!(ended, [Ended { job: job(0), epoch: 3, rank: 2, of: 2 }]);
    }

    #[test]
    fn wrong_rules_are_explained() {
        let axes = ["learning-rate".to_owned(), "seed".to_owned()];
        let wrong = |change: &dyn Fn(&mut Halving)| {
            let mut rule = rule();
            change(&mut rule);
            rule.check(&axes, Evaluations::Every(3)).unwrap_err()
        };
        rule().check(&axes, Evaluations::Every(3)).unwrap();
        assert!(wrong(&|rule| rule.axes = vec!["mixup".into()]).contains("`mixup`"));
        assert!(wrong(&|rule| rule.axes = vec!["seed".into()]).contains("neither seeds"));
        assert!(wrong(&|rule| rule.at = vec![9, 3]).contains("ascend"));
        assert!(wrong(&|rule| rule.at = vec![4]).contains("epoch 4"));
        assert!(wrong(&|rule| rule.keep = 1.0).contains("share"));
        assert!(wrong(&|rule| rule.at.clear()).contains("needs"));
    }

    #[test]
    fn jobs_are_compared_that_differ_in_nothing_else() {
        let jobs: Vec<(JobId, BTreeMap<String, String>)> =
            [("a", "0", "1"), ("a", "1", "1"), ("b", "0", "1"), ("a", "0", "2")]
                .into_iter()
                .enumerate()
                .map(|(at, (mode, seed, rate))| {
                    let axes = [("teaching", mode), ("seed", seed), ("learning-rate", rate)];
                    (job(at), axes.map(|(axis, value)| (axis.to_owned(), value.to_owned())).into())
                })
                .collect();
        let groups = rule().groups(jobs.iter().map(|(job, axes)| (job, axes)));
        assert_eq!(groups, [[job(0), job(3)]]);
    }
}
