//! MLflow's folder of files (`mlruns`): an experiment for each experiment, a run for each job.
//!
//! ```text
//! OUT/<id>/meta.yaml
//! OUT/<id>/<run>/meta.yaml  metrics/test/top1  params/seed  tags/mlflow.runName
//! ```
//!
//! A run's id, of 32 digits, ends with its job's. Metrics are as in TensorBoard, with the epoch as step; parameters are the job's columns and
//! axes. Exporting again replaces what is there of the same jobs. YAML is written as JSON, which it contains.
//!
//! MLflow 3 reads such folders where `MLFLOW_ALLOW_FILE_STORE=true` says so, and `mlflow migrate-filestore` makes a database
//! of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::tensorboard::{columns, start_ms};
use super::{Entries, Entry, Form, long};
use crate::job::short_hash;
use crate::store::State;

pub struct Mlflow(pub PathBuf);

impl Form for Mlflow {
    fn write(&mut self, axes: &[String], entries: Entries<'_>) -> Result<()> {
        let out = std::path::absolute(&self.0)?;
        // MLflow makes this one itself only where there is no folder yet.
        experiment(&out, "0", "Default", None)?;
        // Of each experiment, when its first job began.
        let mut begun: BTreeMap<String, Option<i64>> = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            let start = start_ms(&entry);
            run(&out, start, &entry, axes)?;
            let first = begun.entry(entry.experiment).or_default();
            *first = [*first, start].into_iter().flatten().min();
        }
        for (name, start) in begun {
            experiment(&out, &experiment_id(&name), &name, start)?;
        }
        Ok(())
    }
}

/// Eighteen digits, as MLflow gives them: its databases have numbers there.
fn experiment_id(name: &str) -> String {
    const LEAST: u64 = 100_000_000_000_000_000;
    let number = u64::from_str_radix(&hash(name), 16).unwrap_or(0);
    (LEAST + number % (9 * LEAST)).to_string()
}

fn hash(experiment: &str) -> String {
    short_hash("mlflow experiment\n", experiment)
}

fn experiment(out: &Path, id: &str, name: &str, at_ms: Option<i64>) -> Result<()> {
    let folder = out.join(id);
    let meta = json!({
        "artifact_location": location(&folder),
        "creation_time": at_ms,
        "experiment_id": id,
        "last_update_time": at_ms,
        "lifecycle_stage": "active",
        "name": name,
    });
    write(&folder.join("meta.yaml"), &format!("{meta:#}\n"))
}

fn run(out: &Path, start: Option<i64>, entry: &Entry, axes: &[String]) -> Result<()> {
    let outcome = &entry.outcome;
    let experiment = experiment_id(&entry.experiment);
    let id = format!("{}{}", hash(&entry.experiment), outcome.id);
    let folder = out.join(&experiment).join(&id);
    // Of an earlier export there may be more.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace `{}`", folder.display()))?;
    }
    let (status, has_ended) = match outcome.state {
        State::Running => (1, false),
        State::Open | State::Blocked => (2, false),
        State::Done => (3, true),
        State::Failed => (4, true),
        State::Interrupted => (5, true),
    };
    let end = entry.times.values().last();
    let job = &outcome.job;
    let name = format!("{} {} epochs seed {} {}", job.teaching_name(), job.epochs, job.seed, outcome.id);
    let meta = json!({
        "artifact_uri": location(&folder.join("artifacts")),
        "deleted_time": null,
        "end_time": end.filter(|_| has_ended),
        "entry_point_name": "",
        "experiment_id": experiment,
        "lifecycle_stage": "active",
        "run_id": id,
        "run_name": name,
        "run_uuid": id,
        "source_name": "",
        "source_type": 4,
        "source_version": "",
        "start_time": start,
        "status": status,
        "tags": [],
        "user_id": "distillery",
    });
    write(&folder.join("meta.yaml"), &format!("{meta:#}\n"))?;
    for part in ["artifacts", "metrics", "params", "tags"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make `{}`", part.display()))?;
    }
    let mut metrics: BTreeMap<String, String> = BTreeMap::new();
    for row in long::rows(outcome) {
        let at = entry.times.get(&row.epoch).copied().or(start).unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(metrics.entry(long::tag(&row)).or_default(), "{at} {:?} {}", row.value, row.epoch);
    }
    for (tag, lines) in metrics {
        write(&folder.join("metrics").join(tag), &lines)?;
    }
    for (name, cell) in columns(entry, axes) {
        // It reads the first line alone.
        write(&folder.join("params").join(key(&name)), &cell.to_string().replace('\n', " "))?;
    }
    write(&folder.join("tags/mlflow.runName"), &name)?;
    write(&folder.join("tags/mlflow.source.name"), "distillery")?;
    match &outcome.message {
        Some(message) => write(&folder.join("tags/message"), message),
        None => Ok(()),
    }
}

/// With what MLflow allows in names.
fn key(name: &str) -> String {
    let allows = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    name.chars().map(|c| if allows(c) { c } else { '_' }).collect()
}

fn location(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}
