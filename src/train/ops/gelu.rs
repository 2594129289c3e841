//! GELU, `x` times the cumulative distribution of a standard normal at `x` (the exact form, not the one by tanh).

use super::element::Element;
use super::lanes::wide;
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Debug)]
pub struct Gelu {
    pub x: Extent,
}

wide! {
    fn gelu(x: &[T], y: &mut [T]) {
        let y = &mut y[..x.len()];
        for i in 0..x.len() {
            y[i] = x[i] * x[i].normal().0;
        }
    }
}

wide! {
    fn gradient(x: &[T], dy: &[T], dx: &mut [T]) {
        let (dy, dx) = (&dy[..x.len()], &mut dx[..x.len()]);
        for i in 0..x.len() {
            let (distribution, density) = x[i].normal();
            dx[i] = dy[i] * x[i].mul_add(density, distribution);
        }
    }
}

wide! {
    fn add_gradient(x: &[T], dy: &[T], dx: &mut [T]) {
        let (dy, dx) = (&dy[..x.len()], &mut dx[..x.len()]);
        for i in 0..x.len() {
            let (distribution, density) = x[i].normal();
            dx[i] += dy[i] * x[i].mul_add(density, distribution);
        }
    }
}

impl<T: Element> Layer<T> for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn describe(&self) -> Description {
        Description::Gelu(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn forward(&self, call: Forward<'_, T>) {
        gelu(call.x.numbers, call.y);
    }

    fn backward(&self, call: Backward<'_, T>) {
        match call.dx {
            Some((dx, Write::Set)) => gradient(call.x.numbers, call.dy, dx),
            Some((dx, Write::Add)) => add_gradient(call.x.numbers, call.dy, dx),
            None => {}
        }
    }
}
