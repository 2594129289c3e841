//! From the views' range of [-1, 1] to what a network was trained on: a factor and an offset for every channel.
//!
//! # Shapes
//! x and y `[N, H, W, C]`, at most four channels. It stands before a network's first layer, so that zeros around an
//! image are zeros of what the network knows.

use super::element::Element;
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Debug)]
pub struct Rescale {
    pub x: Extent,
    /// Of every channel.
    pub scale: [f64; 4],
    pub shift: [f64; 4],
}

impl<T: Element> Layer<T> for Rescale {
    fn name(&self) -> &'static str {
        "rescale"
    }

    fn describe(&self) -> Description {
        Description::Rescale(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: Forward<'_, T>) {
        let c = self.x.c;
        for (x, y) in call.x.numbers.chunks_exact(c).zip(call.y.chunks_exact_mut(c)) {
            for channel in 0..c {
                let (scale, shift) = (self.scale[channel], self.shift[channel]);
                y[channel] = x[channel].mul_add(T::from_f64(scale), T::from_f64(shift));
            }
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some((dx, write)) = call.dx else { return };
        let c = self.x.c;
        for (dx, dy) in dx.chunks_exact_mut(c).zip(call.dy.chunks_exact(c)) {
            for channel in 0..c {
                let own = dy[channel] * T::from_f64(self.scale[channel]);
                dx[channel] = if write == Write::Add { dx[channel] + own } else { own };
            }
        }
    }
}
