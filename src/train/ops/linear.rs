//! A linear layer with bias over tokens or pixels, which is also the 1x1 convolution of stride 1.
//!
//! # Shapes
//! x `[N, H, W, Ci]`, weight `[Co, Ci]` (timm's layout, whatever ones follow), bias `[Co]`, y `[N, H, W, Co]`.
//!
//! Pixels are taken in panels that stay in the cache while all output channels pass over them; the pixels of all images
//! of a call are one list.

use std::ops::Range;

use rayon::prelude::*;

use super::element::Element;
use super::kernel::Kernel;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, Glass, Layer, Seen, Write, pitch};
use super::product::{Product, product};
use super::tile::{BLOCK, Start, Target, pieces};
use crate::job::Precision;

/// Numbers of a panel of input or output.
const PANEL: usize = 48 << 10;

#[derive(Clone, Debug)]
pub struct Linear {
    pub x: Extent,
    pub kernel: Kernel,
    pub bias: Option<Range<usize>>,
    /// Whether products are of pairs of bf16 numbers.
    pairs: bool,
}

impl Linear {
    pub fn new(x: Extent, kernel: Kernel, bias: Option<Range<usize>>) -> Linear {
        Linear { x, kernel, bias, pairs: false }
    }

    /// Pixels of a panel; by the shape alone, since sums of gradients follow it.
    fn panel(&self) -> usize {
        (PANEL / self.kernel.ci.max(self.kernel.co)).clamp(28, 512)
    }

    fn pitches(&self) -> (usize, usize) {
        (pitch(self.kernel.ci), pitch(self.kernel.wide_co()))
    }
}

/// Copies pixels `range` of all images' pixels through the lens.
fn show<T: Element>(x: &Seen<'_, T>, extent: Extent, range: Range<usize>, to: &mut [T], pitch: usize, glass: &mut [T]) {
    let (pixels, c) = (extent.pixels(), extent.c);
    let mut at = range.start;
    while at < range.end {
        let (image, first) = (at / pixels, at % pixels);
        let count = (pixels - first).min(range.end - at);
        let one = x.image(image, extent);
        let glass = Glass::new(&one, c, glass);
        glass.show(&one.numbers[first * c..(first + count) * c], &mut to[(at - range.start) * pitch..], pitch);
        at += count;
    }
}

