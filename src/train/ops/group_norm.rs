//! GroupNorm followed by ReLU, in one pass forward and one back (paper.md 2.6: eps 1e-5, biased variance, affine).
//!
//! # Shapes
//! x and y `[N, H, W, C]`, weight and bias `[C]`; a group is `C / groups` neighbouring channels of one image.
//!
//! Fused because the paper's networks have no norm without a ReLU behind it; the mask is read off the output, so the
//! un-rectified activation is never stored. Statistics are recomputed in the backward pass rather than kept: one more
//! read of an array that is in the cache, against a tensor that candle's ops have no place for.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Element, by_dtype, lanes, numbers, tensor, with_numbers};

/// # Errors
/// When `groups` does not divide the channels, or the device or type has no implementation.
pub fn group_norm_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, GroupNormRelu { groups, eps })
}

struct GroupNormRelu {
    groups: usize,
    eps: f64,
}

#[derive(Clone, Copy)]
struct Shapes {
    pixels: usize,
    channels: usize,
    groups: usize,
    eps: f64,
}

impl GroupNormRelu {
    fn shapes(&self, x: &[usize]) -> Result<Shapes> {
        let &[_, h, w, channels] = x else { bail!("group_norm_relu: expected [N, H, W, C], got {x:?}") };
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            bail!("group_norm_relu: {channels} channels do not divide into {} groups", self.groups)
        }
        Ok(Shapes { pixels: h * w, channels, groups: self.groups, eps: self.eps })
    }
}

impl CustomOp3 for GroupNormRelu {
    fn name(&self) -> &'static str {
        "group_norm_relu"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
        sb: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = self.shapes(lx.dims())?;
        let y = by_dtype!(sx.dtype(), self.name(), T => {
            let (x, w) = (numbers::<T>(sx, lx, self.name())?, numbers::<T>(sw, lw, self.name())?);
            <T as candle_core::WithDType>::to_cpu_storage_owned(forward(s, x, w, numbers::<T>(sb, lb, self.name())?))
        });
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.shapes(x.dims())?;
        let dy = dy.contiguous()?;
        by_dtype!(x.dtype(), self.name(), T => {
            let (dx, dw, db) = with_numbers::<T, _>(x, self.name(), |x| {
                with_numbers::<T, _>(weight, self.name(), |w| {
                    with_numbers::<T, _>(y, self.name(), |y| {
                        with_numbers::<T, _>(&dy, self.name(), |dy| Ok(backward(s, x, w, y, dy)))
                    })
                })
            })?;
            Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, weight.shape())?), Some(tensor(db, bias.shape())?)))
        })
    }
}

/// Sums of so many rows are taken in the tensor's type before they are widened to f64: squares of long f32 sums lose
/// what the variance is made of.
const ROWS: usize = 8;

/// Adds spread sums to one f64 a channel.
fn fold<T: Element>(spread: &[T], channels: &mut [f64]) {
    for pixel in spread.chunks_exact(channels.len()) {
        for (sum, value) in channels.iter_mut().zip(pixel) {
            *sum += value.to_f64();
        }
    }
}

/// Mean and 1 / standard deviation of every channel's group, spread over the channels.
fn statistics<T: Element>(s: Shapes, x: &[T], mean: &mut [T], rstd: &mut [T]) {
    let row = lanes::pixels_of_a_row(s.channels) * s.channels;
    let mut sum = vec![0f64; s.channels];
    let mut square = vec![0f64; s.channels];
    let (mut a, mut b) = (vec![T::default(); row], vec![T::default(); row]);
    for rows in x.chunks(ROWS * row) {
        a.fill(T::default());
        b.fill(T::default());
        for x in rows.chunks(row) {
            lanes::add_moments(x, &mut a, &mut b);
        }
        fold(&a, &mut sum);
        fold(&b, &mut square);
    }
    let each = s.channels / s.groups;
    let count = (s.pixels * each) as f64;
    for group in 0..s.groups {
        let range = group * each..(group + 1) * each;
        let m = sum[range.clone()].iter().sum::<f64>() / count;
        let variance = (square[range.clone()].iter().sum::<f64>() / count - m * m).max(0.0);
        mean[range.clone()].fill(T::from_f64(m));
        rstd[range].fill(T::from_f64(1.0 / (variance + s.eps).sqrt()));
    }
}

