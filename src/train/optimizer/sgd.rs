//! Stochastic gradient descent with momentum, plain or Nesterov's, in torch's convention: the momentum is a sum of
//! gradients without damping, multiplied by the learning rate when it is applied.

use super::Common;
use crate::job::Sgd;
use crate::train::ops::element::Element;
use crate::train::ops::lanes::wide;

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    momentum: f32,
    rate: f32,
    nesterov: bool,
}

impl Rule {
    /// `rate` is the scheduled learning rate.
    pub fn new(sgd: Sgd, rate: f64) -> Rule {
        Rule { momentum: sgd.momentum as f32, rate: rate as f32, nesterov: sgd.nesterov }
    }
}

pub(super) fn apply(rule: Rule, common: Common, gradient: &[f32], momentum: &mut [f32], weights: &mut [f32]) {
    let constants = [rule.momentum, rule.rate, common.clip, common.keep, common.coupled];
    update(constants, rule.nesterov, gradient, momentum, weights);
}

wide! {
    fn update(constants: [T; 5], nesterov: bool, gradient: &[T], momentum: &mut [T], weights: &mut [T]) {
        let n = weights.len();
        let (gradient, momentum) = (&gradient[..n], &mut momentum[..n]);
        let [beta, rate, clip, keep, coupled] = constants;
        for i in 0..n {
            let g = coupled.mul_add(weights[i], gradient[i] * clip);
            let m = beta.mul_add(momentum[i], g);
            momentum[i] = m;
            let direction = if nesterov { beta.mul_add(m, g) } else { m };
            weights[i] = weights[i] * keep - rate * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the rule in f64.
    #[test]
    fn follows_the_rule() {
        for nesterov in [false, true] {
            let sgd = Sgd { momentum: 0.9, nesterov };
            let (mut weights, mut momentum) = (vec![0.5f32, -1.0, 2.0], vec![0f32; 3]);
            let (mut expected, mut m) = ([0.5f64, -1.0, 2.0], [0f64; 3]);
            for step in 0..20usize {
                let gradient: Vec<f32> = (0..3).map(|i| ((step * 7 + i * 3) % 5) as f32 * 0.3 - 0.5).collect();
                let common = Common { clip: 0.5, keep: 0.999, coupled: 0.0 };
                apply(Rule::new(sgd, 0.01), common, &gradient, &mut momentum, &mut weights);
                for i in 0..3 {
                    let g = 0.5 * f64::from(gradient[i]);
                    m[i] = 0.9 * m[i] + g;
                    let direction = if nesterov { g + 0.9 * m[i] } else { m[i] };
                    expected[i] = 0.999 * expected[i] - 0.01 * direction;
                }
            }
            for (weight, expected) in weights.iter().zip(expected) {
                assert!((f64::from(*weight) - expected).abs() < 1e-5, "{weight} {expected}");
            }
        }
    }
}
