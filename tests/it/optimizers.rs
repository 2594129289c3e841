//! Optimisers against their published rules in float64, which `tests/golden/optimizers.py` records.

use distillery::job::*;
use distillery::train::optimizer::{self, Layout, Matrix, State};
use serde::Deserialize;

use crate::small::labels;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Case {
    optimizer: Optimizer,
    weight_decay: f64,
    decay: Decay,
    schedule: Schedule,
    weights: Vec<f64>,
}

const STEPS: u64 = 20;

/// As the script has it: a matrix, a kernel of convolution, a bias, a head.
fn layout() -> Layout {
    let matrix = |start, rows, columns, head| Matrix { place: start..start + rows * columns, rows, columns, head };
    let matrices = vec![matrix(0, 20, 12, false), matrix(240, 6, 18, false), matrix(355, 4, 6, true)];
    Layout { len: 379, decayed: vec![0..348, 355..379], matrices }
}

fn numbers(seed: u64) -> impl Iterator<Item = f32> {
    (0..379u64).map(move |i| (((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0) as f32)
}

fn gradient(step: u64) -> Vec<f32> {
    let both = numbers(1).zip(numbers(2 + step));
    both.map(|(stays, goes)| (0.04 * f64::from(stays) + 0.08 * f64::from(goes)) as f32).collect()
}

fn job(case: &Case) -> Job {
    let Case { optimizer, weight_decay, decay, schedule, .. } = case;
    let (optimizer, weight_decay, decay, schedule) = (*optimizer, *weight_decay, *decay, *schedule);
    let clip = Clip::Norm(1.0);
    let mut job = Job { optimizer, weight_decay, decay, schedule, clip, warmup: Warmup::Steps(5), ..labels(1) };
    (job.learning_rate, job.split.train.end) = (0.02, STEPS as u32 * job.batch);
    assert_eq!(job.total_steps(), STEPS);
    job
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/optimizers.json")).unwrap()
}

fn step(job: &Job, step: u64, state: &mut State, weights: &mut [f32]) {
    optimizer::apply(job, step, &layout(), &gradient(step), state, weights);
}

/// To a share of the way that the weights go: of rules number by number to single precision, in which Adam's `1 - beta2` is
/// known to 5e-5 of itself; of Shampoo and Muon to what roots and orthogonal matrices, by products in single precision,
/// leave of it.
#[test]
fn rules_are_the_published_ones() {
    let all = cases();
    assert_eq!(all.len(), 15);
    let mut far = false;
    for case in all {
        let job = job(&case);
        let start: Vec<f32> = numbers(0).collect();
        let (mut weights, mut state) = (start.clone(), State::new(&job.optimizer, &layout()));
        (0..STEPS).for_each(|at| step(&job, at, &mut state, &mut weights));
        let length = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
        let went = length(&mut case.weights.iter().zip(&start).map(|(a, b)| a - f64::from(*b)));
        let apart = length(&mut case.weights.iter().zip(&weights).map(|(a, b)| a - f64::from(*b))) / went;
        let tolerance = match &job.optimizer {
            Optimizer::Adam(_) => 2e-5,
            Optimizer::Sgd(_) => 5e-6,
            Optimizer::Shampoo(_) | Optimizer::Muon(_) => 5e-5,
        };
        println!("{apart:.1e} of {went:.2}: {:?}, decay by {:?}", job.optimizer, job.decay);
        far |= apart > tolerance;
        // Another rule would not go there.
        assert!(went > 0.1, "{went}");
    }
    assert!(!far, "see above");
}

/// Cut at any step, with the state through a checkpoint's vectors, and on any number of threads: the same bits.
#[test]
fn going_on_is_exact_on_any_number_of_threads() {
    let mut seen = Vec::new();
    for case in cases() {
        let job = job(&case);
        let start: Vec<f32> = numbers(0).collect();
        let new = || State::new(&job.optimizer, &layout());
        let (mut weights, mut state) = (start.clone(), new());
        (0..STEPS).for_each(|at| step(&job, at, &mut state, &mut weights));
        let bits = |of: &[f32]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for cut in [1, 6, 10] {
            let (mut other, mut first) = (start.clone(), new());
            for threads in [1, 3] {
                let steps = if threads == 1 { 0..cut } else { cut..STEPS };
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                // All that goes on is what has a name.
                let mut second = State { moments: first.moments.clone(), ..new() };
                pool.install(|| steps.for_each(|at| step(&job, at, &mut second, &mut other)));
                first = second;
            }
            assert_eq!(bits(&other), bits(&weights), "{:?} cut at {cut}", job.optimizer);
            assert!(first == state);
        }
        assert!(!seen.contains(&bits(&weights)), "{:?} does what another does", job.optimizer);
        seen.push(bits(&weights));
    }
}

/// A gradient that is not finite ends in weights that are not, not in a panic or without an end; none moves by decay alone.
#[test]
fn gradients_that_are_not_finite_or_nothing() {
    for case in cases() {
        let job = Job { clip: Clip::Off, schedule: Schedule::Constant, warmup: Warmup::Steps(0), ..job(&case) };
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            let (mut weights, mut state) = (numbers(0).collect::<Vec<_>>(), State::new(&job.optimizer, &layout()));
            for at in 0..2 {
                let mut gradient = gradient(at);
                // One in a matrix, one in the bias.
                (gradient[5], gradient[350]) = (bad, bad);
                optimizer::apply(&job, at, &layout(), &gradient, &mut state, &mut weights);
            }
            if !bad.is_finite() {
                assert!(!weights[5].is_finite() && !weights[350].is_finite(), "{:?} of {bad}", job.optimizer);
            }
        }
        let start: Vec<f32> = numbers(0).collect();
        let (mut weights, mut state) = (start.clone(), State::new(&job.optimizer, &layout()));
        let job = Job { weight_decay: 0.0, ..job };
        (0..12).for_each(|at| {
            optimizer::apply(&job, at, &layout(), &[0.0; 379], &mut state, &mut weights);
        });
        assert_eq!(weights, start, "{:?}", job.optimizer);
    }
}
