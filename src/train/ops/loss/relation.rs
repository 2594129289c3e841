//! DIST (Huang et al., arXiv 2205.10536): how far the student's probabilities correlate with the teacher's, along the
//! classes of each image and along the images of each class. T² and epsilon are those of the authors' code.

use super::row::Normaliser;
use crate::job::Dist;

/// Beside the product of two lengths: what does not vary correlates with nothing.
const EPSILON: f64 = 1e-8;

/// The loss of a whole batch, logits `[N, C]`; its gradient is written to `slope`.
pub(super) fn dist(of: &Dist, logits: &[f64], teacher: &[f64], classes: usize, slope: &mut [f64]) -> f64 {
    let (student, teacher) = (softmax(logits, classes, of.temperature), softmax(teacher, classes, of.temperature));
    let images = logits.len() / classes;
    let factor = of.temperature * of.temperature;
    // Of the probabilities first.
    let mut sums = [0.0; 2];
    for image in 0..images {
        let line = (image * classes, 1, classes);
        sums[0] += correlate(&student, &teacher, line, -factor * of.beta / images as f64, slope);
    }
    for class in 0..classes {
        let line = (class, classes, images);
        sums[1] += correlate(&student, &teacher, line, -factor * of.gamma / classes as f64, slope);
    }
    for (slope, q) in slope.chunks_exact_mut(classes).zip(student.chunks_exact(classes)) {
        let mean: f64 = slope.iter().zip(q).map(|(slope, q)| slope * q).sum();
        slope.iter_mut().zip(q).for_each(|(slope, q)| *slope = q * (*slope - mean) / of.temperature);
    }
    let [inter, intra] = [sums[0] / images as f64, sums[1] / classes as f64];
    factor * (of.beta * (1.0 - inter) + of.gamma * (1.0 - intra))
}

/// Pearson's correlation along a line of numbers, given as first, stride and length; `weight` times its gradient by those
/// of `a` is added to `slope`.
fn correlate(a: &[f64], b: &[f64], line: (usize, usize, usize), weight: f64, slope: &mut [f64]) -> f64 {
    let (first, stride, length) = line;
    let places = || (0..length).map(|i| first + i * stride);
    let mean = |x: &[f64]| places().map(|place| x[place]).sum::<f64>() / length as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for place in places() {
        let (a, b) = (a[place] - mean_a, b[place] - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    let (length_a, length_b) = (aa.sqrt(), bb.sqrt());
    let below = length_a * length_b + EPSILON;
    let by_length = if length_a > 0.0 { ab * length_b / (below * below * length_a) } else { 0.0 };
    // Both terms sum to zero along the line, so centring changes nothing.
    for place in places() {
        slope[place] += weight * ((b[place] - mean_b) / below - by_length * (a[place] - mean_a));
    }
    ab / below
}

fn softmax(logits: &[f64], classes: usize, temperature: f64) -> Vec<f64> {
    let rows = logits.chunks_exact(classes);
    rows.flat_map(|row| {
        let normaliser = Normaliser::new(row.iter().copied(), temperature);
        row.iter().map(move |logit| normaliser.log_probability(*logit).exp())
    })
    .collect()
}
