//! `cancel`, `hold`, `release`, `retry`, `priority`: what is asked of jobs, whether anybody runs now or not.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::choice::choose;
use super::tasks::Tasks;
use super::{Usage, place, print_json};
use crate::cli::{self, How};
use crate::job::JobId;
use crate::progress::jobs;
use crate::store::{Standing, State, Store, Wish};

/// Ids of more jobs are not printed.
const MOST_NAMED: usize = 10;

pub async fn cancel(arguments: cli::Change) -> Result<ExitCode> {
    let asked = Asked::open(&arguments.selector, arguments.how).await?;
    let open = asked.those(|one| one.state != State::Done && one.wish != Some(Wish::Cancel));
    if open.is_empty() {
        return asked.refuse("cancel", "is open, and not cancelled already", None);
    }
    let changed = if asked.how.dry_run { open } else { asked.store.wish(&open, Some(Wish::Cancel)).await? };
    let running = asked.count(&changed, |one| one.state == State::Running);
    let note = (running > 0).then(|| format!("{} of them: saved and left within seconds", still(running)));
    let note = with(note, asked.retract(&changed).await?);
    asked.tell("cancel", "cancelled", &changed, note)
}

pub async fn hold(arguments: cli::Change) -> Result<ExitCode> {
    let asked = Asked::open(&arguments.selector, arguments.how).await?;
    let open = asked.those(|one| one.state != State::Done && one.wish.is_none());
    if open.is_empty() {
        return asked.refuse("hold", "is open, and neither held nor cancelled already", None);
    }
    let changed = if asked.how.dry_run { open } else { asked.store.wish(&open, Some(Wish::Hold)).await? };
    let running = asked.count(&changed, |one| one.state == State::Running);
    let note = (running > 0).then(|| format!("{} of them and will not be stopped; `cancel` would", still(running)));
    let note = with(note, asked.retract(&changed).await?);
    asked.tell("hold", "held", &changed, note)
}

pub async fn release(arguments: cli::Change) -> Result<ExitCode> {
    let asked = Asked::open(&arguments.selector, arguments.how).await?;
    let held = asked.those(|one| one.state != State::Done && one.wish == Some(Wish::Hold));
    if held.is_empty() {
        let cancelled = asked.chosen.iter().any(|one| one.wish == Some(Wish::Cancel));
        return asked.refuse("release", "is held", cancelled.then_some("`distillery retry` opens what was cancelled"));
    }
    let changed = if asked.how.dry_run { held } else { asked.store.wish(&held, None).await? };
    asked.tell("release", "released", &changed, None)
}

pub async fn retry(arguments: cli::Retry) -> Result<ExitCode> {
    if arguments.selector.is_empty() && !arguments.failed {
        let hint = "`--failed` is for all that failed, `distillery retry ID` for one job";
        return Err(Usage(format!("nothing is selected\nhint: {hint}")).into());
    }
    let words = if arguments.selector.is_empty() { vec!["all".to_owned()] } else { arguments.selector };
    let asked = Asked::open(&words, arguments.how).await?;
    let is_failed = |one: &Standing| matches!(one.state, State::Failed | State::Blocked);
    let wanted = |one: &Standing| {
        let other = one.wish == Some(Wish::Cancel) || one.retry_at_ms.is_some();
        one.state != State::Done && (is_failed(one) || other && !arguments.failed)
    };
    let chosen = asked.those(wanted);
    if chosen.is_empty() {
        return asked.refuse("try again", "failed, is blocked or was cancelled", None);
    }
    // What blocks them is tried too, or they would be blocked again; what they block is no longer.
    let mut wider: BTreeSet<&JobId> = chosen.iter().collect();
    wider.extend(asked.all.iter().filter(|one| chosen.contains(&one.id)).filter_map(|one| one.blocked_by.as_ref()));
    let blocked = asked.all.iter().filter(|one| one.blocked_by.as_ref().is_some_and(|by| wider.contains(by)));
    let blocked: Vec<&JobId> = blocked.map(|one| &one.id).collect();
    wider.extend(blocked);
    let wider: Vec<JobId> = wider.into_iter().cloned().collect();
    let changed = if asked.how.dry_run { wider } else { asked.store.retry(&wider).await? };
    let more = changed.iter().filter(|job| !chosen.contains(job)).count();
    let note = (more > 0).then(|| format!("{} of them because they block others or are blocked", more));
    asked.tell("retry", "open again", &changed, note)
}

