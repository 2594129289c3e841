//! Muon (Jordan et al. 2024): the momentum of a hidden matrix is replaced by the nearest matrix whose rows or columns are
//! orthogonal, about, by five steps of an iteration of Newton and Schulz. Biases, norms, embeddings and the head go by Adam.
//!
//! One learning rate serves both, since an update is multiplied by `0.2 sqrt(max(rows, columns))`, which gives its numbers
//! the size that Adam's have (Liu et al., arXiv 2502.16982).
//!
//! Of the two optimisers since Shampoo it is here because products of matrices are all it needs, and one vector of state;
//! SOAP (arXiv 2409.11321) turns Adam's moments into eigenvectors, for which every processor would need a
//! QR decomposition, and is close to what Shampoo with a graft already gives.

use rayon::prelude::*;

use super::layout::{Layout, runs};
use super::matrix::{Left, Packed, blend, scale, squares};
use super::{PIECE, adam};
use crate::job::Muon;
use crate::train::ops::element::Element;
use crate::train::ops::lanes::wide;
use crate::train::ops::tile::Start;

/// Of the quintic that takes singular values to between 0.7 and 1.2 in five steps.
pub const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// The root of the mean square of Adam's updates, about.
pub const SIZE: f64 = 0.2;

/// Makes the direction of step `step` (from 0) of a clipped gradient, in its place. `first` are hidden matrices' momenta
/// and Adam's first moments of the rest, whose second are in `second`.
pub(super) fn direct(
    of: &Muon,
    step: u64,
    layout: &Layout,
    first: &mut [f32],
    second: &mut [f32],
    gradient: &mut [f32],
) {
    let hidden: Vec<_> = layout.matrices.iter().filter(|matrix| !matrix.head).collect();
    let places: Vec<_> = hidden.iter().map(|matrix| matrix.place.clone()).collect();
    let (rule, beta) = (adam::Rule::new(&of.adam, step, 1.0), of.momentum as f32);
    let pieces = gradient.par_chunks_mut(PIECE).zip(first.par_chunks_mut(PIECE)).zip(second.par_chunks_mut(PIECE));
    pieces.enumerate().for_each(|(piece, ((gradient, first), second))| {
        for (range, hidden) in runs(piece * PIECE, gradient.len(), &places) {
            let (gradient, first) = (&mut gradient[range.clone()], &mut first[range.clone()]);
            match hidden {
                true => gather(beta, of.nesterov, first, gradient),
                false => adam::direct(rule, first, &mut second[range], gradient),
            }
        }
    });
    let mut rest = gradient;
    let mut at = 0;
    let mut tasks = Vec::new();
    for matrix in hidden {
        let (_, after) = std::mem::take(&mut rest).split_at_mut(matrix.place.start - at);
        let (own, after) = after.split_at_mut(matrix.place.len());
        (rest, at) = (after, matrix.place.end);
        tasks.push((matrix, own));
    }
    tasks.into_par_iter().for_each(|(matrix, numbers)| {
        let size = SIZE * (matrix.rows.max(matrix.columns) as f64).sqrt();
        orthogonalize(numbers, matrix.columns, of.iterations, size as f32);
    });
}

wide! {
    fn gather(beta: T, nesterov: bool, momentum: &mut [T], gradient: &mut [T]) {
        let n = gradient.len();
        let momentum = &mut momentum[..n];
        for i in 0..n {
            let g = gradient[i];
            let m = beta.mul_add(momentum[i], g);
            momentum[i] = m;
            gradient[i] = if nesterov { beta.mul_add(m, g) } else { m };
        }
    }
}

/// `[rows, columns]` becomes `size` times nearly U V' of its singular vectors.
fn orthogonalize(of: &mut [f32], columns: usize, iterations: u32, size: f32) {
    let length = squares(of).sqrt();
    if length == 0.0 {
        return;
    }
    scale(of, (1.0 / length) as f32);
    let rows = of.len() / columns;
    if rows <= columns {
        iterate(of, rows, columns, iterations);
    } else {
        // The smaller side's square is what is multiplied by.
        let mut turned = turned(of, columns);
        iterate(&mut turned, columns, rows, iterations);
        of.copy_from_slice(&self::turned(&turned, rows));
    }
    scale(of, size);
}

/// `X <- a X + (b A + c A A) X` with `A = X X'`.
fn iterate(x: &mut [f32], rows: usize, columns: usize, iterations: u32) {
    let [a, b, c] = QUINTIC;
    let (mut packed, mut square, mut polynomial) = (Packed::default(), vec![0.0; rows * rows], vec![0.0; rows * rows]);
    let mut next = vec![0.0; x.len()];
    for _ in 0..iterations {
        packed.take_transposed(x, columns);
        packed.multiply_wide(Left::plain(x, columns), Start::Zero, &mut square);
        packed.take(&square, rows);
        packed.multiply_wide(Left::plain(&square, rows), Start::Zero, &mut polynomial);
        blend(&mut polynomial, c, &square, b);
        next.copy_from_slice(x);
        scale(&mut next, a);
        packed.take(x, columns);
        packed.multiply_wide(Left::plain(&polynomial, rows), Start::Result, &mut next);
        x.copy_from_slice(&next);
    }
}

fn turned(of: &[f32], columns: usize) -> Vec<f32> {
    let rows = of.len() / columns;
    let mut to = vec![0.0; of.len()];
    for (row, numbers) in of.chunks_exact(columns).enumerate() {
        to[row..].iter_mut().step_by(rows).zip(numbers).for_each(|(to, from)| *to = *from);
    }
    to
}

#[cfg(test)]
mod tests {
    use super::super::matrix::tests::{by_hand, transposed};
    use super::*;
    use crate::train::random::{Purpose, Stream};

    /// Singular values come to between 0.7 and 1.2, whichever side is longer, and what is not a number stays so.
    #[test]
    fn a_matrix_becomes_nearly_orthogonal() {
        for (rows, columns) in [(1, 30), (30, 1), (20, 70), (150, 40), (64, 64)] {
            // Of full rank, or some values would have to stay zero.
            let mut stream = Stream::new(0, Purpose::TeacherView, 0);
            let mut x: Vec<f32> = (0..rows * columns).map(|_| stream.unit() as f32 - 0.5).collect();
            orthogonalize(&mut x, columns, 5, 1.0);
            let short = rows.min(columns);
            let (x, long) = if rows <= columns { (x, columns) } else { (transposed(&x, columns), rows) };
            let gram = by_hand(&x, &transposed(&x, long), long);
            let trace: f64 = gram.iter().step_by(short + 1).sum();
            // Of squares; small values of a square matrix are still on their way.
            assert!((0.4..1.4).contains(&(trace / short as f64)), "{rows} x {columns}: {trace}");
        }
        let mut bad = vec![1.0, f32::NAN, 2.0, 3.0];
        orthogonalize(&mut bad, 2, 5, 1.0);
        assert!(bad.iter().all(|value| value.is_nan()));
    }
}
