//! Adam with bias correction (Kingma & Ba, arXiv 1412.6980). Both moments in f32; the paper keeps the first in bf16.

use super::Common;
use crate::job::Adam;
use crate::train::ops::element::Element;
use crate::train::ops::lanes::wide;

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    beta1: f32,
    beta2: f32,
    /// Rate / (1 - beta1^t) and 1 / (1 - beta2^t): the corrections taken out of the loop.
    rate: f32,
    correction: f32,
    epsilon: f32,
}

impl Rule {
    /// Step `step` counts from 0; `rate` is the scheduled learning rate.
    pub fn new(adam: &Adam, step: u64, rate: f64) -> Rule {
        let updates = i32::try_from(step + 1).unwrap_or(i32::MAX);
        Rule {
            beta1: adam.beta1 as f32,
            beta2: adam.beta2 as f32,
            rate: (rate / (1.0 - adam.beta1.powi(updates))) as f32,
            correction: (1.0 / (1.0 - adam.beta2.powi(updates))) as f32,
            epsilon: adam.epsilon as f32,
        }
    }
}

impl Rule {
    /// Rate and second correction.
    pub fn corrected(self) -> (f32, f32) {
        (self.rate, self.correction)
    }
}

pub(super) fn apply(
    rule: Rule,
    common: Common,
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    weights: &mut [f32],
) {
    let Rule { beta1, beta2, rate, correction, epsilon } = rule;
    update(
        [beta1, 1.0 - beta1, beta2, 1.0 - beta2],
        [rate, correction, epsilon, common.clip, common.keep, common.coupled],
        gradient,
        first,
        second,
        weights,
    );
}

wide! {
    fn update(
        betas: [T; 4], constants: [T; 6], gradient: &[T], first: &mut [T], second: &mut [T], weights: &mut [T],
    ) {
        let n = weights.len();
        let (gradient, first, second) = (&gradient[..n], &mut first[..n], &mut second[..n]);
        let [b1, c1, b2, c2] = betas;
        let [rate, correction, epsilon, clip, keep, coupled] = constants;
        for i in 0..n {
            let g = coupled.mul_add(weights[i], gradient[i] * clip);
            let m = b1.mul_add(first[i], c1 * g);
            let v = b2.mul_add(second[i], c2 * g * g);
            (first[i], second[i]) = (m, v);
            weights[i] = weights[i] * keep - rate * m / ((v * correction).square_root() + epsilon);
        }
    }
}

/// What is subtracted from weights, in the gradient's place.
pub(super) fn direct(rule: Rule, first: &mut [f32], second: &mut [f32], gradient: &mut [f32]) {
    let Rule { beta1, beta2, rate, correction, epsilon } = rule;
    let betas = [beta1, 1.0 - beta1, beta2, 1.0 - beta2];
    direction(betas, [rate, correction, epsilon], first, second, gradient);
}

wide! {
    fn direction(betas: [T; 4], constants: [T; 3], first: &mut [T], second: &mut [T], gradient: &mut [T]) {
        let n = gradient.len();
        let (first, second) = (&mut first[..n], &mut second[..n]);
        let [b1, c1, b2, c2] = betas;
        let [rate, correction, epsilon] = constants;
        for i in 0..n {
            let g = gradient[i];
            let m = b1.mul_add(first[i], c1 * g);
            let v = b2.mul_add(second[i], c2 * g * g);
            (first[i], second[i]) = (m, v);
            gradient[i] = rate * m / ((v * correction).square_root() + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the published rule in f64, with decay in the paper's convention and a clipped gradient.
    #[test]
    fn follows_the_rule() {
        let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let mut weights = vec![0.5f32, -1.0, 2.0];
        let (mut first, mut second) = (vec![0f32; 3], vec![0f32; 3]);
        let mut expected = [0.5f64, -1.0, 2.0];
        let (mut m, mut v) = ([0f64; 3], [0f64; 3]);
        for step in 0..20u64 {
            let gradient: Vec<f32> = (0..3).map(|i| ((step * 7 + i * 3) % 5) as f32 * 0.3 - 0.5).collect();
            let common = Common { clip: 0.5, keep: 0.999, coupled: 0.0 };
            apply(Rule::new(&adam, step, 0.01), common, &gradient, &mut first, &mut second, &mut weights);
            let t = step as i32 + 1;
            for i in 0..3 {
                let g = 0.5 * f64::from(gradient[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mhat, vhat) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                expected[i] = 0.999 * expected[i] - 0.01 * mhat / (vhat.sqrt() + 1e-8);
            }
        }
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((f64::from(*weight) - expected).abs() < 1e-5, "{weight} {expected}");
        }
    }
}
