//! `status`: how experiments, or the jobs of one, stand, and what runs.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::tasks::Tasks;
use super::{Usage, place, print, print_json, table};
use crate::cli;
use crate::dashboard::snapshot::{Camera, Cohort, Snapshot, short_id};
use crate::folder::Folder;
use crate::grid::sized;
use crate::job::JobId;
use crate::progress::{duration, loss as loss_text, short};
use crate::schedule::cluster::Count;
use crate::store::{ExperimentSummary, LastRow, Location, Standing, State, Store, Wish};

pub async fn status(arguments: cli::Status) -> Result<ExitCode> {
    let folder = place::folder(&arguments.place);
    let location = place::location(&arguments.place)?;
    let store = Store::open_read_only(&location).await?;
    let name = match &arguments.name {
        Some(name) => Some(recorded(&store, &super::stem(name)).await?),
        None => None,
    };
    if arguments.watch {
        store.close().await?;
        return watch(&folder, &location, name).await;
    }
    match name {
        None => experiments(&folder, &store, arguments.json).await,
        Some(name) => jobs(&folder, &store, &name, arguments.json).await,
    }
}

async fn watch(folder: &Folder, location: &Location, name: Option<String>) -> Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let hint = "without `--watch`, or with `--json`, it is for pipes and files, too";
        return Err(Usage(format!("a dashboard wants a terminal\nhint: {hint}")).into());
    }
    crate::dashboard::watch(folder, location, name).await
}

/// An experiment's name as the store has it: with the size that was recorded last.
async fn recorded(store: &Store, name: &str) -> Result<String> {
    let full = sized(name, super::report::size_in(store, name).await?);
    let known: Vec<String> = store.experiments().await?.into_iter().map(|summary| summary.name).collect();
    if !known.contains(&full) {
        let known = if known.is_empty() { "nothing yet".to_owned() } else { known.join(", ") };
        return Err(Usage(format!("the store has no experiment `{name}`\nhint: it has {known}")).into());
    }
    Ok(full)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary<'a> {
    #[serde(flatten)]
    summary: &'a ExperimentSummary,
    /// Of the jobs that are neither done nor running.
    held: usize,
    cancelled: usize,
    running: Vec<&'a Cohort>,
    /// Of a batch system.
    #[serde(skip_serializing_if = "is_idle")]
    tasks: Count,
}

fn is_idle(count: &Count) -> bool {
    *count == Count::default()
}

async fn experiments(folder: &Folder, store: &Store, json: bool) -> Result<ExitCode> {
    let summaries = store.experiments().await?;
    let standings = store.standings().await?;
    let snapshot = Camera::new(folder, None).look(store, &standings).await?;
    let count = |name: &str, shown: &str| {
        let here = |one: &&Standing| one.experiments.iter().any(|place| place.experiment == name && !place.needed);
        standings.iter().filter(|one| one.shown() == shown).filter(here).count()
    };
    let tasks = Tasks::look(store).await?;
    let of = |name: &str| {
        let here = |one: &&Standing| one.experiments.iter().any(|place| place.experiment == name);
        tasks.count(standings.iter().filter(here).map(|one| &one.id))
    };
    let summaries: Vec<Summary<'_>> = summaries
        .iter()
        .map(|summary| Summary {
            summary,
            held: count(&summary.name, "held"),
            cancelled: count(&summary.name, "cancelled"),
            running: running(&snapshot, &standings, &summary.name),
            tasks: of(&summary.name),
        })
        .collect();
    if json {
        print_json(&summaries)?;
        return Ok(ExitCode::SUCCESS);
    }
    // For a person what is held is not open, too.
    let all = State::ALL.iter().map(|state| state.name());
    let asked = [
        ("held", summaries.iter().any(|one| one.held > 0)),
        ("cancelled", summaries.iter().any(|one| one.cancelled > 0)),
    ];
    let shown: Vec<&str> =
        all.chain(asked.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name)).collect();
    let row = |one: &Summary<'_>| {
        let name = &one.summary.name;
        let counts = shown.iter().map(|state| match count(name, state) {
            0 => String::new(),
            count => count.to_string(),
        });
        std::iter::once(name.clone()).chain(counts).collect()
    };
    let rows: Vec<Vec<String>> = summaries.iter().map(row).collect();
    let header: Vec<&str> = std::iter::once("experiment").chain(shown.iter().copied()).collect();
    let table = table::table(&header, &rows);
    let slurm = tasks.summary(standings.iter().map(|one| &one.id));
    print(&format!("{table}{}{}{slurm}", kept_back(&standings, None), live(&snapshot)))?;
    Ok(ExitCode::SUCCESS)
}

