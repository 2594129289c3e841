//! From a gradient to the next weights: clipping, decoupled decay and the optimiser's rule in one pass over flat vectors.
//!
//! The pass goes piece by piece over all cores; each number is computed by itself. The gradient's norm is summed in f64,
//! pieces of fixed size in their order, so it does not depend on the number of threads either.

mod adam;
mod schedule;
mod sgd;

use std::ops::Range;

use rayon::prelude::*;

pub use schedule::share_of_peak;

use super::ops::element::Element;
use super::ops::lanes::{sum_of, wide};
use crate::job::{Clip, Job, Optimizer};

/// Numbers of a piece.
const PIECE: usize = 16 << 10;

/// The state of one student's optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Named vectors as long as the weights, for checkpoints.
    pub moments: Vec<(&'static str, Vec<f32>)>,
    /// The moving average of the weights, where a job has one.
    pub average: Option<Vec<f32>>,
}

impl State {
    pub fn new(optimizer: &Optimizer, weights: usize) -> State {
        let moments = State::names(optimizer).iter().map(|name| (*name, vec![0.0; weights])).collect();
        State { moments, average: None }
    }

    /// Of an optimiser's moments.
    pub fn names(optimizer: &Optimizer) -> &'static [&'static str] {
        match optimizer {
            Optimizer::Adam(_) => &["adam.first", "adam.second"],
            Optimizer::Sgd(_) => &["sgd.momentum"],
        }
    }
}

/// What an optimiser's rule takes from step to step, for engines that apply it themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Of learning; with Adam's correction of the first moment in it.
    pub rate: f32,
    /// Adam's of the second moment.
    pub correction: f32,
    /// Of the weights that decay.
    pub keep: f32,
    /// What the moving average takes of the new weights.
    pub take: f32,
}

/// The constants of step `step` (from 0).
pub fn constants(job: &Job, step: u64) -> Constants {
    let share = share_of_peak(job, step);
    let rate = share * job.learning_rate;
    // In the paper's convention decay follows the schedule but not the learning rate (paper.md 1.2).
    let keep = (1.0 - share * job.weight_decay) as f32;
    let take = job.ema.keeps(step).map_or(0.0, |keeps| (1.0 - keeps) as f32);
    match &job.optimizer {
        Optimizer::Adam(adam) => {
            let (rate, correction) = adam::Rule::new(adam, step, rate).corrected();
            Constants { rate, correction, keep, take }
        }
        Optimizer::Sgd(_) => Constants { rate: rate as f32, correction: 1.0, keep, take },
    }
}

/// What all of a step's numbers have in common.
#[derive(Clone, Copy, Debug)]
struct Common {
    /// Of the gradient, from clipping.
    clip: f32,
    /// Of the weights that decay. It is taken off the old weights: both terms of the update are.
    keep: f32,
}

/// Applies step `step` (from 0) to `weights`; returns the gradient's global L2 norm before clipping.
pub fn apply(
    job: &Job,
    step: u64,
    decayed: &[Range<usize>],
    gradient: &[f32],
    state: &mut State,
    weights: &mut [f32],
) -> f64 {
    let norm = norm(gradient);
    let clip = match job.clip {
        Clip::Norm(most) if norm > most => most / norm,
        _ => 1.0,
    };
    let share = share_of_peak(job, step);
    let rate = share * job.learning_rate;
    let common = Common { clip: clip as f32, keep: constants(job, step).keep };
    match (&job.optimizer, &mut state.moments[..]) {
        (Optimizer::Adam(adam), [(_, first), (_, second)]) => {
            let rule = adam::Rule::new(adam, step, rate);
            let pieces = weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
            let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
            pieces.zip(moments).enumerate().for_each(|(piece, ((weights, gradient), (first, second)))| {
                for (range, keep) in runs(piece * PIECE, weights.len(), decayed, common.keep) {
                    let common = Common { keep, ..common };
                    let (first, second) = (&mut first[range.clone()], &mut second[range.clone()]);
                    adam::apply(rule, common, &gradient[range.clone()], first, second, &mut weights[range]);
                }
            });
        }
        (Optimizer::Sgd(sgd), [(_, momentum)]) => {
            let rule = sgd::Rule::new(sgd, rate);
            let pieces = weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
            pieces.zip(momentum.par_chunks_mut(PIECE)).enumerate().for_each(
                |(piece, ((weights, gradient), momentum))| {
                    for (range, keep) in runs(piece * PIECE, weights.len(), decayed, common.keep) {
                        let common = Common { keep, ..common };
                        let momentum = &mut momentum[range.clone()];
                        sgd::apply(rule, common, &gradient[range.clone()], momentum, &mut weights[range]);
                    }
                },
            );
        }
        _ => unreachable!("a state is made for its optimiser"),
    }
    norm
}

/// `average += take (weights - average)`
pub fn average(average: &mut [f32], weights: &[f32], take: f32) {
    average.par_chunks_mut(PIECE).zip(weights.par_chunks(PIECE)).for_each(|(average, weights)| {
        for (average, weight) in average.iter_mut().zip(weights) {
            *average = take.mul_add(*weight - *average, *average);
        }
    });
}

fn norm(gradient: &[f32]) -> f64 {
    let squares: Vec<f64> = gradient.par_chunks(PIECE).map(squares).collect();
    squares.iter().sum::<f64>().sqrt()
}

fn squares(piece: &[f32]) -> f64 {
    // Short f32 sums, then f64: a long f32 sum would lose small gradients beside large ones.
    piece.chunks(256).map(|some| f64::from(sum_of_squares(some))).sum()
}

wide! {
    fn sum_of_squares(x: &[T]) -> T {
        sum_of(x.len(), |i| x[i] * x[i])
    }
}

/// The runs of a piece that starts at `start`, relative to it, and what each keeps of its weights.
fn runs(start: usize, len: usize, decayed: &[Range<usize>], keep: f32) -> impl Iterator<Item = (Range<usize>, f32)> {
    let end = start + len;
    let first = decayed.partition_point(|range| range.end <= start);
    let mut inside = decayed[first..].iter().take_while(move |range| range.start < end).peekable();
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (to, keep) = match inside.peek() {
            Some(range) if range.start <= at => (range.end.min(end), keep),
            Some(range) => (range.start, 1.0),
            None => (end, 1.0),
        };
        if inside.peek().is_some_and(|range| range.end <= to) {
            inside.next();
        }
        let run = at - start..to - start;
        at = to;
        Some((run, keep))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_a_piece() {
        let decayed = [3..7, 10..40, 50..60];
        for start in 0..65 {
            for len in 1..66 - start {
                let mut keeps = vec![0.0; len];
                for (range, keep) in runs(start, len, &decayed, 0.5) {
                    keeps[range].iter_mut().for_each(|to| *to += keep);
                }
                for (i, keep) in keeps.iter().enumerate() {
                    let inside = decayed.iter().any(|range| range.contains(&(start + i)));
                    assert_eq!(*keep, if inside { 0.5 } else { 1.0 }, "{start} + {i} of {len}");
                }
            }
        }
    }

    #[test]
    fn the_norm_is_right_and_bits_are_the_same_on_any_number_of_threads() {
        let gradient: Vec<f32> = (0..100_003).map(|i| ((i * 37 % 1001) as f32 - 500.0) * 1e-3).collect();
        let expected = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| norm(&gradient))
        };
        assert!((on(1) - expected).abs() < 1e-6 * expected);
        assert_eq!(on(1), on(3));
    }
}
