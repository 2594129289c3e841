//! `status`: how experiments, or the jobs of one, stand.

use std::process::ExitCode;

use anyhow::Result;

use super::{Usage, print, print_json, table};
use crate::cli;
use crate::event::Which;
use crate::folder::Folder;
use crate::grid::sized;
use crate::store::{Outcome, State, Store};

pub async fn status(arguments: cli::Status) -> Result<ExitCode> {
    let store = Store::open_read_only(&Folder::new(&arguments.place.folder).store()).await?;
    match arguments.name {
        None => experiments(&store, arguments.json).await,
        Some(name) => jobs(&store, &super::stem(&name), arguments.json).await,
    }
}

async fn experiments(store: &Store, json: bool) -> Result<ExitCode> {
    let summaries = store.experiments().await?;
    if json {
        print_json(&summaries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = summaries
        .iter()
        .map(|summary| {
            let counts = State::ALL.iter().map(|state| summary.jobs.get(state).map_or(String::new(), u64::to_string));
            std::iter::once(summary.name.clone()).chain(counts).collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once("experiment").chain(State::ALL.iter().map(|state| state.name())).collect();
    print(&table::table(&header, &rows))?;
    Ok(ExitCode::SUCCESS)
}

async fn jobs(store: &Store, name: &str, json: bool) -> Result<ExitCode> {
    let size = super::report::size_in(store, name).await?;
    let outcomes = store.outcomes(&sized(name, size)).await?;
    if outcomes.is_empty() {
        let known: Vec<String> = store.experiments().await?.into_iter().map(|summary| summary.name).collect();
        let known = if known.is_empty() { "nothing yet".to_owned() } else { known.join(", ") };
        return Err(Usage(format!("the store has no experiment `{name}`\nhint: it has {known}")).into());
    }
    if json {
        print_json(&outcomes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = outcomes.iter().map(row).collect();
    print(&table::table(&["job", "state", "epoch", "validation", "test", "grid"], &rows))?;
    for outcome in &outcomes {
        if let (State::Failed | State::Blocked, Some(message)) = (outcome.state, &outcome.message) {
            eprintln!("{}: {message}", outcome.id);
        }
        for message in outcome.flags.values() {
            eprintln!("warning: {} {message}", outcome.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(outcome: &Outcome) -> Vec<String> {
    let last = outcome.epochs.last();
    let accuracy = |which: Which| {
        let rows = outcome.epochs.iter().rev().flat_map(|row| &row.evaluations);
        let found = rows.into_iter().find(|evaluation| evaluation.split == which);
        found.map_or(String::new(), |evaluation| format!("{:.1} %", evaluation.top1 * 100.0))
    };
    let axes: Vec<String> = outcome.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    let grid = if axes.is_empty() { format!("{} (teacher)", outcome.job.student.label()) } else { axes.join(" ") };
    vec![
        outcome.id.to_string(),
        outcome.state.name().to_owned(),
        format!("{}/{}", last.map_or(0, |row| row.epoch), outcome.job.epochs),
        accuracy(Which::Validation),
        accuracy(Which::Test),
        grid,
    ]
}
