//! Trained networks that a job is told about: its teachers, and what its student starts from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Job, Model, Normalization};

/// A frozen network whose answers are the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Teacher {
    pub source: NetworkSource,
    /// Side of the square this teacher sees, in pixels.
    pub resolution: u32,
    /// Among other teachers; above 0. 1 is not written.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
}

/// Where a trained network comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkSource {
    /// Another job, trained first: its whole resolved text, so that a student's text says where its target comes from.
    Job(Arc<Job>),
    /// A weights file, by content.
    Weights(Weights),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Weights {
    /// Of the file.
    pub sha256: String,
    pub model: Model,
    /// What it was trained on. [-1, 1] is not written.
    #[serde(default, skip_serializing_if = "Normalization::is_default")]
    pub normalization: Normalization,
}

/// Where the student's weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Random convolutions (lecun-normal), GroupNorm at one and zero, head at zero (paper.md 1.2).
    Scratch,
    /// A trained network of the same architecture (Figure 5 right of the paper).
    Trained(Box<Trained>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trained {
    pub source: NetworkSource,
    pub head: Head,
}

/// What becomes of a trained network's last layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    #[default]
    Keep,
    /// Left behind, whatever its classes; the student's starts as from scratch.
    Reset,
}

impl NetworkSource {
    pub fn model(&self) -> &Model {
        match self {
            NetworkSource::Job(job) => &job.student,
            NetworkSource::Weights(weights) => &weights.model,
        }
    }

    pub fn normalization(&self) -> Normalization {
        match self {
            NetworkSource::Job(job) => job.normalization(),
            NetworkSource::Weights(weights) => weights.normalization,
        }
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(number: &f64) -> bool {
    *number == 1.0
}