/// Teachers that a person keeps back, of an experiment or of all: they are in no grid, and others wait for them.
fn kept_back(standings: &[Standing], experiment: Option<&str>) -> String {
    let here = |one: &&Standing| {
        let mut places = one.experiments.iter();
        places.any(|place| place.needed && experiment.is_none_or(|name| place.experiment == name))
    };
    let line = |one: &Standing| {
        let (is, verb, does) = match (one.wish?, one.state) {
            (_, State::Done) => return None,
            (Wish::Cancel, State::Running) => ("is cancelled and leaves", "retry", "opens it again"),
            (Wish::Cancel, _) => ("is cancelled", "retry", "opens it again"),
            (Wish::Hold, State::Running) => return None,
            (Wish::Hold, _) => ("is held", "release", "lets it start"),
        };
        let id = short_id(one.id.as_str());
        Some(format!("teacher {id} {is}, and jobs wait for it: `distillery {verb} {id}` {does}\n"))
    };
    let lines: String = standings.iter().filter(here).filter_map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// The running cohorts of an experiment.
fn running<'a>(snapshot: &'a Snapshot, standings: &[Standing], name: &str) -> Vec<&'a Cohort> {
    let here = |cohort: &&Cohort| {
        standings.iter().any(|one| {
            one.cohort.as_deref() == Some(&cohort.id) && one.experiments.iter().any(|place| place.experiment == name)
        })
    };
    snapshot.cohorts.iter().filter(here).collect()
}

/// What runs, and who runs it; nothing where nothing does.
fn live(snapshot: &Snapshot) -> String {
    if snapshot.cohorts.is_empty() {
        return String::new();
    }
    let row = |cohort: &Cohort| {
        let number = |value: Option<f64>, text: fn(f64) -> String| value.map_or(String::new(), text);
        vec![
            short_id(&cohort.id),
            cohort.teaching.clone(),
            cohort.members.len().to_string(),
            format!("{}/{}", cohort.epoch, cohort.epochs),
            number(cohort.images_per_second, short),
            number(cohort.loss.last().copied(), loss_text),
            number(cohort.validation.last().copied(), |share| format!("{:.1} %", 100.0 * share)),
            number(cohort.left_seconds, duration),
            cohort.device.clone(),
            cohort.by.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = snapshot.cohorts.iter().map(row).collect();
    let header = ["cohort", "teaching", "jobs", "epoch", "images/s", "loss", "validation", "left", "device", "run by"];
    let mut text = format!("\n{}", table::table(&header, &rows));
    match (snapshot.schedulers.is_empty(), snapshot.left_seconds) {
        (true, _) => text += "\nnobody is at work on it: the same `distillery run` goes on\n",
        (false, Some(left)) => text += &format!("\n{} left\n", duration(left)),
        (false, None) => {}
    }
    text
}

async fn jobs(folder: &Folder, store: &Store, name: &str, json: bool) -> Result<ExitCode> {
    if json {
        print_json(&store.outcomes(name).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let standings = store.standings().await?;
    let snapshot = Camera::new(folder, Some(name.to_owned())).look(store, &standings).await?;
    let teachers = kept_back(&standings, Some(name));
    // Those of teachers, too, that the table does not list.
    let here = |one: &&Standing| one.experiments.iter().any(|place| place.experiment == name);
    let slurm = Tasks::look(store).await?.summary(standings.iter().filter(here).map(|one| &one.id));
    let standings: HashMap<&JobId, &Standing> = standings.iter().map(|one| (&one.id, one)).collect();
    // Not the outcomes: thousands of jobs have millions of rows, and only the last of each is shown.
    let last = store.last_rows(name).await?;
    let listed: Vec<(&Standing, &LastRow)> =
        last.iter().filter_map(|row| Some((*standings.get(&row.job)?, row))).collect();
    let rows: Vec<Vec<String>> = listed.iter().map(|(one, last)| row(one, last, name)).collect();
    let table = table::table(&["job", "state", "epoch", "validation", "test", "grid"], &rows);
    print(&format!("{table}{teachers}{}{slurm}", live(&snapshot)))?;
    let flags = store.flags(name).await?;
    for (one, _) in listed {
        if let (State::Failed | State::Blocked, Some(message)) = (one.state, &one.message) {
            eprintln!("{}: {message}", one.id);
        }
        for message in flags.get(&one.id).into_iter().flatten() {
            eprintln!("warning: {} {message}", one.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Standing, last: &LastRow, experiment: &str) -> Vec<String> {
    let accuracy = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.1} %", share * 100.0));
    let place = one.experiments.iter().find(|place| place.experiment == experiment);
    let axes: Vec<String> =
        place.into_iter().flat_map(|place| &place.axes).map(|(axis, value)| format!("{axis}={value}")).collect();
    let is_leaving = one.wish == Some(Wish::Cancel) && one.state == State::Running;
    vec![
        one.id.to_string(),
        if is_leaving { "leaving" } else { one.shown() }.to_owned(),
        format!("{}/{}", last.epoch, one.epochs),
        accuracy(last.validation),
        accuracy(last.test),
        if axes.is_empty() { format!("{} (teacher)", one.student) } else { axes.join(" ") },
    ]
}
