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
use super::tile::BLOCK;

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

    /// Standardised rows of the output channels `range`: `[co][ci kh kw]`.
    fn rows<T: Element>(&self, flat: &[T], range: Range<usize>, to: &mut Vec<T>) {
        let n = self.window();
        to.clear();
        to.extend_from_slice(&flat[self.weight.clone()][range.start * n..range.end * n]);
        if let Some(eps) = self.standardize {
            for row in to.chunks_exact_mut(n) {
                let (mean, rstd) = moments(row, eps);
                scale_shift(row, T::from_f64(rstd), T::from_f64(-mean * rstd));
            }
        }
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
            for lane in 0..channels {
                let row = &rows[(first + lane) * n..][..n];
                for ci in 0..self.ci {
                    for tap in 0..taps {
                        to[(tap * self.ci + ci) * BLOCK + lane] = row[ci * taps + tap];
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
                class.par_chunks_mut(BLOCK * window).enumerate().for_each(|(block, to)| {
                    let (group, first) = (block / blocks, block % blocks * BLOCK);
                    let rows = &standard[group * self.co * n..][..self.co * n];
                    let channels = BLOCK.min(self.ci - first);
                    if channels < BLOCK {
                        to.fill(T::ZERO);
                    }
                    for ty in 0..y.count {
                        for tx in 0..x.count {
                            // Output pixels rise as places in the window fall.
                            let tap = (y.last - ty * self.stride) * self.kw + x.last - tx * self.stride;
                            for co in 0..self.co {
                                let row = &rows[co * n + first * taps..][..channels * taps];
                                let to = &mut to[((ty * x.count + tx) * self.co + co) * BLOCK..][..channels];
                                for (to, from) in to.iter_mut().zip(row.chunks_exact(taps)) {
                                    *to = from[tap];
                                }
                            }
                        }
                    }
                });
            }
        }
    }

    /// All rows, standardised where the layer is; borrowed where not.
    fn standardized<'a, T: Element>(&self, flat: &'a [T]) -> std::borrow::Cow<'a, [T]> {
        let own = &flat[self.weight.clone()];
        let Some(eps) = self.standardize else { return own.into() };
        let mut rows = own.to_vec();
        rows.par_chunks_mut(self.window()).for_each(|row| {
            let (mean, rstd) = moments(row, eps);
            scale_shift(row, T::from_f64(rstd), T::from_f64(-mean * rstd));
        });
        rows.into()
    }

    /// Sums the lanes' gradients, in their order, and writes the gradient of the flat weights.
    pub fn collect<T: Element>(&self, flat: &[T], lanes: &[&[T]], gradient: &mut [T]) {
        let (taps, n, wide) = (self.kh * self.kw, self.window(), self.wide_co());
        let blocks = wide / BLOCK;
        // Blocks of whole output channels; a group's last one may be short.
        let starts: Vec<(usize, usize)> =
            (0..self.groups).flat_map(|group| (0..blocks).map(move |block| (group, block * BLOCK))).collect();
        let mut rest = gradient;
        let mut parts = Vec::with_capacity(starts.len());
        for (group, first) in starts {
            let channels = BLOCK.min(self.co - first);
            let (part, after) = rest.split_at_mut(channels * n);
            rest = after;
            parts.push((group, first, channels, part));
        }
        parts.into_par_iter().for_each_init(
            || (Vec::new(), vec![T::ZERO; BLOCK * taps]),
            |(standard, sums), (group, first, channels, to)| {
                for ci in 0..self.ci {
                    for tap in 0..taps {
                        let at = (group * n + tap * self.ci + ci) * wide + first;
                        let sum = &mut sums[tap * BLOCK..][..BLOCK];
                        sum.copy_from_slice(&lanes[0][at..][..BLOCK]);
                        for lane in &lanes[1..] {
                            let lane = &lane[at..][..BLOCK];
                            for (sum, value) in sum.iter_mut().zip(lane) {
                                *sum += *value;
                            }
                        }
                    }
                    for channel in 0..channels {
                        let to = &mut to[channel * n + ci * taps..][..taps];
                        for (tap, to) in to.iter_mut().enumerate() {
                            *to = sums[tap * BLOCK + channel];
                        }
                    }
                }
                let Some(eps) = self.standardize else { return };
                let own = group * self.co + first;
                self.rows(flat, own..own + channels, standard);
                for (channel, dy) in to.chunks_exact_mut(n).enumerate() {
                    let row = &flat[self.weight.clone()][(own + channel) * n..][..n];
                    let (_, rstd) = moments(row, eps);
                    standardize_backward(&standard[channel * n..][..n], T::from_f64(rstd), dy);
                }
            },
        );
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
    /// `dy` becomes `rstd (dy - mean(dy) - y mean(dy y))`.
    fn standardize_backward(y: &[T], rstd: T, dy: &mut [T]) {
        let n = dy.len();
        let y = &y[..n];
        let count = T::from_f64(n as f64);
        let mean = sum_of(n, |i| dy[i]) / count;
        let product = sum_of(n, |i| dy[i] * y[i]) / count;
        for i in 0..n {
            dy[i] = rstd * (dy[i] - mean - y[i] * product);
        }
    }
}
