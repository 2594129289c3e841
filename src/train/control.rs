//! What may be asked of a cohort while it trains: that all of it stops, or that some of its students leave.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::job::JobId;

const NOTHING: usize = 0;
const LEAVE: usize = 1;
/// What a signal's handler sets the flag to.
pub const STOP: usize = 2;

/// Shared by who trains and who asks. A stop is not taken back.
#[derive(Debug, Default)]
pub struct Control {
    /// The one thing that is looked at between steps.
    asked: Arc<AtomicUsize>,
    leaving: Mutex<BTreeSet<JobId>>,
    saving_ms: AtomicU64,
}

/// What is to be done before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    /// Of these jobs, if they are there; the others go on.
    Leave(BTreeSet<JobId>),
    Stop,
}

impl Control {
    /// Everyone saves and leaves.
    pub fn stop(&self) {
        self.asked.store(STOP, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.asked.load(Ordering::SeqCst) == STOP
    }

    /// The flag behind [`Control::stop`], for the handler of a signal, which sets it to [`STOP`].
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.asked)
    }

    /// The students of these jobs save and leave; the others go on.
    pub fn leave(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.extend(jobs);
        self.asked.fetch_max(LEAVE, Ordering::SeqCst);
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Asked {
        match self.asked.load(Ordering::Relaxed) {
            NOTHING => Asked::Nothing,
            LEAVE => {
                let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
                let stopped = self.asked.compare_exchange(LEAVE, NOTHING, Ordering::SeqCst, Ordering::SeqCst).is_err();
                if stopped { Asked::Stop } else { Asked::Leave(std::mem::take(&mut leaving)) }
            }
            _ => Asked::Stop,
        }
    }

    /// Tells how long it took to save everyone.
    pub fn saved_in(&self, all: Duration) {
        self.saving_ms.fetch_max(u64::try_from(all.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The longest that it took.
    pub fn saving(&self) -> Duration {
        Duration::from_millis(self.saving_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_told_once_and_a_stop_stays() {
        let job = |name: &str| JobId::from_stored(name.to_owned());
        let control = Control::default();
        assert_eq!(control.take(), Asked::Nothing);
        control.leave([job("a")]);
        control.leave([job("b"), job("a")]);
        assert!(!control.is_stopped());
        assert_eq!(control.take(), Asked::Leave(BTreeSet::from([job("a"), job("b")])));
        assert_eq!(control.take(), Asked::Nothing);
        control.leave([job("c")]);
        control.flag().swap(STOP, Ordering::SeqCst);
        control.leave([job("d")]);
        assert!(control.is_stopped());
        assert_eq!([control.take(), control.take()], [Asked::Stop, Asked::Stop]);
    }
}
