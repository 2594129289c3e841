//! The one inner loop of convolutions: a tile of `P` rows by `V` vectors, kept in registers over a long sum.
//!
//! `y[p][v] = sum over (o, i) of x[o * x_outer + i * x_inner + p * x_row] * w[(o * inner + i) * w_step + v]`
//!
//! Forward, the rows are output pixels and the sum runs over the window; for the weight gradient the rows are places
//! of the window and the sum runs over the pixels. Each output is one chain of fused multiply-adds in the order of
//! the sum, so its bits do not depend on the vector width.

#[cfg(target_arch = "x86_64")]
mod x86;

/// Channels that are packed, and computed, together.
pub const BLOCK: usize = 16;
/// Rows of the largest tile.
const MOST_ROWS: usize = 14;
/// Blocks of the largest tile.
pub const MOST_BLOCKS: usize = 2;

/// One tile's operands. `x` must reach to its last read element, `w` to `blocks` blocks of the last step.
#[derive(Clone, Copy)]
pub struct Sum<'a, T> {
    pub x: &'a [T],
    pub x_outer: usize,
    pub x_inner: usize,
    pub x_row: usize,
    pub w: &'a [T],
    pub w_step: usize,
    /// From a block of channels to the next.
    pub w_block: usize,
    pub outer: usize,
    pub inner: usize,
    /// Only the first eight channels of the one block matter: a vector of half the width does.
    pub half: bool,
}

/// Results, `[row][channel]`.
pub type Tile<T> = [[T; BLOCK * MOST_BLOCKS]; MOST_ROWS];

pub trait Float: Copy + Default + Send + Sync + std::ops::Add<Output = Self> + std::ops::AddAssign + 'static {
    /// The most rows a tile of this type has on this processor.
    fn most_rows() -> usize;
    /// The most blocks of [`BLOCK`] channels a tile has on this processor.
    fn most_blocks() -> usize;
    /// Computes `rows <= most_rows()` rows of `blocks <= most_blocks()` blocks into `out`.
    fn tile(sum: &Sum<Self>, rows: usize, blocks: usize, out: &mut Tile<Self>);
}

/// Cuts `n` rows into pieces of nearly equal size, none larger than `most`.
pub fn pieces(n: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = n.div_ceil(most).max(1);
    (0..count).map(move |i| i * n / count..(i + 1) * n / count)
}

trait Lanes: Copy {
    type T: Copy;
    const N: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const Self::T) -> Self;
    unsafe fn splat(value: Self::T) -> Self;
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn store(self, to: *mut Self::T);
}

/// # Safety
/// The caller has checked that the processor has the features of `L`, and that `sum` describes reads inside its slices
/// ([`check`]).
#[inline(always)]
unsafe fn rows<L: Lanes, const P: usize, const V: usize>(sum: &Sum<L::T>, out: &mut Tile<L::T>) {
    unsafe {
        let mut acc = [[L::zero(); V]; P];
        let mut w = sum.w.as_ptr();
        for o in 0..sum.outer {
            let mut x = sum.x.as_ptr().add(o * sum.x_outer);
            for _ in 0..sum.inner {
                let mut weights = [L::zero(); V];
                for (v, weight) in weights.iter_mut().enumerate() {
                    let at = v * L::N;
                    *weight = L::load(w.add(at / BLOCK * sum.w_block + at % BLOCK));
                }
                for (p, acc) in acc.iter_mut().enumerate() {
                    let x = L::splat(*x.add(p * sum.x_row));
                    for (acc, weight) in acc.iter_mut().zip(weights) {
                        *acc = acc.fma(x, weight);
                    }
                }
                w = w.wrapping_add(sum.w_step);
                x = x.wrapping_add(sum.x_inner);
            }
        }
        for (acc, out) in acc.into_iter().zip(out) {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.store(out.as_mut_ptr().add(v * L::N));
            }
        }
    }
}

/// The last element each slice is read at lies inside it.
fn check<T>(sum: &Sum<T>, rows: usize, blocks: usize) {
    assert!(sum.outer > 0 && sum.inner > 0 && rows > 0 && blocks > 0);
    let x = (sum.outer - 1) * sum.x_outer + (sum.inner - 1) * sum.x_inner + (rows - 1) * sum.x_row;
    let w = (sum.outer * sum.inner - 1) * sum.w_step + (blocks - 1) * sum.w_block + BLOCK;
    assert!(x < sum.x.len() && w <= sum.w.len(), "a tile reads beyond its operands");
}

