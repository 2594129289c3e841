//! Memory of a GPU, the want of it, and how f32 numbers lie in it.

use std::rc::Rc;

use super::device::{Address, Gpu};

/// There is not so much memory on the GPU.
#[derive(Debug, thiserror::Error)]
#[error(
    "the GPU has no {} MiB left ({} MiB are free)\nhint: give it a smaller cohort or batch, or let nobody else use it",
    wanted.div_ceil(1 << 20),
    free >> 20
)]
pub struct OutOfMemory {
    /// In bytes.
    pub wanted: usize,
    pub free: usize,
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
