//! The controller: submits what is ready, looks at what became of it, submits again what came to nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::handover::{self, exported, options};
use super::manifest::Header;
use super::resources::Resources;
use super::slurm::{Seen, Slurm, Trouble};
use super::words::{explain, is_no_fault, is_over};
use crate::alive::{here, is_gone};
use crate::folder::Folder;
use crate::job::{Job, JobId, short_hash};
use crate::plan::{CohortId, Plan, Retries, Site};
use crate::schedule::board::{Board, Place};
use crate::schedule::spool::ingest_spool;
use crate::schedule::stop::{Level, Stop};
use crate::schedule::{Error, Notice, Summary};
use crate::store::{Block, Sight, Stand, State, Store, Task, Wish};

/// Until something that was submitted must be visible.
const GRACE: Duration = Duration::from_secs(60);
/// Tasks of one array, where Slurm allows more.
const MOST: u32 = 1000;
/// Before a cohort that came to nothing is submitted again; twice as long each time.
const AGAIN: Duration = Duration::from_secs(30);
/// The longest of those.
const LATEST: Duration = Duration::from_secs(1800);

/// What a controller works with.
pub struct Cluster<'a> {
    pub plan: &'a Plan,
    pub folder: &'a Folder,
    pub store: &'a Store,
    pub slurm: Slurm,
    pub site: &'a Site,
    /// Of all arrays, but for tag and count.
    pub header: Header,
    pub retries: &'a Retries,
    /// Of this process.
    pub owner: &'a str,
    pub lease: Duration,
    /// Between two looks.
    pub every: Duration,
    pub flops_per_second: Option<f64>,
    /// Variables that tasks get, beside those of this process.
    pub environment: Vec<(String, String)>,
}

/// Submits and looks after a plan's cohorts until nothing is left that can run, or a stop is heeded: then what was submitted
/// goes on by itself.
///
/// # Errors
/// When another controller has the experiment, Slurm refuses what is asked for, or the store fails.
pub async fn control(cluster: Cluster<'_>, observer: impl FnMut(&Notice), stop: Stop) -> Result<Summary, Error> {
    let open: Vec<JobId> = cluster.plan.open().map(|planned| planned.id.clone()).collect();
    let board = Board::new(cluster.plan);
    let mut control = Control {
        cluster,
        observer,
        stop,
        board,
        failed_before: HashMap::new(),
        old: HashSet::new(),
        cancelled: HashSet::new(),
        largest: MOST,
        said: HashSet::new(),
        last: String::new(),
        counter: 0,
    };
    control.begin(&open).await?;
    let result = control.rounds().await;
    // Nobody waits for the end of a lease that nobody has.
    let _ = control.cluster.store.leave_control(control.cluster.owner).await;
    result?;
    let count = |place| control.board.count(place);
    Ok(Summary {
        done: count(Place::Done) - control.cluster.plan.jobs.iter().filter(|planned| planned.done).count() as u64,
        failed: count(Place::Failed),
        blocked: count(Place::Blocked),
        interrupted: count(Place::Interrupted) + count(Place::Running) + count(Place::Elsewhere),
        open: count(Place::Waiting) + count(Place::Resting),
        unwanted: count(Place::Unwanted),
    })
}

struct Control<'a, O> {
    cluster: Cluster<'a>,
    observer: O,
    stop: Stop,
    board: Board<'a>,
    /// Attempts of jobs that had failed before this run: those are tried again.
    failed_before: HashMap<JobId, u32>,
    /// Arrays from before this run.
    old: HashSet<String>,
    /// Jobs that a person wants to be left.
    cancelled: HashSet<JobId>,
    /// Tasks of one array.
    largest: u32,
    /// What was said, and need not be again.
    said: HashSet<String>,
    /// The last line about the whole.
    last: String,
    counter: u32,
}

