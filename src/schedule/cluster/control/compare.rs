//! What Slurm shows of what was submitted, written down where it is new, and said in a line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Control, Seen, patiently};
use crate::schedule::board::Place;
use crate::schedule::cluster::count::Count;
use crate::schedule::cluster::slurm::{exit_code, log};
use crate::schedule::cluster::words::{explain, is_over};
use crate::schedule::stop::Level;
use crate::schedule::{Error, Notice, STOPPED};
use crate::store::{Sight, Task};
use crate::words::counted;

/// Until something that was submitted must be visible.
const GRACE: Duration = Duration::from_secs(60);

/// Tasks that Slurm is asked about one by one, in one look.
const MOST_ASKED: u32 = 50;

/// Whether Slurm can say more of an end that it gives this reason for.
fn has_code(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason == "NonZeroExitCode" || reason.starts_with("RaisedSignal"))
}

impl<O: FnMut(&Notice)> Control<'_, O> {
    /// Holds what was submitted against what Slurm shows, and writes down what is new.
    pub(super) async fn compare(&mut self, mut tasks: Vec<Task>, seen: Option<&[Seen]>) -> Result<Vec<Task>, Error> {
        let Some(seen) = seen else { return Ok(tasks) };
        let mut shown: HashMap<(&str, u32), &Seen> = HashMap::new();
        for one in seen {
            shown.insert((&one.tag, one.index), one);
        }
        let numbers: HashMap<&str, &str> = seen.iter().map(|one| (one.tag.as_str(), one.number.as_str())).collect();
        // In proportion, where a test looks more often.
        let grace = GRACE.min(4 * self.cluster.every);
        let mut lost: HashSet<String> = HashSet::new();
        let mut named: HashSet<String> = HashSet::new();
        let mut sights: BTreeMap<(String, u32), Sight> = BTreeMap::new();
        let mut left = MOST_ASKED;
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
                    None if task.age > grace => {
                        lost.insert(task.tag.clone());
                        continue;
                    }
                    None => continue,
                }
            }
            let one = shown.get(&(task.tag.as_str(), task.place));
            if one.is_some() {
                self.absent.remove(&(task.tag.clone(), task.place));
            }
            let mut sight = match one {
                // What it ended with is known.
                Some(one)
                    if task.is_over
                        && task.state == one.state
                        && (task.reason != one.reason || !has_code(one.reason.as_deref())) =>
                {
                    continue;
                }
                Some(one) => Sight {
                    tag: task.tag.clone(),
                    place: task.place,
                    state: one.state.clone(),
                    reason: one.reason.clone(),
                    node: one.node.clone().or_else(|| task.node.clone()),
                    is_over: is_over(&one.state),
                },
                // It forgets what has ended, and what it had not written down before it was killed. One look does not tell.
                None if !task.is_over && self.is_absent(task, grace) => Sight {
                    tag: task.tag.clone(),
                    place: task.place,
                    state: "GONE".to_owned(),
                    reason: None,
                    node: task.node.clone(),
                    is_over: true,
                },
                None => continue,
            };
            if sight.is_over && has_code(sight.reason.as_deref()) {
                let code = match sights.get(&(sight.tag.clone(), sight.place)) {
                    Some(same) => same.reason.clone(),
                    None => self.ending(task, &mut left).await,
                };
                sight.reason = code.or(sight.reason);
            }
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
        let news: HashSet<(&str, u32)> = sights.iter().map(|sight| (sight.tag.as_str(), sight.place)).collect();
        let is_news = |task: &&Task| news.contains(&(task.tag.as_str(), task.place));
        for task in tasks.iter().filter(is_news).filter(|task| task.is_over && task.state != "COMPLETED") {
            self.ended(task);
        }
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

    /// With which code it failed, as long as there are questions left.
    async fn ending(&self, task: &Task, left: &mut u32) -> Option<String> {
        task.number.as_ref().filter(|_| *left > 0)?;
        *left -= 1;
        let ending = self.cluster.slurm.ending(&task.name()).await;
        ending.unwrap_or_else(|_| {
            *left = 0;
            None
        })
    }

    /// Says of an end that was none of ours what it was, once of each kind.
    fn ended(&mut self, task: &Task) {
        let is_known = task.reason == Some(exit_code(STOPPED));
        let kind = format!("ended {} {}", task.state, task.reason.as_deref().unwrap_or_default());
        if !is_known && self.said.insert(kind) {
            let log = log(&self.cluster.folder.array(&task.tag), task);
            self.note(&format!(
                "task {} ended: {}; its jobs are submitted again where they are not done; see `{}`",
                task.name(),
                task.words(),
                log.display()
            ));
        }
    }

    /// Whether Slurm has not shown a task for so long.
    fn is_absent(&mut self, task: &Task, grace: Duration) -> bool {
        let since = self.absent.entry((task.tag.clone(), task.place)).or_insert_with(Instant::now);
        since.elapsed() >= grace
    }

    /// A line about the whole, where it changed.
    pub(super) fn summarize(&mut self, tasks: &[Task]) {
        let Count { running, waiting, reasons } = Count::of(tasks.iter());
        let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let why: Vec<&str> = reasons.iter().take(3).map(|(reason, _)| reason.as_str()).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
        let (done, all) = (self.board.count(Place::Done), self.cluster.plan.jobs.len());
        let failed = match self.board.count(Place::Failed) + self.board.count(Place::Blocked) {
            0 => String::new(),
            failed => format!(", {failed} failed or blocked"),
        };
        let line = format!(
            "{done} of {} done{failed}; in Slurm {} running, {waiting} waiting{why}",
            counted(all, "job"),
            counted(running, "task")
        );
        if line != self.last {
            self.note(&line);
            self.last = line;
        }
    }
}
