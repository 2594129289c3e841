//! Shampoo's direction: products of all blocks at once, and what lies between them (`kernels/shampoo.cu`).

use std::rc::Rc;

use anyhow::Result;

use super::{Places, Room, Table};
use crate::job::Shampoo;
use crate::train::cuda::device::{Address, Gpu, Number, Spread};
use crate::train::cuda::operation::u32_of;
use crate::train::cuda::tiles::{Operand, Product, Tiles};
use crate::train::optimizer::{self, Layout, ROOT_ITERATIONS};

/// Bytes of a `struct Progress`, whose first four say that a root is done.
const PROGRESS: usize = 8;
/// Bytes of a block's products and their tiles, where it is not large.
const TABLES: usize = 2 << 10;
const THREADS: usize = 256;

/// Places that are needed between gradient and update.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    direction: Address,
    /// `L^(-1/4) G`, block by block.
    half: Address,
    /// That times `R^(-1/4)`.
    preconditioned: Address,
    /// Of the iteration, laid as the statistics.
    m: Address,
    t: Address,
    /// `T T`.
    squared: Address,
    /// X's two places.
    x: [Address; 2],
    progress: Address,
    lengths: Address,
    factors: Address,
    pub end: Address,
}

impl Scratch {
    pub fn new(of: &Shampoo, layout: &Layout, at: Address) -> Scratch {
        let mut room = Room(at);
        let statistics = 4 * optimizer::statistics(of, layout);
        let matrices: usize = layout.matrices.iter().map(|matrix| 4 * matrix.place.len()).sum();
        let blocks = optimizer::blocks(of, layout).count();
        Scratch {
            direction: room.take(4 * layout.len),
            half: room.take(matrices),
            preconditioned: room.take(matrices),
            m: room.take(statistics),
            t: room.take(statistics),
            squared: room.take(statistics),
            x: [room.take(statistics), room.take(statistics)],
            progress: room.take(2 * blocks * PROGRESS),
            lengths: room.take(16 * blocks),
            factors: room.take(4 * layout.matrices.len()),
            end: room.0,
        }
    }
}

/// Bytes of tables, about.
pub(super) fn tables(of: &Shampoo, layout: &Layout) -> usize {
    TABLES * optimizer::blocks(of, layout).count()
}

pub(super) struct Tables {
    scratch: Scratch,
    statistics: Tiles,
    /// `T T` and `X T`, by the place of X.
    squares: [Tiles; 2],
    /// `T T M`, in T's place.
    second: Tiles,
    /// `T T T T M`, in M's place.
    third: Tiles,
    halves: Tiles,
    wholes: Tiles,
    sides: Table,
    blocks: Table,
    matrices: Table,
}

/// The same before they are on the GPU.
#[derive(Default)]
struct Lists {
    statistics: Vec<Product>,
    squares: [Vec<Product>; 2],
    second: Vec<Product>,
    third: Vec<Product>,
    halves: Vec<Product>,
    wholes: Vec<Product>,
    sides: Vec<Vec<u8>>,
    blocks: Vec<Vec<u8>>,
    matrices: Vec<Vec<u8>>,
}

impl Lists {
    /// A statistic of `n` rows, the numbers of all before it.
    fn side(&mut self, scratch: &Scratch, [statistics, roots]: [Address; 2], before: usize, n: usize) {
        let own = |base: Address| base + 4 * before as u64;
        let matrix = |base: Address| Operand::rows(own(base), n);
        let gate = scratch.progress + (PROGRESS * self.sides.len()) as u64;
        let product = |left: Address, right: Address, to: Address| Product {
            gate,
            ..Product::new((n, n, n), matrix(left), matrix(right), own(to))
        };
        let Scratch { m, t, squared, x, .. } = *scratch;
        for from in 0..2 {
            self.squares[from].extend([product(t, t, squared), product(x[from], t, x[1 - from])]);
        }
        self.second.push(product(squared, m, t));
        self.third.push(product(squared, t, m));
        // `struct Side`.
        let places = [statistics, roots, m, t, x[0], x[1]].map(|base| own(base).to_le_bytes());
        self.sides.push([places.concat(), (n as u64).to_le_bytes().to_vec()].concat());
    }
}

