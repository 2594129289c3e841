//! The `[run]` table of an experiment.

use serde::{Deserialize, Serialize};

use super::{Checkpoints, Evaluations, Halving, Retries};
use crate::source::Keep;

/// How to run an experiment. None of it changes a number, so none of it is part of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSettings {
    pub evaluations: Evaluations,
    /// Training images that are measured, too.
    pub minitrain: u32,
    /// Go on although a teacher is no better than guessing.
    pub allow_teacher_at_chance: bool,
    /// Keep a live teacher's answers on disk, and take those that are there.
    pub record_teacher: bool,
    /// How workers hold the images of data sets.
    pub images: Keep,
    pub checkpoints: Checkpoints,
    pub retries: Retries,
    pub halving: Option<Halving>,
}
