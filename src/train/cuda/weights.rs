//! Where a network's numbers lie on the GPU, row by row, for the kernels that go over all layers in one launch.

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::buffer::Buffer;
use super::device::{Gpu, Number, Spread};
use super::operation::{Numbers, Operation, Parameter, u32_of};

/// Matrices start at multiples of this many numbers.
const ALIGNMENT: usize = 128;
/// Numbers of a row that belongs to no matrix, at most.
const PIECE: usize = 4096;
const NOT_PACKED: u32 = u32::MAX;
/// Bytes of one entry: `struct Row` of `kernels/weights.cu`.
const ROW_BYTES: usize = 24;
pub const ROW_THREADS: usize = 128;

/// All rows of a network.
pub struct Rows {
    table: Buffer,
    /// Where each begins in the flat vector.
    starts: Vec<usize>,
    pub count: usize,
    /// Numbers of all matrices, with what lies between them.
    pub matrices: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    at: usize,
    packed: Option<usize>,
    n: usize,
    taps: usize,
    /// Negative for rows that are not standardised.
    eps: f32,
    decays: bool,
}

impl Rows {
    /// Gives every operation its places. `decayed` are the ranges of the flat vector whose numbers decay.
    ///
    /// # Errors
    /// When there are more numbers than the table can name, or no memory for it.
    pub fn new(
        gpu: &Rc<Gpu>,
        operations: &mut [Box<dyn Operation>],
        numbers: usize,
        decayed: &[Range<usize>],
    ) -> Result<Rows> {
        let (rows, matrices) = rows(operations, decayed);
        ensure!(numbers.max(matrices) < NOT_PACKED as usize, "a network has fewer than 2^32 numbers");
        let bytes: Vec<u8> = rows.iter().flat_map(Row::bytes).collect();
        let starts = rows.iter().map(|row| row.at).collect();
        Ok(Rows { table: gpu.holding(&bytes)?, starts, count: rows.len(), matrices })
    }

    pub fn table(&self) -> u64 {
        self.table.address
    }

    /// The rows of what an operation has at this place of the flat vector; none where it has nothing there.
    pub fn of(&self, place: &Range<usize>) -> Range<usize> {
        let first = self.starts.iter().position(|start| place.contains(start)).unwrap_or(self.count);
        let rows = self.starts[first..].iter().take_while(|start| place.contains(start)).count();
        first..first + rows
    }

    /// Makes the matrices from the flat vector.
    ///
    /// # Errors
    /// The driver's.
    pub fn pack(&self, gpu: &Gpu, number: Number, weights: Numbers) -> Result<()> {
        let arguments = [self.table().into(), weights.flat.into(), weights.matrices.into()];
        gpu.launch(number, "pack_rows", self.spread(), &arguments)
    }

    pub fn spread(&self) -> Spread {
        Spread::blocks([self.count, 1, 1], ROW_THREADS)
    }
}

fn rows(operations: &mut [Box<dyn Operation>], decayed: &[Range<usize>]) -> (Vec<Row>, usize) {
    let (mut rows, mut end) = (Vec::new(), 0usize);
    for operation in operations {
        let mut places = Vec::new();
        for parameter in operation.parameters() {
            let decays = decayed.iter().any(|range| range.contains(&parameter.range().start));
            let start = end.next_multiple_of(ALIGNMENT);
            match parameter {
                Parameter::Matrix { range, rows: count, taps, standardize } => {
                    let n = range.len() / count;
                    let eps = standardize.map_or(-1.0, |eps| eps as f32);
                    rows.extend((0..count).map(|row| Row {
                        at: range.start + row * n,
                        packed: Some(start + row * n),
                        n,
                        taps,
                        eps,
                        decays,
                    }));
                    end = start + range.len();
                }
                Parameter::Copied(range) => {
                    let (at, n) = (range.start, range.len());
                    rows.push(Row { at, packed: Some(start), n, taps: 1, eps: -1.0, decays });
                    end = start + n;
                }
                Parameter::Plain(range) => {
                    rows.extend(range.clone().step_by(PIECE).map(|at| Row {
                        at,
                        packed: None,
                        n: PIECE.min(range.end - at),
                        taps: 1,
                        eps: -1.0,
                        decays,
                    }));
                }
            }
            places.push(start);
        }
        operation.place(&places);
    }
    (rows, end.next_multiple_of(ALIGNMENT))
}

impl Row {
    fn bytes(&self) -> [u8; ROW_BYTES] {
        let packed = self.packed.map_or(NOT_PACKED, u32_of);
        let mut bytes = [0; ROW_BYTES];
        let numbers =
            [u32_of(self.at), packed, u32_of(self.n), u32_of(self.taps), self.eps.to_bits(), self.decays.into()];
        for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::{Backward, Forward};
    use super::*;

    struct Fake(Vec<Parameter>, std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

    impl Operation for Fake {
        fn parameters(&self) -> Vec<Parameter> {
            self.0.clone()
        }
        fn place(&mut self, at: &[usize]) {
            *self.1.lock().unwrap() = at.to_vec();
        }
        fn forward(&self, _: &Forward<'_>) -> Result<()> {
            unreachable!("it is only placed")
        }
        fn backward(&self, _: &Backward<'_>) -> Result<()> {
            unreachable!("it is only placed")
        }
    }

    #[test]
    fn every_number_is_in_one_row_and_matrices_lie_apart() {
        let placed = std::sync::Arc::default();
        let parameters = vec![
            Parameter::Matrix { range: 0..54, rows: 3, taps: 9, standardize: Some(1e-10) },
            Parameter::Copied(54..57),
            Parameter::Plain(57..57 + PIECE + 5),
        ];
        let mut operations: Vec<Box<dyn Operation>> = vec![Box::new(Fake(parameters, std::sync::Arc::clone(&placed)))];
        let decayed = 0..54;
        let (rows, matrices) = rows(&mut operations, std::slice::from_ref(&decayed));
        let mut at = 0;
        for row in &rows {
            assert_eq!(row.at, at, "{row:?}");
            at += row.n;
        }
        assert_eq!(at, 57 + PIECE + 5);
        assert_eq!(rows.iter().map(|row| row.n).collect::<Vec<_>>(), [18, 18, 18, 3, PIECE, 5]);
        let packed: Vec<_> = rows.iter().map(|row| row.packed).collect();
        assert_eq!(packed, [Some(0), Some(18), Some(36), Some(128), None, None]);
        assert_eq!(rows.iter().filter(|row| row.decays).count(), 3);
        assert_eq!(placed.lock().unwrap()[..2], [0, 128]);
        assert_eq!(matrices, 256);
    }
}
