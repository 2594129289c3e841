//! Shampoo (Gupta et al., arXiv 1802.09568; Anil et al., arXiv 2002.09018): a matrix's gradient G becomes
//! `L^(-1/4) G R^(-1/4)`, where L and R sum up `G G'` and `G' G`, in blocks of limited side (paper.md 1.9).
//!
//! The direction is that; its length, tensor by tensor, is that of a simpler rule ([`Graft`]), by which all that is no
//! matrix goes altogether. Momentum and decay follow, as for SGD.
//!
//! Each block is one core's, and sums over blocks go in their order, so bits do not depend on the number of threads.

use rayon::prelude::*;

use super::PIECE;
use super::layout::{Layout, Matrix};
use super::matrix::{Left, Packed, blend, scale, squares};
use super::root::{self, inverse_fourth_root};
use crate::job::{Adagrad, Graft, Rmsprop, Shampoo};
use crate::train::ops::element::Element;
use crate::train::ops::lanes::wide;
use crate::train::ops::tile::Start;

/// What is kept from step to step.
pub(super) struct Kept<'a> {
    /// L and R of every block, one after another.
    pub statistics: &'a mut [f32],
    /// Their roots.
    pub roots: &'a mut [f32],
    /// Sums or averages of squares of all numbers, where the graft has them.
    pub squares: Option<&'a mut [f32]>,
}

/// A part of a matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub row: usize,
    pub column: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Block {
    /// Numbers of L and R, in this order.
    pub fn statistics(self) -> usize {
        self.rows * self.rows + self.columns * self.columns
    }

    fn len(self) -> usize {
        self.rows * self.columns
    }
}

/// Row by row; only the last of each is smaller than it may be.
fn blocks_of(matrix: &Matrix, side: usize) -> impl Iterator<Item = Block> {
    let (rows, columns) = (matrix.rows, matrix.columns);
    (0..rows).step_by(side).flat_map(move |row| {
        (0..columns).step_by(side).map(move |column| Block {
            row,
            column,
            rows: side.min(rows - row),
            columns: side.min(columns - column),
        })
    })
}

/// Of all matrices, each with the matrix's place among them, in the order in which statistics lie.
pub fn blocks(of: &Shampoo, layout: &Layout) -> impl Iterator<Item = (usize, Block)> {
    let side = of.block as usize;
    let of_each = move |(at, matrix)| blocks_of(matrix, side).map(move |block| (at, block));
    layout.matrices.iter().enumerate().flat_map(of_each)
}

/// Numbers of all statistics.
pub fn statistics(of: &Shampoo, layout: &Layout) -> usize {
    blocks(of, layout).map(|(_, block)| block.statistics()).sum()
}

/// Roots to begin with: none changes anything.
pub(super) fn identities(of: &Shampoo, layout: &Layout) -> Vec<f32> {
    let mut roots = Vec::with_capacity(statistics(of, layout));
    for side in blocks(of, layout).flat_map(|(_, block)| [block.rows, block.columns]) {
        let start = roots.len();
        roots.resize(start + side * side, 0.0);
        roots[start..].iter_mut().step_by(side + 1).for_each(|one| *one = 1.0);
    }
    roots
}

/// One core's share of a step.
struct Task<'a> {
    matrix: &'a Matrix,
    block: Block,
    statistics: &'a mut [f32],
    roots: &'a mut [f32],
    /// `[rows, columns]` of the block.
    to: &'a mut [f32],
}

#[derive(Default)]
struct Room {
    gradient: Vec<f32>,
    product: Vec<f32>,
    packed: Packed,
    roots: root::Room,
}

/// Makes the direction of step `step` (from 0) of a clipped gradient, in its place.
pub(super) fn direct(of: &Shampoo, step: u64, layout: &Layout, kept: Kept<'_>, gradient: &mut [f32]) {
    let numbers = layout.matrices.iter().map(|matrix| matrix.place.len()).sum();
    let mut preconditioned = vec![0.0; numbers];
    let lengths = precondition(of, step, layout, kept.statistics, kept.roots, gradient, &mut preconditioned);
    graft(&of.graft, step, kept.squares, gradient);
    let side = of.block as usize;
    let mut rest = (&preconditioned[..], &lengths[..]);
    for matrix in &layout.matrices {
        let (from, after) = rest.0.split_at(matrix.place.len());
        let (lengths, others) = rest.1.split_at(blocks_of(matrix, side).count());
        rest = (after, others);
        let to = &mut gradient[matrix.place.clone()];
        let (wanted, found) = (squares(to).sqrt(), lengths.iter().sum::<f64>().sqrt());
        // Where a tiny gradient's products vanish the graft stands alone.
        if found != 0.0 {
            lay(matrix, side, from, (wanted / found) as f32, to);
        }
    }
}