fn forward<T: Element>(s: Shapes, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let mut y = vec![T::default(); x.len()];
    let image = s.pixels * s.channels;
    y.par_chunks_mut(image).zip(x.par_chunks(image)).for_each(|(y, x)| {
        let (mut scale, mut shift) = (vec![T::default(); s.channels], vec![T::default(); s.channels]);
        statistics(s, x, &mut shift, &mut scale);
        for c in 0..s.channels {
            scale[c] *= weight[c];
            shift[c] = bias[c] - shift[c] * scale[c];
        }
        let (scale, shift) = (lanes::spread(&scale), lanes::spread(&shift));
        for (y, x) in y.chunks_mut(scale.len()).zip(x.chunks(scale.len())) {
            lanes::scale_shift_relu(x, &scale, &shift, y);
        }
    });
    y
}

fn backward<T: Element>(s: Shapes, x: &[T], weight: &[T], y: &[T], dy: &[T]) -> (Vec<T>, Vec<T>, Vec<T>) {
    let image = s.pixels * s.channels;
    let mut dx = vec![T::default(); x.len()];
    let parts: Vec<(Vec<f64>, Vec<f64>)> = dx
        .par_chunks_mut(image)
        .zip(x.par_chunks(image).zip(y.par_chunks(image).zip(dy.par_chunks(image))))
        .map(|(dx, (x, (y, dy)))| image_backward(s, x, weight, y, dy, dx))
        .collect();
    let (mut dw, mut db) = (vec![0f64; s.channels], vec![0f64; s.channels]);
    for (w, b) in &parts {
        for c in 0..s.channels {
            dw[c] += w[c];
            db[c] += b[c];
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(T::from_f64).collect();
    (dx, narrow(dw), narrow(db))
}

/// One image's dx; returns its share of dweight and dbias.
fn image_backward<T: Element>(
    s: Shapes,
    x: &[T],
    weight: &[T],
    y: &[T],
    dy: &[T],
    dx: &mut [T],
) -> (Vec<f64>, Vec<f64>) {
    let (mut mean, mut rstd) = (vec![T::default(); s.channels], vec![T::default(); s.channels]);
    statistics(s, x, &mut mean, &mut rstd);
    // Per channel: the sum of the masked gradient, and of it times the normalised input.
    let (mut db, mut dw) = (vec![0f64; s.channels], vec![0f64; s.channels]);
    let spread_mean = lanes::spread(&mean);
    let row = spread_mean.len();
    let (mut a, mut b) = (vec![T::default(); row], vec![T::default(); row]);
    for ((xs, ys), dys) in x.chunks(ROWS * row).zip(y.chunks(ROWS * row)).zip(dy.chunks(ROWS * row)) {
        a.fill(T::default());
        b.fill(T::default());
        for ((x, y), dy) in xs.chunks(row).zip(ys.chunks(row)).zip(dys.chunks(row)) {
            lanes::add_masked_moments(x, &spread_mean, y, dy, &mut a, &mut b);
        }
        fold(&a, &mut db);
        fold(&b, &mut dw);
    }
    for (dw, rstd) in dw.iter_mut().zip(&rstd) {
        *dw *= rstd.to_f64();
    }
    // dx = rstd (g w - mean(g w) - xhat mean(g w xhat)), the means over the group.
    let each = s.channels / s.groups;
    let count = (s.pixels * each) as f64;
    let (mut slope, mut offset) = (vec![T::default(); s.channels], vec![T::default(); s.channels]);
    for group in 0..s.groups {
        let range = group * each..(group + 1) * each;
        let mut sums = (0f64, 0f64);
        for c in range.clone() {
            sums.0 += db[c] * weight[c].to_f64();
            sums.1 += dw[c] * weight[c].to_f64();
        }
        for c in range {
            let r = rstd[c].to_f64();
            let k = -r * r * sums.1 / count;
            slope[c] = T::from_f64(k);
            offset[c] = T::from_f64(-r * sums.0 / count - k * mean[c].to_f64());
        }
    }
    let mut gain = vec![T::default(); s.channels];
    for c in 0..s.channels {
        gain[c] = weight[c] * rstd[c];
    }
    let (gain, slope, offset) = (lanes::spread(&gain), lanes::spread(&slope), lanes::spread(&offset));
    for (((dx, x), y), dy) in dx.chunks_mut(row).zip(x.chunks(row)).zip(y.chunks(row)).zip(dy.chunks(row)) {
        lanes::masked_gradient(x, y, dy, &gain, &slope, &offset, dx);
    }
    (dw, db)
}
