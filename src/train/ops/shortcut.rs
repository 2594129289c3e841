//! The shortcut without parameters of ResNets for CIFAR: every `stride`-th pixel, zeros for the channels that are new
//! (option A of arXiv 1512.03385, 4.2).
//!
//! # Shapes
//! x `[N, H, W, C]`, y `[N, ceil(H / stride), ceil(W / stride), Co]`: x's channels in the middle, `(Co - C) / 2` zeros
//! before them.

use std::ops::Range;

use super::element::Element;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Debug)]
pub struct Shortcut {
    pub x: Extent,
    pub stride: usize,
    /// At least as many as in `x`.
    pub channels: usize,
}

impl Shortcut {
    pub fn y(&self) -> Extent {
        Extent { h: self.x.h.div_ceil(self.stride), w: self.x.w.div_ceil(self.stride), c: self.channels }
    }

    /// Zeros before the first channel.
    pub fn before(&self) -> usize {
        (self.channels - self.x.c) / 2
    }

    /// Calls `body` with the places of every pixel's numbers in x and in y.
    fn each(&self, mut body: impl FnMut(Range<usize>, Range<usize>)) {
        let (y, c) = (self.y(), self.x.c);
        for row in 0..y.h {
            for column in 0..y.w {
                let from = (row * self.stride * self.x.w + column * self.stride) * c;
                let to = (row * y.w + column) * y.c + self.before();
                body(from..from + c, to..to + c);
            }
        }
    }
}

impl<T: Element> Layer<T> for Shortcut {
    fn name(&self) -> &'static str {
        "shortcut"
    }

    fn describe(&self) -> Description {
        Description::Shortcut(self.clone())
    }

    fn output(&self) -> Extent {
        self.y()
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: Forward<'_, T>) {
        call.y.fill(T::ZERO);
        for (x, y) in call.x.numbers.chunks_exact(self.x.len()).zip(call.y.chunks_exact_mut(self.y().len())) {
            self.each(|from, to| y[to].copy_from_slice(&x[from]));
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some((dx, write)) = call.dx else { return };
        if write == Write::Set {
            dx.fill(T::ZERO);
        }
        for (dx, dy) in dx.chunks_exact_mut(self.x.len()).zip(call.dy.chunks_exact(self.y().len())) {
            self.each(|from, to| lanes::add(&mut dx[from], &dy[to]));
        }
    }
}
