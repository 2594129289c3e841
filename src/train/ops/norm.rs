//! Normalisation over groups of channels or over the batch, with an activation, for networks that add what it makes or
//! scale it: its result is stored, unlike that of [`super::group_norm`].
//!
//! # Shapes
//! x and y `[N, H, W, C]`, weight, bias and running statistics `[C]`. Variances are biased; the running one is not, as
//! in torch.
//!
//! A group is `C / groups` neighbouring channels of one image. Over the batch, a channel of all images is normalised:
//! in training by their own moments, which the engine gathers before the layer runs; otherwise by the running ones.

use std::ops::Range;

use super::activation::Activation;
use super::element::Element;
use super::group_norm::{fold_moments, with_sums};
use super::lanes::{self, wide};
use super::layer::{Backward, Batch, Description, Extent, Forward, LENS, Layer, Seen, Write};

/// What running statistics keep of themselves at every step is one less this: torch's own.
const MOMENTUM: f64 = 0.1;

#[derive(Clone, Debug)]
pub struct Norm {
    pub x: Extent,
    pub over: Over,
    /// None where a residual is added.
    pub activation: Activation,
    pub eps: f64,
    pub weight: Range<usize>,
    pub bias: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// So many groups; they divide the channels.
    Groups(usize),
    /// With the places of the running statistics.
    Batch { mean: Range<usize>, variance: Range<usize> },
}

wide! {
    /// `y = act(x scale + shift)`
    fn normalize(x: &[T], scale: &[T], shift: &[T], activation: Activation, y: &mut [T]) {
        let n = x.len();
        let (scale, shift, y) = (&scale[..n], &shift[..n], &mut y[..n]);
        for i in 0..n {
            y[i] = activation.of(x[i].mul_add(scale[i], shift[i]));
        }
    }
}

wide! {
    /// With g = dy act'(x scale + shift): `sum += g`, `product += g (x - mean)`
    fn add_gradient_moments(
        x: &[T], scale: &[T], shift: &[T], mean: &[T], activation: Activation, dy: &[T], sum: &mut [T], product: &mut [T],
    ) {
        let n = x.len();
        let (scale, shift, mean, dy) = (&scale[..n], &shift[..n], &mean[..n], &dy[..n]);
        let (sum, product) = (&mut sum[..n], &mut product[..n]);
        for i in 0..n {
            let g = dy[i] * activation.slope(x[i].mul_add(scale[i], shift[i]));
            sum[i] += g;
            product[i] = g.mul_add(x[i] - mean[i], product[i]);
        }
    }
}

wide! {
    /// With g as in [`add_gradient_moments`]: `dx (+)= g scale + x slope + offset`
    fn gradient(
        x: &[T], scale: &[T], shift: &[T], slope: &[T], offset: &[T], activation: Activation, dy: &[T], dx: &mut [T],
        add: bool,
    ) {
        let n = x.len();
        let (scale, shift, slope, offset) = (&scale[..n], &shift[..n], &slope[..n], &offset[..n]);
        let (dy, dx) = (&dy[..n], &mut dx[..n]);
        for i in 0..n {
            let g = dy[i] * activation.slope(x[i].mul_add(scale[i], shift[i]));
            let own = g.mul_add(scale[i], x[i].mul_add(slope[i], offset[i]));
            dx[i] = if add { dx[i] + own } else { own };
        }
    }
}

/// Rows of scratch, each of one number a channel, spread.
const ROWS: usize = 7;

impl Norm {
    fn groups(&self) -> usize {
        match self.over {
            Over::Groups(groups) => groups,
            Over::Batch { .. } => self.x.c,
        }
    }

    /// Scale, shift, mean and 1 / standard deviation of every channel, from sums over so many numbers a group.
    fn lens<T: Element>(&self, sums: (&[f64], &[f64]), count: f64, affine: (&[T], &[T]), lens: &mut [T]) {
        let each = self.x.c / self.groups();
        for group in 0..self.groups() {
            let range = group * each..(group + 1) * each;
            let mean = sums.0[range.clone()].iter().sum::<f64>() / count;
            let variance = (sums.1[range.clone()].iter().sum::<f64>() / count - mean * mean).max(0.0);
            self.show(range, (mean, variance), affine, lens);
        }
    }

    fn show<T: Element>(
        &self,
        channels: Range<usize>,
        (mean, variance): (f64, f64),
        (weight, bias): (&[T], &[T]),
        lens: &mut [T],
    ) {
        let (c, rstd) = (self.x.c, 1.0 / (variance + self.eps).sqrt());
        for channel in channels {
            let scale = weight[channel].to_f64() * rstd;
            lens[channel] = T::from_f64(scale);
            lens[c + channel] = T::from_f64(bias[channel].to_f64() - mean * scale);
            lens[2 * c + channel] = T::from_f64(mean);
            lens[3 * c + channel] = T::from_f64(rstd);
        }
    }

