//! 3x3 convolution of stride 1 in Winograd's way: four output pixels from sixteen products instead of thirty-six
//! (Lavin & Gray, arXiv 1509.09308, F(2x2, 3x3)).
//!
//! # Shapes
//! x `[N, H, W, Ci]`, w `[Co, Ci, 3, 3]`, y `[N, H, W, Co]`, padding 1; channels are multiples of 16.
//!
//! The output is cut into tiles of 2x2 pixels, each of which sees 4x4 pixels of the input. Input and weights are
//! transformed, multiplied place by place - sixteen matrix products over channels - and transformed back. Both gradients
//! go the same way: the input's is such a convolution with turned weights, the weights' is summed in the transformed
//! domain over all images and transformed back once. The transforms are sums and halves, so what is lost in f32 is of
//! the size of a sum's own rounding.

mod transform;

use std::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::kernel::Kernel;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, Frame, Glass, Layer, Seen, Write};
use super::product::{Product, product};
use super::tile::{BLOCK, Start, Target, pieces};
use crate::job::Precision;
use transform::{PLACES, Transform, from_places, to_places};

pub use transform::Transforms;

/// Numbers of one side's transformed panel, about.
const PANEL: usize = 32 << 10;
/// From so many channels on pairs pay.
const LEAST_PAIRED: usize = 64;
/// Numbers of a strip in scratch, about.
const STRIP: usize = 32 << 10;

#[derive(Clone, Debug)]
pub struct Winograd {
    x: Extent,
    kernel: Kernel,
    /// Whether products are of pairs of bf16 numbers.
    pairs: bool,
}

/// Transformed tiles: `[place][tile][channel]`, a line between places lest they all fall into one set of the cache.
struct Panel {
    tiles: usize,
    channels: usize,
}

impl Panel {
    fn place(&self) -> usize {
        self.tiles * self.channels + BLOCK
    }

    fn len(&self) -> usize {
        PLACES * self.place()
    }
}

impl Winograd {
    pub fn new(x: Extent, kernel: Kernel) -> Winograd {
        assert!(kernel.ci.is_multiple_of(BLOCK) && kernel.co.is_multiple_of(BLOCK), "channels are whole vectors");
        Winograd { x, kernel, pairs: false }
    }

    fn half(&self) -> usize {
        if self.pairs { 2 } else { 1 }
    }

    /// Whether a layer is done in this way: where the products outweigh the transforms and the weights, of which there
    /// are 16/9 as many, are used by enough tiles.
    pub fn suits(x: Extent, co: usize, kernel: &Kernel) -> bool {
        let Kernel { kh, kw, groups, stride, padding, .. } = *kernel;
        let tiles = x.h.div_ceil(2) * x.w.div_ceil(2);
        (kh, kw, groups, stride, padding) == (3, 3, 1, 1, 1)
            && x.c.is_multiple_of(BLOCK)
            && co.is_multiple_of(BLOCK)
            && 8 * tiles >= x.c.max(co)
    }

    fn tiles(&self) -> (usize, usize) {
        (self.x.h.div_ceil(2), self.x.w.div_ceil(2))
    }

    /// Tiles of a panel.
    fn panel(&self) -> usize {
        (PANEL / (PLACES * self.kernel.ci.max(self.kernel.co))).clamp(14, 128)
    }

    /// Rows of tiles of a strip.
    fn strip(&self) -> usize {
        let row = 2 * (2 * self.tiles().1 + 2) * self.kernel.ci.max(self.kernel.co);
        (STRIP / row).clamp(1, self.tiles().0)
    }

    /// Pixels under rows `rows` of tiles.
    fn frame(&self, rows: &Range<usize>, channels: usize) -> Frame {
        Frame {
            top: 2 * rows.start as isize - 1,
            left: 1,
            rows: 2 * rows.len() + 2,
            wide: 2 * self.tiles().1 + 2,
            pitch: channels,
        }
    }

    /// How many pixels of a tile's two rows and columns lie in the image.
    fn inside(&self, row: usize, column: usize) -> (usize, usize) {
        ((self.x.h - 2 * row).min(2), (self.x.w - 2 * column).min(2))
    }

