//! Muon's direction: the iteration of Newton and Schulz, a launch for the same product of all hidden matrices.

use std::rc::Rc;

use anyhow::Result;

use super::{Places, Room, Table};
use crate::job::Muon;
use crate::train::cuda::device::{Address, Gpu, Number, Spread};
use crate::train::cuda::operation::u32_of;
use crate::train::cuda::tiles::{Operand, Product, Tiles};
use crate::train::cuda::weights::Rows;
use crate::train::optimizer::{Layout, MUON_SIZE, Matrix, QUINTIC};

/// `NO_MATRIX` of `kernels/muon.cu`.
const NO_MATRIX: u32 = u32::MAX;
/// Bytes of a matrix's products and their tiles, where it is not large.
const TABLES: usize = 2 << 10;

fn hidden(layout: &Layout) -> impl Iterator<Item = &Matrix> {
    layout.matrices.iter().filter(|matrix| !matrix.head)
}

/// Places that are needed between gradient and update.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    /// Of all numbers, flat: the direction, and the other place of X.
    x: [Address; 2],
    /// `X X'` of all hidden matrices, and their polynomials.
    gram: Address,
    polynomial: Address,
    factors: Address,
    pub end: Address,
}

impl Scratch {
    pub fn new(layout: &Layout, at: Address) -> Scratch {
        let mut room = Room(at);
        let grams: usize = hidden(layout).map(|matrix| 4 * matrix.rows.min(matrix.columns).pow(2)).sum();
        Scratch {
            x: [room.take(4 * layout.len), room.take(4 * layout.len)],
            gram: room.take(grams),
            polynomial: room.take(grams),
            factors: room.take(4 * hidden(layout).count()),
            end: room.0,
        }
    }
}

/// Bytes of tables, about.
pub(super) fn tables(layout: &Layout, rows: &Rows) -> usize {
    TABLES * hidden(layout).count() + 4 * rows.count
}

pub(super) struct Tables {
    scratch: Scratch,
    /// By the place of X.
    grams: [Tiles; 2],
    polynomials: Tiles,
    /// By the place of X, which goes to the other.
    next: [Tiles; 2],
    /// Into the direction's place, of its size.
    last: Tiles,
    matrices: Table,
    spans: Table,
}

impl Tables {
    pub fn new(gpu: &Rc<Gpu>, layout: &Layout, places: Places<'_>) -> Result<Tables> {
        let scratch = Scratch::new(layout, places.scratch);
        let [a, b, c] = QUINTIC;
        let (mut grams, mut polynomials, mut next) = ([vec![], vec![]], vec![], [vec![], vec![]]);
        let (mut last, mut spans) = (vec![], vec![]);
        let mut matrices = vec![NO_MATRIX; places.rows.count];
        let mut before = 0;
        for (index, matrix) in hidden(layout).enumerate() {
            let (rows, columns) = (matrix.rows, matrix.columns);
            let (short, long) = (rows.min(columns), rows.max(columns));
            let [gram, polynomial] = [scratch.gram, scratch.polynomial].map(|base| base + 4 * before as u64);
            let square = |at| Operand::rows(at, short);
            for from in 0..2 {
                let [x, to] = [from, 1 - from].map(|place| scratch.x[place] + 4 * matrix.place.start as u64);
                let plain = Operand::rows(x, columns);
                // The smaller side's square is what is multiplied by. It is symmetric, so it may stand on the right.
                let (one, product) = if rows <= columns {
                    (plain, Product::new((rows, rows, columns), square(polynomial), plain, to))
                } else {
                    (plain.transposed(), Product::new((rows, columns, columns), plain, square(polynomial), to))
                };
                grams[from].push(Product::new((short, long, short), one, one.transposed(), gram));
                let product = Product { plus: x, keep: a, ..product };
                next[from].push(product);
                if from == 1 {
                    let size = (MUON_SIZE * (long as f64).sqrt()) as f32;
                    last.push(Product { by: size, keep: size * a, ..product });
                }
            }
            let product = Product::new((short, short, short), square(gram), square(gram), polynomial);
            polynomials.push(Product { by: c, plus: gram, keep: b, ..product });
            let own = places.rows.of(&matrix.place);
            // `struct Span`.
            spans.push([own.start, own.len()].map(|number| u32_of(number).to_le_bytes()).concat());
            matrices[own].fill(u32_of(index));
            before += short * short;
        }
        let matrices: Vec<Vec<u8>> = matrices.iter().map(|matrix| matrix.to_le_bytes().to_vec()).collect();
        Ok(Tables {
            scratch,
            grams: [Tiles::new(gpu, &grams[0])?, Tiles::new(gpu, &grams[1])?],
            polynomials: Tiles::new(gpu, &polynomials)?,
            next: [Tiles::new(gpu, &next[0])?, Tiles::new(gpu, &next[1])?],
            last: Tiles::new(gpu, &last)?,
            matrices: Table::new(gpu, &matrices)?,
            spans: Table::new(gpu, &spans)?,
        })
    }

    pub fn enqueue(&self, gpu: &Gpu, number: Number, of: &Muon, places: Places<'_>) -> Result<Address> {
        let Places { rows, gradient, weights, moments, control, status, squares, .. } = places;
        let Scratch { x, factors, .. } = self.scratch;
        let matrices = self.matrices.buffer.address;
        let arguments = [
            rows.table().into(),
            matrices.into(),
            gradient.into(),
            weights.into(),
            moments[0].address.into(),
            moments[1].address.into(),
            x[0].into(),
            squares.into(),
            control.into(),
            status.into(),
            (of.momentum as f32).into(),
            of.nesterov.into(),
            (of.adam.beta1 as f32).into(),
            (of.adam.beta2 as f32).into(),
            (of.adam.epsilon as f32).into(),
        ];
        gpu.launch(number, "muon_rows", rows.spread(), &arguments)?;
        if self.spans.count == 0 {
            return Ok(x[0]);
        }
        let arguments = [self.spans.buffer.address.into(), squares.into(), factors.into(), status.into()];
        gpu.launch(number, "hidden_factors", Spread::blocks([self.spans.count, 1, 1], 256), &arguments)?;
        // Such that the last iteration ends in the direction's place.
        let place = |iteration: u32| ((of.iterations - iteration) % 2) as usize;
        let arguments =
            [rows.table().into(), matrices.into(), factors.into(), x[0].into(), x[place(0)].into(), status.into()];
        gpu.launch(number, "hidden_rows", rows.spread(), &arguments)?;
        for iteration in 0..of.iterations {
            self.grams[place(iteration)].launch(gpu, number, status)?;
            self.polynomials.launch(gpu, number, status)?;
            let ends = iteration + 1 == of.iterations;
            let next = if ends { &self.last } else { &self.next[place(iteration)] };
            next.launch(gpu, number, status)?;
        }
        Ok(x[0])
    }
}
