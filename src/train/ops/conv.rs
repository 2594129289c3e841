//! 2-d convolution with its two gradients: stride, padding, groups, images of any shape.
//!
//! # Shapes
//! x `[N, H, W, Ci]`, w `[Co, Ci / groups, Kh, Kw]` (as saved by timm), y `[N, Ho, Wo, Co]`.
//!
//! Direct, without an im2col matrix: strips of an image go, through the lens if there is one, into a zero-bordered
//! scratch that stays in the cache, and every output row is cut into register tiles ([`super::tile`]). The input
//! gradient is a convolution of the output gradient with flipped, transposed weights, for strided layers one for each
//! residue of the pixels, so that no zero is multiplied. It is computed only where it leads to something that learns:
//! the images need none.

use std::ops::Range;

use super::element::Element;
use super::kernel::Kernel;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, Frame, Glass, Layer, Seen, Write, pitch};
use super::tile::{BLOCK, Start, Strides, Sum, Target, pieces, tile};

/// Numbers of a strip in scratch, about.
const STRIP: usize = 48 << 10;

#[derive(Clone, Debug)]
pub struct Conv {
    x: Extent,
    y: Extent,
    kernel: Kernel,
    bias: Option<Range<usize>>,
}

impl Conv {
    /// None where the window does not fit the padded image, or channels do not divide into groups.
    pub fn new(x: Extent, co: usize, kernel: Kernel, bias: Option<Range<usize>>) -> Option<Conv> {
        let Kernel { kh, kw, stride, padding, groups, .. } = kernel;
        let fits = x.h + 2 * padding >= kh && x.w + 2 * padding >= kw && stride > 0 && padding < kh.min(kw);
        if !fits || groups == 0 || x.c != groups * kernel.ci || co != groups * kernel.co {
            return None;
        }
        let side = |side: usize, window: usize| (side + 2 * padding - window) / stride + 1;
        Some(Conv { x, y: Extent { h: side(x.h, kh), w: side(x.w, kw), c: co }, kernel, bias })
    }

    /// Output rows of a strip.
    fn strip(&self) -> usize {
        let row = self.wide() * pitch(self.x.c) * self.kernel.stride;
        (STRIP / row.max(self.y.w * self.y.c)).clamp(1, self.y.h)
    }

    fn wide(&self) -> usize {
        (self.y.w - 1) * self.kernel.stride + self.kernel.kw
    }

    /// The input under output rows `rows`.
    fn frame(&self, rows: &Range<usize>) -> Frame {
        let Kernel { kh, stride, padding, .. } = self.kernel;
        Frame {
            top: (rows.start * stride) as isize - padding as isize,
            left: padding,
            rows: (rows.len() - 1) * stride + kh,
            wide: self.wide(),
            pitch: pitch(self.x.c),
        }
    }

    /// Rows of each residue class of the input in a strip, and how many there are at most.
    fn class_strip(&self) -> (usize, usize) {
        let rows = self.x.h.div_ceil(self.kernel.stride);
        let wide = self.x.w.div_ceil(self.kernel.stride) + self.kernel.kw;
        ((STRIP / (wide * self.dy_pitch())).clamp(1, rows), rows)
    }

    fn dy_pitch(&self) -> usize {
        pitch(self.y.c)
    }

    /// Output gradients that reach rows `rows` of any residue class.
    fn dy_frame(&self, rows: &Range<usize>) -> Frame {
        let Kernel { kh, kw, stride, .. } = self.kernel;
        let reach = |size: usize| {
            let all = (0..stride).map(|residue| self.kernel.taps(size, residue)).filter(|taps| taps.count > 0);
            let first = all.clone().map(|taps| taps.first).min().unwrap_or(0);
            let last = all.map(|taps| taps.first + taps.count as isize).max().unwrap_or(1);
            (first, last)
        };
        let ((top, bottom), (left, right)) = (reach(kh), reach(kw));
        let across = self.x.w.div_ceil(stride) as isize;
        let left = left.min(0);
        Frame {
            top: rows.start as isize + top,
            left: (-left) as usize,
            rows: (rows.len() as isize - 1 + bottom - top) as usize,
            wide: (across - 1 + right - left) as usize,
            pitch: self.dy_pitch(),
        }
    }

