//! The one inner loop of convolutions, linear layers and attention: a tile of `P` rows by `V` vectors, kept in registers
//! over a long sum.
//!
//! `y[p][v] = start[p][v] + bias[v] + sum over (o, m, i) of x[(o, m, i) + p] * w[(o, m, i)][v]`
//!
//! where each of `x` and `w` has a stride for every index. Forward, the rows are output pixels and the sum runs over the
//! window; for a weight gradient the rows are places of the window and the sum runs over pixels. Each output is one
//! chain of fused multiply-adds in the order of the sum, so its bits do not depend on the vector width or on how
//! outputs are gathered into tiles.

mod kernels;

/// Channels that are packed, and computed, together.
pub const BLOCK: usize = 16;
/// Blocks of the widest tile.
pub const MOST_BLOCKS: usize = 2;
/// Rows of the tallest tile.
const MOST_ROWS: usize = 28;

/// Strides of the three loops of the sum, the innermost last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strides {
    pub outer: usize,
    pub middle: usize,
    pub inner: usize,
}

/// One tile's operands.
#[derive(Clone, Copy)]
pub struct Sum<'a, T> {
    pub x: &'a [T],
    pub x_step: Strides,
    /// From a row of the tile to the next.
    pub x_row: usize,
    pub w: &'a [T],
    pub w_step: Strides,
    /// From a block of channels to the next.
    pub w_block: usize,
    /// How often each loop runs.
    pub count: Strides,
    /// Whether `x` and `w` hold pairs of bf16 numbers ([`super::vector::Pair`]), each step of the sum one pair.
    pub pairs: bool,
}

/// What a tile starts from.
#[derive(Clone, Copy)]
pub enum Start<'a, T> {
    Zero,
    /// What the result's place holds already.
    Result,
    /// Rows of another array.
    Rows(&'a [T], usize),
}

/// Where a tile goes: rows of `channels` numbers, `row` apart.
pub struct Target<'a, T> {
    pub y: &'a mut [T],
    pub row: usize,
    /// At most `blocks * BLOCK`.
    pub channels: usize,
    pub start: Start<'a, T>,
    pub bias: Option<&'a [T]>,
}

/// Cuts `n` rows into pieces of nearly equal size, none larger than `most`.
pub fn pieces(n: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let count = n.div_ceil(most).max(1);
    (0..count).map(move |i| i * n / count..(i + 1) * n / count)
}

/// Types with tiles.
pub trait Float: Copy + Default + Send + Sync + std::ops::Add<Output = Self> + std::ops::AddAssign + 'static {
    /// The most rows a tile of so many blocks has on this processor.
    fn most_rows(blocks: usize) -> usize;
    /// The most blocks of [`BLOCK`] channels a tile has on this processor.
    fn most_blocks() -> usize;
    /// A tile whose rows are full vectors: `channels` is `blocks * BLOCK`, or half a block.
    ///
    /// # Safety
    /// `raw` points at enough memory for the tile it describes.
    unsafe fn raw(raw: &Raw<Self>, rows: usize, width: Width, pairs: bool);
}

/// How wide a tile is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    Half,
    One,
    Two,
}

/// A tile's operands as pointers, for the kernels.
#[derive(Clone, Copy)]
pub struct Raw<T> {
    x: *const T,
    x_step: Strides,
    x_row: usize,
    w: *const T,
    w_step: Strides,
    w_block: usize,
    count: Strides,
    y: *mut T,
    y_row: usize,
    /// Null for zero.
    start: *const T,
    start_row: usize,
    /// Null for none.
    bias: *const T,
}

