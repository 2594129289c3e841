//! How much of the peak learning rate a step gets.

use crate::job::{Job, Schedule, Warmup};

/// In [0, 1] for step `step` (from 0): linear from zero over the warm-up, times the decay, whose progress is counted
/// from the end of the warm-up (paper.md 1.2). The first step of a warm-up gets nothing, as in the released code.
pub fn share_of_peak(job: &Job, step: u64) -> f64 {
    let total = job.total_steps() as f64;
    let warmup = match job.warmup {
        Warmup::Steps(steps) => steps as f64,
        Warmup::Share(share) => (share * total).round(),
    };
    let step = step as f64;
    let rise = if step < warmup { step / warmup } else { 1.0 };
    let progress = if total > warmup { ((step - warmup) / (total - warmup)).clamp(0.0, 1.0) } else { 0.0 };
    let decay = match job.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        Schedule::Linear => 1.0 - progress,
        Schedule::Quadratic => (1.0 - progress).powi(2),
        Schedule::Constant => 1.0,
        Schedule::Cooldown(share) => ((1.0 - progress) / share).min(1.0),
    };
    rise * decay
}
