//! From a gradient to the next weights: clipping, the optimiser's rule, decoupled decay, all on flat vectors.

mod adam;
mod schedule;

use std::ops::Range;

pub use schedule::share_of_peak;

use crate::job::{Clip, Job, Optimizer};

/// The state of one student's optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Named vectors as long as the weights, for checkpoints.
    pub moments: Vec<(&'static str, Vec<f32>)>,
}

impl State {
    pub fn new(optimizer: &Optimizer, weights: usize) -> State {
        match optimizer {
            Optimizer::Adam(_) => {
                State { moments: vec![("adam.first", vec![0.0; weights]), ("adam.second", vec![0.0; weights])] }
            }
        }
    }
}

/// Applies step `step` (from 0) to `weights`; returns the gradient's global L2 norm before clipping.
pub fn apply(
    job: &Job,
    step: u64,
    decayed: &[Range<usize>],
    gradient: &mut [f32],
    state: &mut State,
    weights: &mut [f32],
) -> f64 {
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    if let Clip::Norm(most) = job.clip
        && norm > most
    {
        let scale = (most / norm) as f32;
        gradient.iter_mut().for_each(|g| *g *= scale);
    }
    let share = share_of_peak(job, step);
    // In the paper's convention decay follows the schedule but not the learning rate (paper.md 1.2). It is taken off
    // the old weights: both terms of the update are.
    let keep = (1.0 - share * job.weight_decay) as f32;
    for range in decayed {
        weights[range.clone()].iter_mut().for_each(|weight| *weight *= keep);
    }
    match &job.optimizer {
        Optimizer::Adam(adam) => {
            let [(_, first), (_, second)] = &mut state.moments[..] else {
                unreachable!("Adam's state has two moments")
            };
            adam::apply(adam, step, share * job.learning_rate, gradient, first, second, weights);
        }
    }
    norm
}
