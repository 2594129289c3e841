//! Which failures are tried again, how often, and how soon.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::event::Failure;

/// By class of failure. Want of memory is not among them: it is met by making less at once, as often as there is less to
/// make. Nor is a loss that is no number: it would be none again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retries {
    /// Workers that ended without a word.
    pub lost: Retry,
    /// Files that could not be read or written.
    pub io: Retry,
    /// Attempts of a job that may end one after another without a finished epoch or a saved step between them, whatever
    /// the reason.
    pub no_progress: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first, in one run.
    pub count: u32,
    /// Before the first of them.
    #[serde(default)]
    pub delay: Span,
    #[serde(default)]
    pub backoff: Backoff,
    /// That delays grow to.
    #[serde(default = "a_minute")]
    pub max_delay: Span,
    /// Whether a delay is drawn between half of it and all of it, so that many do not come back at once.
    #[serde(default)]
    pub jitter: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// Always the same delay.
    #[default]
    Fixed,
    /// Twice the one before.
    Exponential,
}

fn a_minute() -> Span {
    Span(Duration::from_secs(60))
}

impl Retries {
    /// What is done about a failure of this class; nothing, where trying again would not help.
    pub fn of(&self, class: Failure) -> Option<Retry> {
        match class {
            Failure::Lost => Some(self.lost),
            Failure::Io => Some(self.io),
            _ => None,
        }
    }
}

impl Retry {
    /// How long to wait before retry `number` (from 1); none when there are no more. `draw` is between 0 and 1.
    pub fn delay(&self, number: u32, draw: f64) -> Option<Duration> {
        if number > self.count {
            return None;
        }
        let doublings = if self.backoff == Backoff::Exponential { number.saturating_sub(1).min(32) } else { 0 };
        let delay = self.delay.0.saturating_mul(1 << doublings.min(31)).min(self.max_delay.0.max(self.delay.0));
        Some(if self.jitter { delay.mul_f64(0.5 + 0.5 * draw) } else { delay })
    }
}

impl Default for Retries {
    /// As `defaults.toml` has it.
    fn default() -> Retries {
        let once = Retry {
            count: 2,
            delay: Span(Duration::ZERO),
            backoff: Backoff::Fixed,
            max_delay: a_minute(),
            jitter: false,
        };
        let patient = Retry {
            count: 4,
            delay: Span(Duration::from_secs(2)),
            backoff: Backoff::Exponential,
            jitter: true,
            ..once
        };
        Retries { lost: once, io: patient, no_progress: 5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_limit_and_end() {
        let retry = Retry {
            count: 5,
            delay: Span(Duration::from_secs(2)),
            backoff: Backoff::Exponential,
            max_delay: Span(Duration::from_secs(10)),
            jitter: false,
        };
        let seconds = |retry: Retry, draw| {
            (1..=6).map(|number| retry.delay(number, draw).map(|delay| delay.as_secs_f64())).collect::<Vec<_>>()
        };
        assert_eq!(seconds(retry, 0.0), [Some(2.0), Some(4.0), Some(8.0), Some(10.0), Some(10.0), None]);
        assert_eq!(seconds(Retry { jitter: true, ..retry }, 0.0)[..2], [Some(1.0), Some(2.0)]);
        assert_eq!(seconds(Retry { backoff: Backoff::Fixed, ..retry }, 0.0)[3], Some(2.0));
        // A limit below the delay is none.
        let odd = Retry { max_delay: Span(Duration::ZERO), ..retry };
        assert_eq!(odd.delay(1, 0.0), Some(Duration::from_secs(2)));
        assert_eq!(Retry { count: u32::MAX, ..retry }.delay(u32::MAX, 0.0), Some(Duration::from_secs(10)));
    }
}
