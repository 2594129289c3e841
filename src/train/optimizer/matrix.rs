//! Products of the matrices that optimisers have, by the tiles of [`crate::train::ops`].
//!
//! # Shapes
//! Matrices are row-major without gaps. What stands on the right of a product is *packed*: `[columns / 16][rows][16]`,
//! zeros where the last block is not full.

use rayon::prelude::*;

use crate::train::ops::element::Element;
use crate::train::ops::lanes::{sum_of, wide};
use crate::train::ops::product::{Product, product};
use crate::train::ops::tile::{BLOCK, Start, Target};

/// Rows of a product that one core takes.
const PANEL: usize = 56;

/// A product's right side.
#[derive(Default)]
pub(super) struct Packed {
    numbers: Vec<f32>,
    rows: usize,
    columns: usize,
}

/// A product's left side: numbers `row` apart from row to row, `step` from column to column.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub numbers: &'a [f32],
    pub row: usize,
    pub step: usize,
}

impl Left<'_> {
    /// A matrix of so many columns.
    pub fn plain(numbers: &[f32], columns: usize) -> Left<'_> {
        Left { numbers, row: columns, step: 1 }
    }

    /// The transposed of a matrix of so many columns.
    pub fn transposed(numbers: &[f32], columns: usize) -> Left<'_> {
        Left { numbers, row: 1, step: columns }
    }
}

impl Packed {
    /// Takes `[rows, columns]`.
    pub fn take(&mut self, of: &[f32], columns: usize) {
        let rows = of.len() / columns;
        self.shape(rows, columns);
        for (block, to) in self.numbers.chunks_exact_mut(rows * BLOCK).enumerate() {
            let some = block * BLOCK..columns.min((block + 1) * BLOCK);
            for (row, to) in of.chunks_exact(columns).zip(to.chunks_exact_mut(BLOCK)) {
                to[..some.len()].copy_from_slice(&row[some.clone()]);
            }
        }
    }

    /// Takes the transposed of `[rows, columns]`.
    pub fn take_transposed(&mut self, of: &[f32], columns: usize) {
        let rows = of.len() / columns;
        self.shape(columns, rows);
        for (block, to) in self.numbers.chunks_exact_mut(columns * BLOCK).enumerate() {
            for (lane, row) in of.chunks_exact(columns).skip(block * BLOCK).take(BLOCK).enumerate() {
                to[lane..].iter_mut().step_by(BLOCK).zip(row).for_each(|(to, from)| *to = *from);
            }
        }
    }

    fn shape(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.numbers.clear();
        self.numbers.resize(rows * columns.next_multiple_of(BLOCK), 0.0);
    }

    /// `to[rows, self.columns] = x[rows, self.rows] self`, or added to what is there.
    pub fn multiply(&self, x: Left<'_>, rows: usize, start: Start<'_, f32>, to: &mut [f32]) {
        let of = Product {
            x: x.numbers,
            x_row: x.row,
            x_step: x.step,
            w: &self.numbers,
            w_step: BLOCK,
            w_block: self.rows * BLOCK,
            rows,
            sum: self.rows,
            pairs: false,
        };
        product(&of, Target { y: to, row: self.columns, channels: self.columns, start, bias: None });
    }

    /// The same over all cores: each number is one sum, whoever takes it.
    pub fn multiply_wide(&self, x: Left<'_>, start: Start<'_, f32>, to: &mut [f32]) {
        to.par_chunks_mut(PANEL * self.columns).enumerate().for_each(|(panel, to)| {
            let x = Left { numbers: &x.numbers[panel * PANEL * x.row..], ..x };
            self.multiply(x, to.len() / self.columns, start, to);
        });
    }
}

wide! {
    /// `to = keep to + take of`
    fn blend(to: &mut [T], keep: T, of: &[T], take: T) {
        let n = to.len();
        let of = &of[..n];
        for i in 0..n {
            to[i] = keep.mul_add(to[i], take * of[i]);
        }
    }
}

wide! {
    /// `to *= by`
    fn scale(to: &mut [T], by: T) {
        for to in to.iter_mut() {
            *to *= by;
        }
    }
}

wide! {
    fn dot(a: &[T], b: &[T]) -> T {
        sum_of(a.len(), |i| a[i] * b[i])
    }
}

/// The sum of squares: short f32 sums, then f64, for a long f32 sum would lose small numbers beside large ones.
pub(super) fn squares(of: &[f32]) -> f64 {
    of.chunks(256).map(|some| f64::from(dot(some, some))).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn some(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// `a[rows, inner] b[inner, columns]` in f64.
    pub fn by_hand(a: &[f32], b: &[f32], inner: usize) -> Vec<f64> {
        let (rows, columns) = (a.len() / inner, b.len() / inner);
        let sum = |row: usize, column: usize| {
            (0..inner).map(|k| f64::from(a[row * inner + k]) * f64::from(b[k * columns + column])).sum()
        };
        (0..rows * columns).map(|at| sum(at / columns, at % columns)).collect()
    }

    pub fn transposed(of: &[f32], columns: usize) -> Vec<f32> {
        let rows = of.len() / columns;
        (0..of.len()).map(|at| of[at % rows * columns + at / rows]).collect()
    }

    #[test]
    fn products_are_right_however_they_lie() {
        let near = |found: &[f32], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 1e-4, "{a} {b}"));
        };
        for (rows, inner, columns) in [(1, 1, 1), (7, 3, 17), (60, 33, 5), (130, 16, 40)] {
            let (a, b) = (some(rows * inner, 1), some(inner * columns, 2));
            let expected = by_hand(&a, &b, inner);
            let (mut plain, mut turned) = (Packed::default(), Packed::default());
            plain.take(&b, columns);
            turned.take_transposed(&transposed(&b, columns), inner);
            let mut found = vec![0.0; rows * columns];
            plain.multiply(Left::plain(&a, inner), rows, Start::Zero, &mut found);
            near(&found, &expected);
            let before = found.clone();
            turned.multiply_wide(Left::transposed(&transposed(&a, inner), rows), Start::Zero, &mut found);
            assert_eq!(found, before);
            turned.multiply_wide(Left::plain(&a, inner), Start::Result, &mut found);
            near(&found, &expected.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
        }
    }
}
