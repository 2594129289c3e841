//! The inverse fourth root of a symmetric matrix without negative eigenvalues, by products of matrices alone.
//!
//! Coupled Newton iteration (Higham, *Functions of Matrices*, 7.3; arXiv 2002.09018): with `M = z A` and `X = z^(1/4)`,
//! `T = (5 - M) / 4`, `X <- X T`, `M <- T^4 M` until M is one; then X is `A^(-1/4)`. It converges where the eigenvalues of
//! the first M lie between 0 and 5: the largest is made 5/2, which leaves room for an estimate that is too small.

use super::matrix::{Left, Packed, blend, dot, scale};
use crate::train::ops::tile::Start;

/// Of the power iteration; it stops earlier where it no longer moves.
const POWERS: usize = 100;
/// Of Newton's. An eigenvalue of a millionth of the largest grows by 2.4 at each, so 16 lift it and some 5 finish.
pub const ITERATIONS: usize = 60;
/// How far M may be from one: about what f32 can hold.
const CLOSE: f32 = 2e-6;
/// Below this the iteration is at its end, and goes no further than rounding lets it.
const NEAR: f32 = 1e-2;
/// Above this the root is of no use.
const FAR: f32 = 0.1;
/// Statistics so small say nothing.
const NOTHING: f32 = 1e-30;

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Room {
    packed: Packed,
    x: Vec<f32>,
    m: Vec<f32>,
    t: Vec<f32>,
    squared: Vec<f32>,
    next: Vec<f32>,
}

/// `to = (of + epsilon lambda)^(-1/4)`, both `[n, n]`, lambda the largest eigenvalue. Where `of` is zero it is one, where a
/// number is not finite nothing is, and where the iteration fails `to` stays what it was.
pub(super) fn inverse_fourth_root(of: &[f32], n: usize, epsilon: f32, room: &mut Room, to: &mut [f32]) {
    let largest = largest_eigenvalue(of, n);
    if !largest.is_finite() {
        to.fill(f32::NAN);
        return;
    }
    if largest < NOTHING {
        identity(to, n, 1.0);
        return;
    }
    let Room { packed, x, m, t, squared, next } = room;
    for vector in [&mut *x, m, t, squared, next] {
        vector.resize(n * n, 0.0);
    }
    let factor = 2.5 / (largest * (1.0 + epsilon));
    m.copy_from_slice(of);
    m.iter_mut().step_by(n + 1).for_each(|value| *value += epsilon * largest);
    scale(m, factor);
    identity(x, n, factor.sqrt().sqrt());
    let mut error = from_one(m, n);
    for _ in 0..ITERATIONS {
        if error <= CLOSE {
            break;
        }
        t.copy_from_slice(m);
        scale(t, -0.25);
        t.iter_mut().step_by(n + 1).for_each(|value| *value += 1.25);
        packed.take(t, n);
        packed.multiply(Left::plain(t, n), n, Start::Zero, squared);
        packed.multiply(Left::plain(x, n), n, Start::Zero, next);
        // X's next waits until M's is known to be better.
        packed.take(m, n);
        packed.multiply(Left::plain(squared, n), n, Start::Zero, t);
        packed.take(t, n);
        packed.multiply(Left::plain(squared, n), n, Start::Zero, m);
        let after = from_one(m, n);
        // Near its end each step squares the error; one that does not even halve it only adds roundings. What is not a
        // number ends here too.
        if error < NEAR && after >= 0.5 * error || !after.is_finite() {
            break;
        }
        std::mem::swap(x, next);
        error = after;
    }
    if error < FAR {
        to.copy_from_slice(x);
    }
}

fn identity(to: &mut [f32], n: usize, value: f32) {
    to.fill(0.0);
    to.iter_mut().step_by(n + 1).for_each(|to| *to = value);
}

/// The largest distance of a number from that of the identity; NaN where there is one.
fn from_one(of: &[f32], n: usize) -> f32 {
    let mut most = 0.0f32;
    for (row, numbers) in of.chunks_exact(n).enumerate() {
        for (column, value) in numbers.iter().enumerate() {
            let distance = (value - if row == column { 1.0 } else { 0.0 }).abs();
            most = if distance > most || distance.is_nan() { distance } else { most };
            if most.is_nan() {
                return most;
            }
        }
    }
    most
}