    fn transform_input<T: Element>(
        &self,
        frame: &Frame,
        x: &[T],
        (rows, tiles): (&Range<usize>, Range<usize>),
        v: &mut [T],
        panel: &Panel,
    ) {
        let across = self.tiles().1;
        let row = frame.wide * frame.pitch;
        for (to, tile) in tiles.enumerate() {
            let at = 2 * (tile / across - rows.start) * row + 2 * (tile % across) * frame.pitch;
            assert!(at + 3 * (row + frame.pitch) + panel.channels <= x.len() && panel.len() <= v.len());
            // SAFETY: the last of the sixteen pixels and of the sixteen places were checked above.
            unsafe {
                T::run(Transform::Input {
                    x: x.as_ptr().add(at),
                    row,
                    pixel: frame.pitch,
                    v: v.as_mut_ptr().add(to * panel.channels),
                    place: panel.place(),
                    channels: panel.channels,
                });
            }
        }
    }

    /// `m[place] = v[place] w[place]` for all places.
    fn multiply<T: Element>(&self, v: &mut [T], from: &Panel, w: &[T], count: usize, m: &mut [T], to: &Panel) {
        let (ci, co) = (from.channels, to.channels);
        let half = self.half();
        for place in 0..PLACES {
            let v = &mut v[place * from.place()..][..count * ci];
            if self.pairs {
                lanes::pair_neighbours(v);
            }
            let of = Product {
                x: v,
                x_row: ci / half,
                x_step: 1,
                w: &w[place * ci * BLOCK..],
                w_step: BLOCK,
                w_block: PLACES * ci * BLOCK,
                rows: count,
                sum: ci / half,
                pairs: self.pairs,
            };
            let y = &mut m[place * to.place()..];
            product(&of, Target { y, row: co, channels: co, start: Start::Zero, bias: None });
        }
    }

    fn transform_output<T: Element>(
        &self,
        m: &[T],
        panel: &Panel,
        tiles: Range<usize>,
        y: &mut [T],
        start: Start<'_, T>,
    ) {
        let c = panel.channels;
        for (from, tile) in tiles.enumerate() {
            let (row, column) = (tile / self.tiles().1, tile % self.tiles().1);
            let inside = self.inside(row, column);
            let at = (2 * row * self.x.w + 2 * column) * c;
            let end = at + ((inside.0 - 1) * self.x.w + inside.1) * c;
            assert!(end <= y.len() && panel.len() <= m.len());
            let to = y[at..end].as_mut_ptr();
            let start = match start {
                Start::Zero => std::ptr::null(),
                Start::Result => to.cast_const(),
                Start::Rows(rows, _) => rows[at..end].as_ptr(),
            };
            // SAFETY: the last pixel inside the image and the last place were checked above.
            unsafe {
                T::run(Transform::Output {
                    m: m.as_ptr().add(from * c),
                    place: panel.place(),
                    y: to,
                    start,
                    row: self.x.w * c,
                    pixel: c,
                    inside,
                    channels: c,
                });
            }
        }
    }

    fn transform_gradient<T: Element>(&self, dy: &[T], tiles: Range<usize>, u: &mut [T], panel: &Panel) {
        let c = panel.channels;
        for (to, tile) in tiles.enumerate() {
            let (row, column) = (tile / self.tiles().1, tile % self.tiles().1);
            let inside = self.inside(row, column);
            let at = (2 * row * self.x.w + 2 * column) * c;
            assert!(at + ((inside.0 - 1) * self.x.w + inside.1) * c <= dy.len() && panel.len() <= u.len());
            // SAFETY: the last pixel inside the image and the last place were checked above.
            unsafe {
                T::run(Transform::Gradient {
                    dy: dy.as_ptr().add(at),
                    row: self.x.w * c,
                    pixel: c,
                    inside,
                    u: u.as_mut_ptr().add(to * c),
                    place: panel.place(),
                    channels: c,
                });
            }
        }
    }