/// Does something with the store until it can be done, or a stop is asked for.
macro_rules! patiently {
    ($control:ident, $what:expr) => {{
        loop {
            let result = $what.await.map_err(Error::from);
            match result {
                Err(error) if error.passing().is_some() && $control.stop.level() == Level::Go => {
                    $control.once(format!("waiting: {}", error.passing().unwrap_or_default()));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                result => break result?,
            }
        }
    }};
}

impl<O: FnMut(&Notice)> Control<'_, O> {
    async fn begin(&mut self, open: &[JobId]) -> Result<(), Error> {
        self.take_control().await?;
        patiently!(self, self.cluster.store.unblock(open));
        for stand in patiently!(self, self.cluster.store.stands(&self.cluster.header.experiment)) {
            if stand.state == State::Failed {
                self.failed_before.insert(stand.job, stand.attempt);
            }
        }
        let tasks = patiently!(self, self.cluster.store.tasks(Some(&self.cluster.header.experiment)));
        self.old = tasks.into_iter().map(|task| task.tag).collect();
        match self.cluster.slurm.largest_array().await {
            // The highest index is one less than that.
            Ok(largest) => self.largest = largest.saturating_sub(1).clamp(1, MOST),
            Err(trouble @ Trouble::Missing(..)) => return Err(Error::Slurm(trouble)),
            Err(trouble) => self.once(format!("waiting: {trouble}")),
        }
        Ok(())
    }

    /// Waits for the lease of one that is not known to live, once.
    async fn take_control(&mut self) -> Result<(), Error> {
        let host = here();
        let mut waited: Option<String> = None;
        let mut gone: Option<String> = None;
        loop {
            let (experiment, owner) = (self.cluster.header.experiment.clone(), self.cluster.owner);
            let lease = self.cluster.lease;
            let other =
                patiently!(self, self.cluster.store.take_control(&experiment, (owner, &host), lease, gone.as_deref()));
            let Some(other) = other else { return Ok(()) };
            if other.host == host && gone.is_none() && is_gone(self.cluster.folder, &other.owner, Some(&other.host)) {
                gone = Some(other.owner);
                continue;
            }
            // One that lives renews it while we wait.
            if other.host == host || waited.is_some() || self.stop.level() > Level::Go {
                return Err(Error::Controlled(other));
            }
            self.once(format!("waiting {} s for the lease of `{}`", other.left.as_secs() + 1, other.owner));
            waited = Some(other.owner);
            tokio::time::sleep(other.left + Duration::from_secs(1)).await;
        }
    }

    async fn rounds(&mut self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        loop {
            if self.round().await? {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(self.cluster.every) => {}
                level = stop.above(Level::Go) => {
                    self.tell(&Notice::Stopping { level });
                    self.note("what is in Slurm goes on there; the same command looks after it again, `distillery cancel` ends it");
                    return Ok(());
                }
            }
        }
    }

    /// Whether nothing is left to do.
    async fn round(&mut self) -> Result<bool, Error> {
        let (experiment, owner, host) = (self.cluster.header.experiment.clone(), self.cluster.owner, here());
        let lease = self.cluster.lease;
        let other = patiently!(self, self.cluster.store.take_control(&experiment, (owner, &host), lease, None));
        if let Some(other) = other {
            return Err(Error::Controlled(other));
        }
        let seen = match self.cluster.slurm.tasks().await {
            Ok(seen) => Some(seen),
            Err(trouble @ Trouble::Missing(..)) => return Err(Error::Slurm(trouble)),
            Err(trouble) => {
                self.once(format!("waiting: {trouble}"));
                None
            }
        };
        let tasks = patiently!(self, self.cluster.store.tasks(Some(&experiment)));
        let tasks = self.compare(tasks, seen.as_deref()).await?;
        // After the tasks: what ended before they were looked at is seen to have ended.
        let stands = patiently!(self, self.cluster.store.stands(&experiment));
        let alive: HashMap<&JobId, &Task> =
            tasks.iter().filter(|task| !task.is_over).map(|task| (&task.job, task)).collect();
        let mut past: HashMap<&JobId, Vec<&Task>> = HashMap::new();
        for task in tasks.iter().filter(|task| task.is_over) {
            past.entry(&task.job).or_default().push(task);
        }
        let cancelled = stands.iter().filter(|stand| stand.wish.is_some());
        self.cancelled = cancelled.map(|stand| stand.job.clone()).collect();
        let epochs: HashMap<&JobId, u32> = stands.iter().map(|stand| (&stand.job, stand.epoch)).collect();
        for stand in &stands {
            let past = past.get(&stand.job).map_or(&[][..], Vec::as_slice);
            self.place(stand, alive.get(&stand.job).copied(), past).await?;
        }
        if seen.is_some() {
            self.retract(&tasks).await;
        }
        let before = self.counter;
        if seen.is_some() && self.stop.level() == Level::Go {
            self.submit(&epochs, !alive.is_empty()).await?;
        }
        // What was just submitted is counted when it was seen.
        if self.counter == before {
            self.summarize(&tasks);
        }
        let waits = [Place::Running, Place::Elsewhere, Place::Resting, Place::Interrupted];
        Ok(waits.iter().all(|place| self.board.count(*place) == 0))
    }

    /// Holds what was submitted against what Slurm shows, and writes down what is new.
    async fn compare(&mut self, mut tasks: Vec<Task>, seen: Option<&[Seen]>) -> Result<Vec<Task>, Error> {
        let Some(seen) = seen else { return Ok(tasks) };
        let mut shown: HashMap<(&str, u32), &Seen> = HashMap::new();
        for one in seen {
            shown.insert((&one.tag, one.index), one);
        }
        let numbers: HashMap<&str, &str> = seen.iter().map(|one| (one.tag.as_str(), one.number.as_str())).collect();
        let mut lost: HashSet<String> = HashSet::new();
        let mut named: HashSet<String> = HashSet::new();
        let mut sights: BTreeMap<(String, u32), Sight> = BTreeMap::new();
        for task in &mut tasks {
            if task.number.is_none() {
                match numbers.get(task.tag.as_str()) {
                    Some(number) => {
                        if named.insert(task.tag.clone()) {
                            patiently!(self, self.cluster.store.name_submission(&task.tag, number));
                        }
                        task.number = Some((*number).to_owned());
                    }
                    // Nobody knows whether it was taken; if it was, it would be there by now.
                    None if task.age > GRACE => {
                        lost.insert(task.tag.clone());
                        continue;
                    }
                    None => continue,
                }
            }
            let sight = match shown.get(&(task.tag.as_str(), task.place)) {
                Some(one) => Sight {
                    tag: task.tag.clone(),
                    place: task.place,
                    state: one.state.clone(),
                    reason: one.reason.clone(),
                    node: one.node.clone().or_else(|| task.node.clone()),
                    is_over: is_over(&one.state),
                },
                // It forgets what has ended, and what it had not written down before it was killed.
                None if !task.is_over && task.age > GRACE.min(4 * self.cluster.every) => Sight {
                    tag: task.tag.clone(),
                    place: task.place,
                    state: "GONE".to_owned(),
                    reason: None,
                    node: task.node.clone(),
                    is_over: true,
                },
                None => continue,
            };
            let is_news = task.state != sight.state
                || task.reason != sight.reason
                || task.node != sight.node
                || task.is_over != sight.is_over;
            if is_news {
                (task.state, task.reason, task.node, task.is_over) =
                    (sight.state.clone(), sight.reason.clone(), sight.node.clone(), sight.is_over);
                sights.insert((sight.tag.clone(), sight.place), sight);
            }
        }
        let sights: Vec<Sight> = sights.into_values().collect();
        patiently!(self, self.cluster.store.see(&sights));
        for tag in &lost {
            patiently!(self, self.cluster.store.drop_submission(tag));
        }
        tasks.retain(|task| !lost.contains(&task.tag));
        for task in tasks.iter().filter(|task| !task.is_over && task.state == "PENDING") {
            let Some((reason, means)) = task.reason.as_deref().and_then(|reason| Some((reason, explain(reason)?)))
            else {
                continue;
            };
            let number = task.number.as_deref().unwrap_or("?");
            self.once(format!("array {number} waits in Slurm: {reason}: {means}"));
        }
        Ok(tasks)
    }

    /// Where a job is now, by the store and by Slurm.
    async fn place(&mut self, stand: &Stand, alive: Option<&Task>, past: &[&Task]) -> Result<(), Error> {
        let job = &stand.job;
        let Some(now) = self.board.place(job) else { return Ok(()) };
        if now == Place::Done {
            return Ok(());
        }
        let folder = self.cluster.folder;
        match stand.state {
            // The file may take a moment to be seen on this machine.
            State::Done if folder.student(job).exists() => self.board.done(job),
            State::Done => self.board.put(job, Place::Elsewhere),
            _ if stand.wish.is_some() && alive.is_none() && !stand.is_held => self.board.put(job, Place::Unwanted),
            State::Running if stand.is_held => self.board.put(job, Place::Running),
            // A person took it back, but it is on its way out.
            _ if stand.wish == Some(Wish::Cancel) => self.board.put(job, Place::Resting),
            _ if alive.is_some() => self.board.put(job, Place::Resting),
            State::Running => {
                // Its lease is over, and Slurm does not know of it: whatever it said is in its spool.
                patiently!(self, ingest_spool(folder, self.cluster.store, job));
                patiently!(self, self.cluster.store.take_over(std::slice::from_ref(job), None));
                self.board.put(job, Place::Interrupted);
            }
            State::Failed if self.failed_before.get(job).is_none_or(|attempt| stand.attempt > *attempt) => {
                self.fail(job, stand.message.as_deref().unwrap_or_default()).await?;
            }
            State::Blocked if now == Place::Blocked => {}
            State::Failed | State::Blocked | State::Open | State::Interrupted => self.again(stand, past).await?,
        }
        Ok(())
    }

    /// What is to be submitted, again if need be: not at once, and not for ever.
    async fn again(&mut self, stand: &Stand, past: &[&Task]) -> Result<(), Error> {
        let job = &stand.job;
        // Who runs it again wants that what had failed is tried again.
        let forgiven = self.failed_before.contains_key(job);
        let counts = |task: &&&Task| task.epoch >= stand.epoch && !(forgiven && self.old.contains(&task.tag));
        let idle: Vec<&&Task> = past.iter().rev().take_while(counts).collect();
        let faults = idle.iter().filter(|task| !is_no_fault(&task.state)).count();
        if let (true, Some(last)) = (faults >= self.cluster.retries.no_progress.max(1) as usize, idle.first()) {
            let words = [Some(last.state.as_str()), last.reason.as_deref(), last.node.as_deref()];
            let words: Vec<&str> = words.into_iter().flatten().collect();
            let number = last.number.as_deref().unwrap_or("?");
            let log = super::slurm::log(&self.cluster.folder.array(&last.tag), number, last.place);
            let why = format!(
                "{faults} tasks ended without an epoch; of the last, {number}_{}, Slurm says {}\nhint: see `{}`",
                last.place,
                words.join(", "),
                log.display()
            );
            patiently!(self, self.cluster.store.give_up(std::slice::from_ref(job), &why));
            return self.fail(job, &why).await;
        }
        let wait =
            if idle.is_empty() { Duration::ZERO } else { (AGAIN * 2u32.pow(idle.len().min(8) as u32 - 1)).min(LATEST) };
        // In proportion, where a test looks more often.
        let wait = wait.mul_f64((self.cluster.every.as_secs_f64() / 15.0).min(1.0));
        self.board.put(job, Place::Interrupted);
        if past.last().is_none_or(|last| last.age >= wait) {
            self.board.again(std::slice::from_ref(job));
        }
        Ok(())
    }

    async fn fail(&mut self, job: &JobId, why: &str) -> Result<(), Error> {
        if matches!(self.board.place(job), Some(Place::Failed)) {
            return Ok(());
        }
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.once(format!("job {job} failed: {first}"));
        let blocked = self.board.failed(job);
        let message = format!("it needs {job}, which failed: {first}");
        let blocks: Vec<Block> = blocked
            .iter()
            .map(|one| Block { job: one.job.clone(), by: one.by.clone(), message: message.clone() })
            .collect();
        patiently!(self, self.cluster.store.block(&blocks));
        for one in blocked {
            self.tell(&Notice::Blocked { job: one.job, by: one.by });
        }
        Ok(())
    }

    /// Takes back what waits in Slurm and is not wanted any more.
    async fn retract(&mut self, tasks: &[Task]) {
        let mut wanted: BTreeMap<(String, u32), bool> = BTreeMap::new();
        for task in tasks.iter().filter(|task| !task.is_over && task.state == "PENDING") {
            let Some(number) = task.number.clone() else { continue };
            let is_wanted = !matches!(self.board.place(&task.job), Some(Place::Done | Place::Failed | Place::Blocked))
                && !self.cancelled.contains(&task.job);
            *wanted.entry((number, task.place)).or_default() |= is_wanted;
        }
        let unwanted: Vec<(String, u32)> = wanted.into_iter().filter(|(_, is)| !is).map(|(task, _)| task).collect();
        if let Err(trouble) = self.cluster.slurm.cancel(&unwanted).await {
            self.once(format!("waiting: {trouble}"));
        }
    }

    /// Hands over all cohorts that are ready. `others`: whether Slurm has something of ours already.
    async fn submit(&mut self, epochs: &HashMap<&JobId, u32>, others: bool) -> Result<(), Error> {
        let mut groups: BTreeMap<Resources, Vec<(CohortId, Vec<Job>, Vec<JobId>)>> = BTreeMap::new();
        while let Some((cohort, members)) = self.board.next(|_| false) {
            let cohort = &self.cluster.plan.cohorts[cohort];
            let resources = Resources::of(cohort, self.cluster.site, self.cluster.flops_per_second);
            let jobs = members.iter().map(|(_, job)| Job::clone(job)).collect();
            let ids = members.iter().map(|(id, _)| id.clone()).collect();
            groups.entry(resources).or_default().push((cohort.id.clone(), jobs, ids));
        }
        let mut any = others;
        for (resources, cohorts) in groups {
            let mut rest = cohorts.as_slice();
            let mut size = self.largest as usize;
            while !rest.is_empty() && self.stop.level() == Level::Go {
                let (part, after) = rest.split_at(size.min(rest.len()));
                match self.hand_over(&resources, part, epochs).await? {
                    Ok(()) => {
                        any = true;
                        rest = after;
                    }
                    // So many at once may be what is refused.
                    Err(Trouble::Refused(_)) if part.len() > 1 => size = part.len() / 2,
                    Err(Trouble::Refused(why)) if any => {
                        self.once(format!("{} cohorts wait until Slurm takes more: {why}", rest.len()));
                        break;
                    }
                    Err(Trouble::Away(why)) => {
                        self.once(format!("waiting: Slurm does not answer: {why}"));
                        break;
                    }
                    Err(trouble) => return Err(Error::Slurm(trouble)),
                }
            }
            for (_, _, jobs) in rest {
                for job in jobs {
                    self.board.put(job, Place::Interrupted);
                }
            }
        }
        Ok(())
    }

    /// One array. The inner error is Slurm's.
    async fn hand_over(
        &mut self,
        resources: &Resources,
        cohorts: &[(CohortId, Vec<Job>, Vec<JobId>)],
        epochs: &HashMap<&JobId, u32>,
    ) -> Result<Result<(), Trouble>, Error> {
        self.counter += 1;
        let tag = short_hash("distillery array 1\n", &format!("{}\n{}", self.cluster.owner, self.counter));
        let header = Header { tag: tag.clone(), tasks: cohorts.len() as u32, ..self.cluster.header.clone() };
        let lines: Vec<(CohortId, Vec<Job>)> = cohorts.iter().map(|(id, jobs, _)| (id.clone(), jobs.clone())).collect();
        let place = self.cluster.folder.array(&tag);
        let array = handover::write(self.cluster.folder, &header, &lines, self.cluster.site)
            .map_err(|source| Error::Io { path: place.clone(), source })?;
        let mut tasks = Vec::new();
        for (place, (_, _, jobs)) in (0..).zip(cohorts) {
            tasks.extend(jobs.iter().map(|job| (place, job.clone(), epochs.get(job).copied().unwrap_or(0))));
        }
        let manifest = array.manifest.to_string_lossy().into_owned();
        patiently!(self, self.cluster.store.begin_submission(&tag, &header.experiment, &manifest, &tasks));
        let environment = &self.cluster.environment;
        let logs = array.script.parent().unwrap_or(&place);
        let words = options(&header, resources, self.cluster.site, logs, &exported(self.cluster.site, environment));
        match self.cluster.slurm.submit(&words, &array.script, environment).await {
            Ok(number) => {
                patiently!(self, self.cluster.store.name_submission(&tag, &number));
                let count =
                    if cohorts.len() == 1 { "1 cohort".to_owned() } else { format!("{} cohorts", cohorts.len()) };
                let jobs: usize = cohorts.iter().map(|(_, _, jobs)| jobs.len()).sum();
                let asked = resources.options.join(" ");
                self.note(&format!("submitted {count} with {jobs} jobs as array {number} ({asked})"));
                Ok(Ok(()))
            }
            Err(trouble) => {
                // It is not known whether it was taken. The row says that we asked; whether it is there is looked at later.
                if !matches!(trouble, Trouble::Away(_)) {
                    patiently!(self, self.cluster.store.drop_submission(&tag));
                }
                Ok(Err(trouble))
            }
        }
    }

    /// A line about the whole, where it changed.
    fn summarize(&mut self, tasks: &[Task]) {
        let mut running = HashSet::new();
        let mut waiting = HashSet::new();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for task in tasks.iter().filter(|task| !task.is_over) {
            let one = (task.tag.as_str(), task.place);
            if matches!(task.state.as_str(), "RUNNING" | "COMPLETING" | "SUSPENDED") {
                running.insert(one);
            } else if waiting.insert(one) {
                *reasons.entry(task.reason.as_deref().unwrap_or("just submitted")).or_default() += 1;
            }
        }
        let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let why: Vec<&str> = reasons.iter().take(3).map(|(reason, _)| *reason).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
        let (done, all) = (self.board.count(Place::Done), self.cluster.plan.jobs.len());
        let failed = match self.board.count(Place::Failed) + self.board.count(Place::Blocked) {
            0 => String::new(),
            failed => format!(", {failed} failed or blocked"),
        };
        let line = format!(
            "{done} of {all} jobs done{failed}; in Slurm {} tasks running, {} waiting{why}",
            running.len(),
            waiting.len()
        );
        if line != self.last {
            self.note(&line);
            self.last = line;
        }
    }

    fn tell(&mut self, notice: &Notice) {
        (self.observer)(notice);
    }

    fn note(&mut self, text: &str) {
        self.tell(&Notice::Note(text.to_owned()));
    }

    /// Says it the first time.
    fn once(&mut self, text: String) {
        if self.said.insert(text.clone()) {
            self.note(&text);
        }
    }
}
