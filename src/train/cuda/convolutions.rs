//! Convolutions by cuDNN: forward, and the gradients of input and weights.
//!
//! # Shapes
//! Channels last: x `[N, H, W, Ci]`, w `[Co, Kh, Kw, Ci / groups]`, y `[N, Ho, Wo, Co]`, all of one element type, sums in
//! f32. TF32 is not used for f32: it would cut the operands to ten bits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use anyhow::{Context, Result};
use cudarc::cudnn::{result, sys};

use super::buffer::Buffer;
use super::device::{Address, Gpu, Number};
use super::library;
use super::trial::fastest;
use crate::train::ops::layer::Extent;

/// Ways to be tried for a shape and direction.
const TRIED: usize = 4;
/// A way that needs more than this is not taken.
const WORKSPACE_BYTES: usize = 512 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub images: usize,
    pub x: Extent,
    pub y: Extent,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    pub number: Number,
    /// Whether gradients are asked for too.
    pub training: bool,
}

/// What is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Forward,
    Input,
    Weights,
}

/// Where x, w and y, or their gradients, lie.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    pub x: Address,
    pub w: Address,
    pub y: Address,
    /// Scratch of as many bytes as the way needs.
    pub workspace: Address,
}

pub struct Convolutions {
    gpu: Rc<Gpu>,
    handle: sys::cudnnHandle_t,
    prepared: RefCell<HashMap<Geometry, Option<Rc<Prepared>>>>,
}

/// A geometry's descriptors, and the algorithm for each direction.
pub struct Prepared {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    operation: sys::cudnnConvolutionDescriptor_t,
    ways: [Way; 3],
}

#[derive(Clone, Copy, Debug)]
struct Way {
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weights(sys::cudnnConvolutionBwdFilterAlgo_t),
}

impl Prepared {
    /// Scratch that a direction needs, in bytes.
    pub fn workspace(&self, direction: Direction) -> usize {
        self.ways[direction as usize].workspace
    }
}

impl Convolutions {
    /// # Errors
    /// When the library is missing or does not start.
    pub fn new(gpu: &Rc<Gpu>) -> Result<Convolutions> {
        library::open_cudnn()?;
        let handle = result::create_handle().context("cannot start cuDNN")?;
        // SAFETY: both are alive, and the handle goes first.
        unsafe { result::set_stream(handle, gpu.stream().cast())? };
        Ok(Convolutions { gpu: Rc::clone(gpu), handle, prepared: RefCell::default() })
    }

    /// Of the library.
    pub fn version(&self) -> usize {
        result::get_version()
    }

    /// None where the library has no algorithm for some direction.
    ///
    /// # Errors
    /// The library's, and too little memory for trials.
    pub fn prepare(&self, geometry: &Geometry) -> Result<Option<Rc<Prepared>>> {
        if let Some(prepared) = self.prepared.borrow().get(geometry) {
            return Ok(prepared.clone());
        }
        let prepared = self.make(geometry).with_context(|| format!("cannot prepare {geometry:?}"))?.map(Rc::new);
        self.prepared.borrow_mut().insert(*geometry, prepared.clone());
        Ok(prepared)
    }

    /// Computes one of the three; `add` adds to what its place holds.
    ///
    /// # Errors
    /// The library's.
    pub fn run(&self, prepared: &Prepared, direction: Direction, operands: &Operands, add: bool) -> Result<()> {
        self.run_way(prepared, prepared.ways[direction as usize], operands, add)
    }

