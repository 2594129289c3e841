//! From a gradient to the next weights: clipping, decay and the optimiser's rule in one pass over flat vectors.
//!
//! Shampoo and Muon first make a *direction* of the whole gradient, matrix by matrix, which stands for it in the pass.
//!
//! The pass goes piece by piece over all cores; each number is computed by itself. The gradient's norm is summed in f64,
//! pieces of fixed size in their order, so it does not depend on the number of threads either.

mod adam;
mod layout;
mod matrix;
mod muon;
mod root;
mod schedule;
mod sgd;
mod shampoo;

use rayon::prelude::*;

pub use layout::{Layout, Matrix};
pub use muon::{QUINTIC, SIZE as MUON_SIZE};
pub use root::ITERATIONS as ROOT_ITERATIONS;
pub use schedule::share_of_peak;
pub use shampoo::{blocks, keep_and_take, squares_of, statistics};

use super::ops::element::Element;
use super::ops::lanes::wide;
use crate::job::{Clip, Decay, Graft, Job, Optimizer, Sgd};
use layout::runs;

/// Numbers of a piece.
const PIECE: usize = 16 << 10;

/// The state of one student's optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Named vectors for checkpoints, most of them as long as the weights.
    pub moments: Vec<(&'static str, Vec<f32>)>,
    /// The moving average of the weights, where a job has one.
    pub average: Option<Vec<f32>>,
}

impl State {
    pub fn new(optimizer: &Optimizer, layout: &Layout) -> State {
        let zeros = |(name, len)| (name, vec![0.0; len]);
        let mut moments: Vec<_> = moments(optimizer, layout).into_iter().map(zeros).collect();
        if let (Optimizer::Shampoo(of), Some((_, roots))) = (optimizer, moments.get_mut(2)) {
            *roots = shampoo::identities(of, layout);
        }
        State { moments, average: None }
    }
}

/// Names and lengths of an optimiser's vectors, in their order.
pub fn moments(optimizer: &Optimizer, layout: &Layout) -> Vec<(&'static str, usize)> {
    let n = layout.len;
    match optimizer {
        Optimizer::Adam(_) => vec![("adam.first", n), ("adam.second", n)],
        Optimizer::Sgd(_) => vec![("sgd.momentum", n)],
        Optimizer::Shampoo(of) => {
            let statistics = statistics(of, layout);
            let squares = (of.graft != Graft::Sgd).then_some(("shampoo.squares", n));
            let own = [("shampoo.momentum", n), ("shampoo.statistics", statistics), ("shampoo.roots", statistics)];
            own.into_iter().chain(squares).collect()
        }
        Optimizer::Muon(_) => vec![("muon.first", n), ("muon.second", n)],
    }
}

/// What an optimiser's rule takes from step to step, for engines that apply it themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Of learning; with Adam's correction of the first moment in it.
    pub rate: f32,
    /// Of averages of squares: Adam's second moment, or a graft's.
    pub correction: f32,
    /// Of Adam's first moment where a direction has it; 1 where the rate does.
    pub first: f32,
    /// Of the weights that decay.
    pub keep: f32,
    /// What of the weights that decay is added to their gradient.
    pub coupled: f32,
    /// What the moving average takes of the new weights.
    pub take: f32,
}

/// The constants of step `step` (from 0).
pub fn constants(job: &Job, step: u64) -> Constants {
    let share = share_of_peak(job, step);
    let rate = share * job.learning_rate;
    let decay = job.weight_decay;
    let (kept, coupled) = match job.decay {
        Decay::Schedule => (1.0 - share * decay, 0.0),
        Decay::LearningRate => (1.0 - rate * decay, 0.0),
        Decay::Gradient => (1.0, decay),
    };
    let (keep, coupled) = (kept as f32, coupled as f32);
    let take = job.ema.keeps(step).map_or(0.0, |keeps| (1.0 - keeps) as f32);
    let mut first = 1.0;
    let (rate, correction) = match &job.optimizer {
        Optimizer::Adam(adam) => adam::Rule::new(adam, step, rate).corrected(),
        Optimizer::Sgd(_) => (rate as f32, 1.0),
        Optimizer::Shampoo(of) => {
            (rate as f32, squares_of(&of.graft, step).map_or(1.0, |[.., correction, _]| correction))
        }
        Optimizer::Muon(of) => {
            let correction;
            (first, correction) = adam::Rule::new(&of.adam, step, 1.0).corrected();
            (rate as f32, correction)
        }
    };
    Constants { rate, correction, first, keep, coupled, take }
}

/// What all of a step's numbers have in common.
#[derive(Clone, Copy, Debug)]
struct Common {
    /// Of the gradient, from clipping.
    clip: f32,
    /// Of the weights that decay. It is taken off the old weights: both terms of the update are.
    keep: f32,
    /// Of the weights that decay, for their gradient.
    coupled: f32,
}

impl Common {
    /// For weights that do not decay, where they do not.
    fn of(self, decays: bool) -> Common {
        if decays { self } else { Common { keep: 1.0, coupled: 0.0, ..self } }
    }
}

