//! What is handed to Slurm, and what is taken back.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{Control, Trouble, patiently};
use crate::job::{Job, JobId, short_hash};
use crate::plan::CohortId;
use crate::schedule::board::Place;
use crate::schedule::cluster::count::unwanted;
use crate::schedule::cluster::handover::{self, exported, options};
use crate::schedule::cluster::manifest::Header;
use crate::schedule::cluster::resources::Resources;
use crate::schedule::stop::Level;
use crate::schedule::{Error, Notice};
use crate::store::Task;
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

/// A cohort that is ready, and those of its jobs that are to be done.
type Ready = (CohortId, Vec<Job>, Vec<JobId>);

impl<O: FnMut(&Notice)> Control<'_, O> {
    /// Takes back what waits in Slurm and is not wanted any more.
    pub(super) async fn retract(&mut self, tasks: &[Task]) {
        let unwanted = unwanted(tasks, |job| {
            // One that is on no board was the experiment's before it was changed.
            let is_over = matches!(self.board.place(job), None | Some(Place::Done | Place::Failed | Place::Blocked));
            !is_over && !self.cancelled.contains(job) && self.ordered.is_none()
        });
        if let Err(trouble) = self.cluster.slurm.cancel(&unwanted).await {
            self.once(format!("waiting: {trouble}"));
        }
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
        let room = match &self.full {
            None => usize::MAX,
            // As many as have left, or as somebody else's have.
            Some(full) if there < full.tasks => full.tasks - there,
            Some(full) if Instant::now() >= full.until => usize::MAX,
            Some(_) => return Ok(()),
        };
        let mut groups: BTreeMap<Resources, Vec<Ready>> = BTreeMap::new();
        while let Some((cohort, members)) = self.board.next(|_| false) {
            let cohort = &self.cluster.plan.cohorts[cohort];
            let resources = Resources::of(cohort, self.cluster.site, self.cluster.flops_per_second);
            let jobs = members.iter().map(|(_, job)| Job::clone(job)).collect();
            let ids = members.iter().map(|(id, _)| id.clone()).collect();
            groups.entry(resources).or_default().push((cohort.id.clone(), jobs, ids));
        }
        let (mut taken, mut refused) = (0, None);
        for (resources, cohorts) in groups {
            let mut rest = cohorts.as_slice();
            let mut size = largest;
            while !rest.is_empty() && taken < room && self.stop.level() == Level::Go {
                let (part, after) = rest.split_at(size.min(room - taken).min(rest.len()));
                match self.hand_over(&resources, part, epochs).await? {
                    Ok(()) => {
                        taken += part.len();
                        rest = after;
                    }
                    // So many at once may be what is refused.
                    Err(Trouble::Refused(_)) if part.len() > 1 => size = part.len() / 2,
                    Err(Trouble::Refused(why)) if others || there + taken > 0 || passes(&why) => {
                        self.once(format!("the rest waits until Slurm takes more: {why}"));
                        refused = Some(there + taken);
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
        self.full = match (refused, self.full.take()) {
            (Some(tasks), before) => {
                let wait = before.map_or(8 * self.cluster.every, |full| (2 * full.wait).min(LONGEST));
                Some(Full { tasks, wait, until: Instant::now() + wait })
            }
            // It took what had room: how much it takes at once is still what it was.
            (None, Some(full)) if taken >= room => Some(full),
            (None, _) => None,
        };
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
