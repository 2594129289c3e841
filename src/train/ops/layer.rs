//! What every operation of a network is: a function of some images' numbers, with its gradient.
//!
//! Nothing here allocates: outputs, what is kept for the backward pass and scratch come from the caller, who has
//! planned where they lie ([`crate::train::engine`]). A call handles a few images on one thread; layers that look at
//! one image at a time, as all of the paper's networks do with GroupNorm and LayerNorm, can so run a whole network for
//! one image while its numbers are in the cache. A layer that looks at a whole batch says what it gathers of it.

use std::ops::Range;

use super::activation::Activate;
use super::attention::Attention;
use super::depthwise::Depthwise;
use super::element::Element;
use super::gelu::Gelu;
use super::group_norm::GroupNormRelu;
use super::kernel::Kernel;
use super::lanes;
use super::layer_norm::LayerNorm;
use super::norm::Norm;
use super::pool::{GlobalMean, Pool};
use super::rescale::Rescale;
use super::shortcut::Shortcut;
use super::squeeze_excite::SqueezeExcite;
use super::tokens::{FirstToken, Tokens};
use crate::job::Precision;

/// One image's numbers: rows by columns by channels. Tokens are rows of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

#[expect(clippy::len_without_is_empty, reason = "a value has numbers")]
impl Extent {
    pub fn pixels(self) -> usize {
        self.h * self.w
    }

    pub fn len(self) -> usize {
        self.h * self.w * self.c
    }
}

/// An input: numbers `[images, H, W, C]`, or those numbers as a normalisation with ReLU shows them. The normalised
/// numbers are made on the way into whatever reads them and never stored.
#[derive(Clone, Copy)]
pub struct Seen<'a, T> {
    pub numbers: &'a [T],
    pub lens: Option<&'a [T]>,
}

/// Of a lens, for each image: scale, shift, mean and 1 / standard deviation of every channel.
pub const LENS: usize = 4;

impl<'a, T: Element> Seen<'a, T> {
    /// One image of several.
    pub fn image(&self, index: usize, extent: Extent) -> Seen<'a, T> {
        Seen {
            numbers: &self.numbers[index * extent.len()..][..extent.len()],
            lens: self.lens.map(|lens| &lens[index * LENS * extent.c..][..LENS * extent.c]),
        }
    }
}

/// Shows rows of an image through its lens; made once per image.
pub struct Glass<'s, T> {
    c: usize,
    /// Scale and shift, spread; none for plain numbers.
    rows: Option<(&'s [T], &'s [T])>,
}

impl<'s, T: Element> Glass<'s, T> {
    /// Scratch that [`Glass::new`] takes for so many channels.
    pub fn scratch(c: usize) -> usize {
        2 * lanes::spread_len(c)
    }

    pub fn new(image: &Seen<'_, T>, c: usize, scratch: &'s mut [T]) -> Glass<'s, T> {
        let Some(lens) = image.lens else { return Glass { c, rows: None } };
        let len = lanes::spread_len(c);
        let (scale, rest) = scratch.split_at_mut(len);
        let shift = &mut rest[..len];
        lanes::spread(&lens[..c], scale);
        lanes::spread(&lens[c..2 * c], shift);
        Glass { c, rows: Some((scale, shift)) }
    }

    /// Writes whole pixels `from` to `to`, `pitch >= c` apart. What lies between them is not written.
    pub fn show(&self, from: &[T], to: &mut [T], pitch: usize) {
        if pitch == self.c {
            self.show_row(from, &mut to[..from.len()]);
        } else {
            for (to, from) in to.chunks_mut(pitch).zip(from.chunks_exact(self.c)) {
                self.show_row(from, &mut to[..self.c]);
            }
        }
    }

    fn show_row(&self, from: &[T], to: &mut [T]) {
        match self.rows {
            None => to.copy_from_slice(from),
            Some((scale, shift)) => {
                for (to, from) in to.chunks_mut(scale.len()).zip(from.chunks(scale.len())) {
                    lanes::scale_shift_relu(from, scale, shift, to);
                }
            }
        }
    }
}

/// How far apart pixels of `c` channels are laid in scratch: with a cache line between them where they would all fall
/// into the same few sets of the cache.
pub fn pitch(c: usize) -> usize {
    if c >= 256 && c.is_multiple_of(128) { c + 16 } else { c }
}

/// Rows of an image in scratch: `rows` rows of `wide` pixels, `pitch` apart; the image's pixel (y, x) lies in row
/// `y - top`, column `x + left`. What is outside the image is zero.
#[derive(Clone, Copy)]
pub struct Frame {
    pub top: isize,
    pub left: usize,
    pub rows: usize,
    pub wide: usize,
    pub pitch: usize,
}

#[expect(clippy::len_without_is_empty, reason = "a frame has numbers")]
impl Frame {
    pub fn len(&self) -> usize {
        self.rows * self.wide * self.pitch
    }

