//! Own operations with gradients, where candle's are missing, wrong or several times slower.
//!
//! All work on the CPU in f32 and f64 (f64 so that gradients can be checked by finite differences), channels last:
//! activations are `[N, H, W, C]`, so that a convolution reads a row of its window as one run of memory and a norm's
//! channels are vector lanes. Sums are taken in an order that depends on shapes alone, never on the number of
//! threads or the width of the vector unit: reruns are bit-equal on any x86-64 processor with FMA.
//!
//! An operation is a [`layer::Layer`], one file each; [`super::engine`] runs them. [`tile`] is the inner loop of all that
//! multiplies matrices, [`lanes`] of all else.

pub mod activation;
pub mod aligned;
pub mod attention;
pub mod conv;
pub mod depthwise;
pub mod element;
pub mod gelu;
#[cfg(test)]
mod gradient_tests;
pub mod group_norm;
pub mod kernel;
pub mod lanes;
pub mod layer;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod pool;
pub mod product;
pub mod rescale;
pub mod shortcut;
pub mod squeeze_excite;
pub mod tile;
pub mod tokens;
pub mod vector;
pub mod winograd;
