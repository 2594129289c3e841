//! Many products of f32 matrices in one launch, by a kernel of our own (`kernels/products.cu`).
//!
//! cuBLASLt ([`super::products`]) would be faster for a large matrix, but takes a call for each, and an optimiser has
//! hundreds of small ones.

use std::rc::Rc;

use anyhow::Result;

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number, Spread};
use super::operation::u32_of;

/// `PRODUCT_SIDE` of the kernel.
const SIDE: usize = 64;

/// A matrix that is multiplied: numbers `row` apart from row to row, `step` from column to column.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub at: Address,
    pub row: usize,
    pub step: usize,
}

impl Operand {
    /// Row-major, rows so far apart.
    pub fn rows(at: Address, row: usize) -> Operand {
        Operand { at, row, step: 1 }
    }

    pub fn transposed(self) -> Operand {
        Operand { at: self.at, row: self.step, step: self.row }
    }
}

/// `to[rows, columns] = by left[rows, inner] right[inner, columns] + keep plus[rows, columns]`
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub inner: usize,
    pub left: Operand,
    pub right: Operand,
    pub to: Address,
    /// Of `to` and `plus`, from row to row.
    pub to_row: usize,
    pub by: f32,
    pub plus: Address,
    /// 0: `plus` is not read.
    pub keep: f32,
    /// Of a number that says by not being 0 that nothing is to be done; 0 for none.
    pub gate: Address,
}

impl Product {
    /// Nothing but the product, its rows side by side.
    pub fn new((rows, inner, columns): (usize, usize, usize), left: Operand, right: Operand, to: Address) -> Product {
        Product { rows, columns, inner, left, right, to, to_row: columns, by: 1.0, plus: 0, keep: 0.0, gate: 0 }
    }

    /// `struct Product` of the kernel.
    fn write(&self, bytes: &mut Vec<u8>) {
        let places = [self.left.at, self.right.at, self.to, self.plus, self.gate];
        bytes.extend(places.iter().flat_map(|place| place.to_le_bytes()));
        let strides = [self.left.row, self.left.step, self.right.row, self.right.step, self.to_row];
        let numbers = [self.rows, self.columns, self.inner].into_iter().chain(strides).map(u32_of);
        bytes.extend(numbers.flat_map(u32::to_le_bytes));
        bytes.extend([self.by, self.keep].iter().flat_map(|factor| factor.to_le_bytes()));
    }
}

/// Products that lean on nothing of each other's.
pub struct Tiles {
    products: Buffer,
    tiles: Buffer,
    count: usize,
}

impl Tiles {
    /// # Errors
    /// When there is no memory for the tables.
    pub fn new(gpu: &Rc<Gpu>, products: &[Product]) -> Result<Tiles> {
        let (mut own, mut tiles) = (Vec::new(), Vec::new());
        for (place, product) in products.iter().enumerate() {
            product.write(&mut own);
            for row in (0..product.rows).step_by(SIDE) {
                let columns = (0..product.columns).step_by(SIDE);
                tiles.extend(columns.flat_map(|column| [place, row, column].map(u32_of)));
            }
        }
        let bytes: Vec<u8> = tiles.iter().flat_map(|number| number.to_le_bytes()).collect();
        Ok(Tiles { products: gpu.holding(&own)?, tiles: gpu.holding(&bytes)?, count: tiles.len() / 3 })
    }

    /// Does them, unless the step has failed.
    ///
    /// # Errors
    /// The driver's.
    pub fn launch(&self, gpu: &Gpu, number: Number, status: Address) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let arguments = [self.tiles.address.into(), self.products.address.into(), status.into()];
        gpu.launch(number, "multiply_tiles", Spread::blocks([self.count, 1, 1], 256), &arguments)
    }
}