    /// Numbers of a group: one image's, or the batch's.
    fn count(&self, batch: Option<&Batch<'_>>) -> f64 {
        let images = batch.map_or(1, |batch| batch.images);
        (images * self.x.len() / self.groups()) as f64
    }

    /// Sums over one image, per channel: of g, and of g times the centred input.
    fn gradient_sums<T: Element>(
        &self,
        x: &[T],
        lens: &[T],
        dy: &[T],
        (sum, product): (&mut [f64], &mut [f64]),
        scratch: &mut [T],
    ) {
        let c = self.x.c;
        let row = lanes::spread_len(c);
        let mut parts = scratch.chunks_exact_mut(row);
        let mut next = || parts.next().unwrap_or_default();
        let (scale, shift, mean, a, b) = (next(), next(), next(), next(), next());
        lanes::spread(&lens[..c], scale);
        lanes::spread(&lens[c..2 * c], shift);
        lanes::spread(&lens[2 * c..3 * c], mean);
        fold_moments((x, dy), (a, b), (sum, product), |(x, dy), a, b| {
            add_gradient_moments(x, scale, shift, mean, self.activation, dy, a, b);
        });
    }

    /// From sums over whole groups to what [`gradient`] adds: a slope and an offset for every channel, spread.
    fn slopes<T: Element>(
        &self,
        lens: &[T],
        weight: &[T],
        (sum, product): (&[f64], &[f64]),
        count: f64,
        (slope, offset): (&mut [T], &mut [T]),
    ) {
        let (c, each) = (self.x.c, self.x.c / self.groups());
        for group in 0..self.groups() {
            let range = group * each..(group + 1) * each;
            let (mut g, mut gx) = (0.0, 0.0);
            for channel in range.clone() {
                let rstd = lens[3 * c + channel].to_f64();
                g += sum[channel] * weight[channel].to_f64();
                gx += product[channel] * rstd * weight[channel].to_f64();
            }
            for channel in range {
                let (mean, rstd) = (lens[2 * c + channel].to_f64(), lens[3 * c + channel].to_f64());
                let k = -rstd * rstd * gx / count;
                slope[channel] = T::from_f64(k);
                offset[channel] = T::from_f64(-rstd * g / count - k * mean);
            }
        }
        for from in (c..slope.len()).step_by(c) {
            slope.copy_within(..c, from);
            offset.copy_within(..c, from);
        }
    }

    /// Adds one image's share, or the batch's as far as these images go, of dweight and dbias.
    fn add_own<T: Element>(&self, lens: &[T], (sum, product): (&[f64], &[f64]), gradient: &mut [T]) {
        let c = self.x.c;
        for channel in 0..c {
            gradient[channel] += T::from_f64(product[channel] * lens[3 * c + channel].to_f64());
            gradient[c + channel] += T::from_f64(sum[channel]);
        }
    }

    fn image_gradient<T: Element>(
        &self,
        x: &[T],
        lens: &[T],
        slopes: (&[T], &[T]),
        dy: &[T],
        (dx, write): (&mut [T], Write),
        rows: &mut [T],
    ) {
        let c = self.x.c;
        let row = lanes::spread_len(c);
        let (scale, shift) = rows.split_at_mut(row);
        lanes::spread(&lens[..c], scale);
        lanes::spread(&lens[c..2 * c], &mut shift[..row]);
        for ((dx, x), dy) in dx.chunks_mut(row).zip(x.chunks(row)).zip(dy.chunks(row)) {
            gradient(x, scale, shift, slopes.0, slopes.1, self.activation, dy, dx, write == Write::Add);
        }
    }
}

