//! The training engine on an NVIDIA GPU.
//!
//! A network is the CPU engine's graph ([`super::graph`]), its layers done by kernels of our own (`kernels/*.cu`, compiled
//! for the GPU that is there by NVRTC), by cuBLASLt and, with the feature `cudnn`, by cuDNN. The CPU's operations are the
//! oracle: [`check`] compares each with its counterpart.
//!
//! - One thread and one stream a GPU ([`device`]). All memory of a step is planned before the first ([`program`]), so a
//!   step allocates nothing, waits for nothing, and from the second on is one call: a recorded graph of its launches.
//! - f32 or bf16: activations and the matrices that products read are of the element type; weights, their gradients,
//!   moments, statistics of norms, logits and losses are f32.
//! - Running statistics take in a batch's moments after it is known that the step was finite ([`running`]). Where images
//!   meet in BatchNorm, a batch is never cut into passes.
//! - Shampoo and Muon go by the CPU's rules, with state that only checkpoints fetch ([`direction`]).
//! - What the host learns of a step - loss, norm, time, failure - is added up on the GPU and read now and then
//!   ([`trained`]).
//!
//! candle's own CUDA backend is not used: its convolutions' gradients are naive kernels, a step makes thousands of
//! allocations and launches, and a program linked to it does not start on a machine without a GPU. NVIDIA's libraries are
//! opened only when a GPU is asked for ([`library`]).

mod argument;
pub mod bench;
pub mod buffer;
pub mod check;
#[cfg(feature = "cudnn")]
pub mod convolutions;
pub mod device;
pub mod direction;
pub mod frozen;
pub mod libraries;
pub mod library;
mod loader;
pub mod loss;
pub mod machine;
pub mod mark;
pub mod operation;
pub mod products;
pub mod program;
pub mod running;
mod source;
pub mod tiles;
pub mod trained;
mod transfer;
mod trial;
pub mod weights;

pub use buffer::is_out_of_memory;

/// All GPUs that the driver shows (`CUDA_VISIBLE_DEVICES` chooses and numbers them), with the memory of each in bytes where
/// the driver tells.
///
/// # Errors
/// As [`find`], of the first.
pub fn all() -> anyhow::Result<Vec<(u32, Option<u64>)>> {
    device::all()
}

/// Whether there is such a GPU, with the libraries it needs.
///
/// # Errors
/// Says what is missing, and what to do.
pub fn find(ordinal: u32) -> anyhow::Result<()> {
    device::find(i32::try_from(ordinal).unwrap_or(i32::MAX))
}
