//! The file that tells the tasks of an array what they are: one JSON object a line, first what holds for all, then a line a task.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::job::Job;
use crate::plan::{CohortId, Places, RunSettings};

/// What holds for all tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The experiment's name.
    pub experiment: String,
    /// As the batch system's comment has it.
    pub tag: String,
    pub tasks: u32,
    /// What to train on: `cpu`, `cuda`, `cuda:1`; what there is where it is empty.
    pub device: Vec<String>,
    pub deterministic: bool,
    pub run: RunSettings,
    pub places: Places,
    /// Whether a task that must leave may ask to be started again.
    pub requeue: bool,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    pub index: u32,
    pub cohort: CohortId,
    pub jobs: Vec<Job>,
}

/// The header, and the line of one task.
///
/// # Errors
/// When the file cannot be read, is no manifest, or has no such line.
pub fn read(path: &Path, index: u32) -> io::Result<(Header, Line)> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut lines = BufReader::new(File::open(path)?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let header: Header =
        serde_json::from_str(&first).map_err(|error| invalid(format!("it is no manifest of tasks: {error}")))?;
    let Some(line) = lines.nth(index as usize).transpose()? else {
        return Err(invalid(format!("it has {} tasks, from 0, and none of index {index}", header.tasks)));
    };
    let line: Line = serde_json::from_str(&line).map_err(|error| invalid(format!("line {}: {error}", index + 2)))?;
    if line.index != index {
        return Err(invalid(format!("line {} is of index {}", index + 2, line.index)));
    }
    Ok((header, line))
}
