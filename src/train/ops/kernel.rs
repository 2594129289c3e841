//! The weights of convolutions and linear layers: standardised, packed for the tiles, and their gradients taken back
//! from the layout in which tiles make them.
//!
//! # Shapes
//! Flat weights are `[Co, Ci / groups, Kh, Kw]`, as saved by timm. Packed for a forward pass they are
//! `[group][co / 16][ky][kx][ci][16]`, for an input gradient `[class][group][ci / 16][ky][kx][co][16]`, where a class
//! is one of the residues of the input's pixels modulo the stride: each is reached by its own part of the window.
//! A gradient comes as `[group][ky][kx][ci][co]`, channels in whole blocks.

use std::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::lanes::{sum_of, wide};
use super::tile::{BLOCK, pieces};

/// What one layer's weights are.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Channels in and out of one group.
    pub ci: usize,
    pub co: usize,
    pub kh: usize,
    pub kw: usize,
    pub groups: usize,
    pub stride: usize,
    pub padding: usize,
    /// The epsilon of weight standardisation (BiT, paper.md 2.6).
    pub standardize: Option<f64>,
    /// Place in the network's flat vector.
    pub weight: Range<usize>,
}

/// The part of a window that reaches one residue of the input's pixels, along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// The largest place in the window; the others are `stride` apart below it.
    pub last: usize,
    pub count: usize,
    /// Output pixel `i + first` is the first one that reaches the class's i-th pixel.
    pub first: isize,
}

impl Kernel {
    pub fn window(&self) -> usize {
        self.kh * self.kw * self.ci
    }

    /// Output channels of a group in whole blocks.
    pub fn wide_co(&self) -> usize {
        self.co.next_multiple_of(BLOCK)
    }

    pub fn packed_forward(&self) -> usize {
        self.groups * self.wide_co() * self.window()
    }

    pub fn packed_backward(&self) -> usize {
        self.groups * self.ci.next_multiple_of(BLOCK) * self.kh * self.kw * self.co
    }

    pub fn native_gradient(&self) -> usize {
        self.groups * self.window() * self.wide_co()
    }

    /// For pixels `residue + i * stride` of one axis with a window of `size`.
    pub fn taps(&self, size: usize, residue: usize) -> Taps {
        let (stride, padding) = (self.stride as isize, self.padding as isize);
        let lowest = (residue + self.padding) % self.stride;
        let count = size.saturating_sub(lowest).div_ceil(self.stride);
        let last = lowest + count.saturating_sub(1) * self.stride;
        Taps { last, count, first: (residue as isize + padding - last as isize).div_euclid(stride) }
    }

    /// Makes both layouts, the second only if asked for.
    pub fn pack<T: Element>(&self, flat: &[T], forward: &mut [T], backward: Option<&mut [T]>) {
        let (taps, n) = (self.kh * self.kw, self.window());
        let blocks = self.wide_co() / BLOCK;
        let standard = self.standardized(flat);
        forward.par_chunks_mut(BLOCK * n).enumerate().for_each(|(block, to)| {
            let (group, first) = (block / blocks, block % blocks * BLOCK);
            let rows = &standard[group * self.co * n..][..self.co * n];
            let channels = BLOCK.min(self.co - first);
            if channels < BLOCK {
                to.fill(T::ZERO);
            }
            // A few input channels at a time, so that what is written stays in the cache from lane to lane.
            for some in pieces(self.ci, BLOCK) {
                for lane in 0..channels {
                    let row = &rows[(first + lane) * n + some.start * taps..][..some.len() * taps];
                    for (ci, row) in some.clone().zip(row.chunks_exact(taps)) {
                        for (tap, value) in row.iter().enumerate() {
                            to[(tap * self.ci + ci) * BLOCK + lane] = *value;
                        }
                    }
                }
            }
        });
        let Some(backward) = backward else { return };
        let mut rest = backward;
        for a in 0..self.stride {
            for b in 0..self.stride {
                let (y, x) = (self.taps(self.kh, a), self.taps(self.kw, b));
                let window = y.count * x.count * self.co;
                let blocks = self.ci.div_ceil(BLOCK);
                let (class, after) = rest.split_at_mut(self.groups * blocks * BLOCK * window);
                rest = after;
                if window == 0 {
                    continue;
                }
                // Output pixels rise as places in the window fall.
                let places: Vec<usize> = (0..y.count)
                    .flat_map(|ty| (0..x.count).map(move |tx| (ty, tx)))
                    .map(|(ty, tx)| (y.last - ty * self.stride) * self.kw + x.last - tx * self.stride)
                    .collect();
                class.par_chunks_mut(BLOCK * window).enumerate().for_each(|(block, to)| {
                    let (group, first) = (block / blocks, block % blocks * BLOCK);
                    let rows = &standard[group * self.co * n..][..self.co * n];
                    let channels = BLOCK.min(self.ci - first);
                    if channels < BLOCK {
                        to.fill(T::ZERO);
                    }
                    for (co, row) in rows.chunks_exact(n).enumerate() {
                        let row = &row[first * taps..][..channels * taps];
                        for (t, place) in places.iter().enumerate() {
                            let to = &mut to[(t * self.co + co) * BLOCK..][..channels];
                            for (to, from) in to.iter_mut().zip(row.chunks_exact(taps)) {
                                *to = from[*place];
                            }
                        }
                    }
                });
            }
        }
    }