    fn run_way(&self, prepared: &Prepared, way: Way, operands: &Operands, add: bool) -> Result<()> {
        let (one, beta) = (1f32, if add { 1f32 } else { 0f32 });
        let (one, beta): (*const c_void, *const c_void) = ((&raw const one).cast(), (&raw const beta).cast());
        let Prepared { x, w, y, operation, .. } = *prepared;
        let [px, pw, py, workspace] =
            [operands.x, operands.w, operands.y, operands.workspace].map(|address| address as *mut c_void);
        let bytes = way.workspace;
        // SAFETY: the descriptors say what lies at these places of this GPU, and the workspace is as long as this way asked
        // for; both factors are read before the call returns.
        unsafe {
            match way.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    self.handle,
                    one,
                    x,
                    px,
                    w,
                    pw,
                    operation,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    y,
                    py,
                ),
                Algorithm::Input(algorithm) => result::convolution_backward_data(
                    self.handle,
                    one,
                    w,
                    pw,
                    y,
                    py,
                    operation,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    x,
                    px,
                ),
                Algorithm::Weights(algorithm) => result::convolution_backward_filter(
                    self.handle,
                    one,
                    x,
                    px,
                    y,
                    py,
                    operation,
                    algorithm,
                    workspace,
                    bytes,
                    beta,
                    w,
                    pw,
                ),
            }
        }
        .with_context(|| format!("cuDNN refuses {way:?}"))
    }

    fn make(&self, geometry: &Geometry) -> Result<Option<Prepared>> {
        let mut prepared = describe(geometry)?;
        let all = [Direction::Forward, Direction::Input, Direction::Weights];
        let asked = if geometry.training { &all[..] } else { &all[..1] };
        let found: Vec<Vec<Way>> = asked.iter().map(|one| self.ways(&prepared, *one)).collect::<Result<_>>()?;
        let (operands, _room) = self.room(geometry, &found)?;
        for (direction, ways) in asked.iter().zip(&found) {
            let best = match ways.is_empty() {
                true => Err(anyhow::anyhow!("it has no algorithm")),
                false => fastest(&self.gpu, ways.len(), |way| self.run_way(&prepared, ways[way], &operands, false)),
            };
            match best {
                Ok(best) => prepared.ways[*direction as usize] = ways[best],
                Err(error) => {
                    eprintln!("note: {direction:?} of {geometry:?} is done without cuDNN: {error:#}");
                    return Ok(None);
                }
            }
        }
        Ok(Some(prepared))
    }

    /// Memory for trials.
    fn room(&self, geometry: &Geometry, ways: &[Vec<Way>]) -> Result<(Operands, Vec<Buffer>)> {
        let Geometry { images, x, y, kh, kw, groups, .. } = *geometry;
        let numbers = [images * x.len(), y.c * kh * kw * x.c / groups, images * y.len()];
        let workspace = ways.iter().flat_map(|ways| ways.iter()).map(|way| way.workspace).max().unwrap_or(0);
        let mut buffers = Vec::new();
        for bytes in numbers.map(|count| count * geometry.number.bytes()).into_iter().chain([workspace]) {
            let buffer = self.gpu.allocate(bytes)?;
            self.gpu.zero(buffer.address, buffer.bytes)?;
            buffers.push(buffer);
        }
        let at = |place: usize| buffers[place].address;
        Ok((Operands { x: at(0), w: at(1), y: at(2), workspace: at(3) }, buffers))
    }

    /// What the library thinks the fastest comes first.
    fn ways(&self, prepared: &Prepared, direction: Direction) -> Result<Vec<Way>> {
        let Prepared { x, w, y, operation, .. } = *prepared;
        let handle = self.handle;
        let deterministic = self.gpu.deterministic;
        let usable = |status: sys::cudnnStatus_t, determinism: sys::cudnnDeterminism_t, bytes: usize| {
            let repeatable = determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC;
            let works = status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS;
            works && bytes <= WORKSPACE_BYTES && (repeatable || !deterministic)
        };
        // The three directions have types of their own with the same members.
        macro_rules! ask {
            ($get:path, $bytes:path, $kind:path, ($($before:expr),*)) => {{
                let mut found = Vec::with_capacity(16);
                let mut count = 0;
                // SAFETY: the descriptors are alive; the results are plain numbers, of which as many are read as the
                // library says it wrote.
                let asked = unsafe {
                    let asked = $get(handle, $($before),*, 16, &raw mut count, found.as_mut_ptr());
                    found.set_len(if asked.is_ok() { usize::try_from(count)? } else { 0 });
                    asked
                };
                if asked.is_err() {
                    return Ok(Vec::new());
                }
                let mut ways = Vec::new();
                for one in found {
                    // SAFETY: as above.
                    let Ok(workspace) = (unsafe { $bytes(handle, $($before),*, one.algo) }) else { continue };
                    if usable(one.status, one.determinism, workspace) {
                        ways.push(Way { algorithm: $kind(one.algo), workspace });
                    }
                }
                ways
            }};
        }
        let mut ways = match direction {
            Direction::Forward => ask!(
                result::get_convolution_forward_algorithm,
                result::get_convolution_forward_workspace_size,
                Algorithm::Forward,
                (x, w, operation, y)
            ),
            Direction::Input => ask!(
                result::get_convolution_backward_data_algorithm,
                result::get_convolution_backward_data_workspace_size,
                Algorithm::Input,
                (w, y, operation, x)
            ),
            Direction::Weights => ask!(
                result::get_convolution_backward_filter_algorithm,
                result::get_convolution_backward_filter_workspace_size,
                Algorithm::Weights,
                (x, y, operation, w)
            ),
        };
        ways.truncate(TRIED);
        Ok(ways)
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        self.prepared.borrow_mut().clear();
        // SAFETY: whoever still holds a prepared geometry only frees descriptors.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: they are this one's own.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_filter_descriptor(self.w);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_convolution_descriptor(self.operation);
        }
    }
}

fn describe(geometry: &Geometry) -> Result<Prepared> {
    let Geometry { images, x, y, kh, kw, stride, padding, groups, number, training: _ } = *geometry;
    let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
    let (kind, math) = match number {
        Number::F32 => (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, sys::cudnnMathType_t::CUDNN_FMA_MATH),
        Number::Bf16 => (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH),
    };
    let none = Way {
        algorithm: Algorithm::Forward(sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_GEMM),
        workspace: 0,
    };
    let prepared = Prepared {
        x: result::create_tensor_descriptor()?,
        w: result::create_filter_descriptor()?,
        y: result::create_tensor_descriptor()?,
        operation: result::create_convolution_descriptor()?,
        ways: [none; 3],
    };
    let int = |value: usize| i32::try_from(value);
    // SAFETY: the descriptors are new.
    unsafe {
        let dims = [int(images)?, int(x.c)?, int(x.h)?, int(x.w)?];
        result::set_tensor4d_descriptor(prepared.x, last, kind, dims)?;
        let dims = [int(y.c)?, int(x.c / groups)?, int(kh)?, int(kw)?];
        result::set_filter4d_descriptor(prepared.w, kind, last, dims)?;
        let dims = [int(images)?, int(y.c)?, int(y.h)?, int(y.w)?];
        result::set_tensor4d_descriptor(prepared.y, last, kind, dims)?;
        let (padding, stride) = (int(padding)?, int(stride)?);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        result::set_convolution2d_descriptor(prepared.operation, padding, padding, stride, stride, 1, 1, mode, sums)?;
        result::set_convolution_math_type(prepared.operation, math)?;
        result::set_convolution_group_count(prepared.operation, int(groups)?)?;
    }
    Ok(prepared)
}
