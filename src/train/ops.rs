//! Own operations with gradients, where candle's are missing, wrong or several times slower.
//!
//! All work on the CPU in f32 and f64 (f64 so that gradients can be checked by finite differences), channels last:
//! activations are `[N, H, W, C]`, so that a convolution reads a row of its window as one run of memory and a norm's
//! channels are vector lanes. Sums are taken in an order that depends on shapes alone, never on the number of
//! threads or the width of the vector unit: reruns are bit-equal on any x86-64 processor with FMA.
//!
//! Every operation is a candle custom op, so candle's tape carries the gradient; results of backward passes are made
//! without a graph, which keeps candle's `GradStore` from holding the activations.

mod conv;
#[cfg(test)]
mod gradient_checks;
mod group_norm;
mod lanes;
mod linear;
mod loss;
mod pool;
mod tile;
mod weight_standardize;

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Tensor, WithDType, bail};

pub use conv::{Geometry, conv2d};
pub use group_norm::group_norm_relu;
pub use linear::linear;
pub use loss::{cross_entropy, kl_divergence, log_softmax_rows};
pub use pool::global_mean;
pub use weight_standardize::weight_standardize;

/// What the operations compute in.
pub(crate) trait Element: WithDType + tile::Float {}
impl Element for f32 {}
impl Element for f64 {}

/// The numbers of a contiguous tensor on the CPU.
fn numbers<'a, T: Element>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("{op}: expected a contiguous argument"),
    }
}

/// Runs `body` on the numbers of a contiguous CPU tensor.
fn with_numbers<T: Element, R>(tensor: &Tensor, op: &str, body: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => body(numbers(storage, layout, op)?),
        _ => bail!("{op}: no implementation for this device"),
    }
}

fn tensor<T: Element>(numbers: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}

/// Calls a generic function with the storage's element type.
macro_rules! by_dtype {
    ($dtype:expr, $op:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("{}: {other:?} is not supported", $op),
        }
    };
}
use by_dtype;