/// A function for one kind of lanes that picks the instance of [`rows`] by the number of rows.
macro_rules! pick {
    ($(#[$attribute:meta])* $visibility:vis $name:ident, $lanes:ty, $v:expr, [$($p:literal)*]) => {
        /// # Safety
        /// As [`rows`](super::rows).
        $(#[$attribute])*
        $visibility unsafe fn $name(
            sum: &Sum<<$lanes as Lanes>::T>,
            rows: usize,
            out: &mut Tile<<$lanes as Lanes>::T>,
        ) {
            match rows {
                $($p => unsafe { crate::train::ops::tile::rows::<$lanes, $p, $v>(sum, out) },)*
                _ => unreachable!("a tile has at most so many rows"),
            }
        }
    };
}
use pick;

pick!(plain_f32, Plain<f32>, 2, [1 2]);
pick!(plain_f64, Plain<f64>, 2, [1 2]);

impl Float for f32 {
    fn most_rows() -> usize {
        match vectors() {
            Vectors::Avx512 => MOST_ROWS,
            Vectors::Avx2 => 6,
            Vectors::None => 2,
        }
    }

    fn most_blocks() -> usize {
        if vectors() == Vectors::Avx512 { MOST_BLOCKS } else { 1 }
    }

    fn tile(sum: &Sum<f32>, rows: usize, blocks: usize, out: &mut Tile<f32>) {
        check(sum, rows, blocks);
        // SAFETY: the features were detected, the reads checked.
        unsafe {
            match vectors() {
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 if sum.half => x86::avx512_half(sum, rows, out),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 if blocks == 1 => x86::avx512_one(sum, rows, out),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 => x86::avx512_two(sum, rows, out),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 if sum.half => x86::avx2_half(sum, rows, out),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => x86::avx2_one(sum, rows, out),
                _ => plain_f32(sum, rows, out),
            }
        }
    }
}

impl Float for f64 {
    fn most_rows() -> usize {
        2
    }

    fn most_blocks() -> usize {
        1
    }

    fn tile(sum: &Sum<f64>, rows: usize, blocks: usize, out: &mut Tile<f64>) {
        check(sum, rows, blocks);
        // SAFETY: no feature is needed, the reads were checked.
        unsafe { plain_f64(sum, rows, out) }
    }
}

/// What the processor offers; looked up once and kept by the standard library.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 has own kernels so far"))]
pub enum Vectors {
    Avx512,
    Avx2,
    None,
}

pub fn vectors() -> Vectors {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            return Vectors::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Vectors::Avx2;
        }
    }
    Vectors::None
}

/// Eight numbers without vector instructions: f64 for gradient checks, f32 on processors without AVX2.
#[derive(Clone, Copy)]
struct Plain<T>([T; 8]);

macro_rules! plain {
    ($T:ty) => {
        impl Lanes for Plain<$T> {
            type T = $T;
            const N: usize = 8;
            #[inline(always)]
            unsafe fn zero() -> Self {
                Plain([0.0; 8])
            }
            #[inline(always)]
            unsafe fn load(from: *const $T) -> Self {
                Plain(std::array::from_fn(|i| unsafe { *from.add(i) }))
            }
            #[inline(always)]
            unsafe fn splat(value: $T) -> Self {
                Plain([value; 8])
            }
            #[inline(always)]
            unsafe fn fma(self, a: Self, b: Self) -> Self {
                Plain(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $T) {
                for (i, value) in self.0.into_iter().enumerate() {
                    unsafe { *to.add(i) = value }
                }
            }
        }
    };
}
plain!(f32);
plain!(f64);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tile size this processor has, and the plain one, give the same bits.
    #[test]
    fn width_does_not_change_bits() {
        let x: Vec<f32> = (0..400).map(|i| ((i * 37 % 101) as f32 - 50.0) / 33.0).collect();
        let w: Vec<f32> = (0..12 * 16 * 2).map(|i| ((i * 61 % 97) as f32 - 48.0) / 29.0).collect();
        let sum = Sum {
            x: &x,
            x_outer: 40,
            x_inner: 1,
            x_row: 3,
            w: &w,
            w_step: 16,
            w_block: 12 * 16,
            outer: 3,
            inner: 4,
            half: false,
        };
        let mut plain = [[0f32; 32]; MOST_ROWS];
        let mut row = Tile::<f32>::default();
        for (p, plain) in plain.iter_mut().enumerate() {
            for block in 0..2 {
                let one = Sum { x: &x[p * 3..], w: &w[block * 12 * 16..], ..sum };
                // SAFETY: `check` holds for this part of the sum.
                unsafe { plain_f32(&one, 1, &mut row) };
                plain[block * 16..][..16].copy_from_slice(&row[0][..16]);
            }
        }
        for rows in 1..=f32::most_rows() {
            for blocks in 1..=f32::most_blocks() {
                let mut out = Tile::<f32>::default();
                f32::tile(&sum, rows, blocks, &mut out);
                for p in 0..rows {
                    assert_eq!(out[p][..blocks * 16], plain[p][..blocks * 16], "{rows} rows, {blocks} blocks, row {p}");
                }
            }
        }
        let mut out = Tile::<f32>::default();
        f32::tile(&Sum { half: true, ..sum }, f32::most_rows(), 1, &mut out);
        for p in 0..f32::most_rows() {
            assert_eq!(out[p][..8], plain[p][..8]);
        }
        #[cfg(target_arch = "x86_64")]
        if vectors() != Vectors::None {
            let mut out = Tile::<f32>::default();
            // SAFETY: the features were detected and the reads are those checked above.
            unsafe { x86::avx2_one(&sum, 6, &mut out) };
            for p in 0..6 {
                assert_eq!(out[p][..16], plain[p][..16]);
            }
        }
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
