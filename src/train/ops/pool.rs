//! Global average pooling, `[N, H, W, C]` to `[N, C]`.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::{by_dtype, numbers, tensor, with_numbers};

/// # Errors
/// When x is not `[N, H, W, C]`, or the device or type has no implementation.
pub fn global_mean(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(GlobalMean)
}

struct GlobalMean;

fn shapes(dims: &[usize]) -> Result<(usize, usize, usize)> {
    let &[n, h, w, c] = dims else { bail!("global_mean: expected [N, H, W, C], got {dims:?}") };
    Ok((n, h * w, c))
}

impl CustomOp1 for GlobalMean {
    fn name(&self) -> &'static str {
        "global_mean"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, pixels, c) = shapes(layout.dims())?;
        let y = by_dtype!(storage.dtype(), self.name(), T => {
            let x = numbers::<T>(storage, layout, self.name())?;
            let mut y = vec![T::default(); n * c];
            y.par_chunks_mut(c).zip(x.par_chunks(pixels * c)).for_each(|(y, x)| {
                for pixel in x.chunks_exact(c) {
                    for (y, x) in y.iter_mut().zip(pixel) {
                        *y += *x;
                    }
                }
                for y in y {
                    *y /= T::from_f64(pixels as f64);
                }
            });
            T::to_cpu_storage_owned(y)
        });
        Ok((y, (n, c).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, pixels, c) = shapes(x.dims())?;
        let dy = dy.contiguous()?;
        by_dtype!(x.dtype(), self.name(), T => {
            let mut dx = vec![T::default(); x.elem_count()];
            with_numbers::<T, _>(&dy, self.name(), |dy| {
                dx.par_chunks_mut(pixels * c).zip(dy.par_chunks(c)).for_each(|(dx, dy)| {
                    for pixel in dx.chunks_exact_mut(c) {
                        for (dx, dy) in pixel.iter_mut().zip(dy) {
                            *dx = *dy / T::from_f64(pixels as f64);
                        }
                    }
                });
                Ok(())
            })?;
            Ok(Some(tensor(dx, x.shape())?))
        })
    }
}