    /// `dw[place] += v[place]^T u[place]`
    fn add_products<T: Element>(
        &self,
        (v, from): (&mut [T], &Panel),
        (u, to): (&mut [T], &Panel),
        count: usize,
        dw: &mut [T],
        write: Write,
    ) {
        let (ci, co) = (from.channels, to.channels);
        for place in 0..PLACES {
            let v = &mut v[place * from.place()..][..count * ci];
            let u = &mut u[place * to.place()..][..count * co];
            if self.pairs {
                lanes::pair_rows(v, ci);
                lanes::pair_rows(u, co);
            }
            let of = Product {
                x: v,
                x_row: 1,
                x_step: ci,
                w: u,
                w_step: co,
                w_block: BLOCK,
                rows: ci,
                sum: count.div_ceil(self.half()),
                pairs: self.pairs,
            };
            let start = if write == Write::Set { Start::Zero } else { Start::Result };
            product(&of, Target { y: &mut dw[place * ci * co..], row: co, channels: co, start, bias: None });
        }
    }

    /// One image through the layer, or its gradient back through it with turned weights.
    fn pass<T: Element>(
        &self,
        image: &Seen<'_, T>,
        (ci, co): (usize, usize),
        weights: &[T],
        y: &mut [T],
        start: Start<'_, T>,
        scratch: &mut [T],
    ) {
        let (glass, scratch) = scratch.split_at_mut(Glass::<T>::scratch(ci));
        let glass = Glass::new(image, ci, glass);
        for rows in pieces(self.tiles().0, self.strip()) {
            let frame = self.frame(&rows, ci);
            let (pixels, rest) = scratch.split_at_mut(frame.len());
            frame.fill(image, Extent { c: ci, ..self.x }, &glass, pixels);
            let all = rows.start * self.tiles().1..rows.end * self.tiles().1;
            for part in pieces(all.len(), self.panel()) {
                let (from, to) = self.panels(part.len(), ci, co);
                let (v, rest) = rest.split_at_mut(from.len());
                let m = &mut rest[..to.len()];
                let tiles = all.start + part.start..all.start + part.end;
                self.transform_input(&frame, pixels, (&rows, tiles.clone()), v, &from);
                self.multiply(v, &from, weights, part.len(), m, &to);
                self.transform_output(m, &to, tiles, y, start);
            }
        }
    }

    fn panels(&self, tiles: usize, ci: usize, co: usize) -> (Panel, Panel) {
        (Panel { tiles, channels: ci }, Panel { tiles, channels: co })
    }

    fn packed_one(&self) -> usize {
        PLACES * self.kernel.ci * self.kernel.co
    }
}

/// Blocks of 16 channels, `[place][from][16]` each, from the places of (channel, from).
fn pack<T: Element>(to: &mut [T], all_from: usize, places: impl Fn(usize, usize) -> [T; PLACES] + Sync) {
    to.par_chunks_mut(PLACES * all_from * BLOCK).enumerate().for_each(|(block, to)| {
        for from in 0..all_from {
            for lane in 0..BLOCK {
                for (place, value) in places(block * BLOCK + lane, from).into_iter().enumerate() {
                    to[(place * all_from + from) * BLOCK + lane] = value;
                }
            }
        }
    });
}