/// Computes `rows` rows of `blocks` blocks into `to`.
///
/// # Panics
/// When the operands or the target are too short for the tile, or the tile is larger than this processor's.
pub fn tile<T: Float>(sum: &Sum<'_, T>, rows: usize, blocks: usize, to: Target<'_, T>) {
    let Target { y, row, channels, start, bias } = to;
    assert!(rows >= 1 && rows <= T::most_rows(blocks) && blocks >= 1 && blocks <= T::most_blocks());
    check(sum, rows, blocks);
    assert!(channels <= blocks * BLOCK && (rows - 1) * row + channels <= y.len(), "a tile writes beyond its target");
    // Pairs have no half vectors.
    let half = channels <= BLOCK / 2 && !sum.pairs;
    let width = match (blocks, half) {
        (1, true) => Width::Half,
        (1, false) => Width::One,
        _ => Width::Two,
    };
    let full = if half { BLOCK / 2 } else { blocks * BLOCK };
    let mut raw = Raw {
        x: sum.x.as_ptr(),
        x_step: sum.x_step,
        x_row: sum.x_row,
        w: sum.w.as_ptr(),
        w_step: sum.w_step,
        w_block: sum.w_block,
        count: sum.count,
        y: y.as_mut_ptr(),
        y_row: row,
        start: std::ptr::null(),
        start_row: 0,
        bias: std::ptr::null(),
    };
    if channels == full {
        match start {
            Start::Zero => {}
            Start::Result => (raw.start, raw.start_row) = (y.as_ptr(), row),
            Start::Rows(from, step) => {
                assert!((rows - 1) * step + channels <= from.len(), "a tile starts beyond its rows");
                (raw.start, raw.start_row) = (from.as_ptr(), step);
            }
        }
        if let Some(bias) = bias {
            assert!(bias.len() >= channels);
            raw.bias = bias.as_ptr();
        }
        // SAFETY: reads and writes of whole vectors were checked above.
        unsafe { T::raw(&raw, rows, width, sum.pairs) }
    } else {
        // Channels that do not fill their vectors: a detour over whole ones.
        let mut whole = [T::default(); MOST_ROWS * BLOCK * MOST_BLOCKS];
        let mut wide_bias = [T::default(); BLOCK * MOST_BLOCKS];
        for p in 0..rows {
            match start {
                Start::Zero => {}
                Start::Result => whole[p * full..][..channels].copy_from_slice(&y[p * row..][..channels]),
                Start::Rows(from, step) => whole[p * full..][..channels].copy_from_slice(&from[p * step..][..channels]),
            }
        }
        if let Some(bias) = bias {
            wide_bias[..channels].copy_from_slice(&bias[..channels]);
            raw.bias = wide_bias.as_ptr();
        }
        (raw.y, raw.y_row) = (whole.as_mut_ptr(), full);
        (raw.start, raw.start_row) = (whole.as_ptr(), full);
        // SAFETY: reads were checked above, and `whole` holds the largest tile.
        unsafe { T::raw(&raw, rows, width, sum.pairs) }
        for p in 0..rows {
            y[p * row..][..channels].copy_from_slice(&whole[p * full..][..channels]);
        }
    }
}

/// Runs the largest tile for a while on operands that stay in the first cache; returns its floating-point operations.
pub fn exercise() -> f64 {
    const K: usize = 64;
    const TIMES: usize = 256;
    let blocks = f32::most_blocks();
    let rows = f32::most_rows(blocks);
    let (x, w) = (vec![1f32; rows * K], vec![1f32; blocks * BLOCK * K]);
    let mut y = vec![0f32; rows * blocks * BLOCK];
    for _ in 0..TIMES {
        let sum = Sum {
            x: &x,
            x_step: Strides { outer: 0, middle: 0, inner: 1 },
            x_row: K,
            w: &w,
            w_step: Strides { outer: 0, middle: 0, inner: BLOCK },
            w_block: K * BLOCK,
            // The same numbers again and again: one long sum.
            count: Strides { outer: 16, middle: 1, inner: K },
            pairs: false,
        };
        let channels = blocks * BLOCK;
        tile(&sum, rows, blocks, Target { y: &mut y, row: channels, channels, start: Start::Zero, bias: None });
        std::hint::black_box(&y);
    }
    (2 * rows * blocks * BLOCK * K * 16 * TIMES) as f64
}

