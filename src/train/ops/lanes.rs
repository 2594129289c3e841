//! Loops over long rows of numbers, compiled for the vector unit this processor has.
//!
//! Plain Rust, no intrinsics: the compiler vectorises them once for AVX-512, once for AVX2, once for whatever the
//! target has. Every element is computed by itself, sums go to sixteen partial sums whatever the width, and fused
//! multiply-adds are written out, so the bits are the same.
//!
//! Channel-wise numbers are given *spread*: repeated until a row is long enough to be worth a vector loop, whatever
//! the number of channels.

use super::element::Element;

/// Numbers of a spread row, at least.
const ROW: usize = 256;

/// How long the spread row of so many channels is.
pub fn spread_len(channels: usize) -> usize {
    ROW.div_ceil(channels) * channels
}

/// Repeats one number a channel over a row of [`spread_len`].
pub fn spread<T: Element>(channels: &[T], row: &mut [T]) {
    for to in row.chunks_exact_mut(channels.len()) {
        to.copy_from_slice(channels);
    }
}

macro_rules! wide {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        #[allow(clippy::needless_range_loop, clippy::too_many_arguments, reason = "loops over several rows at once")]
        pub fn $name<T: Element>($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::needless_range_loop, clippy::too_many_arguments, reason = "loops over several rows at once")]
            fn plain<T: Element>($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
                #[allow(clippy::needless_range_loop, clippy::too_many_arguments, reason = "loops over several rows at once")]
                fn avx512<T: Element>($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::needless_range_loop, clippy::too_many_arguments, reason = "loops over several rows at once")]
                fn avx2<T: Element>($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }
                // SAFETY: the features were detected.
                unsafe {
                    match $crate::train::ops::vector::vectors() {
                        $crate::train::ops::vector::Vectors::Avx512 => return avx512($($argument),*),
                        $crate::train::ops::vector::Vectors::Avx2 => return avx2($($argument),*),
                        $crate::train::ops::vector::Vectors::None => {}
                    }
                }
            }
            plain($($argument),*)
        }
    };
}
pub(crate) use wide;

wide! {
    /// `sum += x`
    fn add(sum: &mut [T], x: &[T]) {
        let n = sum.len();
        let x = &x[..n];
        for i in 0..n {
            sum[i] += x[i];
        }
    }
}

wide! {
    /// `sum += x`, `square += x²`
    fn add_moments(x: &[T], sum: &mut [T], square: &mut [T]) {
        let n = x.len();
        let (sum, square) = (&mut sum[..n], &mut square[..n]);
        for i in 0..n {
            sum[i] += x[i];
            square[i] = x[i].mul_add(x[i], square[i]);
        }
    }
}

/// ReLU written so that a NaN comes through: a loss must not look well when its network is not.
#[inline(always)]
fn rectified<T: Element>(value: T) -> T {
    if value < T::ZERO { T::ZERO } else { value }
}

wide! {
    /// `y = max(0, x * scale + shift)`
    fn scale_shift_relu(x: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
        let n = x.len();
        let (scale, shift, y) = (&scale[..n], &shift[..n], &mut y[..n]);
        for i in 0..n {
            y[i] = rectified(x[i].mul_add(scale[i], shift[i]));
        }
    }
}

wide! {
    /// `sum += max(0, x * scale + shift)`
    fn add_scale_shift_relu(x: &[T], scale: &[T], shift: &[T], sum: &mut [T]) {
        let n = x.len();
        let (scale, shift, sum) = (&scale[..n], &shift[..n], &mut sum[..n]);
        for i in 0..n {
            sum[i] += rectified(x[i].mul_add(scale[i], shift[i]));
        }
    }
}

wide! {
    /// With g = dy where x * scale + shift > 0: `sum += g`, `product += g * (x - mean)`
    fn add_masked_moments(
        x: &[T], scale: &[T], shift: &[T], mean: &[T], dy: &[T], sum: &mut [T], product: &mut [T],
    ) {
        let n = x.len();
        let (scale, shift, mean, dy) = (&scale[..n], &shift[..n], &mean[..n], &dy[..n]);
        let (sum, product) = (&mut sum[..n], &mut product[..n]);
        for i in 0..n {
            let g = if x[i].mul_add(scale[i], shift[i]) > T::ZERO { dy[i] } else { T::ZERO };
            sum[i] += g;
            product[i] = g.mul_add(x[i] - mean[i], product[i]);
        }
    }
}

