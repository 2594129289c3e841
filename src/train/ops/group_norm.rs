//! GroupNorm followed by ReLU (paper.md 2.6: eps 1e-5, biased variance, affine).
//!
//! # Shapes
//! x and y `[N, H, W, C]`, weight and bias `[C]`; a group is `C / groups` neighbouring channels of one image.
//!
//! The result is never stored: the layer is a lens, a scale and a shift for every image and channel, and whoever reads
//! the result makes it on the way into its own scratch. That is a pass over memory less in each direction and half the
//! memory of a network, for two operations a number. The mask of the backward pass is read off `x` in the same way.

use std::ops::Range;

use super::element::Element;
use super::lanes;
use super::layer::{Backward, Description, Extent, Forward, LENS, Layer, Write};

#[derive(Clone, Debug)]
pub struct GroupNormRelu {
    pub x: Extent,
    /// Divides the channels.
    pub groups: usize,
    pub eps: f64,
    pub weight: Range<usize>,
    pub bias: Range<usize>,
}

/// Sums of so many spread rows are taken in the tensor's type before they are widened to f64: squares of long f32 sums
/// lose what the variance is made of.
const ROWS: usize = 8;

/// Adds spread sums to one f64 a channel, and zeroes them.
fn fold<T: Element>(spread: &mut [T], channels: &mut [f64]) {
    for pixel in spread.chunks_exact(channels.len()) {
        for (sum, value) in channels.iter_mut().zip(pixel) {
            *sum += value.to_f64();
        }
    }
    spread.fill(T::ZERO);
}

/// Adds up, for every channel of one image, what `add` adds to two spread rows.
pub fn fold_moments<T: Element>(
    (x, dy): (&[T], &[T]),
    (a, b): (&mut [T], &mut [T]),
    (sum, product): (&mut [f64], &mut [f64]),
    add: impl Fn((&[T], &[T]), &mut [T], &mut [T]),
) {
    let row = a.len();
    a.fill(T::ZERO);
    b.fill(T::ZERO);
    for (x, dy) in x.chunks(ROWS * row).zip(dy.chunks(ROWS * row)) {
        for (x, dy) in x.chunks(row).zip(dy.chunks(row)) {
            add((x, dy), a, b);
        }
        fold(a, sum);
        fold(b, product);
    }
}

/// A few f64 a channel, on the stack for the networks there are.
pub fn with_sums<R>(channels: usize, body: impl FnOnce(&mut [f64], &mut [f64]) -> R) -> R {
    const MOST: usize = 512;
    if channels <= MOST {
        let (mut a, mut b) = ([0f64; MOST], [0f64; MOST]);
        body(&mut a[..channels], &mut b[..channels])
    } else {
        let (mut a, mut b) = (vec![0f64; channels], vec![0f64; channels]);
        body(&mut a, &mut b)
    }
}

impl GroupNormRelu {
    fn each(&self) -> usize {
        self.x.c / self.groups
    }

    fn statistics<T: Element>(&self, x: &[T], scratch: &mut [T], lens: &mut [T], weight: &[T], bias: &[T]) {
        let c = self.x.c;
        let row = lanes::spread_len(c);
        let (a, rest) = scratch.split_at_mut(row);
        let b = &mut rest[..row];
        with_sums(c, |sum, square| {
            fold_moments((x, x), (a, b), (&mut *sum, &mut *square), |(x, _), a, b| lanes::add_moments(x, a, b));
            let count = (self.x.pixels() * self.each()) as f64;
            for group in 0..self.groups {
                let range = group * self.each()..(group + 1) * self.each();
                let mean = sum[range.clone()].iter().sum::<f64>() / count;
                let variance = (square[range.clone()].iter().sum::<f64>() / count - mean * mean).max(0.0);
                let rstd = 1.0 / (variance + self.eps).sqrt();
                for channel in range {
                    let scale = weight[channel].to_f64() * rstd;
                    lens[channel] = T::from_f64(scale);
                    lens[c + channel] = T::from_f64(bias[channel].to_f64() - mean * scale);
                    lens[2 * c + channel] = T::from_f64(mean);
                    lens[3 * c + channel] = T::from_f64(rstd);
                }
            }
        });
    }

