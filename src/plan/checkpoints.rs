//! When students are saved while they train, and what of that is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span::Span;

/// The two newest states are always there until a job is done: what is set here comes on top, and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Checkpoints {
    /// Of training between two saves, at most, but for the step that is under way; nothing saves at the end of every
    /// epoch.
    pub every: Span,
    /// The weights that were best on validation images, the first of equals: `student.best.safetensors`.
    pub best: bool,
    /// The weights after these epochs: `student.epoch-N.safetensors`. As for the result, they are the moving average where
    /// there is one.
    pub epochs: Vec<u32>,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { every: Span(Duration::ZERO), best: false, epochs: Vec::new() }
    }
}