wide! {
    /// With g = dy where x * scale + shift > 0: `dx = g * scale + x * slope + offset`
    fn masked_gradient(
        x: &[T], scale: &[T], shift: &[T], slope: &[T], offset: &[T], dy: &[T], dx: &mut [T],
    ) {
        let n = x.len();
        let (scale, shift, slope, offset) = (&scale[..n], &shift[..n], &slope[..n], &offset[..n]);
        let (dy, dx) = (&dy[..n], &mut dx[..n]);
        for i in 0..n {
            let g = if x[i].mul_add(scale[i], shift[i]) > T::ZERO { dy[i] } else { T::ZERO };
            dx[i] = g.mul_add(scale[i], x[i].mul_add(slope[i], offset[i]));
        }
    }
}

wide! {
    /// As [`masked_gradient`], added to `dx`.
    fn add_masked_gradient(
        x: &[T], scale: &[T], shift: &[T], slope: &[T], offset: &[T], dy: &[T], dx: &mut [T],
    ) {
        let n = x.len();
        let (scale, shift, slope, offset) = (&scale[..n], &shift[..n], &slope[..n], &offset[..n]);
        let (dy, dx) = (&dy[..n], &mut dx[..n]);
        for i in 0..n {
            let g = if x[i].mul_add(scale[i], shift[i]) > T::ZERO { dy[i] } else { T::ZERO };
            dx[i] += g.mul_add(scale[i], x[i].mul_add(slope[i], offset[i]));
        }
    }
}

wide! {
    /// Rounds neighbouring numbers to bf16 and pairs them ([`super::vector::Pair`]), in place: the first half is the result.
    fn pair_neighbours(numbers: &mut [T]) {
        let pairs = numbers.len() / 2;
        let whole = pairs / PARTS * PARTS;
        for at in (0..whole).step_by(PARTS) {
            // By way of registers, for what is written lies where something else was read before.
            let mut block = [T::ZERO; 2 * PARTS];
            block.copy_from_slice(&numbers[2 * at..2 * at + 2 * PARTS]);
            let mut paired = [T::ZERO; PARTS];
            for i in 0..PARTS {
                paired[i] = T::pair(block[2 * i], block[2 * i + 1]);
            }
            numbers[at..at + PARTS].copy_from_slice(&paired);
        }
        for at in whole..pairs {
            numbers[at] = T::pair(numbers[2 * at], numbers[2 * at + 1]);
        }
    }
}

/// Rows 2 i and 2 i + 1 of `row` numbers become row i; a last row alone is paired with zeros.
pub fn pair_rows<T: Element>(numbers: &mut [T], row: usize) {
    let rows = numbers.len() / row;
    for to in 0..rows.div_ceil(2) {
        let (before, rest) = numbers.split_at_mut(2 * to * row);
        match rest.len() >= 2 * row {
            true if to == 0 => {
                let (low, high) = rest.split_at_mut(row);
                pair_into_first(low, &high[..row]);
            }
            true => pair_into(&rest[..row], &rest[row..2 * row], &mut before[to * row..][..row]),
            false if to == 0 => pair_with_zero(&mut rest[..row]),
            false => {
                before[to * row..][..row].copy_from_slice(&rest[..row]);
                pair_with_zero(&mut before[to * row..][..row]);
            }
        }
    }
}

wide! {
    fn pair_into(low: &[T], high: &[T], to: &mut [T]) {
        let n = to.len();
        let (low, high) = (&low[..n], &high[..n]);
        for i in 0..n {
            to[i] = T::pair(low[i], high[i]);
        }
    }
}

wide! {
    fn pair_into_first(low: &mut [T], high: &[T]) {
        let n = low.len();
        let high = &high[..n];
        for i in 0..n {
            low[i] = T::pair(low[i], high[i]);
        }
    }
}

wide! {
    fn pair_with_zero(low: &mut [T]) {
        for low in low.iter_mut() {
            *low = T::pair(*low, T::ZERO);
        }
    }
}

/// Partial sums of a row.
const PARTS: usize = 16;

#[inline(always)]
fn total<T: Element>(mut parts: [T; PARTS]) -> T {
    let mut half = PARTS / 2;
    while half > 0 {
        for i in 0..half {
            parts[i] += parts[i + half];
        }
        half /= 2;
    }
    parts[0]
}

/// The sum of `f` over `0..n`, in sixteen partial sums.
#[inline(always)]
pub(crate) fn sum_of<T: Element>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut parts = [T::ZERO; PARTS];
    let whole = n / PARTS * PARTS;
    let mut at = 0;
    while at < whole {
        for (lane, part) in parts.iter_mut().enumerate() {
            *part += f(at + lane);
        }
        at += PARTS;
    }
    for i in whole..n {
        parts[i - whole] += f(i);
    }
    total(parts)
}

wide! {
    fn sum(x: &[T]) -> T {
        sum_of(x.len(), |i| x[i])
    }
}
