//! The moving average of a student's weights.

use serde::{Deserialize, Serialize};

/// An exponential moving average of the weights beside those that are trained. Where there is one, it is what is measured
/// and what the job results in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ema {
    #[default]
    Off,
    /// What it keeps of itself at each step, once as many steps are done: before, (1 + t) / (10 + t) after t steps, so
    /// that it forgets where it began.
    Decay(f64),
}

impl Ema {
    pub fn is_off(&self) -> bool {
        *self == Ema::Off
    }

    /// What step `step` (from 0) keeps; none where there is no average.
    pub fn keeps(&self, step: u64) -> Option<f64> {
        match *self {
            Ema::Off => None,
            Ema::Decay(decay) => Some(decay.min((2.0 + step as f64) / (11.0 + step as f64))),
        }
    }
}
