//! The kernels behind [`super::tile`], for each kind of vector and each number of rows.

use super::{BLOCK, Float, MOST_BLOCKS, MOST_ROWS, Raw, Width};
use crate::train::ops::vector::{Lanes, Plain, Vectors, multiplies_bf16, vectors};

/// # Safety
/// The caller has checked that the processor has the features of `L`, and that `raw` describes reads and writes inside
/// its arrays.
#[inline(always)]
unsafe fn rows<L: Lanes, const P: usize, const V: usize, const PAIRS: bool>(raw: &Raw<L::T>) {
    unsafe {
        let mut acc = [[L::zero(); V]; P];
        if !raw.start.is_null() {
            for (p, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = L::load(raw.start.add(p * raw.start_row + v * L::N));
                }
            }
        }
        if !raw.bias.is_null() {
            for acc in &mut acc {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = acc.add(L::load(raw.bias.add(v * L::N)));
                }
            }
        }
        let (mut x_outer, mut w_outer) = (raw.x, raw.w);
        for _ in 0..raw.count.outer {
            let (mut x_middle, mut w_middle) = (x_outer, w_outer);
            for _ in 0..raw.count.middle {
                let (mut x, mut w) = (x_middle, w_middle);
                for _ in 0..raw.count.inner {
                    let mut weights = [L::zero(); V];
                    for (v, weight) in weights.iter_mut().enumerate() {
                        let at = v * L::N;
                        *weight = L::load(w.add(at / BLOCK * raw.w_block + at % BLOCK));
                    }
                    for (p, acc) in acc.iter_mut().enumerate() {
                        let x = L::splat(*x.add(p * raw.x_row));
                        for (acc, weight) in acc.iter_mut().zip(weights) {
                            *acc = if PAIRS { acc.fma_pairs(x, weight) } else { acc.fma(x, weight) };
                        }
                    }
                    x = x.wrapping_add(raw.x_step.inner);
                    w = w.wrapping_add(raw.w_step.inner);
                }
                x_middle = x_middle.wrapping_add(raw.x_step.middle);
                w_middle = w_middle.wrapping_add(raw.w_step.middle);
            }
            x_outer = x_outer.wrapping_add(raw.x_step.outer);
            w_outer = w_outer.wrapping_add(raw.w_step.outer);
        }
        // By reference: an array that is consumed goes through memory first.
        for (p, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                acc.store(raw.y.add(p * raw.y_row + v * L::N));
            }
        }
    }
}

