//! What a batch system makes of the jobs that it was given, for whoever asks: as the store has it, and as Slurm says now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::folder::Folder;
use crate::job::JobId;
use crate::progress::duration;
use crate::schedule::cluster::{Slurm, explain, is_over, log};
use crate::store::{Store, Task};

/// What Slurm does not show for so long after it was submitted has ended.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The last task of every job that was in one.
#[derive(Debug, Default)]
pub struct Tasks {
    last: HashMap<JobId, Task>,
    /// Why it is not what Slurm says now.
    stale: Option<String>,
}

/// Tasks that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    pub running: usize,
    pub waiting: usize,
    /// Why, by Slurm, and how many.
    pub reasons: BTreeMap<String, usize>,
}

impl Tasks {
    /// # Errors
    /// When the store cannot be read. Slurm's silence is none.
    pub async fn look(store: &Store) -> Result<Tasks> {
        let mut tasks = Tasks { last: store.last_tasks().await?, stale: None };
        if tasks.last.values().all(|task| task.is_over) {
            return Ok(tasks);
        }
        let Some(slurm) = Slurm::find() else {
            tasks.stale = Some("there is no `squeue` here".to_owned());
            return Ok(tasks);
        };
        match slurm.hasty().tasks().await {
            Err(trouble) => tasks.stale = Some(trouble.to_string()),
            Ok(seen) => {
                let seen: HashMap<(&str, u32), _> =
                    seen.iter().map(|one| ((one.tag.as_str(), one.index), one)).collect();
                for task in tasks.last.values_mut().filter(|task| !task.is_over) {
                    let Some(one) = seen.get(&(task.tag.as_str(), task.place)) else {
                        // It forgets what has ended.
                        task.is_over = task.number.is_some() && task.age > FORGOTTEN;
                        continue;
                    };
                    task.number = Some(one.number.clone());
                    task.state.clone_from(&one.state);
                    task.reason.clone_from(&one.reason);
                    task.node = one.node.clone().or(task.node.take());
                    task.is_over = is_over(&one.state);
                }
            }
        }
        Ok(tasks)
    }

    /// The task that a job is in now.
    pub fn of(&self, job: &JobId) -> Option<&Task> {
        self.last.get(job).filter(|task| !task.is_over)
    }

    /// The file that a job's last task writes to, if it has begun to.
    pub fn log(&self, folder: &Folder, job: &JobId) -> Option<PathBuf> {
        let task = self.last.get(job)?;
        let path = log(&folder.array(&task.tag), task.number.as_deref()?, task.place);
        path.is_file().then_some(path)
    }

    pub fn count<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> Count {
        let mut count = Count::default();
        let mut seen = HashSet::new();
        for task in jobs.filter_map(|job| self.of(job)) {
            if !seen.insert((&task.tag, task.place)) {
                continue;
            }
            if is_running(task) {
                count.running += 1;
            } else {
                count.waiting += 1;
                *count.reasons.entry(reason(task).to_owned()).or_default() += 1;
            }
        }
        count
    }

    /// A line or two about the tasks of jobs; nothing where there are none.
    pub fn summary<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> String {
        let Count { running, waiting, reasons } = self.count(jobs);
        if running + waiting == 0 {
            return String::new();
        }
        let mut text = format!("\nin Slurm: {running} tasks running, {waiting} waiting\n");
        for (reason, count) in &reasons {
            let means = explain(reason).map(|means| format!(": {means}")).unwrap_or_default();
            text += &format!("  {count} for {reason}{means}\n");
        }
        if let Some(why) = &self.stale {
            text += &format!("  as last seen: {why}\n");
        }
        text
    }

    /// What a job's task does, in words.
    pub fn words(&self, task: &Task) -> String {
        let name = match &task.number {
            Some(number) => format!("task {number}_{} of Slurm", task.place),
            None => "a task that Slurm has not confirmed".to_owned(),
        };
        let what = if is_running(task) {
            format!(
                "{name} is {}{}",
                task.state.to_lowercase(),
                task.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default()
            )
        } else {
            let means = explain(reason(task)).map(|means| format!(": {means}")).unwrap_or_default();
            format!("{name} waits since {}: {}{means}", duration(task.age.as_secs_f64()), reason(task))
        };
        match &self.stale {
            Some(why) => format!("{what} (as last seen: {why})"),
            None => what,
        }
    }

    /// Takes back what waits in Slurm with none but these jobs. What runs hears of it by the store.
    pub async fn retract(&self, jobs: &[JobId]) -> Option<String> {
        let jobs: HashSet<&JobId> = jobs.iter().collect();
        let mut is_wanted: BTreeMap<(String, u32), bool> = BTreeMap::new();
        for (job, task) in self.last.iter().filter(|(_, task)| !task.is_over && !is_running(task)) {
            let Some(number) = task.number.clone() else { continue };
            *is_wanted.entry((number, task.place)).or_default() |= !jobs.contains(job);
        }
        let tasks: Vec<(String, u32)> = is_wanted.into_iter().filter(|(_, is)| !is).map(|(task, _)| task).collect();
        if tasks.is_empty() {
            return None;
        }
        let slurm = Slurm::find()?;
        match slurm.hasty().cancel(&tasks).await {
            Ok(()) => Some(format!("{} tasks that waited in Slurm are taken back", tasks.len())),
            Err(trouble) => {
                Some(format!("{} tasks still wait in Slurm, and will find nothing to do: {trouble}", tasks.len()))
            }
        }
    }
}

fn is_running(task: &Task) -> bool {
    matches!(task.state.as_str(), "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT")
}

fn reason(task: &Task) -> &str {
    task.reason.as_deref().unwrap_or("just submitted")
}
