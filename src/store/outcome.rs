//! What the store tells a reader about one job of an experiment.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::event::{Epoch, Evaluation, Flag, TeacherCheck, Which};
use crate::job::{Job, JobId};

/// A job of an experiment with everything it reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    pub id: JobId,
    pub job: Job,
    /// The grid's axes and this job's place on them, as written: `epochs` -> `100`.
    pub axes: BTreeMap<String, String>,
    pub state: State,
    /// Why it failed or is blocked.
    pub message: Option<String>,
    /// Ascending, at most one row an epoch.
    pub epochs: Vec<Epoch>,
    /// Spent on all its epochs so far, in the company of its cohort.
    pub seconds: f64,
    pub teachers: Vec<TeacherCheck>,
    /// What a reader should know of its evaluations, in words; each once.
    pub flags: BTreeMap<Flag, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Open,
    Running,
    /// Stopped in order; the next `run` goes on.
    Interrupted,
    Done,
    Failed,
    /// A job it needs failed.
    Blocked,
}

impl State {
    pub const ALL: [State; 6] =
        [State::Open, State::Running, State::Interrupted, State::Done, State::Failed, State::Blocked];

    /// As it stands in the store.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Running => "running",
            State::Interrupted => "interrupted",
            State::Done => "done",
            State::Failed => "failed",
            State::Blocked => "blocked",
        }
    }
}

impl Outcome {
    /// The last row, where the job ran to its end.
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last().filter(|row| row.epoch == self.job.epochs)
    }

    /// The evaluation of `which` after the last epoch.
    pub fn final_evaluation(&self, which: Which) -> Option<&Evaluation> {
        self.last()?.evaluations.iter().find(|evaluation| evaluation.split == which)
    }
}
