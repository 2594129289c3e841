//! The transforms of Winograd's convolution: of input tiles, weights, output tiles and their gradients.

use crate::train::ops::element::Element;
use crate::train::ops::vector::{Lanes, Plain, Vectors, vectors};

/// Places of a transformed tile.
pub const PLACES: usize = 16;

/// Types with transforms.
pub trait Transforms: Sized {
    /// # Safety
    /// The pointers of `transform` are good for the places it describes, `channels` a multiple of 16.
    unsafe fn run(transform: Transform<Self>);
}

/// One tile's transform.
#[derive(Clone, Copy)]
pub enum Transform<T> {
    /// From 4x4 pixels to places `place` apart.
    Input { x: *const T, row: usize, pixel: usize, v: *mut T, place: usize, channels: usize },
    /// From places to up to 2x2 pixels, added to what `start` holds (null for nothing).
    Output {
        m: *const T,
        place: usize,
        y: *mut T,
        start: *const T,
        row: usize,
        pixel: usize,
        inside: (usize, usize),
        channels: usize,
    },
    /// From up to 2x2 pixels of an output's gradient to places.
    Gradient {
        dy: *const T,
        row: usize,
        pixel: usize,
        inside: (usize, usize),
        u: *mut T,
        place: usize,
        channels: usize,
    },
}

/// `[[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]] d`
#[inline(always)]
unsafe fn b<L: Lanes>(d: [L; 4]) -> [L; 4] {
    unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])] }
}

/// `[[1, 1, 1, 0], [0, 1, -1, -1]] m`
#[inline(always)]
unsafe fn a<L: Lanes>(m: [L; 4]) -> [L; 2] {
    unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
}

/// The transpose of [`a`].
#[inline(always)]
unsafe fn a_back<L: Lanes>(y: [L; 2]) -> [L; 4] {
    unsafe { [y[0], y[0].add(y[1]), y[0].sub(y[1]), L::zero().sub(y[1])] }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "rows and columns change places")]
unsafe fn transform<L: Lanes>(transform: Transform<L::T>) {
    unsafe {
        match transform {
            Transform::Input { x, row, pixel, v, place, channels } => {
                for c in (0..channels).step_by(L::N) {
                    let x = x.add(c);
                    let mut t = [[L::zero(); 4]; 4];
                    for j in 0..4 {
                        let column = b([0, 1, 2, 3].map(|i| L::load(x.add(i * row + j * pixel))));
                        for i in 0..4 {
                            t[i][j] = column[i];
                        }
                    }
                    for (i, t) in t.iter().enumerate() {
                        for (j, value) in b(*t).iter().enumerate() {
                            value.store(v.add((4 * i + j) * place + c));
                        }
                    }
                }
            }
            Transform::Output { m, place, y, start, row, pixel, inside, channels } => {
                for c in (0..channels).step_by(L::N) {
                    let m = m.add(c);
                    let mut s = [[L::zero(); 4]; 2];
                    for j in 0..4 {
                        let column = a([0, 1, 2, 3].map(|i| L::load(m.add((4 * i + j) * place))));
                        for i in 0..2 {
                            s[i][j] = column[i];
                        }
                    }
                    for (i, s) in s.iter().enumerate().take(inside.0) {
                        for (j, value) in a(*s).iter().enumerate().take(inside.1) {
                            let at = i * row + j * pixel + c;
                            let mut value = *value;
                            if !start.is_null() {
                                value = value.add(L::load(start.add(at)));
                            }
                            value.store(y.add(at));
                        }
                    }
                }
            }
            Transform::Gradient { dy, row, pixel, inside, u, place, channels } => {
                for c in (0..channels).step_by(L::N) {
                    let dy = dy.add(c);
                    let mut y = [[L::zero(); 2]; 2];
                    for (i, y) in y.iter_mut().enumerate().take(inside.0) {
                        for (j, y) in y.iter_mut().enumerate().take(inside.1) {
                            *y = L::load(dy.add(i * row + j * pixel));
                        }
                    }
                    let left = a_back([y[0][0], y[1][0]]);
                    let right = a_back([y[0][1], y[1][1]]);
                    for i in 0..4 {
                        for (j, value) in a_back([left[i], right[i]]).iter().enumerate() {
                            value.store(u.add((4 * i + j) * place + c));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(this: Transform<f32>) {
    unsafe { transform::<std::arch::x86_64::__m512>(this) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(this: Transform<f32>) {
    unsafe { transform::<std::arch::x86_64::__m256>(this) }
}

impl Transforms for f32 {
    unsafe fn run(this: Transform<f32>) {
        // SAFETY: the features were detected; the rest is the caller's.
        unsafe {
            match vectors() {
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 => avx512(this),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => avx2(this),
                _ => transform::<Plain<f32>>(this),
            }
        }
    }
}

impl Transforms for f64 {
    unsafe fn run(this: Transform<f64>) {
        // SAFETY: no feature is needed; the rest is the caller's.
        unsafe { transform::<Plain<f64>>(this) }
    }
}

/// The weights of one pair of channels, transformed.
pub fn to_places<T: Element>(w: [T; 9]) -> [T; PLACES] {
    let half = T::from_f64(0.5);
    let g = |w: [T; 3]| [w[0], half * (w[0] + w[1] + w[2]), half * (w[0] - w[1] + w[2]), w[2]];
    let columns = [0, 1, 2].map(|j| g([w[j], w[3 + j], w[6 + j]]));
    let mut all = [T::ZERO; PLACES];
    for i in 0..4 {
        let row = g([columns[0][i], columns[1][i], columns[2][i]]);
        all[4 * i..4 * i + 4].copy_from_slice(&row);
    }
    all
}

/// The transpose of [`to_places`].
pub fn from_places<T: Element>(u: [T; PLACES]) -> [T; 9] {
    let half = T::from_f64(0.5);
    let back = |u: [T; 4]| [u[0] + half * (u[1] + u[2]), half * (u[1] - u[2]), half * (u[1] + u[2]) + u[3]];
    let columns = [0, 1, 2, 3].map(|j| back([u[j], u[4 + j], u[8 + j], u[12 + j]]));
    let mut all = [T::ZERO; 9];
    for i in 0..3 {
        let row = back([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
        all[3 * i..3 * i + 3].copy_from_slice(&row);
    }
    all
}