    /// Copies the rows, through the lens if there is one.
    pub fn fill<T: Element>(&self, image: &Seen<'_, T>, extent: Extent, glass: &Glass<'_, T>, to: &mut [T]) {
        let width = extent.w.min(self.wide - self.left);
        for (r, row) in to.chunks_exact_mut(self.wide * self.pitch).take(self.rows).enumerate() {
            let y = self.top + r as isize;
            if y < 0 || y >= extent.h as isize {
                row.fill(T::ZERO);
                continue;
            }
            let (before, rest) = row.split_at_mut(self.left * self.pitch);
            let (inside, after) = rest.split_at_mut(width * self.pitch);
            before.fill(T::ZERO);
            let from = y as usize * extent.w * extent.c;
            glass.show(&image.numbers[from..from + width * extent.c], inside, self.pitch);
            after.fill(T::ZERO);
        }
    }
}

/// How a result meets what its place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Set,
    Add,
}

pub struct Forward<'a, T> {
    pub images: usize,
    /// All of the network's numbers.
    pub weights: &'a [T],
    /// What [`Layer::pack`] made.
    pub packed: &'a [T],
    pub x: Seen<'a, T>,
    /// Added to the result.
    pub residual: Option<&'a [T]>,
    pub y: &'a mut [T],
    pub kept: &'a mut [T],
    pub scratch: &'a mut [T],
    /// In training, for layers that [`Layer::gathers`].
    pub batch: Option<Batch<'a>>,
}

/// What all images of a batch have added up.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub images: usize,
    pub sums: &'a [f64],
}

pub struct Backward<'a, T> {
    pub images: usize,
    pub weights: &'a [T],
    pub packed: &'a [T],
    pub x: Seen<'a, T>,
    pub kept: &'a mut [T],
    pub dy: &'a [T],
    /// None where nothing before the layer learns.
    pub dx: Option<(&'a mut [T], Write)>,
    /// The gradient of the layer's own numbers, in the layer's layout.
    pub gradient: &'a mut [T],
    /// Whether this is the first to write `gradient`.
    pub gradient_write: Write,
    pub scratch: &'a mut [T],
    /// As in [`Forward::batch`], of the sums that [`Layer::gather_backward`] made.
    pub batch: Option<Batch<'a>>,
}

/// What a layer is, for an engine that computes it in its own way.
#[derive(Clone, Debug)]
pub enum Description {
    /// Convolutions of all kinds but the depthwise, and linear layers; `y` is what they make.
    Conv {
        x: Extent,
        y: Extent,
        kernel: Kernel,
        bias: Option<Range<usize>>,
    },
    Depthwise(Depthwise),
    GroupNormRelu(GroupNormRelu),
    Norm(Norm),
    Activate(Activate),
    SqueezeExcite(SqueezeExcite),
    Shortcut(Shortcut),
    Rescale(Rescale),
    LayerNorm(LayerNorm),
    Gelu(Gelu),
    Attention(Attention),
    Pool(Pool),
    GlobalMean(GlobalMean),
    Tokens(Tokens),
    FirstToken(FirstToken),
}

/// One operation of a network.
pub trait Layer<T: Element>: Send + Sync {
    fn name(&self) -> &'static str;
    fn describe(&self) -> Description;
    /// What it makes of one image.
    fn output(&self) -> Extent;
    /// Numbers of the network's flat vector that are this layer's, as (start, length), in the order of its gradient.
    fn parameters(&self) -> Vec<Range<usize>> {
        Vec::new()
    }
    /// Whether its result is never stored: [`Forward::kept`] is then the lens through which others see `x`.
    fn is_lens(&self) -> bool {
        false
    }
    /// Whether it adds [`Forward::residual`] to its result.
    fn adds_residual(&self) -> bool {
        false
    }
    /// Whether the backward pass looks at `x`.
    fn needs_x(&self) -> bool {
        true
    }
    /// Numbers an image that are kept for the backward pass.
    fn kept(&self) -> usize {
        0
    }
    /// Scratch of a call, whatever the number of images.
    fn scratch(&self, _images: usize) -> usize {
        0
    }
    /// Length of the packed weights.
    fn packed(&self, _training: bool) -> usize {
        0
    }
    fn pack(&self, _weights: &[T], _to: &mut [T], _training: bool) {}
    /// Length of the gradient in the layer's layout.
    fn gradient(&self) -> usize {
        <Self as Layer<T>>::parameters(self).iter().map(|range| range.len()).sum()
    }
    /// How many sums over the whole batch it needs in training, before its forward pass and again before its backward
    /// pass; none for a layer that looks at images one by one.
    fn gathers(&self) -> usize {
        0
    }
    /// Adds some images' share of the sums for the forward pass.
    fn gather(&self, _x: Seen<'_, T>, _scratch: &mut [T], _sums: &mut [f64]) {}
    /// Adds some images' share of the sums for the backward pass, and writes their share of `gradient`.
    fn gather_backward(&self, _call: Backward<'_, T>, _sums: &mut [f64]) {}
    /// Takes what the forward pass gathered into the running statistics among `weights`.
    fn settle(&self, _batch: &Batch<'_>, _weights: &mut [T]) {}
    fn forward(&self, call: Forward<'_, T>);
    fn backward(&self, call: Backward<'_, T>);
    /// From the gradient in the layer's layout to that of its numbers, in the order of [`Layer::parameters`] as one run.
    fn collect(&self, _weights: &[T], native: &[T], to: &mut [T]) {
        to.copy_from_slice(native);
    }
    /// What its matrix products are computed in; layers without any have no choice.
    fn set_precision(&mut self, _precision: Precision) {}
    /// Multiply-adds of one image's forward pass.
    fn macs(&self) -> u64 {
        0
    }
}