impl Tables {
    pub fn new(gpu: &Rc<Gpu>, of: &Shampoo, layout: &Layout, places: Places<'_>) -> Result<Tables> {
        let scratch = Scratch::new(of, layout, places.scratch);
        let [statistics, roots] = [1, 2].map(|vector: usize| places.moments[vector].address);
        let (keep, take) = optimizer::keep_and_take(of);
        let mut lists = Lists::default();
        let (mut before, mut packed, mut last) = (0, 0, None);
        for (at, block) in optimizer::blocks(of, layout) {
            let matrix = &layout.matrices[at];
            let (rows, columns) = (block.rows, block.columns);
            let first = matrix.place.start + block.row * matrix.columns + block.column;
            let g = Operand::rows(scratch.direction + 4 * first as u64, matrix.columns);
            let [left, right] = [before, before + rows * rows];
            for (n, inner, own, sides) in
                [(rows, columns, left, (g, g.transposed())), (columns, rows, right, (g.transposed(), g))]
            {
                let to = statistics + 4 * own as u64;
                let product = Product::new((n, inner, n), sides.0, sides.1, to);
                lists.statistics.push(Product { by: take, plus: to, keep, ..product });
                lists.side(&scratch, [statistics, roots], own, n);
            }
            let root = |own: usize, n| Operand::rows(roots + 4 * own as u64, n);
            let [half, whole] = [scratch.half, scratch.preconditioned].map(|base| base + 4 * packed as u64);
            lists.halves.push(Product::new((rows, rows, columns), root(left, rows), g, half));
            let half = Operand::rows(half, columns);
            lists.wholes.push(Product::new((rows, columns, columns), half, root(right, columns), whole));
            // `struct Span` of its matrix.
            if last.replace(at) != Some(at) {
                let count = optimizer::blocks(of, layout).filter(|(of, _)| *of == at).count();
                lists.matrices.push([lists.blocks.len(), count].map(|n| u32_of(n).to_le_bytes()).concat());
            }
            // `struct Block`.
            let wide = [first, packed].map(|number| (number as u64).to_le_bytes()).concat();
            let narrow = [matrix.columns, rows, columns, at].map(|number| u32_of(number).to_le_bytes()).concat();
            lists.blocks.push([wide, narrow].concat());
            before += block.statistics();
            packed += rows * columns;
        }
        let [even, odd] = &lists.squares;
        Ok(Tables {
            scratch,
            statistics: Tiles::new(gpu, &lists.statistics)?,
            squares: [Tiles::new(gpu, even)?, Tiles::new(gpu, odd)?],
            second: Tiles::new(gpu, &lists.second)?,
            third: Tiles::new(gpu, &lists.third)?,
            halves: Tiles::new(gpu, &lists.halves)?,
            wholes: Tiles::new(gpu, &lists.wholes)?,
            sides: Table::new(gpu, &lists.sides)?,
            blocks: Table::new(gpu, &lists.blocks)?,
            matrices: Table::new(gpu, &lists.matrices)?,
        })
    }

    pub fn enqueue(&self, gpu: &Gpu, number: Number, of: &Shampoo, places: Places<'_>, due: bool) -> Result<Address> {
        let Places { rows, gradient, weights, moments, control, status, .. } = places;
        let Scratch { direction, preconditioned, lengths, factors, .. } = self.scratch;
        let arguments =
            [rows.table().into(), gradient.into(), weights.into(), direction.into(), control.into(), status.into()];
        gpu.launch(number, "slope_rows", rows.spread(), &arguments)?;
        self.statistics.launch(gpu, number, status)?;
        if due {
            self.roots(gpu, number, of, status)?;
        }
        self.halves.launch(gpu, number, status)?;
        self.wholes.launch(gpu, number, status)?;
        if let (Some([keep, take, _, epsilon]), Some(squares)) = (optimizer::squares_of(&of.graft, 0), moments.get(3)) {
            let arguments = [
                rows.table().into(),
                direction.into(),
                squares.address.into(),
                keep.into(),
                take.into(),
                epsilon.into(),
                control.into(),
                status.into(),
            ];
            gpu.launch(number, "graft_rows", rows.spread(), &arguments)?;
        }
        let over = |table: &Table| Spread::blocks([table.count, 1, 1], THREADS);
        let blocks = self.blocks.buffer.address;
        let arguments = [blocks.into(), direction.into(), preconditioned.into(), lengths.into(), status.into()];
        gpu.launch(number, "block_lengths", over(&self.blocks), &arguments)?;
        let arguments = [self.matrices.buffer.address.into(), lengths.into(), factors.into(), status.into()];
        gpu.launch(number, "matrix_factors", over(&self.matrices), &arguments)?;
        let arguments = [blocks.into(), preconditioned.into(), factors.into(), direction.into(), status.into()];
        gpu.launch(number, "lay_blocks", over(&self.blocks), &arguments)?;
        Ok(direction)
    }

    /// Inverse fourth roots of all statistics. How many iterations each takes is known on the GPU alone: those that are
    /// done leave the rest out.
    fn roots(&self, gpu: &Gpu, number: Number, of: &Shampoo, status: Address) -> Result<()> {
        let (sides, progress) = (self.sides.buffer.address, self.scratch.progress);
        let spread = Spread::blocks([self.sides.count, 1, 1], THREADS);
        let arguments = [sides.into(), progress.into(), (of.epsilon as f32).into(), status.into()];
        gpu.launch(number, "root_begin", spread, &arguments)?;
        for iteration in 0..ROOT_ITERATIONS {
            let from = iteration % 2;
            self.squares[from].launch(gpu, number, status)?;
            self.second.launch(gpu, number, status)?;
            self.third.launch(gpu, number, status)?;
            let last = iteration + 1 == ROOT_ITERATIONS;
            let arguments = [sides.into(), progress.into(), u32_of(from).into(), last.into(), status.into()];
            gpu.launch(number, "root_judge", spread, &arguments)?;
        }
        Ok(())
    }
}