/// Applies step `step` (from 0) to `weights`; returns the gradient's global L2 norm before clipping.
pub fn apply(job: &Job, step: u64, layout: &Layout, gradient: &[f32], state: &mut State, weights: &mut [f32]) -> f64 {
    let norm = norm(gradient);
    let clip = match job.clip {
        Clip::Norm(most) if norm > most => most / norm,
        _ => 1.0,
    };
    let rate = share_of_peak(job, step) * job.learning_rate;
    let Constants { keep, coupled, .. } = constants(job, step);
    let common = Common { clip: clip as f32, keep, coupled };
    match &job.optimizer {
        Optimizer::Adam(adam) => {
            let [(_, first), (_, second)] = &mut state.moments[..] else { unreachable!("a state is its optimiser's") };
            let rule = adam::Rule::new(adam, step, rate);
            let pieces = weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
            let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
            pieces.zip(moments).enumerate().for_each(|(piece, ((weights, gradient), (first, second)))| {
                for (range, decays) in runs(piece * PIECE, weights.len(), &layout.decayed) {
                    let (first, second) = (&mut first[range.clone()], &mut second[range.clone()]);
                    let gradient = &gradient[range.clone()];
                    adam::apply(rule, common.of(decays), gradient, first, second, &mut weights[range]);
                }
            });
        }
        Optimizer::Sgd(sgd) => {
            descend(sgd::Rule::new(*sgd, rate), common, layout, gradient, &mut state.moments[0].1, weights);
        }
        optimizer => {
            let direction = direction(job, step, layout, (gradient, common.clip), weights, state);
            let common = Common { clip: 1.0, coupled: 0.0, ..common };
            let rule = sgd::Rule::new(after_direction(optimizer), rate);
            // Momentum that keeps nothing of itself may be any memory.
            let mut none = Vec::new();
            let momentum = match optimizer {
                Optimizer::Shampoo(_) => &mut state.moments[0].1,
                _ => {
                    none.resize(weights.len(), 0.0);
                    &mut none
                }
            };
            descend(rule, common, layout, &direction, momentum, weights);
        }
    }
    norm
}

/// What follows a direction, which stands for the gradient; Muon's has its momentum in it.
pub fn after_direction(optimizer: &Optimizer) -> Sgd {
    match optimizer {
        Optimizer::Shampoo(of) => Sgd { momentum: of.momentum, nesterov: of.nesterov },
        _ => Sgd { momentum: 0.0, nesterov: false },
    }
}

/// The direction of step `step` (from 0) of a gradient that is to be multiplied by `clip`, for optimisers that have one.
/// Of the state it moves all but what [`after_direction`] moves.
fn direction(
    job: &Job,
    step: u64,
    layout: &Layout,
    (gradient, clip): (&[f32], f32),
    weights: &[f32],
    state: &mut State,
) -> Vec<f32> {
    let coupled = constants(job, step).coupled;
    let mut to = gradient.to_vec();
    to.par_chunks_mut(PIECE).zip(weights.par_chunks(PIECE)).enumerate().for_each(|(piece, (to, weights))| {
        for (range, decays) in runs(piece * PIECE, weights.len(), &layout.decayed) {
            slope(clip, if decays { coupled } else { 0.0 }, &weights[range.clone()], &mut to[range]);
        }
    });
    match (&job.optimizer, &mut state.moments[..]) {
        (Optimizer::Shampoo(of), [_, (_, statistics), (_, roots), squares @ ..]) => {
            let squares = squares.first_mut().map(|(_, squares)| &mut squares[..]);
            shampoo::direct(of, step, layout, shampoo::Kept { statistics, roots, squares }, &mut to);
        }
        (Optimizer::Muon(of), [(_, first), (_, second)]) => muon::direct(of, step, layout, first, second, &mut to),
        _ => unreachable!("a state is its optimiser's"),
    }
    to
}

fn descend(
    rule: sgd::Rule,
    common: Common,
    layout: &Layout,
    gradient: &[f32],
    momentum: &mut [f32],
    weights: &mut [f32],
) {
    let pieces = weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).zip(momentum.par_chunks_mut(PIECE));
    pieces.enumerate().for_each(|(piece, ((weights, gradient), momentum))| {
        for (range, decays) in runs(piece * PIECE, weights.len(), &layout.decayed) {
            let (gradient, momentum) = (&gradient[range.clone()], &mut momentum[range.clone()]);
            sgd::apply(rule, common.of(decays), gradient, momentum, &mut weights[range]);
        }
    });
}

wide! {
    /// `gradient = clip gradient + coupled weight`
    fn slope(clip: T, coupled: T, weights: &[T], gradient: &mut [T]) {
        let n = gradient.len();
        let weights = &weights[..n];
        for i in 0..n {
            gradient[i] = coupled.mul_add(weights[i], gradient[i] * clip);
        }
    }
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
    let squares: Vec<f64> = gradient.par_chunks(PIECE).map(matrix::squares).collect();
    squares.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

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
