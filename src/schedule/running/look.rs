//! What a run looks at from time to time: its leases, what people wish, what others do, who is silent, the disk, the budget.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::super::board::Place;
use super::super::spool::ingest_spool;
use super::super::stop::Level;
use super::super::{Engine, Error, Notice, Order};
use super::trouble::Disk;
use super::{PATIENCE, Run, patiently};
use crate::alive::{bury, is_gone};
use crate::disk;
use crate::event::Request;
use crate::job::JobId;
use crate::plan::Span;
use crate::store::{Mark, SchedulerWish, State, Tenure, Wish};

/// Free space that is always left, unless that is more than a fiftieth of the disk.
const RESERVE: u64 = 256 << 20;

/// Jobs that other schedulers have.
#[derive(Default)]
pub(super) struct Others {
    /// What moves while the owner lives, and since when it has not.
    marks: HashMap<JobId, (Mark, Instant)>,
    /// Attempts whose owners are gone.
    pub dead: HashMap<JobId, Mark>,
    /// Jobs that were failed when they were last looked at: their owner may be about to try them again.
    failed: HashSet<JobId>,
    /// Whether somebody was told that others are waited for.
    told: bool,
}

impl<E: Engine, O: FnMut(&Notice)> Run<'_, E, O> {
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        self.money(since);
        let (owner, lease) = (self.settings.provenance.owner.clone(), self.settings.watch.lease);
        if self.renewed.elapsed() >= lease / 3 {
            self.renewed = Instant::now();
            let ours = patiently!(self, self.store.renew(&owner, lease));
            self.held = Instant::now();
            let running =
                self.working.iter().flat_map(|(cohort, working)| working.jobs.iter().map(|job| (job.clone(), *cohort)));
            let lost: Vec<(JobId, usize)> = running
                .filter(|(job, _)| self.board.place(job) == Some(Place::Running) && !ours.contains(job))
                .collect();
            for (job, cohort) in lost {
                self.taken_away(&job, cohort);
            }
        }
        match patiently!(self, self.store.order(&owner)) {
            Some(SchedulerWish::Drain) => self.stop.raise(Level::Drain),
            Some(SchedulerWish::Stop) => self.stop.raise(Level::Finish),
            Some(SchedulerWish::Now) => self.stop.raise(Level::Now),
            None => {}
        }
        self.wishes().await?;
        self.others().await?;
        self.frozen(since);
        self.room();
        Ok(())
    }

    /// What people want of jobs.
    async fn wishes(&mut self) -> Result<(), Error> {
        // A task looks at its own: thousands of them share the store.
        let unusual = if self.settings.watch.is_task {
            let own: Vec<JobId> = self.plan.open().map(|planned| planned.id.clone()).collect();
            patiently!(self, self.store.tenures(&own))
        } else {
            patiently!(self, self.store.unusual())
        };
        let urgent = unusual.iter().filter(|tenure| tenure.priority != 0);
        self.board.prioritize(urgent.map(|tenure| (tenure.job.clone(), tenure.priority)).collect());
        let wished: HashMap<&JobId, Wish> =
            unusual.iter().filter_map(|tenure| Some((&tenure.job, tenure.wish?))).collect();
        for (job, wish) in &wished {
            match (self.board.place(job), wish) {
                (Some(Place::Waiting | Place::Resting | Place::Interrupted), _) => self.board.put(job, Place::Unwanted),
                (Some(Place::Running), Wish::Cancel) => self.ask_to_leave(job),
                _ => {}
            }
        }
        let welcome: Vec<JobId> =
            self.board.at(Place::Unwanted).into_iter().filter(|job| !wished.contains_key(job)).collect();
        self.board.again(&welcome);
        // What failed is tried again when a person opened it anew.
        let given_up = [Place::Failed, Place::Blocked].map(|place| self.board.at(place)).concat();
        if !given_up.is_empty() {
            let tenures = patiently!(self, self.store.tenures(&given_up));
            let open: Vec<JobId> =
                tenures.into_iter().filter(|tenure| tenure.state == State::Open).map(|s| s.job).collect();
            self.board.again(&open);
        }
        Ok(())
    }

    pub(super) fn ask_to_leave(&mut self, job: &JobId) {
        let Some(&(cohort, _)) = self.started.get(job) else { return };
        let Some(working) = self.working.get_mut(&cohort) else { return };
        if working.asked.insert(job.clone()) {
            let _ = working.orders.send(Order::Ask(Request::Leave(vec![job.clone()])));
        }
    }

    /// What became of jobs that others have.
    async fn others(&mut self) -> Result<(), Error> {
        let elsewhere = self.board.at(Place::Elsewhere);
        if elsewhere.is_empty() || self.settings.watch.is_task {
            return Ok(());
        }
        if !self.others.told && self.working.is_empty() {
            self.others.told = true;
            self.note(format!("waiting for {} jobs of another run on this folder", elsewhere.len()));
        }
        let hosts: HashMap<String, String> =
            patiently!(self, self.store.schedulers()).into_iter().map(|other| (other.owner, other.host)).collect();
        let mut gone: HashSet<String> = HashSet::new();
        let failed = std::mem::take(&mut self.others.failed);
        for tenure in patiently!(self, self.store.tenures(&elsewhere)) {
            match tenure.state {
                State::Done if self.settings.folder.student(&tenure.job).exists() => self.board.done(&tenure.job),
                State::Failed | State::Blocked if !failed.contains(&tenure.job) => {
                    self.others.failed.insert(tenure.job.clone());
                }
                State::Failed | State::Blocked => {
                    let why = tenure.message.clone().unwrap_or_default();
                    self.give_up(&tenure.job, &why).await?;
                }
                State::Running => self.watch(&tenure, &hosts, &mut gone),
                State::Open | State::Interrupted | State::Done => {
                    // One that is gone does not try again what it wanted to.
                    gone.extend(tenure.owner.filter(|owner| self.is_gone(owner, &hosts)));
                    self.others.marks.remove(&tenure.job);
                    self.board.again(std::slice::from_ref(&tenure.job));
                }
            }
        }
        for owner in gone {
            for job in &elsewhere {
                patiently!(self, ingest_spool(&self.settings.folder, self.store, job));
            }
            let orphans = patiently!(self, self.store.interrupt_orphans(&owner));
            patiently!(self, bury(&self.settings.folder, self.store));
            if orphans > 0 {
                self.note(format!("another run is gone; its {orphans} unfinished jobs are taken over"));
            }
        }
        Ok(())
    }

    fn is_gone(&self, owner: &str, hosts: &HashMap<String, String>) -> bool {
        is_gone(&self.settings.folder, owner, hosts.get(owner).map(String::as_str))
    }

    /// Whether the owner of a running job still lives.
    fn watch(&mut self, tenure: &Tenure, hosts: &HashMap<String, String>, gone: &mut HashSet<String>) {
        let Some(owner) = &tenure.owner else { return };
        if self.is_gone(owner, hosts) {
            gone.insert(owner.clone());
            return;
        }
        let now = Instant::now();
        let (mark, since) = self.others.marks.entry(tenure.job.clone()).or_insert((tenure.mark(), now));
        if *mark != tenure.mark() {
            (*mark, *since) = (tenure.mark(), now);
        } else if since.elapsed() >= self.settings.watch.lease {
            self.others.marks.remove(&tenure.job);
            self.others.dead.insert(tenure.job.clone(), tenure.mark());
            self.board.again(std::slice::from_ref(&tenure.job));
            self.note(format!("job {} has not been heard of for a lease's length: it is taken over", tenure.job));
        }
    }

    /// Ends workers that give no sign of life. Not those that nobody listened to, since this process was frozen itself.
    fn frozen(&mut self, since: Duration) {
        let lease = self.settings.watch.lease;
        if since > lease / 2 {
            self.working.values_mut().for_each(|working| working.heard = Instant::now());
        }
        for working in self.working.values_mut() {
            if !working.frozen && working.heard.elapsed() > lease {
                working.frozen = true;
                let _ = working.orders.send(Order::Kill);
            }
        }
    }

    /// Whether there is room on the disk.
    fn room(&mut self) {
        let Some((free, reserve)) = self.space() else { return };
        match &self.disk {
            None if free < reserve => self.pause(Vec::new(), "there is hardly any room left on the disk"),
            Some(disk) if free >= disk.wanted.max(reserve) => {
                let jobs = self.disk.take().map(|disk| disk.jobs).unwrap_or_default();
                self.board.again(&jobs);
                self.note(format!("{} MB are free again: going on", free >> 20));
            }
            _ => {}
        }
    }

    /// Whether the disk is as good as full.
    pub(super) fn is_full(&self) -> bool {
        self.space().is_none_or(|(free, reserve)| free < 4 * reserve)
    }

    /// Bytes that are free on the sweep's disk, and those that are left alone.
    fn space(&self) -> Option<(u64, u64)> {
        let (free, all) = disk::room(&self.settings.folder.lock())?;
        Some((free, self.settings.watch.reserve.unwrap_or(RESERVE.min(all / 50))))
    }

    /// Starts nothing until there is room on the disk: a tenth more than there is now, and more than the reserve.
    pub(super) fn pause(&mut self, jobs: Vec<JobId>, why: &str) {
        let (free, reserve) = self.space().unwrap_or_default();
        let wanted = (free + free / 10).max(2 * reserve) + (1 << 20);
        match &mut self.disk {
            Some(disk) => {
                disk.jobs.extend(jobs);
                disk.wanted = disk.wanted.max(wanted);
            }
            None => {
                self.disk = Some(Disk { jobs, wanted });
                let why = why.lines().next().unwrap_or_default();
                self.note(format!(
                    "paused: {why}; {} MB are free in `{}`, going on when there are {} MB",
                    free >> 20,
                    self.settings.folder.root().display(),
                    (wanted >> 20) + 1
                ));
            }
        }
    }

    /// Whether what may be spent is spent.
    fn money(&mut self, since: Duration) {
        let busy = |device| self.working.values().any(|working| working.device == device);
        let devices = self.settings.devices.iter().filter(|(device, _)| busy(*device)).count();
        self.spent += since * u32::try_from(devices).unwrap_or(1);
        let Some(budget) = self.settings.budget else { return };
        if self.spent.as_secs_f64() >= 3600.0 * budget && self.stop.level() < Level::Finish {
            let spent = Span(Duration::from_secs(self.spent.as_secs()));
            self.note(format!("the budget is spent: devices worked for {spent}"));
            self.stop.raise(Level::Finish);
        }
    }
}
