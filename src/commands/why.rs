//! `why`: what a job is, where it stands, and why it waits or failed.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::tasks::Tasks;
use super::{choice, place, print, print_json, table};
use crate::alive::{self, Alive};
use crate::cli;
use crate::dashboard::snapshot::command;
use crate::event::now_ms;
use crate::folder::Folder;
use crate::job::{Job, JobId};
use crate::progress::{ago, date, duration, noted, short};
use crate::store::{Attempt, Progress, Standing, State, Store, Task, Wish};

pub async fn why(arguments: cli::Why) -> Result<ExitCode> {
    let folder = place::folder(&arguments.place);
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let standing = choice::one(&store, &arguments.job).await?;
    let job = store.job(&standing.id).await?.context("a job that was listed has a text")?;
    let view = View {
        folder: folder.clone(),
        all: store.standings().await?,
        schedulers: alive::schedulers(&folder, &store).await?,
        attempts: store.attempts(&standing.id).await?,
        progress: store.progress(&standing.id).await?,
        tasks: Tasks::look(&store).await?,
        command: command(&store, standing.experiments.last().map(|place| place.experiment.as_str())).await?,
    };
    let reasons = view.reasons(&store, &standing, &job).await?;
    let events = store.events(&standing.id).await?;
    let flags: Vec<String> =
        events.iter().filter(|event| event.kind == "flagged").map(|event| noted(event).1).collect();
    let files = files(&folder, &standing);
    if arguments.json {
        print_json(&Answer {
            job: &standing,
            shown: standing.shown(),
            why: &reasons,
            epoch: view.progress.as_ref().map_or(0, |row| row.epoch),
            attempts: &view.attempts,
            task: view.tasks.of(&standing.id),
            flags: &flags,
            files: files.iter().map(|(_, path)| path.as_str()).collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = about(&standing);
    text += &field("state", &view.state(&standing));
    for (place, reason) in reasons.iter().enumerate() {
        text += &field(if place == 0 { "why" } else { "" }, reason);
    }
    for flag in &flags {
        text += &field("", flag);
    }
    for (name, path) in &files {
        text += &field(name, path);
    }
    if !view.attempts.is_empty() {
        text += &format!("\n{}", attempts(&view.attempts));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answer<'a> {
    job: &'a Standing,
    shown: &'a str,
    why: &'a [String],
    epoch: u32,
    attempts: &'a [Attempt],
    /// Of a batch system, that it is in now.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a Task>,
    flags: &'a [String],
    files: Vec<&'a str>,
}

fn field(name: &str, text: &str) -> String {
    format!("  {name:<11} {}\n", text.replace('\n', &format!("\n{}", " ".repeat(14))))
}

fn about(one: &Standing) -> String {
    let Standing { student, data, resolution, batch, .. } = one;
    let mut text = format!("{}  {}\n", one.id, one.label());
    text += &field("student", &format!("{student}, {resolution} px, batch {batch}, on {data}"));
    for (place, at) in one.experiments.iter().enumerate() {
        let axes: Vec<String> = at.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        let what = if at.needed { "a teacher of its grid".to_owned() } else { axes.join(" ") };
        let colon = if what.is_empty() { "" } else { ": " };
        text += &field(if place == 0 { "experiment" } else { "" }, &format!("{}{colon}{what}", at.experiment));
    }
    if one.priority != 0 {
        text += &field("priority", &one.priority.to_string());
    }
    text
}

struct View {
    folder: Folder,
    all: Vec<Standing>,
    schedulers: Vec<Alive>,
    attempts: Vec<Attempt>,
    progress: Option<Progress>,
    tasks: Tasks,
    /// That goes on with it.
    command: String,
}

impl View {
    /// The state, and how far it is.
    fn state(&self, one: &Standing) -> String {
        let mut text = one.shown().to_owned();
        if let Some(row) = &self.progress {
            text += &format!(", epoch {}/{}", row.epoch, one.epochs);
            let parts = [
                row.training_loss.map(|loss| format!("loss {loss:.4}")),
                row.validation.map(|share| format!("validation {:.1} %", 100.0 * share)),
                row.images_per_second.map(|rate| format!("{} images/s", short(rate))),
            ];
            text += &parts.into_iter().flatten().map(|part| format!(", {part}")).collect::<String>();
            text += &format!(", {}", ago(row.at_ms));
        } else if !self.attempts.is_empty() {
            text += ", before the end of its first epoch";
        }
        text
    }

    async fn reasons(&self, store: &Store, one: &Standing, job: &Job) -> Result<Vec<String>> {
        let id = &one.id;
        let last = self.attempts.last();
        Ok(match one.state {
            State::Done => Vec::new(),
            State::Running => self.running(one, last),
            State::Failed => {
                let class = last.and_then(|attempt| attempt.failure.as_deref()).unwrap_or("error");
                let message = one.message.as_deref().unwrap_or("without a word");
                let mut reasons = vec![format!("{class}: {message}")];
                if let Some(at) = one.retry_at_ms.filter(|at| *at > now_ms()) {
                    reasons.push(until(at));
                }
                reasons.push(format!("`distillery retry {id:.8}` opens it again, as does the next `run`"));
                reasons.extend(asked(one));
                reasons
            }
            State::Blocked => {
                let by = one.blocked_by.as_ref();
                let root = by.and_then(|by| self.all.iter().find(|other| other.id == *by));
                let mut reasons = match root {
                    Some(root) => {
                        let message = root.message.as_deref().unwrap_or("without a word");
                        vec![format!("blocked by {} ({}), which failed: {message}", root.id, root.label())]
                    }
                    None => one.message.iter().cloned().collect(),
                };
                reasons.push(format!("`distillery retry {id:.8}` tries both again, as does the next `run`"));
                reasons.extend(asked(one));
                reasons
            }
            State::Open | State::Interrupted => self.waiting(store, one, job).await?,
        })
    }

    fn running(&self, one: &Standing, last: Option<&Attempt>) -> Vec<String> {
        let Some(attempt) = last else { return Vec::new() };
        let who = alive::process(attempt.host.as_deref().unwrap_or("?"), attempt.pid.unwrap_or(0));
        let device = attempt.device.as_deref().unwrap_or("?");
        let mut reasons = Vec::new();
        if self.schedulers.iter().any(|scheduler| scheduler.owner == attempt.owner) {
            reasons.push(format!("trained on {device} by {who}, since {}", date(attempt.started_ms)));
        } else {
            reasons.push(format!("nobody works on it: {who} had it on {device} and is gone; {}", self.run()));
        }
        reasons.extend(self.tasks.of(&one.id).map(|task| self.tasks.words(task)));
        reasons.extend(asked(one));
        reasons
    }

    async fn waiting(&self, store: &Store, one: &Standing, job: &Job) -> Result<Vec<String>> {
        let mut reasons: Vec<String> = asked(one).into_iter().collect();
        if !reasons.is_empty() {
            // Whatever else is so, it does not start.
            return Ok(reasons);
        }
        if let Some(task) = self.tasks.of(&one.id) {
            reasons.push(self.tasks.words(task));
            return Ok(reasons);
        }
        if let Some(at) = one.retry_at_ms.filter(|at| *at > now_ms()) {
            reasons.push(until(at));
        }
        let by_id: HashMap<&JobId, &Standing> = self.all.iter().map(|other| (&other.id, other)).collect();
        let mut needs_met = true;
        let needs: BTreeSet<JobId> = job.needs().map(|need| need.id()).collect();
        for need in &needs {
            let Some(other) = by_id.get(need).filter(|other| other.state != State::Done) else { continue };
            let mut how = other.shown().to_owned();
            if let Some(row) = store.progress(need).await? {
                how += &format!(", epoch {}/{}", row.epoch, other.epochs);
            }
            reasons.push(format!("needs {need} ({}), which is {how}", other.label()));
            needs_met = false;
        }
        reasons.extend(self.tasks.ended(&self.folder, &one.id));
        // A task has jobs of its own, and starts no others.
        let at_work: Vec<&Alive> = self.schedulers.iter().filter(|scheduler| !is_task(&scheduler.owner)).collect();
        if at_work.is_empty() {
            reasons.push(format!("no scheduler is running; {}", self.run()));
            return Ok(reasons);
        }
        if !needs_met || one.retry_at_ms.is_some_and(|at| at > now_ms()) {
            return Ok(reasons);
        }
        let names: Vec<&str> = one.experiments.iter().map(|place| place.experiment.as_str()).collect();
        let experiments = || at_work.iter().map(|scheduler| scheduler.experiment.as_deref());
        if experiments().all(|name| name.is_some_and(|name| !names.contains(&name))) {
            let others: BTreeSet<String> = experiments().flatten().map(|name| format!("`{name}`")).collect();
            let others: Vec<String> = others.into_iter().collect();
            reasons.push(format!("what is at work runs {}; {}", others.join(", "), self.run()));
            return Ok(reasons);
        }
        if let Some(wish) = at_work.iter().find_map(|scheduler| scheduler.wish.as_deref()) {
            reasons.push(format!("the scheduler was asked to {wish} and starts nothing more"));
            return Ok(reasons);
        }
        let own = |scheduler: &&&Alive| scheduler.experiment.as_deref().is_none_or(|name| names.contains(&name));
        if at_work.iter().filter(own).all(|scheduler| scheduler.owner.starts_with("slurm-controller:")) {
            let when = match reasons.is_empty() {
                true => "is submitted to Slurm at the controller's next look, if Slurm takes more",
                false => "is submitted to Slurm again after a pause, which is twice as long each time",
            };
            reasons.push(when.to_owned());
            return Ok(reasons);
        }
        let waits = |other: &&Standing| {
            other.id != one.id && matches!(other.state, State::Open | State::Interrupted) && other.wish.is_none()
        };
        let others = self.all.iter().filter(waits).count();
        let before = self.all.iter().filter(waits).filter(|other| other.priority > one.priority).count();
        let running: BTreeSet<&str> = self
            .all
            .iter()
            .filter(|other| other.state == State::Running)
            .filter_map(|other| other.cohort.as_deref())
            .collect();
        let slots: u32 = at_work.iter().filter_map(|scheduler| scheduler.slots).sum();
        let slots = if slots > 0 { format!(" of {slots} slots") } else { String::new() };
        reasons.push(format!(
            "waits for a slot: {}{slots} are at work, and {others} other jobs wait, {before} of them of higher priority",
            match running.len() {
                1 => "1 cohort".to_owned(),
                several => format!("{several} cohorts"),
            },
        ));
        reasons.push(format!("`distillery priority 1 {:.8}` lets it go first", one.id));
        Ok(reasons)
    }

    /// What goes on with it.
    fn run(&self) -> String {
        format!("`{}` goes on with it", self.command)
    }
}

/// Whether this is a scheduler of one cohort, by a batch system.
fn is_task(owner: &str) -> bool {
    owner.starts_with("slurm:") || owner.starts_with("task:")
}

fn asked(one: &Standing) -> Option<String> {
    let id = &one.id;
    match (one.wish?, one.state) {
        (Wish::Hold, State::Running) => Some("held by you: it will not be started again".to_owned()),
        (Wish::Hold, _) => Some(format!("held by you: `distillery release {id:.8}` lets it start")),
        (Wish::Cancel, State::Running) => Some("cancelled by you: it is saved and left within seconds".to_owned()),
        (Wish::Cancel, _) => {
            let why = one.message.as_deref().unwrap_or("cancelled by you");
            Some(format!("{why}: `distillery retry {id:.8}` opens it again"))
        }
    }
}

fn until(at_ms: i64) -> String {
    let seconds = (at_ms - now_ms()).max(0) as f64 / 1000.0;
    format!("waits for its next try until {}, for {}", date(at_ms), duration(seconds))
}

/// What is there of it.
fn files(folder: &Folder, one: &Standing) -> Vec<(&'static str, String)> {
    let job = folder.job(&one.id);
    let checkpoints = ["checkpoint-a.safetensors", "checkpoint-b.safetensors"].map(|name| job.join(name));
    let newest = checkpoints.into_iter().filter(|path| path.is_file()).max_by_key(|path| modified(path));
    let log = one.cohort.as_ref().map(|cohort| folder.cohorts().join(format!("{cohort}.log")));
    let all = [
        ("result", Some(folder.student(&one.id))),
        ("checkpoint", newest),
        ("events", Some(folder.spool(&one.id))),
        ("log", log),
    ];
    let there = all.into_iter().filter_map(|(name, path)| Some((name, path.filter(|path| path.is_file())?)));
    there.map(|(name, path)| (name, path.display().to_string())).collect()
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn attempts(attempts: &[Attempt]) -> String {
    let rows: Vec<Vec<String>> = attempts
        .iter()
        .map(|attempt| {
            let took = attempt.ended_ms.map(|ended| (ended - attempt.started_ms).max(0) as u64);
            let outcome = match (attempt.outcome.as_deref(), attempt.failure.as_deref()) {
                (Some("failed"), Some(class)) => format!("failed: {class}"),
                (Some(outcome), _) => outcome.to_owned(),
                (None, _) => "running".to_owned(),
            };
            let message = attempt.message.as_deref().and_then(|message| message.lines().next());
            vec![
                attempt.attempt.to_string(),
                alive::process(attempt.host.as_deref().unwrap_or("?"), attempt.pid.unwrap_or(0)),
                attempt.device.clone().unwrap_or_default(),
                date(attempt.started_ms),
                took.map_or(String::new(), |took| table::duration(Duration::from_millis(took))),
                message.map_or(outcome.clone(), |message| format!("{outcome}: {message}")),
            ]
        })
        .collect();
    table::table(&["attempt", "owner", "device", "started", "took", "outcome"], &rows)
}
