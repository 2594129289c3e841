//! Matrix products, cut into tiles: blocks of channels outside, so that their weights stay in the cache while all rows
//! pass.

use super::tile::{BLOCK, Float, Start, Strides, Sum, Target, pieces, tile};

/// `x[rows, sum] w[sum, channels]`; how many channels there are, the target says.
#[derive(Clone, Copy)]
pub struct Product<'a, T> {
    pub x: &'a [T],
    /// From a row of `x` to the next.
    pub x_row: usize,
    /// From a column of `x` to the next.
    pub x_step: usize,
    pub w: &'a [T],
    /// From a row of `w` to the next.
    pub w_step: usize,
    /// From a block of 16 columns of `w` to the next; columns of a block are neighbours.
    pub w_block: usize,
    pub rows: usize,
    pub sum: usize,
    /// Whether both hold pairs of bf16 numbers, `sum` of them.
    pub pairs: bool,
}

/// Computes all of it, in tiles; each number of the result is one sum, whatever the tiles.
///
/// # Panics
/// When an operand or the target is too short.
pub fn product<T: Float>(of: &Product<'_, T>, to: Target<'_, T>) {
    let Target { y, row, channels, start, bias } = to;
    for some in pieces(channels.div_ceil(BLOCK), T::most_blocks()) {
        let first = some.start * BLOCK;
        let channels = (some.end * BLOCK).min(channels) - first;
        for part in pieces(of.rows, T::most_rows(some.len())) {
            let sum = Sum {
                x: &of.x[part.start * of.x_row..],
                x_step: Strides { inner: of.x_step, ..Strides::default() },
                x_row: of.x_row,
                w: &of.w[some.start * of.w_block..],
                w_step: Strides { inner: of.w_step, ..Strides::default() },
                w_block: of.w_block,
                count: Strides { outer: 1, middle: 1, inner: of.sum },
                pairs: of.pairs,
            };
            let start = match start {
                Start::Rows(from, step) => Start::Rows(&from[part.start * step + first..], step),
                other => other,
            };
            let y = &mut y[part.start * row + first..];
            let bias = bias.map(|bias| &bias[first..][..channels]);
            tile(&sum, part.len(), some.len(), Target { y, row, channels, start, bias });
        }
    }
}
