//! Adam with bias correction (Kingma & Ba, arXiv 1412.6980). Both moments in f32; the paper keeps the first in bf16.

use crate::job::Adam;

/// Step `step` counts from 0; `rate` is the scheduled learning rate.
pub(super) fn apply(
    adam: &Adam,
    step: u64,
    rate: f64,
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    weights: &mut [f32],
) {
    let updates = i32::try_from(step + 1).unwrap_or(i32::MAX);
    let (b1, b2) = (adam.beta1 as f32, adam.beta2 as f32);
    // m / (1 - b1^t) and v / (1 - b2^t), the corrections taken out of the loop.
    let scale = (rate / (1.0 - adam.beta1.powi(updates))) as f32;
    let correction = (1.0 / (1.0 - adam.beta2.powi(updates))) as f32;
    let epsilon = adam.epsilon as f32;
    for (((weight, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
        *m = b1 * *m + (1.0 - b1) * g;
        *v = b2 * *v + (1.0 - b2) * g * g;
        *weight -= scale * *m / ((*v * correction).sqrt() + epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the published rule in f64.
    #[test]
    fn follows_the_rule() {
        let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let mut weights = vec![0.5f32, -1.0, 2.0];
        let (mut first, mut second) = (vec![0f32; 3], vec![0f32; 3]);
        let mut expected = [0.5f64, -1.0, 2.0];
        let (mut m, mut v) = ([0f64; 3], [0f64; 3]);
        for step in 0..20u64 {
            let gradient: Vec<f32> = (0..3).map(|i| ((step * 7 + i * 3) % 5) as f32 * 0.3 - 0.5).collect();
            apply(&adam, step, 0.01, &gradient, &mut first, &mut second, &mut weights);
            let t = step as i32 + 1;
            for i in 0..3 {
                let g = f64::from(gradient[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mhat, vhat) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                expected[i] -= 0.01 * mhat / (vhat.sqrt() + 1e-8);
            }
        }
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((f64::from(*weight) - expected).abs() < 1e-5, "{weight} {expected}");
        }
    }
}