/// The last element each slice is read at lies inside it.
fn check<T>(sum: &Sum<T>, rows: usize, blocks: usize) {
    let Strides { outer, middle, inner } = sum.count;
    assert!(outer > 0 && middle > 0 && inner > 0);
    // Counted wider than places are, lest a sum wraps around.
    let last = |step: Strides| {
        [(outer, step.outer), (middle, step.middle), (inner, step.inner)]
            .iter()
            .map(|(count, step)| (count - 1) as u128 * *step as u128)
            .sum::<u128>()
    };
    let x = last(sum.x_step) + (rows - 1) as u128 * sum.x_row as u128;
    let w = last(sum.w_step) + (blocks - 1) as u128 * sum.w_block as u128 + BLOCK as u128;
    assert!(x < sum.x.len() as u128 && w <= sum.w.len() as u128, "a tile reads beyond its operands");
}

#[cfg(test)]
mod tests {
    use super::kernels::plain_f32;
    #[cfg(target_arch = "x86_64")]
    use super::kernels::x86;
    use super::*;
    use crate::train::ops::vector::{Pair, Vectors, vectors};

    const K: usize = 12;

    fn operands() -> (Vec<f32>, Vec<f32>) {
        let x = (0..400).map(|i| ((i * 37 % 101) as f32 - 50.0) / 33.0).collect();
        let w = (0..K * BLOCK * 2).map(|i| ((i * 61 % 97) as f32 - 48.0) / 29.0).collect();
        (x, w)
    }

    fn sum<'a>(x: &'a [f32], w: &'a [f32]) -> Sum<'a, f32> {
        Sum {
            x,
            x_step: Strides { outer: 40, middle: 0, inner: 1 },
            x_row: 3,
            w,
            w_step: Strides { outer: 4 * BLOCK, middle: 0, inner: BLOCK },
            w_block: K * BLOCK,
            count: Strides { outer: 3, middle: 1, inner: 4 },
            pairs: false,
        }
    }

    /// By the formula, one number after the other.
    fn by_hand(x: &[f32], w: &[f32], p: usize, channel: usize, start: f32) -> f32 {
        let mut y = start;
        for o in 0..3 {
            for i in 0..4 {
                let w = w[channel / BLOCK * K * BLOCK + (o * 4 + i) * BLOCK + channel % BLOCK];
                y = x[o * 40 + i + 3 * p].mul_add(w, y);
            }
        }
        y
    }

    /// Every tile size this processor has gives the bits of the formula, whatever it starts from and however many of
    /// its channels count.
    #[test]
    fn size_and_width_do_not_change_bits() {
        let (x, w) = operands();
        let before: Vec<f32> = (0..40 * 40).map(|i| i as f32 * 0.01).collect();
        let bias: Vec<f32> = (0..32).map(|i| i as f32 * 0.1 - 1.0).collect();
        for blocks in 1..=f32::most_blocks() {
            for rows in 1..=f32::most_rows(blocks) {
                for channels in [3usize, 8, 11, 16, 19, 32].into_iter().filter(|c| c.div_ceil(BLOCK) == blocks) {
                    for kind in 0..3 {
                        let mut y = before.clone();
                        let start = [Start::Zero, Start::Result, Start::Rows(&bias, 0)][kind];
                        let bias = (kind == 1).then_some(&bias[..channels]);
                        tile(&sum(&x, &w), rows, blocks, Target { y: &mut y, row: 40, channels, start, bias });
                        for (at, y) in y.iter().enumerate() {
                            let (p, channel) = (at / 40, at % 40);
                            let inside = p < rows && channel < channels;
                            let value = |start| by_hand(&x, &w, p, channel, start);
                            let expected = match kind {
                                _ if !inside => before[at],
                                0 => value(0.0),
                                1 => value(before[at] + bias.map_or(0.0, |bias| bias[channel])),
                                _ => value(bias_at(channel)),
                            };
                            assert_eq!(*y, expected, "{rows} rows, {channels} channels, row {p}, channel {channel}");
                        }
                    }
                }
            }
        }
    }

    fn bias_at(channel: usize) -> f32 {
        channel as f32 * 0.1 - 1.0
    }