    /// One image's dx; adds its share of dweight and dbias.
    #[expect(clippy::too_many_arguments, reason = "the arrays of a norm's gradient")]
    fn image_backward<T: Element>(
        &self,
        x: &[T],
        lens: &[T],
        weight: &[T],
        dy: &[T],
        dx: &mut [T],
        write: Write,
        (dw, db): (&mut [T], &mut [T]),
        scratch: &mut [T],
    ) {
        let c = self.x.c;
        let row = lanes::spread_len(c);
        let mut parts = scratch.chunks_exact_mut(row);
        let mut next = || parts.next().unwrap_or_default();
        let (scale, shift, mean, slope) = (next(), next(), next(), next());
        let (a, b) = (next(), next());
        lanes::spread(&lens[..c], scale);
        lanes::spread(&lens[c..2 * c], shift);
        lanes::spread(&lens[2 * c..3 * c], mean);
        with_sums(c, |sum, product| {
            // Per channel: the sum of the masked gradient, and of it times the normalised input.
            fold_moments((x, dy), (&mut *a, &mut *b), (&mut *sum, &mut *product), |(x, dy), a, b| {
                lanes::add_masked_moments(x, scale, shift, mean, dy, a, b);
            });
            // dx = rstd (g w - mean(g w) - xhat mean(g w xhat)), the means over the group.
            let count = (self.x.pixels() * self.each()) as f64;
            for group in 0..self.groups {
                let range = group * self.each()..(group + 1) * self.each();
                let mut sums = (0f64, 0f64);
                for channel in range.clone() {
                    product[channel] *= lens[3 * c + channel].to_f64();
                    sums.0 += sum[channel] * weight[channel].to_f64();
                    sums.1 += product[channel] * weight[channel].to_f64();
                }
                for channel in range {
                    let (m, r) = (lens[2 * c + channel].to_f64(), lens[3 * c + channel].to_f64());
                    let k = -r * r * sums.1 / count;
                    slope[channel] = T::from_f64(k);
                    a[channel] = T::from_f64(-r * sums.0 / count - k * m);
                    dw[channel] += T::from_f64(product[channel]);
                    db[channel] += T::from_f64(sum[channel]);
                }
            }
        });
        let offset = a;
        for from in (c..row).step_by(c) {
            slope.copy_within(..c, from);
            offset.copy_within(..c, from);
        }
        for ((dx, x), dy) in dx.chunks_mut(row).zip(x.chunks(row)).zip(dy.chunks(row)) {
            match write {
                Write::Set => lanes::masked_gradient(x, scale, shift, slope, offset, dy, dx),
                Write::Add => lanes::add_masked_gradient(x, scale, shift, slope, offset, dy, dx),
            }
        }
    }
}

impl<T: Element> Layer<T> for GroupNormRelu {
    fn name(&self) -> &'static str {
        "group_norm_relu"
    }

    fn describe(&self) -> Description {
        Description::GroupNormRelu(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        vec![self.weight.clone(), self.bias.clone()]
    }

    fn is_lens(&self) -> bool {
        true
    }

    fn kept(&self) -> usize {
        LENS * self.x.c
    }

    fn scratch(&self, _images: usize) -> usize {
        6 * lanes::spread_len(self.x.c)
    }

    fn forward(&self, call: Forward<'_, T>) {
        let (weight, bias) = (&call.weights[self.weight.clone()], &call.weights[self.bias.clone()]);
        let lenses = call.kept.chunks_exact_mut(LENS * self.x.c);
        for (x, lens) in call.x.numbers.chunks_exact(self.x.len()).zip(lenses) {
            self.statistics(x, call.scratch, lens, weight, bias);
        }
    }

    fn backward(&self, call: Backward<'_, T>) {
        let weight = &call.weights[self.weight.clone()];
        if call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        let (dw, db) = call.gradient.split_at_mut(self.x.c);
        let Some((dx, write)) = call.dx else { return };
        for image in 0..call.images {
            let range = image * self.x.len()..(image + 1) * self.x.len();
            let lens = &call.kept[image * LENS * self.x.c..][..LENS * self.x.c];
            let (x, dy, dx) = (&call.x.numbers[range.clone()], &call.dy[range.clone()], &mut dx[range]);
            self.image_backward(x, lens, weight, dy, dx, write, (&mut *dw, &mut *db), call.scratch);
        }
    }
}
