//! Which of several ways is the fastest: each is tried and timed on the GPU, once per shape.

use std::rc::Rc;

use anyhow::{Result, bail};

use super::device::Gpu;
use super::mark::Mark;

/// Timed runs of a way, after one that is not.
const RUNS: usize = 3;

/// The place of the fastest of `count` ways that `run` does by their place. The libraries list what they think the fastest
/// first; a deterministic run takes the first that works, for a timing may come out otherwise the next time.
///
/// # Errors
/// When no way works.
pub fn fastest(gpu: &Rc<Gpu>, count: usize, run: impl Fn(usize) -> Result<()>) -> Result<usize> {
    let (begin, end) = (Mark::new(gpu, true)?, Mark::new(gpu, true)?);
    let mut best: Option<(f32, usize)> = None;
    let mut reason = None;
    for way in 0..count {
        // A way that was offered may still be refused.
        if let Err(error) = run(way) {
            reason.get_or_insert(error);
            continue;
        }
        if gpu.deterministic || count == 1 {
            return Ok(way);
        }
        begin.set()?;
        for _ in 0..RUNS {
            run(way)?;
        }
        end.set()?;
        end.wait()?;
        let time = end.since(&begin)?;
        if best.is_none_or(|(least, _)| time < least) {
            best = Some((time, way));
        }
    }
    match (best, reason) {
        (Some((_, way)), _) => Ok(way),
        (None, Some(error)) => Err(error),
        (None, None) => bail!("there is no way to do it"),
    }
}