/// A function for one kind of lanes that picks the instance of [`rows`] by the number of rows.
macro_rules! pick {
    ($(#[$attribute:meta])* $visibility:vis $name:ident, $lanes:ty, $v:expr, $pairs:literal, [$($p:literal)*]) => {
        /// # Safety
        /// As [`rows`](super::rows).
        $(#[$attribute])*
        $visibility unsafe fn $name(raw: &Raw<<$lanes as Lanes>::T>, rows: usize) {
            match rows {
                $($p => unsafe { crate::train::ops::tile::kernels::rows::<$lanes, $p, $v, $pairs>(raw) },)*
                _ => unreachable!("a tile has at most so many rows"),
            }
        }
    };
}

pick!(plain_half_f32, Plain<f32>, 1, false, [1 2]);
pick!(plain_half_f64, Plain<f64>, 1, false, [1 2]);
pick!(pub(super) plain_f32, Plain<f32>, 2, false, [1 2]);
pick!(plain_f64, Plain<f64>, 2, false, [1 2]);
pick!(plain_pairs, Plain<f32>, 2, true, [1]);

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Lanes, Raw};
    use crate::train::ops::vector::Pairs;

    pick!(#[target_feature(enable = "avx512f")] pub(in crate::train::ops::tile) avx512_one, __m512, 1, false,
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]);
    pick!(#[target_feature(enable = "avx512f")] pub(in crate::train::ops::tile) avx512_two, __m512, 2, false, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    pick!(#[target_feature(enable = "avx512f,avx512vl,fma")] pub(in crate::train::ops::tile) avx512_half, __m256, 1, false,
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]);
    pick!(#[target_feature(enable = "avx2,fma")] pub(in crate::train::ops::tile) avx2_half, __m256, 1, false, [1 2 3 4 5 6]);
    pick!(#[target_feature(enable = "avx512f,avx512bf16")] pub(in crate::train::ops::tile) pairs_one, Pairs, 1, true,
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]);
    pick!(#[target_feature(enable = "avx512f,avx512bf16")] pub(in crate::train::ops::tile) pairs_two, Pairs, 2, true,
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    pick!(#[target_feature(enable = "avx2,fma")] pub(in crate::train::ops::tile) avx2_one, __m256, 2, false, [1 2 3 4 5 6]);
}

/// Pairs where the processor has no instruction for them: right, and slow.
///
/// # Safety
/// As [`rows`].
unsafe fn one_by_one(raw: &Raw<f32>, rows: usize, width: Width) {
    let blocks = if width == Width::Two { 2 } else { 1 };
    for p in 0..rows {
        for block in 0..blocks {
            let at = |from: *const f32, row: usize| match from.is_null() {
                true => from,
                false => from.wrapping_add(p * row + block * BLOCK),
            };
            let one = Raw {
                x: raw.x.wrapping_add(p * raw.x_row),
                w: raw.w.wrapping_add(block * raw.w_block),
                y: raw.y.wrapping_add(p * raw.y_row + block * BLOCK),
                start: at(raw.start, raw.start_row),
                bias: at(raw.bias, 0),
                ..*raw
            };
            // SAFETY: a row and a block of what the caller vouches for.
            unsafe { plain_pairs(&one, 1) }
        }
    }
}

impl Float for f32 {
    fn most_rows(blocks: usize) -> usize {
        match vectors() {
            Vectors::Avx512 => MOST_ROWS / blocks,
            Vectors::Avx2 => 6,
            Vectors::None => 2,
        }
    }

    fn most_blocks() -> usize {
        if vectors() == Vectors::Avx512 { MOST_BLOCKS } else { 1 }
    }

    unsafe fn raw(raw: &Raw<f32>, rows: usize, width: Width, pairs: bool) {
        // SAFETY: the features were detected; the rest is the caller's.
        unsafe {
            match (vectors(), width) {
                #[cfg(target_arch = "x86_64")]
                (_, Width::Two) if pairs && multiplies_bf16() => x86::pairs_two(raw, rows),
                #[cfg(target_arch = "x86_64")]
                _ if pairs && multiplies_bf16() => x86::pairs_one(raw, rows),
                _ if pairs => one_by_one(raw, rows, width),
                #[cfg(target_arch = "x86_64")]
                (Vectors::Avx512, Width::Half) => x86::avx512_half(raw, rows),
                #[cfg(target_arch = "x86_64")]
                (Vectors::Avx512, Width::One) => x86::avx512_one(raw, rows),
                #[cfg(target_arch = "x86_64")]
                (Vectors::Avx512, Width::Two) => x86::avx512_two(raw, rows),
                #[cfg(target_arch = "x86_64")]
                (Vectors::Avx2, Width::Half) => x86::avx2_half(raw, rows),
                #[cfg(target_arch = "x86_64")]
                (Vectors::Avx2, _) => x86::avx2_one(raw, rows),
                (_, Width::Half) => plain_half_f32(raw, rows),
                _ => plain_f32(raw, rows),
            }
        }
    }
}

impl Float for f64 {
    fn most_rows(_blocks: usize) -> usize {
        2
    }

    fn most_blocks() -> usize {
        1
    }

    unsafe fn raw(raw: &Raw<f64>, rows: usize, width: Width, _pairs: bool) {
        // SAFETY: no feature is needed; the rest is the caller's.
        unsafe {
            match width {
                Width::Half => plain_half_f64(raw, rows),
                _ => plain_f64(raw, rows),
            }
        }
    }
}