impl<T: Element> Layer<T> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn describe(&self) -> Description {
        let y = <Self as Layer<T>>::output(self);
        Description::Conv { x: self.x, y, kernel: self.kernel.clone(), bias: self.bias.clone() }
    }

    fn output(&self) -> Extent {
        Extent { c: self.kernel.co, ..self.x }
    }

    fn adds_residual(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        std::iter::once(self.kernel.weight.clone()).chain(self.bias.clone()).collect()
    }

    fn scratch(&self, _images: usize) -> usize {
        let (px, py) = self.pitches();
        self.panel() * (px + py) + Glass::<T>::scratch(self.kernel.ci)
    }

    fn packed(&self, training: bool) -> usize {
        self.kernel.packed_forward() + if training { self.kernel.packed_backward() } else { 0 }
    }

    fn pack(&self, weights: &[T], to: &mut [T], training: bool) {
        let (forward, backward) = to.split_at_mut(self.kernel.packed_forward());
        self.kernel.pack(weights, forward, training.then_some(&mut *backward));
        if self.pairs {
            let blocks = forward.par_chunks_mut(self.kernel.ci * BLOCK);
            blocks.for_each(|block| lanes::pair_rows(block, BLOCK));
            let blocks = backward.par_chunks_mut(self.kernel.co * BLOCK);
            blocks.for_each(|block| lanes::pair_rows(block, BLOCK));
        }
    }

    /// Odd numbers of channels have no pairs: such layers, and those of f64, stay as they are.
    fn set_precision(&mut self, precision: Precision) {
        let even = self.kernel.ci.is_multiple_of(2) && self.kernel.co.is_multiple_of(2);
        self.pairs = precision == Precision::Bf16 && T::PAIRS && even;
    }

    fn gradient(&self) -> usize {
        self.kernel.native_gradient() + self.bias.as_ref().map_or(0, Range::len)
    }

    fn forward(&self, call: Forward<'_, T>) {
        let (ci, co) = (self.kernel.ci, self.kernel.co);
        let (px, _) = self.pitches();
        let rows = call.images * self.x.pixels();
        let half = if self.pairs { 2 } else { 1 };
        let (panel, glass) = call.scratch.split_at_mut(self.panel() * px);
        let bias = self.bias.clone().map(|range| &call.weights[range]);
        for range in pieces(rows, self.panel()) {
            let (x, step) = if call.x.lens.is_some() || px != ci || self.pairs {
                show(&call.x, self.x, range.clone(), panel, px, glass);
                if self.pairs {
                    lanes::pair_neighbours(&mut panel[..range.len() * px]);
                }
                (&*panel, px / half)
            } else {
                (&call.x.numbers[range.start * ci..range.end * ci], ci)
            };
            let at = range.start * co;
            let of = Product {
                x,
                x_row: step,
                x_step: 1,
                w: call.packed,
                w_step: BLOCK,
                w_block: ci * BLOCK,
                rows: range.len(),
                sum: ci / half,
                pairs: self.pairs,
            };
            let start = call.residual.map_or(Start::Zero, |residual| Start::Rows(&residual[at..], co));
            product(&of, Target { y: &mut call.y[at..], row: co, channels: co, start, bias });
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let (ci, co, wide) = (self.kernel.ci, self.kernel.co, self.kernel.wide_co());
        let (px, py) = self.pitches();
        let half = if self.pairs { 2 } else { 1 };
        let rows = call.images * self.x.pixels();
        let (x_panel, rest) = call.scratch.split_at_mut(self.panel() * px);
        let (dy_panel, glass) = rest.split_at_mut(self.panel() * py);
        let (dw, db) = call.gradient.split_at_mut(self.kernel.native_gradient());
        let packed = &call.packed[self.kernel.packed_forward()..];
        if self.bias.is_some() {
            if call.gradient_write == Write::Set {
                db.fill(T::ZERO);
            }
            for row in call.dy.chunks_exact(co) {
                lanes::add(db, row);
            }
        }
        for range in pieces(rows, self.panel()) {
            let (x, x_step) = if call.x.lens.is_some() || px != ci || self.pairs {
                show(&call.x, self.x, range.clone(), x_panel, px, glass);
                if self.pairs {
                    lanes::pair_rows(&mut x_panel[..range.len() * px], px);
                }
                (&*x_panel, px)
            } else {
                (&call.x.numbers[range.start * ci..range.end * ci], ci)
            };
            let own = &call.dy[range.start * co..range.end * co];
            let copy = |dy_panel: &mut [T]| {
                for (to, from) in dy_panel.chunks_exact_mut(py).zip(own.chunks_exact(co)) {
                    to[..co].copy_from_slice(from);
                }
            };
            let (dy, dy_step) = if py == co && !self.pairs {
                (own, co)
            } else {
                copy(dy_panel);
                if self.pairs {
                    lanes::pair_rows(&mut dy_panel[..range.len() * py], py);
                }
                (&*dy_panel, py)
            };
            let write = if range.start == 0 { call.gradient_write } else { Write::Add };
            let of = Product {
                x,
                x_row: 1,
                x_step,
                w: dy,
                w_step: dy_step,
                w_block: BLOCK,
                rows: ci,
                sum: range.len().div_ceil(half),
                pairs: self.pairs,
            };
            let start = if write == Write::Set { Start::Zero } else { Start::Result };
            product(&of, Target { y: &mut *dw, row: wide, channels: wide, start, bias: None });
            let Some((dx, dx_write)) = &mut call.dx else { continue };
            // The same gradients once more, paired along the channels that are summed now.
            let (dy, dy_step) = if self.pairs {
                copy(dy_panel);
                lanes::pair_neighbours(&mut dy_panel[..range.len() * py]);
                (&*dy_panel, py / 2)
            } else {
                (dy, dy_step)
            };
            let of = Product {
                x: dy,
                x_row: dy_step,
                x_step: 1,
                w: packed,
                w_step: BLOCK,
                w_block: co * BLOCK,
                rows: range.len(),
                sum: co / half,
                pairs: self.pairs,
            };
            let start = if *dx_write == Write::Set { Start::Zero } else { Start::Result };
            product(&of, Target { y: &mut dx[range.start * ci..], row: ci, channels: ci, start, bias: None });
        }
    }

    fn collect(&self, weights: &[T], native: &[T], to: &mut [T]) {
        let (dw, db) = native.split_at(self.kernel.native_gradient());
        let (weight, bias) = to.split_at_mut(self.kernel.weight.len());
        self.kernel.collect(weights, dw, weight);
        bias.copy_from_slice(db);
    }

    fn macs(&self) -> u64 {
        (self.x.pixels() * self.kernel.ci * self.kernel.co) as u64
    }
}
