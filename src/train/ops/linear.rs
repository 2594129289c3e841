//! A linear layer with bias.
//!
//! # Shapes
//! x `[N, D]`, weight `[C, D]` and bias `[C]` (torch's layout), y `[N, C]`.
//!
//! Three matrix products by the `gemm` crate on one thread each: they split neither sum nor batch by the number of
//! threads. Heads are small; a wider layer will want to be cut by rows.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};

use super::{by_dtype, numbers, tensor, with_numbers};

/// # Errors
/// When the shapes do not fit, or the device or type has no implementation.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
}

struct Linear;

fn shapes(x: &[usize], weight: &[usize]) -> Result<(usize, usize, usize)> {
    match (x, weight) {
        (&[n, d], &[c, wd]) if d == wd => Ok((n, d, c)),
        _ => bail!("linear: expected [N, D] and [C, D], got {x:?} and {weight:?}"),
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (n, d, c) = shapes(lx.dims(), lw.dims())?;
        let y = by_dtype!(sx.dtype(), self.name(), T => {
            let (x, w) = (numbers::<T>(sx, lx, self.name())?, numbers::<T>(sw, lw, self.name())?);
            let bias = numbers::<T>(sb, lb, self.name())?;
            let mut y: Vec<T> = bias.iter().copied().cycle().take(n * c).collect();
            product((n, c, d), &mut y, true, x, (d, 1), w, (1, d));
            T::to_cpu_storage_owned(y)
        });
        Ok((y, (n, c).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, d, c) = shapes(x.dims(), weight.dims())?;
        let dy = dy.contiguous()?;
        by_dtype!(x.dtype(), self.name(), T => {
            let (mut dx, mut dw, mut db) = (vec![T::default(); n * d], vec![T::default(); c * d], vec![T::default(); c]);
            with_numbers::<T, _>(&dy, self.name(), |dy| {
                with_numbers::<T, _>(weight, self.name(), |w| {
                    product((n, d, c), &mut dx, false, dy, (c, 1), w, (d, 1));
                    Ok(())
                })?;
                with_numbers::<T, _>(x, self.name(), |x| {
                    product((c, d, n), &mut dw, false, dy, (1, c), x, (d, 1));
                    Ok(())
                })?;
                for row in dy.chunks_exact(c) {
                    for (db, dy) in db.iter_mut().zip(row) {
                        *db += *dy;
                    }
                }
                Ok(())
            })?;
            Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, weight.shape())?), Some(tensor(db, bias.shape())?)))
        })
    }
}

/// `to[m, n] = a[m, k] b[k, n]`, plus what `to` held if `add`. Strides are (row, column) of `a` and of `b`.
fn product<T: WithDType>(
    (m, n, k): (usize, usize, usize),
    to: &mut [T],
    add: bool,
    a: &[T],
    (a_row, a_column): (usize, usize),
    b: &[T],
    (b_row, b_column): (usize, usize),
) {
    assert!(to.len() == m * n && a.len() == m * k && b.len() == k * n, "the slices hold the matrices");
    // SAFETY: the three slices hold their matrices, and `to` overlaps neither of the others.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            a_column as isize,
            a_row as isize,
            b.as_ptr(),
            b_column as isize,
            b_row as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
