//! What a batch system makes of the jobs that it was given, for whoever asks: as the store has it, and as Slurm says now.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::folder::Folder;
use crate::job::JobId;
use crate::progress::duration;
use crate::schedule::cluster::{Count, Slurm, explain, is_over, is_running, log, unwanted};
use crate::store::{Store, Task};
use crate::words::counted;

/// What Slurm does not show for so long after it was submitted has ended.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// All tasks there were, in the order of submission.
#[derive(Debug, Default)]
pub struct Tasks {
    all: Vec<Task>,
    /// Of every job the task that tells most: one that runs, one that waits, the last that is over.
    last: HashMap<JobId, usize>,
    /// Why it is not what Slurm says now.
    stale: Option<String>,
}

impl Tasks {
    /// # Errors
    /// When the store cannot be read. Slurm's silence is none.
    pub async fn look(store: &Store) -> Result<Tasks> {
        let mut tasks = Tasks { all: store.tasks(None).await?, ..Tasks::default() };
        tasks.ask().await;
        for (at, task) in tasks.all.iter().enumerate() {
            let rank = |task: &Task| (!task.is_over, is_running(&task.state));
            match tasks.last.get_mut(&task.job) {
                Some(before) if rank(&tasks.all[*before]) > rank(task) => {}
                Some(before) => *before = at,
                None => drop(tasks.last.insert(task.job.clone(), at)),
            }
        }
        Ok(tasks)
    }

    pub fn all(&self) -> &[Task] {
        &self.all
    }

    /// What Slurm says now, of tasks that were not over.
    async fn ask(&mut self) {
        if self.all.iter().all(|task| task.is_over) {
            return;
        }
        let Some(slurm) = Slurm::find() else {
            self.stale = Some("there is no `squeue` here".to_owned());
            return;
        };
        let seen = match slurm.hasty().tasks().await {
            Ok(seen) => seen,
            Err(trouble) => {
                self.stale = Some(trouble.to_string());
                return;
            }
        };
        let seen: HashMap<(&str, u32), _> = seen.iter().map(|one| ((one.tag.as_str(), one.index), one)).collect();
        for task in self.all.iter_mut().filter(|task| !task.is_over) {
            let Some(one) = seen.get(&(task.tag.as_str(), task.place)) else {
                // It forgets what has ended.
                if task.number.is_some() && task.age > FORGOTTEN {
                    (task.is_over, task.state, task.reason) = (true, "GONE".to_owned(), None);
                }
                continue;
            };
            task.number = Some(one.number.clone());
            task.state.clone_from(&one.state);
            task.reason.clone_from(&one.reason);
            task.node = one.node.clone().or(task.node.take());
            task.is_over = is_over(&one.state);
        }
    }

    /// The task that a job is in now.
    pub fn of(&self, job: &JobId) -> Option<&Task> {
        self.last_of(job).filter(|task| !task.is_over)
    }

    /// The file that a job's last task writes to, if it has begun to.
    pub fn log(&self, folder: &Folder, job: &JobId) -> Option<PathBuf> {
        let task = self.last_of(job)?;
        let path = log(&folder.array(&task.tag), task);
        path.is_file().then_some(path)
    }

    /// How a job's last task ended, if it came to nothing.
    pub fn ended(&self, folder: &Folder, job: &JobId) -> Option<String> {
        let task = self.last_of(job).filter(|task| task.is_over && task.state != "COMPLETED")?;
        let log = self.log(folder, job).map(|path| format!("; see `{}`", path.display())).unwrap_or_default();
        Some(format!("task {} of Slurm ended: {}{log}", task.name(), task.words()))
    }

    fn last_of(&self, job: &JobId) -> Option<&Task> {
        self.last.get(job).map(|at| &self.all[*at])
    }

    pub fn count<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> Count {
        let jobs: HashSet<&JobId> = jobs.collect();
        Count::of(self.all.iter().filter(|task| jobs.contains(&task.job)))
    }

    /// A line or two about the tasks of jobs; nothing where there are none.
    pub fn summary<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> String {
        let Count { running, waiting, reasons } = self.count(jobs);
        if running + waiting == 0 {
            return String::new();
        }
        let mut text = format!("\nin Slurm: {} running, {waiting} waiting\n", counted(running, "task"));
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
            Some(_) => format!("task {} of Slurm", task.name()),
            None => "a task that Slurm has not confirmed".to_owned(),
        };
        let what = if is_running(&task.state) {
            format!(
                "{name} is {}{}",
                task.state.to_lowercase(),
                task.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default()
            )
        } else {
            let means = explain(task.reason()).map(|means| format!(": {means}")).unwrap_or_default();
            format!("{name} waits since {}: {}{means}", duration(task.age.as_secs_f64()), task.reason())
        };
        match &self.stale {
            Some(why) => format!("{what} (as last seen: {why})"),
            None => what,
        }
    }

    /// Takes back what waits in Slurm with none but these jobs. What runs hears of it by the store.
    pub async fn retract(&self, jobs: &[JobId]) -> Option<String> {
        let jobs: HashSet<&JobId> = jobs.iter().collect();
        let tasks = unwanted(&self.all, |job| !jobs.contains(job));
        if tasks.is_empty() {
            return None;
        }
        let slurm = Slurm::find()?;
        match slurm.hasty().cancel(&tasks).await {
            Ok(()) => Some(format!("taken back from Slurm, where they waited: {}", counted(tasks.len(), "task"))),
            Err(trouble) => {
                let tasks = counted(tasks.len(), "task");
                Some(format!("not taken back from Slurm, where there will be nothing to do: {tasks}: {trouble}"))
            }
        }
    }
}
