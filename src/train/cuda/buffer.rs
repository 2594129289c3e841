//! Memory of a GPU, the want of it, and how f32 numbers lie in it.

use std::error::Error;
use std::rc::Rc;

use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::sys::cublasStatus_t;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use super::device::{Address, Gpu};
use crate::train::memory::OutOfMemory;

/// There is not so much memory on the GPU; both in bytes.
pub fn out_of_memory(wanted: usize, free: usize) -> OutOfMemory {
    OutOfMemory(format!(
        "the GPU has no {} MiB left ({} MiB are free)\nhint: give it a smaller cohort or batch, or let nobody else use it",
        wanted.div_ceil(1 << 20),
        free >> 20
    ))
}

/// Whether the driver or a library says so.
pub fn is_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    let driver = error.downcast_ref() == Some(&DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
    let products = error.downcast_ref() == Some(&CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED));
    #[cfg(feature = "cudnn")]
    let convolutions = {
        use cudarc::cudnn::{result::CudnnError, sys::cudnnStatus_t};
        error.downcast_ref() == Some(&CudnnError(cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED))
    };
    #[cfg(not(feature = "cudnn"))]
    let convolutions = false;
    driver || products || convolutions
}

/// Memory of the GPU; given back in the order of the stream.
pub struct Buffer {
    gpu: Rc<Gpu>,
    pub address: Address,
    pub bytes: usize,
}

impl Buffer {
    pub(super) fn new(gpu: &Rc<Gpu>, address: Address, bytes: usize) -> Buffer {
        Buffer { gpu: Rc::clone(gpu), address, bytes }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.gpu.release(self.address, self.bytes);
    }
}

/// Four bytes a number.
pub fn write_floats(numbers: &[f32], bytes: &mut [u8]) {
    for (to, value) in bytes.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// The other way.
pub fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Failure;
    use crate::train::failure::class;

    #[test]
    fn the_libraries_want_of_memory_is_known() {
        let driver = |code| anyhow::Error::new(DriverError(code)).context("a step");
        assert_eq!(class(&driver(CUresult::CUDA_ERROR_OUT_OF_MEMORY)), Failure::OutOfMemory);
        assert_eq!(class(&driver(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)), Failure::Error);
        let products = |status| anyhow::Error::new(CublasError(status));
        assert_eq!(class(&products(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)), Failure::OutOfMemory);
        assert_eq!(class(&products(cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)), Failure::Error);
        assert_eq!(class(&out_of_memory(2, 1).into()), Failure::OutOfMemory);
    }
}