pub async fn priority(arguments: cli::Prioritize) -> Result<ExitCode> {
    let asked = Asked::open(&arguments.selector, arguments.how).await?;
    let priority = arguments.priority;
    let other = asked.those(|one| one.state != State::Done && one.priority != priority);
    if other.is_empty() {
        return asked.refuse("put before others", &format!("is open, and of another priority than {priority}"), None);
    }
    let changed = if asked.how.dry_run { other } else { asked.store.prioritize(&other, priority).await? };
    asked.tell("priority", &format!("of priority {priority}"), &changed, None)
}

fn with(note: Option<String>, more: Option<String>) -> Option<String> {
    let both: Vec<String> = [note, more].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join("\n"))
}

fn still(running: usize) -> String {
    if running == 1 { "1 runs".to_owned() } else { format!("{running} run") }
}

/// What was chosen, and the store that is told.
struct Asked {
    store: Store,
    all: Vec<Standing>,
    chosen: Vec<Standing>,
    how: How,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Changed<'a> {
    verb: &'a str,
    dry_run: bool,
    jobs: &'a [JobId],
}

impl Asked {
    async fn open(words: &[String], how: How) -> Result<Asked> {
        let location = place::location(&how.place)?;
        let store =
            if how.dry_run { Store::open_read_only(&location).await? } else { Store::open_to_ask(&location).await? };
        let all = store.standings().await?;
        let chosen: Vec<Standing> = choose(words, &all)?.into_iter().cloned().collect();
        if chosen.is_empty() {
            let hint = "`distillery status` counts the jobs, `distillery status NAME` lists them";
            return Err(Usage(format!("no job matches `{}`\nhint: {hint}", words.join(" "))).into());
        }
        Ok(Asked { store, all, chosen, how })
    }

    fn those(&self, wanted: impl Fn(&Standing) -> bool) -> Vec<JobId> {
        self.chosen.iter().filter(|one| wanted(one)).map(|one| one.id.clone()).collect()
    }

    fn count(&self, jobs: &[JobId], wanted: impl Fn(&Standing) -> bool) -> usize {
        self.chosen.iter().filter(|one| wanted(one) && jobs.contains(&one.id)).count()
    }

    /// Takes back tasks of a batch system that wait with these jobs. After the store was told: whoever starts one meanwhile finds
    /// that there is nothing to do.
    async fn retract(&self, jobs: &[JobId]) -> Result<Option<String>> {
        if self.how.dry_run {
            return Ok(None);
        }
        Ok(Tasks::look(&self.store).await?.retract(jobs).await)
    }

    /// Jobs match, but `verb` changes none of them: `none` is what none of them is.
    fn refuse(&self, verb: &str, none: &str, hint: Option<&str>) -> Result<ExitCode> {
        let message = match self.chosen.as_slice() {
            [one] => format!("job {} is {}: nothing to {verb}", one.id, one.shown()),
            several => format!("of {} jobs none {none}", several.len()),
        };
        let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
        Err(Usage(format!("{message}{hint}")).into())
    }

    fn tell(&self, verb: &str, what: &str, changed: &[JobId], note: Option<String>) -> Result<ExitCode> {
        if self.how.json {
            print_json(&Changed { verb, dry_run: self.how.dry_run, jobs: changed })?;
            return Ok(ExitCode::SUCCESS);
        }
        let would = if self.how.dry_run { "would be " } else { "" };
        let named: Vec<&str> = changed.iter().map(JobId::as_str).collect();
        let named = if named.len() <= MOST_NAMED { format!(": {}", named.join(" ")) } else { String::new() };
        super::print(&format!("{} {would}{what}{named}\n", jobs(changed.len())))?;
        if let Some(note) = note.filter(|_| !self.how.dry_run) {
            eprintln!("{note}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
