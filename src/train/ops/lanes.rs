//! Loops over long rows of numbers, compiled for the vector unit this processor has.
//!
//! Plain Rust, no intrinsics: the compiler vectorises them once for AVX-512, once for AVX2, once for whatever the
//! target has. Every element is computed by itself, and Rust does not contract `a * b + c`, so the bits are the same.
//!
//! Channel-wise numbers are given *spread*: repeated until a row is long enough to be worth a vector loop, whatever
//! the number of channels.

use super::Element;
use super::tile::{Vectors, vectors};

/// Numbers of a spread row, at least.
const ROW: usize = 256;

/// How many pixels a spread row covers.
pub fn pixels_of_a_row(channels: usize) -> usize {
    ROW.div_ceil(channels)
}

/// One number a channel, repeated over a row.
pub fn spread<T: Element>(channels: &[T]) -> Vec<T> {
    channels.repeat(pixels_of_a_row(channels.len()))
}

macro_rules! wide {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        pub fn $name<T: Element>($($argument: $type),*) {
            #[inline(always)]
            fn plain<T: Element>($($argument: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512<T: Element>($($argument: $type),*) {
                    plain($($argument),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2<T: Element>($($argument: $type),*) {
                    plain($($argument),*)
                }
                // SAFETY: the features were detected.
                unsafe {
                    match vectors() {
                        Vectors::Avx512 => return avx512($($argument),*),
                        Vectors::Avx2 => return avx2($($argument),*),
                        Vectors::None => {}
                    }
                }
            }
            plain($($argument),*)
        }
    };
}

wide! {
    /// `sum += x`, `square += x²`
    fn add_moments(x: &[T], sum: &mut [T], square: &mut [T]) {
        let n = x.len();
        let (sum, square) = (&mut sum[..n], &mut square[..n]);
        for i in 0..n {
            sum[i] += x[i];
            square[i] += x[i] * x[i];
        }
    }
}

wide! {
    /// `y = max(0, x * scale + shift)`
    fn scale_shift_relu(x: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
        let n = x.len();
        let (scale, shift, y) = (&scale[..n], &shift[..n], &mut y[..n]);
        for i in 0..n {
            let value = x[i] * scale[i] + shift[i];
            // Written so that a NaN comes through: a loss must not look well when its network is not.
            y[i] = if value < T::default() { T::default() } else { value };
        }
    }
}

wide! {
    /// With g = dy where y > 0: `sum += g`, `product += g * (x - mean)`
    fn add_masked_moments(x: &[T], mean: &[T], y: &[T], dy: &[T], sum: &mut [T], product: &mut [T]) {
        let n = x.len();
        let (mean, y, dy) = (&mean[..n], &y[..n], &dy[..n]);
        let (sum, product) = (&mut sum[..n], &mut product[..n]);
        for i in 0..n {
            let g = if y[i] > T::default() { dy[i] } else { T::default() };
            sum[i] += g;
            product[i] += g * (x[i] - mean[i]);
        }
    }
}

wide! {
    /// With g = dy where y > 0: `dx = g * gain + x * slope + offset`
    fn masked_gradient(x: &[T], y: &[T], dy: &[T], gain: &[T], slope: &[T], offset: &[T], dx: &mut [T]) {
        let n = x.len();
        let (y, dy, gain, slope, offset) = (&y[..n], &dy[..n], &gain[..n], &slope[..n], &offset[..n]);
        let dx = &mut dx[..n];
        for i in 0..n {
            let g = if y[i] > T::default() { dy[i] } else { T::default() };
            dx[i] = g * gain[i] + x[i] * slope[i] + offset[i];
        }
    }
}