    /// The kernels of other processors, as far as this one can run them.
    #[test]
    fn kernels_agree_across_processors() {
        let (x, w) = operands();
        let run = |rows: usize, kernel: unsafe fn(&Raw<f32>, usize)| {
            let mut y = vec![0f32; rows * BLOCK];
            let sum = sum(&x, &w);
            let raw = Raw {
                x: sum.x.as_ptr(),
                x_step: sum.x_step,
                x_row: sum.x_row,
                w: sum.w.as_ptr(),
                w_step: sum.w_step,
                w_block: sum.w_block,
                count: sum.count,
                y: y.as_mut_ptr(),
                y_row: BLOCK,
                start: std::ptr::null(),
                start_row: 0,
                bias: std::ptr::null(),
            };
            // SAFETY: reads are those of `sum`, writes of one block a row; features are checked by the caller.
            unsafe { kernel(&raw, rows) };
            y
        };
        let expected: Vec<f32> = (0..2 * BLOCK).map(|at| by_hand(&x, &w, at / BLOCK, at % BLOCK, 0.0)).collect();
        assert_eq!(run(2, plain_f32), expected);
        #[cfg(target_arch = "x86_64")]
        if vectors() != Vectors::None {
            assert_eq!(run(2, x86::avx2_one), expected);
        }
    }

    /// A tile of pairs is the sum of products of rounded numbers, on this processor and where it has no such instruction.
    #[test]
    fn pairs_are_products_of_rounded_numbers() {
        let (x, w) = operands();
        let pair = |of: &[f32], at: usize, step: usize| f32::pair(of[at], of[at + step]);
        let rounded = |value: f32| f64::from(f32::pair(value, 0.0).halves().0);
        const ROWS: usize = 5;
        let xs: Vec<f32> = (0..ROWS * K / 2).map(|i| pair(&x, 2 * i, 1)).collect();
        let ws: Vec<f32> = (0..K / 2 * BLOCK).map(|i| pair(&w, i / BLOCK * 2 * BLOCK + i % BLOCK, BLOCK)).collect();
        let sum = Sum {
            x: &xs,
            x_step: Strides { inner: 1, ..Strides::default() },
            x_row: K / 2,
            w: &ws,
            w_step: Strides { inner: BLOCK, ..Strides::default() },
            w_block: 0,
            count: Strides { outer: 1, middle: 1, inner: K / 2 },
            pairs: true,
        };
        let rows = ROWS.min(f32::most_rows(1));
        for channels in [5, BLOCK] {
            let mut y = vec![0f32; ROWS * BLOCK];
            tile(&sum, rows, 1, Target { y: &mut y, row: BLOCK, channels, start: Start::Zero, bias: None });
            for (p, row) in y.chunks(BLOCK).enumerate().take(rows) {
                for (channel, y) in row.iter().enumerate().take(channels) {
                    let exact: f64 = (0..K).map(|k| rounded(x[p * K + k]) * rounded(w[k * BLOCK + channel])).sum();
                    assert!((f64::from(*y) - exact).abs() < 1e-5, "row {p}, channel {channel}: {y}, not {exact}");
                }
            }
        }
        assert_eq!(f32::pair(1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0).halves(), (1.0, 1.0 + 4.0 / 256.0), "ties to even");
        assert!(f32::pair(f32::NAN, f32::INFINITY).halves().0.is_nan());
        assert_eq!(f32::pair(f32::NAN, f32::INFINITY).halves().1, f32::INFINITY);
    }

    #[test]
    fn pieces_cover_without_gaps() {
        for n in 1..60 {
            let cut: Vec<_> = pieces(n, 14).collect();
            assert_eq!(cut.first().map(|r| r.start), Some(0));
            assert_eq!(cut.last().map(|r| r.end), Some(n));
            assert!(cut.windows(2).all(|w| w[0].end == w[1].start));
            assert!(cut.iter().all(|r| (1..=14).contains(&r.len())), "{cut:?}");
        }
    }
}
