//! Squeeze and excite (arXiv 1709.01507) as MobileNet v3 has it: every channel times a gate between 0 and 1, which two
//! small linear layers make of the channels' means.
//!
//! # Shapes
//! x and y `[N, H, W, C]`; reduce `[R, C]` and `[R]`, expand `[C, R]` and `[C]`, kept as 1x1 convolutions by timm.
//!
//! `gate = hard_sigmoid(expand relu(reduce mean(x) + b) + b')`. Kept of an image: means `[C]`, hidden `[R]`, and the
//! gate before its hard sigmoid `[C]`.

use std::ops::Range;

use super::activation::hard_sigmoid;
use super::element::Element;
use super::lanes::{self, wide};
use super::layer::{Backward, Description, Extent, Forward, Layer, Write};

#[derive(Clone, Debug)]
pub struct SqueezeExcite {
    pub x: Extent,
    pub hidden: usize,
    /// Weight and bias.
    pub reduce: (Range<usize>, Range<usize>),
    pub expand: (Range<usize>, Range<usize>),
}

wide! {
    fn dot(a: &[T], b: &[T]) -> T {
        let b = &b[..a.len()];
        lanes::sum_of(a.len(), |i| a[i] * b[i])
    }
}

wide! {
    /// `y += a x`
    fn add_multiple(a: T, x: &[T], y: &mut [T]) {
        let n = x.len();
        let y = &mut y[..n];
        for i in 0..n {
            y[i] = a.mul_add(x[i], y[i]);
        }
    }
}

wide! {
    fn scale(x: &[T], gate: &[T], y: &mut [T]) {
        let n = x.len();
        let (gate, y) = (&gate[..n], &mut y[..n]);
        for i in 0..n {
            y[i] = x[i] * gate[i];
        }
    }
}

wide! {
    /// `sum += x y`
    fn add_product(x: &[T], y: &[T], sum: &mut [T]) {
        let n = x.len();
        let (y, sum) = (&y[..n], &mut sum[..n]);
        for i in 0..n {
            sum[i] = x[i].mul_add(y[i], sum[i]);
        }
    }
}

wide! {
    /// `dx (+)= dy gate + offset`
    fn gradient(dy: &[T], gate: &[T], offset: &[T], dx: &mut [T], add: bool) {
        let n = dy.len();
        let (gate, offset, dx) = (&gate[..n], &offset[..n], &mut dx[..n]);
        for i in 0..n {
            let own = dy[i].mul_add(gate[i], offset[i]);
            dx[i] = if add { dx[i] + own } else { own };
        }
    }
}

impl<T: Element> Layer<T> for SqueezeExcite {
    fn name(&self) -> &'static str {
        "squeeze_excite"
    }

    fn describe(&self) -> Description {
        Description::SqueezeExcite(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        let ((a, b), (c, d)) = (self.reduce.clone(), self.expand.clone());
        vec![a, b, c, d]
    }

    fn kept(&self) -> usize {
        2 * self.x.c + self.hidden
    }

    fn scratch(&self, _images: usize) -> usize {
        3 * self.x.c + self.hidden
    }

    fn forward(&self, call: Forward<'_, T>) {
        let (c, r) = (self.x.c, self.hidden);
        let count = T::from_f64(self.x.pixels() as f64);
        let images = call.x.numbers.chunks_exact(self.x.len()).zip(call.y.chunks_exact_mut(self.x.len()));
        for ((x, y), kept) in images.zip(call.kept.chunks_exact_mut(2 * c + r)) {
            let (mean, rest) = kept.split_at_mut(c);
            let (hidden, raw) = rest.split_at_mut(r);
            mean.fill(T::ZERO);
            x.chunks_exact(c).for_each(|pixel| lanes::add(mean, pixel));
            mean.iter_mut().for_each(|mean| *mean = *mean / count);
            let (weight, bias) = (&call.weights[self.reduce.0.clone()], &call.weights[self.reduce.1.clone()]);
            for ((to, row), bias) in hidden.iter_mut().zip(weight.chunks_exact(c)).zip(bias) {
                let value = dot(row, mean) + *bias;
                *to = if value < T::ZERO { T::ZERO } else { value };
            }
            let (weight, bias) = (&call.weights[self.expand.0.clone()], &call.weights[self.expand.1.clone()]);
            for ((to, row), bias) in raw.iter_mut().zip(weight.chunks_exact(r)).zip(bias) {
                *to = dot(row, hidden) + *bias;
            }
            let gate = &mut call.scratch[..c];
            gate.iter_mut().zip(&*raw).for_each(|(gate, raw)| *gate = hard_sigmoid(*raw));
            for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
                scale(x, gate, y);
            }
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let (c, r) = (self.x.c, self.hidden);
        if call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        let (dw1, rest) = call.gradient.split_at_mut(r * c);
        let (db1, rest) = rest.split_at_mut(r);
        let (dw2, db2) = rest.split_at_mut(c * r);
        let (gate, rest) = call.scratch.split_at_mut(c);
        let (d_raw, rest) = rest.split_at_mut(c);
        let (d_mean, d_hidden) = rest.split_at_mut(c);
        let d_hidden = &mut d_hidden[..r];
        let (reduce, expand) = (&call.weights[self.reduce.0.clone()], &call.weights[self.expand.0.clone()]);
        let share = T::from_f64(1.0 / self.x.pixels() as f64);
        let (three, sixth) = (T::from_f64(3.0), T::from_f64(1.0 / 6.0));
        for image in 0..call.images {
            let range = image * self.x.len()..(image + 1) * self.x.len();
            let (x, dy) = (&call.x.numbers[range.clone()], &call.dy[range.clone()]);
            let kept = &call.kept[image * (2 * c + r)..][..2 * c + r];
            let (mean, hidden, raw) = (&kept[..c], &kept[c..c + r], &kept[c + r..]);
            gate.iter_mut().zip(raw).for_each(|(gate, raw)| *gate = hard_sigmoid(*raw));
            d_raw.fill(T::ZERO);
            for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                add_product(x, dy, d_raw);
            }
            for (d, raw) in d_raw.iter_mut().zip(raw) {
                *d = if *raw > -three && *raw < three { *d * sixth } else { T::ZERO };
            }
            d_hidden.fill(T::ZERO);
            for (channel, d) in d_raw.iter().enumerate() {
                add_multiple(*d, hidden, &mut dw2[channel * r..][..r]);
                add_multiple(*d, &expand[channel * r..][..r], d_hidden);
            }
            lanes::add(db2, d_raw);
            for (d, hidden) in d_hidden.iter_mut().zip(hidden) {
                *d = if *hidden > T::ZERO { *d } else { T::ZERO };
            }
            lanes::add(db1, d_hidden);
            d_mean.fill(T::ZERO);
            for (place, d) in d_hidden.iter().enumerate() {
                add_multiple(*d, mean, &mut dw1[place * c..][..c]);
                add_multiple(*d * share, &reduce[place * c..][..c], d_mean);
            }
            if let Some((dx, write)) = &mut call.dx {
                for (dx, dy) in dx[range].chunks_exact_mut(c).zip(dy.chunks_exact(c)) {
                    gradient(dy, gate, d_mean, dx, *write == Write::Add);
                }
            }
        }
    }

    fn macs(&self) -> u64 {
        (2 * self.x.c * self.hidden) as u64
    }
}
