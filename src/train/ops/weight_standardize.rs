//! Weight standardisation (BiT, paper.md 2.6): every output channel's kernel at mean 0 and variance 1.
//!
//! # Shapes
//! w `[Co, ...]`, result the same: `(w - mean) / sqrt(variance + eps)` over all but the first dimension, biased
//! variance, no gain.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::{Element, by_dtype, numbers, tensor, with_numbers};

/// # Errors
/// When the device or type has no implementation.
pub fn weight_standardize(w: &Tensor, eps: f64) -> Result<Tensor> {
    w.contiguous()?.apply_op1(WeightStandardize { eps })
}

struct WeightStandardize {
    eps: f64,
}

impl CustomOp1 for WeightStandardize {
    fn name(&self) -> &'static str {
        "weight_standardize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let fan_in = fan_in(layout.dims());
        let result = by_dtype!(storage.dtype(), self.name(), T => {
            let w = numbers::<T>(storage, layout, self.name())?;
            let mut result = vec![T::default(); w.len()];
            result.par_chunks_mut(fan_in).zip(w.par_chunks(fan_in)).for_each(|(to, w)| {
                let (mean, rstd) = statistics(w, self.eps);
                for (to, w) in to.iter_mut().zip(w) {
                    *to = T::from_f64((w.to_f64() - mean) * rstd);
                }
            });
            T::to_cpu_storage_owned(result)
        });
        Ok((result, layout.shape().clone()))
    }

    fn bwd(&self, w: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let fan_in = fan_in(w.dims());
        let dy = dy.contiguous()?;
        by_dtype!(w.dtype(), self.name(), T => {
            let dw = with_numbers::<T, _>(w, self.name(), |w| {
                with_numbers::<T, _>(y, self.name(), |y| {
                    with_numbers::<T, _>(&dy, self.name(), |dy| Ok(backward(fan_in, self.eps, w, y, dy)))
                })
            })?;
            Ok(Some(tensor(dw, w.shape())?))
        })
    }
}

fn fan_in(dims: &[usize]) -> usize {
    dims[1..].iter().product::<usize>().max(1)
}

/// Mean and 1 / standard deviation.
fn statistics<T: Element>(w: &[T], eps: f64) -> (f64, f64) {
    let mean = w.iter().map(|w| w.to_f64()).sum::<f64>() / w.len() as f64;
    let variance = w.iter().map(|w| (w.to_f64() - mean).powi(2)).sum::<f64>() / w.len() as f64;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// dw = rstd (dy - mean(dy) - y mean(dy y))
fn backward<T: Element>(fan_in: usize, eps: f64, w: &[T], y: &[T], dy: &[T]) -> Vec<T> {
    let mut dw = vec![T::default(); w.len()];
    let kernels = w.par_chunks(fan_in).zip(y.par_chunks(fan_in).zip(dy.par_chunks(fan_in)));
    dw.par_chunks_mut(fan_in).zip(kernels).for_each(|(dw, (w, (y, dy)))| {
        let (_, rstd) = statistics(w, eps);
        let n = fan_in as f64;
        let sum = dy.iter().map(|d| d.to_f64()).sum::<f64>() / n;
        let product = dy.iter().zip(y).map(|(d, y)| d.to_f64() * y.to_f64()).sum::<f64>() / n;
        for ((dw, y), dy) in dw.iter_mut().zip(y).zip(dy) {
            *dw = T::from_f64(rstd * (dy.to_f64() - sum - y.to_f64() * product));
        }
    });
    dw
}