impl<T: Element> Layer<T> for Norm {
    fn name(&self) -> &'static str {
        match self.over {
            Over::Groups(_) => "group_norm",
            Over::Batch { .. } => "batch_norm",
        }
    }

    fn describe(&self) -> Description {
        Description::Norm(self.clone())
    }

    fn output(&self) -> Extent {
        self.x
    }

    fn adds_residual(&self) -> bool {
        self.activation == Activation::None
    }

    fn parameters(&self) -> Vec<Range<usize>> {
        vec![self.weight.clone(), self.bias.clone()]
    }

    fn kept(&self) -> usize {
        LENS * self.x.c
    }

    fn scratch(&self, _images: usize) -> usize {
        ROWS * lanes::spread_len(self.x.c)
    }

    fn gathers(&self) -> usize {
        if matches!(self.over, Over::Batch { .. }) { 2 * self.x.c } else { 0 }
    }

    fn gather(&self, x: Seen<'_, T>, scratch: &mut [T], sums: &mut [f64]) {
        let row = lanes::spread_len(self.x.c);
        let (a, rest) = scratch.split_at_mut(row);
        let (sum, square) = sums.split_at_mut(self.x.c);
        for x in x.numbers.chunks_exact(self.x.len()) {
            fold_moments((x, x), (&mut *a, &mut rest[..row]), (&mut *sum, &mut *square), |(x, _), a, b| {
                lanes::add_moments(x, a, b);
            });
        }
    }

    fn gather_backward(&self, call: Backward<'_, T>, sums: &mut [f64]) {
        let (sum, product) = sums.split_at_mut(self.x.c);
        let lens = &call.kept[..LENS * self.x.c];
        for (x, dy) in call.x.numbers.chunks_exact(self.x.len()).zip(call.dy.chunks_exact(self.x.len())) {
            self.gradient_sums(x, lens, dy, (&mut *sum, &mut *product), call.scratch);
        }
        if call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        self.add_own(lens, (sum, product), call.gradient);
    }

    fn settle(&self, batch: &Batch<'_>, weights: &mut [T]) {
        let Over::Batch { mean, variance } = &self.over else { return };
        let count = self.count(Some(batch));
        let (sum, square) = batch.sums.split_at(self.x.c);
        for channel in 0..self.x.c {
            let own = sum[channel] / count;
            let biased = (square[channel] / count - own * own).max(0.0);
            let unbiased = biased * count / (count - 1.0).max(1.0);
            for (place, value) in [(mean.start + channel, own), (variance.start + channel, unbiased)] {
                weights[place] = T::from_f64((1.0 - MOMENTUM) * weights[place].to_f64() + MOMENTUM * value);
            }
        }
    }

    fn forward(&self, call: Forward<'_, T>) {
        let (c, row) = (self.x.c, lanes::spread_len(self.x.c));
        let affine = (&call.weights[self.weight.clone()], &call.weights[self.bias.clone()]);
        match (&self.over, &call.batch) {
            (Over::Batch { .. }, Some(batch)) => {
                self.lens(batch.sums.split_at(c), self.count(call.batch.as_ref()), affine, &mut call.kept[..LENS * c]);
            }
            (Over::Batch { mean, variance }, None) => {
                let moments = (&call.weights[mean.clone()], &call.weights[variance.clone()]);
                for channel in 0..c {
                    let own = (moments.0[channel].to_f64(), moments.1[channel].to_f64());
                    self.show(channel..channel + 1, own, affine, &mut call.kept[..LENS * c]);
                }
            }
            (Over::Groups(_), _) => {}
        }
        for image in 0..call.images {
            let range = image * self.x.len()..(image + 1) * self.x.len();
            let (x, y) = (&call.x.numbers[range.clone()], &mut call.y[range.clone()]);
            let lens = match self.over {
                Over::Batch { .. } => &call.kept[..LENS * c],
                Over::Groups(_) => {
                    let lens = &mut call.kept[image * LENS * c..][..LENS * c];
                    let (a, rest) = call.scratch.split_at_mut(row);
                    with_sums(c, |sum, square| {
                        fold_moments((x, x), (a, &mut rest[..row]), (&mut *sum, &mut *square), |(x, _), a, b| {
                            lanes::add_moments(x, a, b);
                        });
                        self.lens((sum, square), self.count(None), affine, lens);
                    });
                    &*lens
                }
            };
            let (scale, shift) = call.scratch.split_at_mut(row);
            lanes::spread(&lens[..c], scale);
            lanes::spread(&lens[c..2 * c], &mut shift[..row]);
            for (y, x) in y.chunks_mut(row).zip(x.chunks(row)) {
                normalize(x, scale, shift, self.activation, y);
            }
            if let Some(residual) = call.residual {
                lanes::add(y, &residual[range]);
            }
        }
    }

    fn backward(&self, mut call: Backward<'_, T>) {
        let (c, row, count) = (self.x.c, lanes::spread_len(self.x.c), self.count(call.batch.as_ref()));
        let weight = &call.weights[self.weight.clone()];
        let over_batch = matches!(self.over, Over::Batch { .. });
        // Of the batch's norm, they were made with the sums.
        if !over_batch && call.gradient_write == Write::Set {
            call.gradient.fill(T::ZERO);
        }
        let (slopes, rest) = call.scratch.split_at_mut(2 * row);
        let (slope, offset) = slopes.split_at_mut(row);
        if let (true, Some(batch)) = (over_batch, &call.batch) {
            self.slopes(&call.kept[..LENS * c], weight, batch.sums.split_at(c), count, (&mut *slope, &mut *offset));
        }
        for image in 0..call.images {
            let range = image * self.x.len()..(image + 1) * self.x.len();
            let (x, dy) = (&call.x.numbers[range.clone()], &call.dy[range.clone()]);
            let lens = &call.kept[if over_batch { 0 } else { image * LENS * c }..][..LENS * c];
            if !over_batch {
                with_sums(c, |sum, product| {
                    self.gradient_sums(x, lens, dy, (&mut *sum, &mut *product), rest);
                    self.add_own(lens, (sum, product), call.gradient);
                    self.slopes(lens, weight, (sum, product), count, (&mut *slope, &mut *offset));
                });
            }
            if let Some((dx, write)) = &mut call.dx {
                self.image_gradient(x, lens, (slope, offset), dy, (&mut dx[range], *write), rest);
            }
        }
    }
}