/// Statistics, roots where they are due, and `L^(-1/4) G R^(-1/4)` of all blocks one after another; returns the sums of
/// squares of those.
fn precondition(
    of: &Shampoo,
    step: u64,
    layout: &Layout,
    mut statistics: &mut [f32],
    mut roots: &mut [f32],
    gradient: &[f32],
    mut preconditioned: &mut [f32],
) -> Vec<f64> {
    let mut tasks = Vec::new();
    for (at, block) in blocks(of, layout) {
        tasks.push(Task {
            matrix: &layout.matrices[at],
            block,
            statistics: cut(&mut statistics, block.statistics()),
            roots: cut(&mut roots, block.statistics()),
            to: cut(&mut preconditioned, block.len()),
        });
    }
    let due = step.is_multiple_of(u64::from(of.every));
    let work = |room: &mut Room, task: Task<'_>| task.work(of, due, gradient, room);
    tasks.into_par_iter().map_init(Room::default, work).collect()
}

/// What a statistic keeps of itself, and what it takes of a step's product.
pub fn keep_and_take(of: &Shampoo) -> (f32, f32) {
    (of.beta2 as f32, if of.beta2 == 1.0 { 1.0 } else { (1.0 - of.beta2) as f32 })
}

fn cut<'a>(from: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (first, rest) = std::mem::take(from).split_at_mut(count);
    *from = rest;
    first
}

impl Task<'_> {
    fn work(self, of: &Shampoo, due: bool, gradient: &[f32], room: &mut Room) -> f64 {
        let Task { matrix, block: Block { row, column, rows, columns }, statistics, roots, to } = self;
        let Room { gradient: g, product, packed, roots: room } = room;
        g.clear();
        for row in row..row + rows {
            g.extend_from_slice(&gradient[matrix.place.start + row * matrix.columns + column..][..columns]);
        }
        product.resize(rows.max(columns).pow(2), 0.0);
        let (keep, take) = keep_and_take(of);
        let (left, right) = statistics.split_at_mut(rows * rows);
        packed.take_transposed(g, columns);
        packed.multiply(Left::plain(g, columns), rows, Start::Zero, &mut product[..rows * rows]);
        blend(left, keep, &product[..rows * rows], take);
        packed.take(g, columns);
        packed.multiply(Left::transposed(g, columns), columns, Start::Zero, &mut product[..columns * columns]);
        blend(right, keep, &product[..columns * columns], take);
        let (left_root, right_root) = roots.split_at_mut(rows * rows);
        if due {
            inverse_fourth_root(left, rows, of.epsilon as f32, room, left_root);
            inverse_fourth_root(right, columns, of.epsilon as f32, room, right_root);
        }
        let half = &mut product[..rows * columns];
        packed.multiply(Left::plain(left_root, rows), rows, Start::Zero, half);
        packed.take(right_root, columns);
        packed.multiply(Left::plain(half, columns), rows, Start::Zero, to);
        squares(to)
    }
}

/// Lays blocks beside one another, `by` times.
fn lay(matrix: &Matrix, side: usize, from: &[f32], by: f32, to: &mut [f32]) {
    let columns = matrix.columns;
    to.par_chunks_mut(side * columns).zip(from.par_chunks(side * columns)).for_each(|(to, from)| {
        let rows = to.len() / columns;
        let mut from = from;
        for column in (0..columns).step_by(side) {
            let wide = side.min(columns - column);
            let (block, rest) = from.split_at(rows * wide);
            from = rest;
            for (to, from) in to.chunks_exact_mut(columns).zip(block.chunks_exact(wide)) {
                to[column..column + wide].copy_from_slice(from);
            }
        }
        scale(to, by);
    });
}

/// What squares keep of themselves at step `step` (from 0), what they take of the gradient's, their correction, and the
/// epsilon beside their root; None where there are none.
pub fn squares_of(graft: &Graft, step: u64) -> Option<[f32; 4]> {
    let (keep, take, correction, epsilon) = match *graft {
        Graft::Sgd => return None,
        Graft::Adagrad(Adagrad { epsilon }) => (1.0, 1.0, 1.0, epsilon),
        Graft::Rmsprop(Rmsprop { beta2, epsilon }) => {
            let updates = i32::try_from(step + 1).unwrap_or(i32::MAX);
            (beta2, 1.0 - beta2, 1.0 / (1.0 - beta2.powi(updates)), epsilon)
        }
    };
    Some([keep, take, correction, epsilon].map(|constant| constant as f32))
}

/// The graft's own direction, in the gradient's place.
fn graft(of: &Graft, step: u64, squares: Option<&mut [f32]>, gradient: &mut [f32]) {
    let (Some(constants), Some(squares)) = (squares_of(of, step), squares) else { return };
    gradient
        .par_chunks_mut(PIECE)
        .zip(squares.par_chunks_mut(PIECE))
        .for_each(|(gradient, squares)| over_root(constants, squares, gradient));
}

wide! {
    fn over_root(constants: [T; 4], squares: &mut [T], gradient: &mut [T]) {
        let n = gradient.len();
        let squares = &mut squares[..n];
        let [keep, take, correction, epsilon] = constants;
        for i in 0..n {
            let g = gradient[i];
            let v = keep.mul_add(squares[i], take * g * g);
            squares[i] = v;
            gradient[i] = g / ((v * correction).square_root() + epsilon);
        }
    }
}