/// By power iteration from a vector that is the same for all matrices of a size. Never above the true value, and for
/// statistics close to it.
pub(super) fn largest_eigenvalue(of: &[f32], n: usize) -> f32 {
    // As good as random, so orthogonal to no eigenvector that matters.
    let start = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0 + 1e-3;
    let mut v: Vec<f32> = (0..n).map(start).collect();
    let mut to = vec![0.0; n];
    let mut largest = 0.0;
    let length = |v: &[f32]| f64::from(dot(v, v)).sqrt() as f32;
    let unit = 1.0 / length(&v);
    scale(&mut v, unit);
    // Numbers near 1: squares of small ones would vanish.
    let size =
        of.iter().fold(0.0f32, |most, value| if value.abs() > most || value.is_nan() { value.abs() } else { most });
    if !(size.is_finite() && size > 0.0) {
        return size;
    }
    let unit = 1.0 / size;
    for _ in 0..POWERS {
        for (to, row) in to.iter_mut().zip(of.chunks_exact(n)) {
            *to = unit * dot(row, &v);
        }
        let found = length(&to);
        if !found.is_finite() || found == 0.0 {
            return found;
        }
        let moved = (found - largest).abs();
        largest = found;
        blend(&mut v, 0.0, &to, 1.0 / found);
        if moved <= 1e-6 * found {
            break;
        }
    }
    size * largest
}

#[cfg(test)]
mod tests {
    use super::super::matrix::tests::{by_hand, some, transposed};
    use super::*;

    /// `Q diag(values) Q`, Q a reflection and so its own inverse.
    fn with_eigenvalues(values: &[f64]) -> Vec<f32> {
        let n = values.len();
        let v = some(n, 3);
        let length: f64 = v.iter().map(|x| f64::from(*x).powi(2)).sum();
        let q = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * f64::from(v[i]) * f64::from(v[j]) / length;
        let sum = |i: usize, j: usize| (0..n).map(|k| q(i, k) * values[k] * q(k, j)).sum::<f64>() as f32;
        (0..n * n).map(|at| sum(at / n, at % n)).collect()
    }

    /// Against roots of eigenvalues, from well conditioned to a millionth, where f32 knows a small eigenvalue to a share.
    #[test]
    fn roots_are_those_of_eigenvalues() {
        for (n, smallest, tolerance) in [(1, 1.0, 1e-5), (5, 1e-1, 1e-5), (33, 1e-3, 1e-4), (128, 1e-5, 1e-2)] {
            for scale in [1e-12, 1.0, 1e9] {
                let value = |i: usize| scale * f64::powf(smallest, i as f64 / n as f64);
                let values: Vec<f64> = (0..n).map(value).collect();
                let of = with_eigenvalues(&values);
                let largest = f64::from(largest_eigenvalue(&of, n));
                assert!((0.95..1.001).contains(&(largest / scale)), "{largest} of {scale}");
                let epsilon = 1e-6;
                let mut to = vec![0.0; n * n];
                inverse_fourth_root(&of, n, epsilon as f32, &mut Room::default(), &mut to);
                let roots: Vec<f64> = values.iter().map(|v| (v + epsilon * scale).powf(-0.25)).collect();
                let expected = with_eigenvalues(&roots);
                let size = roots.iter().fold(0.0f64, |most, root| most.max(*root));
                let apart = to.iter().zip(&expected).map(|(a, b)| f64::from(*a - *b).abs() / size);
                let apart = apart.fold(0.0, f64::max);
                assert!(apart < tolerance, "{n}, {smallest}, {scale}: {apart}");
            }
        }
    }

    /// Of fewer gradients than sides: a statistic with a null space, where epsilon alone stands.
    #[test]
    fn a_singular_matrix_has_a_root() {
        let (n, few, epsilon) = (40, 3, 1e-4);
        let g = some(n * few, 5);
        let of: Vec<f32> = by_hand(&g, &transposed(&g, few), few).iter().map(|value| *value as f32).collect();
        let mut to = vec![0.0; n * n];
        inverse_fourth_root(&of, n, epsilon, &mut Room::default(), &mut to);
        // Its fourth power times the matrix is the identity.
        let narrow = |of: Vec<f64>| of.iter().map(|value| *value as f32).collect::<Vec<_>>();
        let squared = narrow(by_hand(&to, &to, n));
        let mut ridged = of.clone();
        ridged.iter_mut().step_by(n + 1).for_each(|value| *value += epsilon * largest_eigenvalue(&of, n));
        let one = narrow(by_hand(&narrow(by_hand(&squared, &squared, n)), &ridged, n));
        assert!(from_one(&one, n) < 0.02, "{}", from_one(&one, n));
    }

    #[test]
    fn what_has_no_root_ends() {
        let mut to = vec![7.0; 9];
        let mut root = |of: [f32; 9]| {
            inverse_fourth_root(&of, 3, 1e-6, &mut Room::default(), &mut to);
            to.clone()
        };
        assert_eq!(root([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]), [7.0; 9], "a negative eigenvalue");
        assert_eq!(root([0.0; 9]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(root([1.0, bad, 0.0, bad, 1.0, 0.0, 0.0, 0.0, 1.0])[0].is_nan());
        }
        let huge = f32::MAX;
        assert!(root([huge, huge, huge, huge, huge, huge, huge, huge, huge]).iter().all(|value| !value.is_infinite()));
    }
}
