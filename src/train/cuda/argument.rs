//! What a kernel is given, and how it is spread over a GPU.

use std::ffi::c_void;

use crate::train::ops::activation::Activation;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    U64(u64),
    U32(u32),
    F32(f32),
    Window([u32; 9]),
    Channels(Channels),
}

/// `struct Channels` of `kernels/activation.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Channels {
    pub scale: [f32; 4],
    pub shift: [f32; 4],
    pub count: u32,
}

impl Argument {
    /// Where it lies and how long it is.
    pub(super) fn parts(&self) -> (*mut c_void, usize) {
        match self {
            Argument::U64(value) => (std::ptr::from_ref(value).cast_mut().cast(), 8),
            Argument::U32(value) => (std::ptr::from_ref(value).cast_mut().cast(), 4),
            Argument::F32(value) => (std::ptr::from_ref(value).cast_mut().cast(), 4),
            Argument::Channels(value) => (std::ptr::from_ref(value).cast_mut().cast(), size_of::<Channels>()),
            Argument::Window(value) => (value.as_ptr().cast_mut().cast(), 36),
        }
    }
}

impl From<u64> for Argument {
    fn from(value: u64) -> Argument {
        Argument::U64(value)
    }
}

impl From<Activation> for Argument {
    /// As `kernels/activation.cu` counts them.
    fn from(value: Activation) -> Argument {
        Argument::U32(match value {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::HardSwish => 2,
        })
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Argument {
        Argument::U32(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Argument {
        Argument::F32(value)
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Argument {
        Argument::U32(value.into())
    }
}

/// How a kernel is spread: blocks, threads of a block, bytes of shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub blocks: [usize; 3],
    pub threads: usize,
    pub shared: usize,
}

impl Spread {
    /// 256 threads a block, one for each of `n`.
    pub fn over(n: usize) -> Spread {
        Spread { blocks: [n.div_ceil(256), 1, 1], threads: 256, shared: 0 }
    }

    pub fn blocks(blocks: [usize; 3], threads: usize) -> Spread {
        Spread { blocks, threads, shared: 0 }
    }
}
