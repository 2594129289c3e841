//! From patches to tokens and back to one vector: class token, positions, and the choice of the class token.

use std::ops::Range;

use super::element::Element;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

/// Puts a learned class token before the patches, where there is one, and adds positions, learned or fixed.
///
/// # Shapes
/// x `[N, H, W, C]`, class `[C]`, positions `[1 + H W, C]`, y `[N, 1 + H W, 1, C]`; without a class token `[H W, C]` and
/// `[N, H, W, C]`.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub x: Extent,
    pub class: Option<Range<usize>>,
    pub positions: Range<usize>,
    /// Whether positions have a gradient.
    pub learned: bool,
}

impl Tokens {
    fn before(&self) -> usize {
        if self.class.is_some() { self.x.c } else { 0 }
    }
}

impl<T: Element> Layer<T> for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn describe(&self) -> Description {
        Description::Tokens(self.clone())
    }

    fn output(&self) -> Extent {
        match self.class {
            Some(_) => Extent { h: 1 + self.x.pixels(), w: 1, c: self.x.c },
            None => self.x,
        }
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        self.class.clone().into_iter().chain(self.learned.then(|| self.positions.clone())).collect()
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: Forward<'_, T>) {
        let len = self.x.len() + self.before();
        for (x, y) in call.x.numbers.chunks_exact(self.x.len()).zip(call.y.chunks_exact_mut(len)) {
            if let Some(class) = &self.class {
                y[..self.x.c].copy_from_slice(&call.weights[class.clone()]);
            }
            y[self.before()..].copy_from_slice(x);
            lanes::add(y, &call.weights[self.positions.clone()]);
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let len = self.x.len() + self.before();
        if call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        let (class, positions) = call.gradient.split_at_mut(self.before());
        for (image, dy) in call.dy.chunks_exact(len).enumerate() {
            lanes::add(class, &dy[..class.len()]);
            if self.learned {
                lanes::add(positions, dy);
            }
            if let Some((dx, write)) = &mut call.dx {
                let dx = &mut dx[image * self.x.len()..][..self.x.len()];
                match write {
                    Write::Set => dx.copy_from_slice(&dy[self.before()..]),
                    Write::Add => lanes::add(dx, &dy[self.before()..]),
                }
            }
        }
    }
}

/// Takes the first token, `[N, H, W, C]` to `[N, 1, 1, C]`.
#[derive(Clone, Debug)]
pub struct FirstToken {
    pub x: Extent,
}

impl<T: Element> Layer<T> for FirstToken {
    fn name(&self) -> &'static str {
        "first_token"
    }

    fn describe(&self) -> Description {
        Description::FirstToken(self.clone())
    }

    fn output(&self) -> Extent {
        Extent { h: 1, w: 1, c: self.x.c }
    }

    fn needs_x(&self) -> bool {
        false
    }

    fn forward(&self, call: Forward<'_, T>) {
        for (x, y) in call.x.numbers.chunks_exact(self.x.len()).zip(call.y.chunks_exact_mut(self.x.c)) {
            y.copy_from_slice(&x[..self.x.c]);
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let Some((dx, write)) = call.dx else { return };
        for (dx, dy) in dx.chunks_exact_mut(self.x.len()).zip(call.dy.chunks_exact(self.x.c)) {
            if write == Write::Set {
                dx.fill(T::ZERO);
            }
            lanes::add(&mut dx[..self.x.c], dy);
        }
    }
}