    /// All rows, standardised where the layer is; borrowed where not.
    pub fn standardized<'a, T: Element>(&self, flat: &'a [T]) -> std::borrow::Cow<'a, [T]> {
        let own = &flat[self.weight.clone()];
        let Some(eps) = self.standardize else { return own.into() };
        let mut rows = own.to_vec();
        rows.par_chunks_mut(self.window()).for_each(|row| {
            let (mean, rstd) = moments(row, eps);
            scale_shift(row, T::from_f64(rstd), T::from_f64(-mean * rstd));
        });
        rows.into()
    }

    /// The gradient of the flat weights from that of the tiles' layout.
    pub fn collect<T: Element>(&self, flat: &[T], native: &[T], gradient: &mut [T]) {
        let (taps, n, wide) = (self.kh * self.kw, self.window(), self.wide_co());
        self.each_block(gradient, |group, first, to| {
            let channels = to.len() / n;
            for some in pieces(self.ci, BLOCK) {
                for tap in 0..taps {
                    for ci in some.clone() {
                        let from = &native[(group * n + tap * self.ci + ci) * wide + first..][..channels];
                        for (channel, value) in from.iter().enumerate() {
                            to[channel * n + ci * taps + tap] = *value;
                        }
                    }
                }
            }
            self.through_standardization(flat, group * self.co + first, to);
        });
    }

    /// Calls `body` with the group, the first channel in it and the gradient of up to a block of output channels.
    pub fn each_block<T: Element>(&self, gradient: &mut [T], body: impl Fn(usize, usize, &mut [T]) + Sync) {
        let n = self.window();
        gradient.par_chunks_mut(self.co * n).enumerate().for_each(|(group, gradient)| {
            gradient.par_chunks_mut(BLOCK * n).enumerate().for_each(|(block, to)| body(group, block * BLOCK, to));
        });
    }

    /// From the gradient of standardised rows, `first` the first of them, to that of the weights.
    pub fn through_standardization<T: Element>(&self, flat: &[T], first: usize, gradient: &mut [T]) {
        let Some(eps) = self.standardize else { return };
        let n = self.window();
        for (channel, dy) in gradient.chunks_exact_mut(n).enumerate() {
            let row = &flat[self.weight.clone()][(first + channel) * n..][..n];
            let (mean, rstd) = moments(row, eps);
            standardize_backward(row, T::from_f64(mean), T::from_f64(rstd), dy);
        }
    }
}

/// Mean and 1 / standard deviation (biased).
pub fn moments<T: Element>(row: &[T], eps: f64) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = super::lanes::sum(row).to_f64() / n;
    let variance = squares_about(row, T::from_f64(mean)).to_f64() / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

wide! {
    /// The sum of `(x - mean)²`.
    fn squares_about(x: &[T], mean: T) -> T {
        sum_of(x.len(), |i| (x[i] - mean) * (x[i] - mean))
    }
}

wide! {
    fn scale_shift(x: &mut [T], scale: T, shift: T) {
        for x in x.iter_mut() {
            *x = x.mul_add(scale, shift);
        }
    }
}

wide! {
    /// With y = (w - mean) rstd, `dy` becomes `rstd (dy - mean(dy) - y mean(dy y))`.
    fn standardize_backward(w: &[T], mean: T, rstd: T, dy: &mut [T]) {
        let n = dy.len();
        let w = &w[..n];
        let count = T::from_f64(n as f64);
        let sum = sum_of(n, |i| dy[i]) / count;
        let product = sum_of(n, |i| dy[i] * ((w[i] - mean) * rstd)) / count;
        for i in 0..n {
            dy[i] = rstd * (dy[i] - sum - (w[i] - mean) * rstd * product);
        }
    }
}