impl<T: Element> Layer<T> for Winograd {
    fn name(&self) -> &'static str {
        "winograd_conv2d"
    }

    fn describe(&self) -> Description {
        let y = <Self as Layer<T>>::output(self);
        Description::Conv { x: self.x, y, kernel: self.kernel.clone(), bias: None }
    }

    fn output(&self) -> Extent {
        Extent { c: self.kernel.co, ..self.x }
    }

    fn adds_residual(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        vec![self.kernel.weight.clone()]
    }

    fn scratch(&self, _images: usize) -> usize {
        let Kernel { ci, co, .. } = self.kernel;
        let most = ci.max(co);
        let (from, to) = self.panels(self.panel(), ci, co);
        Glass::<T>::scratch(most) + self.frame(&(0..self.strip()), most).len() + from.len() + to.len()
    }

    fn packed(&self, training: bool) -> usize {
        self.packed_one() * if training { 2 } else { 1 }
    }

    /// `[co / 16][place][ci][16]`, then the same with turned windows and channels exchanged.
    fn pack(&self, weights: &[T], to: &mut [T], training: bool) {
        let Kernel { ci, co, .. } = self.kernel;
        let standard = self.kernel.standardized(weights);
        let window = |o: usize, i: usize| std::array::from_fn(|at| standard[(o * ci + i) * 9 + at]);
        let (forward, backward) = to.split_at_mut(self.packed_one());
        pack(forward, ci, |channel, from| to_places(window(channel, from)));
        if training {
            pack(backward, co, |channel, from| {
                let mut turned: [T; 9] = window(from, channel);
                turned.reverse();
                to_places(turned)
            });
        }
        if self.pairs {
            forward.par_chunks_mut(ci * BLOCK).for_each(|place| lanes::pair_rows(place, BLOCK));
            backward.par_chunks_mut(co * BLOCK).for_each(|place| lanes::pair_rows(place, BLOCK));
        }
    }

    /// Layers of few channels stay in f32: rounding and pairing would cost more than their short products save.
    fn set_precision(&mut self, precision: Precision) {
        let wide = self.kernel.ci.min(self.kernel.co) >= LEAST_PAIRED;
        self.pairs = precision == Precision::Bf16 && T::PAIRS && wide;
    }

    fn gradient(&self) -> usize {
        self.packed_one()
    }

    fn forward(&self, call: Forward<'_, T>) {
        let Kernel { ci, co, .. } = self.kernel;
        let len = <Self as Layer<T>>::output(self).len();
        for (image, y) in call.y.chunks_exact_mut(len).enumerate() {
            let x = call.x.image(image, self.x);
            let start = call.residual.map_or(Start::Zero, |residual| Start::Rows(&residual[image * len..][..len], 0));
            self.pass(&x, (ci, co), call.packed, y, start, call.scratch);
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let Kernel { ci, co, .. } = self.kernel;
        let len = <Self as Layer<T>>::output(self).len();
        let mut write = call.gradient_write;
        for (image, dy) in call.dy.chunks_exact(len).enumerate() {
            let x = call.x.image(image, self.x);
            let (glass, scratch) = call.scratch.split_at_mut(Glass::<T>::scratch(ci));
            let glass = Glass::new(&x, ci, glass);
            for rows in pieces(self.tiles().0, self.strip()) {
                let frame = self.frame(&rows, ci);
                let (pixels, rest) = scratch.split_at_mut(frame.len());
                frame.fill(&x, self.x, &glass, pixels);
                let all = rows.start * self.tiles().1..rows.end * self.tiles().1;
                for part in pieces(all.len(), self.panel()) {
                    let (from, to) = self.panels(part.len(), ci, co);
                    let (v, rest) = rest.split_at_mut(from.len());
                    let u = &mut rest[..to.len()];
                    let tiles = all.start + part.start..all.start + part.end;
                    self.transform_input(&frame, pixels, (&rows, tiles.clone()), v, &from);
                    self.transform_gradient(dy, tiles, u, &to);
                    self.add_products((v, &from), (u, &to), part.len(), call.gradient, write);
                    write = Write::Add;
                }
            }
            if let Some((dx, write)) = &mut call.dx {
                let dx = &mut dx[image * self.x.len()..][..self.x.len()];
                let start = if *write == Write::Set { Start::Zero } else { Start::Result };
                let dy = Seen { numbers: dy, lens: None };
                self.pass(&dy, (co, ci), &call.packed[self.packed_one()..], dx, start, call.scratch);
            }
        }
    }

    fn collect(&self, weights: &[T], native: &[T], to: &mut [T]) {
        let Kernel { ci, co, .. } = self.kernel;
        self.kernel.each_block(to, |_, first, to| {
            for i in 0..ci {
                for (channel, to) in to.chunks_exact_mut(9 * ci).enumerate() {
                    let u = std::array::from_fn(|place| native[(place * ci + i) * co + first + channel]);
                    to[9 * i..9 * i + 9].copy_from_slice(&from_places(u));
                }
            }
            self.kernel.through_standardization(weights, first, to);
        });
    }

    /// What a direct convolution multiplies, so that rates compare.
    fn macs(&self) -> u64 {
        (self.x.pixels() * self.kernel.window() * self.kernel.co) as u64
    }
}
