//! LayerNorm over the channels of every token, affine (biased variance).
//!
//! # Shapes
//! x and y `[N, H, W, C]`, weight and bias `[C]`.

use std::ops::Range;

use super::element::Element;
use super::lanes::{sum_of, wide};
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub x: Extent,
    pub eps: f64,
    pub weight: Range<usize>,
    pub bias: Range<usize>,
}

wide! {
    /// One token's result; returns mean and 1 / standard deviation.
    fn normalize(x: &[T], weight: &[T], bias: &[T], eps: f64, y: &mut [T]) -> (T, T) {
        let n = x.len();
        let (weight, bias, y) = (&weight[..n], &bias[..n], &mut y[..n]);
        let count = T::from_f64(n as f64);
        let mean = sum_of(n, |i| x[i]) / count;
        let variance = sum_of(n, |i| (x[i] - mean) * (x[i] - mean)) / count;
        let rstd = T::from_f64(1.0 / (variance.to_f64() + eps).sqrt());
        for i in 0..n {
            y[i] = ((x[i] - mean) * rstd).mul_add(weight[i], bias[i]);
        }
        (mean, rstd)
    }
}

wide! {
    /// `dw += dy xhat`, `db += dy`, and `dx (+)= rstd (g - mean(g) - xhat mean(g xhat))` with `g = dy w`.
    fn gradient(
        x: &[T], weight: &[T], moments: (T, T), dy: &[T], dw: &mut [T], db: &mut [T], dx: &mut [T], add: bool,
    ) {
        let n = x.len();
        let (weight, dy, dw, db, dx) = (&weight[..n], &dy[..n], &mut dw[..n], &mut db[..n], &mut dx[..n]);
        let (mean, rstd) = moments;
        let count = T::from_f64(n as f64);
        let m = sum_of(n, |i| dy[i] * weight[i]) / count;
        let p = sum_of(n, |i| dy[i] * weight[i] * ((x[i] - mean) * rstd)) / count;
        for i in 0..n {
            let xhat = (x[i] - mean) * rstd;
            dw[i] = dy[i].mul_add(xhat, dw[i]);
            db[i] += dy[i];
            let own = rstd * (dy[i] * weight[i] - m - xhat * p);
            dx[i] = if add { dx[i] + own } else { own };
        }
    }
}

impl<T: Element> Layer<T> for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn describe(&self) -> Description {
        Description::LayerNorm(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        vec![self.weight.clone(), self.bias.clone()]
    }

    fn kept(&self) -> usize {
        2 * self.x.pixels()
    }

    fn forward(&self, call: Forward<'_, T>) {
        let c = self.x.c;
        let (weight, bias) = (&call.weights[self.weight.clone()], &call.weights[self.bias.clone()]);
        let rows = call.x.numbers.chunks_exact(c).zip(call.y.chunks_exact_mut(c));
        for ((x, y), kept) in rows.zip(call.kept.chunks_exact_mut(2)) {
            (kept[0], kept[1]) = normalize(x, weight, bias, self.eps, y);
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let c = self.x.c;
        let weight = &call.weights[self.weight.clone()];
        if call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        let (dw, db) = call.gradient.split_at_mut(c);
        let Some((dx, write)) = call.dx else { return };
        let rows = call.x.numbers.chunks_exact(c).zip(call.dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c));
        for (((x, dy), dx), kept) in rows.zip(call.kept.chunks_exact(2)) {
            gradient(x, weight, (kept[0], kept[1]), dy, dw, db, dx, write == Write::Add);
        }
    }
}