    /// Output gradients for the weights' gradient: the rows as they are, or copied where vectors would cross into the
    /// next pixel or all fall into few sets of the cache.
    fn weight_dy_pitch(&self) -> usize {
        let c = (self.kernel.groups - 1) * self.kernel.co + self.kernel.wide_co();
        pitch(c)
    }

    fn input_gradient<T: Element>(
        &self,
        packed: &[T],
        dy: &Seen<'_, T>,
        dx: &mut [T],
        write: Write,
        scratch: &mut [T],
    ) {
        let Kernel { ci, co, kh, kw, groups, stride, .. } = self.kernel;
        let plain = Glass::new(dy, self.y.c, &mut []);
        let (strip, all) = self.class_strip();
        for rows in pieces(all, strip) {
            let frame = self.dy_frame(&rows);
            let scratch = &mut scratch[..frame.len()];
            frame.fill(dy, self.y, &plain, scratch);
            let mut rest = packed;
            for a in 0..stride {
                for b in 0..stride {
                    let (y, x) = (self.kernel.taps(kh, a), self.kernel.taps(kw, b));
                    let window = y.count * x.count * co;
                    let (class, after) = rest.split_at(groups * ci.next_multiple_of(BLOCK) * window);
                    rest = after;
                    let across = (self.x.w - b.min(self.x.w)).div_ceil(stride);
                    if across == 0 {
                        continue;
                    }
                    let rows = rows.clone().filter(|i| a + i * stride < self.x.h);
                    let pixel = |i: usize, j: usize| ((a + i * stride) * self.x.w + b + j * stride) * self.x.c;
                    if window == 0 {
                        if write == Write::Set {
                            for (i, j) in rows.flat_map(|i| (0..across).map(move |j| (i, j))) {
                                dx[pixel(i, j)..][..self.x.c].fill(T::ZERO);
                            }
                        }
                        continue;
                    }
                    let left = (x.first + frame.left as isize) as usize;
                    for (group, some) in (0..groups)
                        .flat_map(|group| pieces(ci.div_ceil(BLOCK), T::most_blocks()).map(move |some| (group, some)))
                    {
                        let first = some.start * BLOCK;
                        let channels = (some.end * BLOCK).min(ci) - first;
                        let w = &class[(group * ci.next_multiple_of(BLOCK) + first) * window..];
                        for i in rows.clone() {
                            let top = (i as isize + y.first - frame.top) as usize;
                            for part in pieces(across, T::most_rows(some.len())) {
                                let from = (top * frame.wide + left + part.start) * frame.pitch + group * co;
                                let sum = self.sum(&scratch[from..], &frame, (frame.pitch, co), w, (y.count, x.count));
                                tile(
                                    &sum,
                                    part.len(),
                                    some.len(),
                                    Target {
                                        y: &mut dx[pixel(i, part.start) + group * ci + first..],
                                        row: stride * self.x.c,
                                        channels,
                                        start: if write == Write::Set { Start::Zero } else { Start::Result },
                                        bias: None,
                                    },
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// The sum over a window of `(kh, kw)` pixels of `channels` numbers, rows of the tile `x_row` apart.
    fn sum<'a, T: Element>(
        &self,
        x: &'a [T],
        frame: &Frame,
        (x_row, channels): (usize, usize),
        w: &'a [T],
        (kh, kw): (usize, usize),
    ) -> Sum<'a, T> {
        // Neighbouring pixels that touch are one run.
        let (middle, inner) = if frame.pitch == channels { (1, kw * channels) } else { (kw, channels) };
        Sum {
            x,
            x_step: Strides { outer: frame.wide * frame.pitch, middle: frame.pitch, inner: 1 },
            x_row,
            w,
            w_step: Strides { outer: kw * channels * BLOCK, middle: channels * BLOCK, inner: BLOCK },
            w_block: kh * kw * channels * BLOCK,
            count: Strides { outer: kh, middle, inner },
            pairs: false,
        }
    }

    /// Adds one strip's part to the weights' gradient. `dy` are its rows, `dy_pitch` apart.
    fn weight_gradient<T: Element>(
        &self,
        frame: &Frame,
        x: &[T],
        (dy, dy_pitch): (&[T], usize),
        rows: usize,
        dw: &mut [T],
        write: Write,
    ) {
        let Kernel { ci, co, kh, kw, groups, stride, .. } = self.kernel;
        let wide = self.kernel.wide_co();
        let touching = frame.pitch == ci;
        let (runs, run) = if touching { (1, kw * ci) } else { (kw, ci) };
        for group in 0..groups {
            let dw = &mut dw[group * kh * kw * ci * wide..];
            for some in pieces(co.div_ceil(BLOCK), T::most_blocks()) {
                let first = some.start * BLOCK;
                for ky in 0..kh {
                    for kx in 0..runs {
                        for part in pieces(run, T::most_rows(some.len())) {
                            let sum = Sum {
                                x: &x[(ky * frame.wide + kx) * frame.pitch + group * ci + part.start..],
                                x_step: Strides {
                                    outer: stride * frame.wide * frame.pitch,
                                    middle: 0,
                                    inner: stride * frame.pitch,
                                },
                                x_row: 1,
                                w: &dy[group * co + first..],
                                w_step: Strides { outer: self.y.w * dy_pitch, middle: 0, inner: dy_pitch },
                                w_block: BLOCK,
                                count: Strides { outer: rows, middle: 1, inner: self.y.w },
                                pairs: false,
                            };
                            tile(
                                &sum,
                                part.len(),
                                some.len(),
                                Target {
                                    y: &mut dw[((ky * runs + kx) * run + part.start) * wide + first..],
                                    row: wide,
                                    channels: some.len() * BLOCK,
                                    start: if write == Write::Set { Start::Zero } else { Start::Result },
                                    bias: None,
                                },
                            );
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Layer<T> for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn describe(&self) -> Description {
        Description::Conv { x: self.x, y: self.y, kernel: self.kernel.clone(), bias: self.bias.clone() }
    }

    fn output(&self) -> Extent {
        self.y
    }

    fn adds_residual(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        std::iter::once(self.kernel.weight.clone()).chain(self.bias.clone()).collect()
    }

    fn scratch(&self, _images: usize) -> usize {
        let strip = self.strip();
        let x = self.frame(&(0..strip)).len();
        let dy = self.dy_frame(&(0..self.class_strip().0)).len();
        Glass::<T>::scratch(self.x.c) + (x + strip * self.y.w * self.weight_dy_pitch()).max(dy)
    }

    fn packed(&self, training: bool) -> usize {
        self.kernel.packed_forward() + if training { self.kernel.packed_backward() } else { 0 }
    }

    fn pack(&self, weights: &[T], to: &mut [T], training: bool) {
        let (forward, backward) = to.split_at_mut(self.kernel.packed_forward());
        self.kernel.pack(weights, forward, training.then_some(backward));
    }

    fn gradient(&self) -> usize {
        self.kernel.native_gradient() + self.bias.as_ref().map_or(0, Range::len)
    }

    fn forward(&self, call: Forward<'_, T>) {
        let Kernel { ci, co, kh, kw, groups, stride, .. } = self.kernel;
        let bias = self.bias.clone().map(|range| &call.weights[range]);
        let (glass, scratch) = call.scratch.split_at_mut(Glass::<T>::scratch(self.x.c));
        for image in 0..call.images {
            let x = call.x.image(image, self.x);
            let glass = Glass::new(&x, self.x.c, glass);
            for rows in pieces(self.y.h, self.strip()) {
                let frame = self.frame(&rows);
                let scratch = &mut scratch[..frame.len()];
                frame.fill(&x, self.x, &glass, scratch);
                for group in 0..groups {
                    for some in pieces(co.div_ceil(BLOCK), T::most_blocks()) {
                        let first = some.start * BLOCK;
                        let channels = (some.end * BLOCK).min(co) - first;
                        let w = &call.packed[(group * self.kernel.wide_co() + first) * kh * kw * ci..];
                        for (r, y) in rows.clone().enumerate() {
                            for part in pieces(self.y.w, T::most_rows(some.len())) {
                                let from = (r * stride * frame.wide + part.start * stride) * frame.pitch + group * ci;
                                let sum = self.sum(&scratch[from..], &frame, (stride * frame.pitch, ci), w, (kh, kw));
                                let pixel = (image * self.y.h + y) * self.y.w + part.start;
                                let at = pixel * self.y.c + group * co + first;
                                let start = call.residual.map_or(Start::Zero, |r| Start::Rows(&r[at..], self.y.c));
                                tile(
                                    &sum,
                                    part.len(),
                                    some.len(),
                                    Target {
                                        y: &mut call.y[at..],
                                        row: self.y.c,
                                        channels,
                                        start,
                                        bias: bias.map(|bias| &bias[group * co + first..][..channels]),
                                    },
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let (glass_scratch, scratch) = call.scratch.split_at_mut(Glass::<T>::scratch(self.x.c));
        let (dw, db) = call.gradient.split_at_mut(self.kernel.native_gradient());
        if self.bias.is_some() {
            if call.gradient_write == Write::Set {
                db.fill(T::ZERO);
            }
            for row in call.dy.chunks_exact(self.y.c) {
                lanes::add(db, row);
            }
        }
        let packed = &call.packed[self.kernel.packed_forward()..];
        let mut write = call.gradient_write;
        let dy_pitch = self.weight_dy_pitch();
        for image in 0..call.images {
            let x = call.x.image(image, self.x);
            let dy = &call.dy[image * self.y.len()..][..self.y.len()];
            let glass = Glass::new(&x, self.x.c, glass_scratch);
            for rows in pieces(self.y.h, self.strip()) {
                let frame = self.frame(&rows);
                let (x_strip, dy_strip) = scratch.split_at_mut(frame.len());
                frame.fill(&x, self.x, &glass, x_strip);
                let own = &dy[rows.start * self.y.w * self.y.c..rows.end * self.y.w * self.y.c];
                let dy = if dy_pitch == self.y.c {
                    own
                } else {
                    for (to, from) in dy_strip.chunks_exact_mut(dy_pitch).zip(own.chunks_exact(self.y.c)) {
                        to[..self.y.c].copy_from_slice(from);
                    }
                    &*dy_strip
                };
                self.weight_gradient(&frame, x_strip, (dy, dy_pitch), rows.len(), dw, write);
                write = Write::Add;
            }
            if let Some((dx, write)) = &mut call.dx {
                let dx = &mut dx[image * self.x.len()..][..self.x.len()];
                self.input_gradient(packed, &Seen { numbers: dy, lens: None }, dx, *write, scratch);
            }
        }
    }

    fn collect(&self, weights: &[T], native: &[T], to: &mut [T]) {
        let (dw, db) = native.split_at(self.kernel.native_gradient());
        let (weight, bias) = to.split_at_mut(self.kernel.weight.len());
        self.kernel.collect(weights, dw, weight);
        bias.copy_from_slice(db);
    }

    fn macs(&self) -> u64 {
        (self.y.len() * self.kernel.window()) as u64
    }
}
