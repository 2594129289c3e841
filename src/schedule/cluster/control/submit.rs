//! What is handed to Slurm, and what is taken back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::{Control, Trouble, patiently};
use crate::job::{Job, JobId, short_hash};
use crate::plan::CohortId;
use crate::schedule::board::Place;
use crate::schedule::cluster::count::unwanted;
use crate::schedule::cluster::handover::{self, exported, options};
use crate::schedule::cluster::manifest::Header;
use crate::schedule::cluster::resources::Resources;
use crate::schedule::cluster::words::is_running;
use crate::schedule::stop::Level;
use crate::schedule::{Error, Notice};
use crate::store::{SchedulerWish, Task};
use crate::words::counted;

/// Longest time until more is asked for than Slurm took last.
const LONGEST: Duration = Duration::from_secs(1800);

/// How much Slurm took.
pub(super) struct Full {
    /// Of ours that it had when it refused more.
    tasks: usize,
    wait: Duration,
    /// When to ask for more than that: others may have made room.
    until: Instant,
}

/// Whether a refusal is about how things are now, and not about what is asked for.
fn passes(why: &str) -> bool {
    ["inactive or drain", "nodes are busy", "temporarily"].iter().any(|sign| why.contains(sign))
}

/// Whether it is about how much one may have there at once.
fn is_limit(why: &str) -> bool {
    ["policy", "limit", "MaxJobCount"].iter().any(|sign| why.contains(sign))
}

/// A cohort that is ready, and those of its jobs that are to be done.
type Ready = (CohortId, Vec<Job>, Vec<JobId>);

impl<O: FnMut(&Notice)> Control<'_, O> {
    /// Takes back what waits in Slurm and is not wanted any more. Whether that was possible.
    pub(super) async fn retract(&mut self, tasks: &[Task]) -> bool {
        let unwanted = unwanted(tasks, |job| {
            // One that is on no board was the experiment's before it was changed.
            let is_over = matches!(self.board.place(job), None | Some(Place::Done | Place::Failed | Place::Blocked));
            !is_over && !self.cancelled.contains(job) && self.ordered.is_none()
        });
        match self.cluster.slurm.cancel(&unwanted).await {
            Ok(()) => true,
            Err(trouble) => {
                self.once(format!("waiting: {trouble}"));
                false
            }
        }
    }

    /// Has what runs saved and left, unless it is to run on to its end. Whether there is something.
    pub(super) async fn let_go(&mut self, tasks: &[Task], order: SchedulerWish) -> bool {
        let running = tasks.iter().filter(|task| !task.is_over && is_running(&task.state));
        let running: BTreeSet<(String, u32)> =
            running.filter_map(|task| Some((task.number.clone()?, task.place))).collect();
        if order != SchedulerWish::Drain {
            // Those that are at work know by the store; those that are about to begin do not.
            let names: Vec<(String, u32)> = running.iter().cloned().collect();
            if let Err(trouble) = self.cluster.slurm.signal("HUP", &names).await {
                self.once(format!("waiting: {trouble}"));
            }
        }
        !running.is_empty()
    }

    /// Hands over all cohorts that are ready, as far as Slurm takes them. `there`: tasks of ours that it has already.
    /// `others`: whether it has any of this person's, of other experiments, too.
    pub(super) async fn submit(
        &mut self,
        epochs: &HashMap<&JobId, u32>,
        there: usize,
        others: bool,
    ) -> Result<(), Error> {
        let largest = self.largest as usize;
        let mut groups: BTreeMap<Resources, Vec<Ready>> = BTreeMap::new();
        while let Some((cohort, members)) = self.board.next(|_| false) {
            let cohort = &self.cluster.plan.cohorts[cohort];
            let resources = Resources::of(cohort, self.cluster.site, self.cluster.flops_per_second);
            let jobs = members.iter().map(|(_, job)| Job::clone(job)).collect();
            let ids = members.iter().map(|(id, _)| id.clone()).collect();
            groups.entry(resources).or_default().push((cohort.id.clone(), jobs, ids));
        }
        let mut taken = 0;
        for (resources, cohorts) in groups {
            let now = Instant::now();
            let before = self.full.remove(&resources);
            // As many as have left since, or as somebody else's have.
            let room = match &before {
                Some(full) if there + taken < full.tasks => full.tasks - there - taken,
                Some(full) if now < full.until => 0,
                _ => usize::MAX,
            };
            let (mut rest, mut size, mut most) = (cohorts.as_slice(), largest, room);
            let mut full = before;
            while !rest.is_empty() && most > 0 && self.stop.level() == Level::Go {
                let (part, after) = rest.split_at(size.min(most).min(rest.len()));
                match self.hand_over(&resources, part, epochs).await? {
                    Ok(()) => {
                        taken += part.len();
                        most -= part.len();
                        rest = after;
                        if room == usize::MAX {
                            full = None;
                        }
                    }
                    // So many at once may be what is refused.
                    Err(Trouble::Refused(_)) if part.len() > 1 => size = part.len() / 2,
                    Err(Trouble::Refused(why)) if there + taken > 0 || passes(&why) || others && is_limit(&why) => {
                        self.once(format!("the rest waits until Slurm takes more: {why}"));
                        let wait = full.map_or(8 * self.cluster.every, |full| (2 * full.wait).min(LONGEST));
                        full = Some(Full { tasks: there + taken, wait, until: now + wait });
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
            if let Some(full) = full.filter(|_| !rest.is_empty()) {
                self.full.insert(resources, full);
            }
        }
        Ok(())
    }

    /// One array. The inner error is Slurm's.
    async fn hand_over(
        &mut self,
        resources: &Resources,
        cohorts: &[Ready],
        epochs: &HashMap<&JobId, u32>,
    ) -> Result<Result<(), Trouble>, Error> {
        self.counter += 1;
        let tag = short_hash("distillery array 1\n", &format!("{}\n{}", self.cluster.owner, self.counter));
        let header = Header { tag: tag.clone(), tasks: cohorts.len() as u32, ..self.cluster.header.clone() };
        let lines: Vec<(CohortId, Vec<Job>)> = cohorts.iter().map(|(id, jobs, _)| (id.clone(), jobs.clone())).collect();
        let place = self.cluster.folder.array(&tag);
        let array = handover::write(self.cluster.folder, &header, &lines, self.cluster.site, &self.cluster.program)
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
                let jobs = counted(cohorts.iter().map(|(_, _, jobs)| jobs.len()).sum(), "job");
                let cohorts = counted(cohorts.len(), "cohort");
                let asked = resources.options.join(" ");
                self.note(&format!("submitted {cohorts} with {jobs} as array {number} ({asked})"));
                Ok(Ok(()))
            }
            Err(trouble) => {
                // It is not known whether it was taken. The row says that we asked; whether it is there is looked at later.
                if !matches!(trouble, Trouble::Away(_)) {
                    // That nobody will ever read; that it stays does no harm.
                    let _ = std::fs::remove_dir_all(&place);
                    patiently!(self, self.cluster.store.drop_submission(&tag));
                }
                Ok(Err(trouble))
            }
        }
    }
}
