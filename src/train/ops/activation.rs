//! Elementwise activations: ReLU, and the piecewise ones of MobileNet v3 (arXiv 1905.02244, 5.2).

use super::element::Element;
use super::lanes::wide;
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    None,
    Relu,
    /// `u clamp(u + 3, 0, 6) / 6`
    HardSwish,
}

impl Activation {
    /// A NaN comes through.
    #[inline(always)]
    pub fn of<T: Element>(self, u: T) -> T {
        match self {
            Activation::None => u,
            Activation::Relu => {
                if u < T::ZERO {
                    T::ZERO
                } else {
                    u
                }
            }
            Activation::HardSwish => u * hard_sigmoid(u),
        }
    }

    /// Its derivative, as torch takes it at the corners.
    #[inline(always)]
    pub fn slope<T: Element>(self, u: T) -> T {
        match self {
            Activation::None => T::ONE,
            Activation::Relu => {
                if u > T::ZERO {
                    T::ONE
                } else {
                    T::ZERO
                }
            }
            Activation::HardSwish => {
                let three = T::from_f64(3.0);
                let inside = u.mul_add(T::from_f64(1.0 / 3.0), T::from_f64(0.5));
                let inside = if u >= three { T::ONE } else { inside };
                if u <= -three { T::ZERO } else { inside }
            }
        }
    }
}

/// `clamp(u + 3, 0, 6) / 6`
#[inline(always)]
pub fn hard_sigmoid<T: Element>(u: T) -> T {
    let value = (u + T::from_f64(3.0)) * T::from_f64(1.0 / 6.0);
    let value = if value < T::ZERO { T::ZERO } else { value };
    if value > T::ONE { T::ONE } else { value }
}

/// An activation by itself, where none is part of what comes before: after the sum of a residual connection, and after
/// a layer without a norm.
#[derive(Clone, Debug)]
pub struct Activate {
    pub x: Extent,
    pub activation: Activation,
}

wide! {
    fn activate(x: &[T], activation: Activation, y: &mut [T]) {
        let y = &mut y[..x.len()];
        for i in 0..x.len() {
            y[i] = activation.of(x[i]);
        }
    }
}

wide! {
    fn gradient(x: &[T], activation: Activation, dy: &[T], dx: &mut [T]) {
        let (dy, dx) = (&dy[..x.len()], &mut dx[..x.len()]);
        for i in 0..x.len() {
            dx[i] = dy[i] * activation.slope(x[i]);
        }
    }
}

wide! {
    fn add_gradient(x: &[T], activation: Activation, dy: &[T], dx: &mut [T]) {
        let (dy, dx) = (&dy[..x.len()], &mut dx[..x.len()]);
        for i in 0..x.len() {
            dx[i] += dy[i] * activation.slope(x[i]);
        }
    }
}

impl<T: Element> Layer<T> for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn describe(&self) -> Description {
        Description::Activate(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn forward(&self, call: Forward<'_, T>) {
        activate(call.x.numbers, self.activation, call.y);
    }

    fn backward(&self, call: Backward<'_, T>) {
        match call.dx {
            Some((dx, Write::Set)) => gradient(call.x.numbers, self.activation, call.dy, dx),
            Some((dx, Write::Add)) => add_gradient(call.x.numbers, self.activation, call.dy, dx),
            None => {}
        }
    }
}
