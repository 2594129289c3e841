//! One GPU, as one thread uses it: one stream, memory, copies, kernels, recorded steps.
//!
//! All work is enqueued on one stream in the order of the calls; only what says so waits for it. There are no events but
//! those asked for, and memory that is given back stays in the driver's pool.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use cudarc::driver::{DriverError, result, sys};

pub use super::argument::{Argument, Channels, Spread};
use super::buffer::{Buffer, out_of_memory, write_floats};
use super::library;
use super::mark::Recorded;
use super::source;
use crate::train::memory;

/// A place in the GPU's memory.
pub type Address = u64;

/// What activations and matrices are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    F32,
    Bf16,
}

impl Number {
    pub fn bytes(self) -> usize {
        match self {
            Number::F32 => 4,
            Number::Bf16 => 2,
        }
    }
}

pub struct Gpu {
    pub ordinal: i32,
    pub name: String,
    pub multiprocessors: i32,
    /// Algorithms whose bits depend on timing are not used.
    pub deterministic: bool,
    stream: sys::CUstream,
    device: sys::CUdevice,
    pool: sys::CUmemoryPool,
    capability: (i32, i32),
    /// From CUDA 12.4 on kernels say what arguments they take.
    says_arguments: bool,
    modules: RefCell<HashMap<Number, sys::CUmodule>>,
    kernels: RefCell<HashMap<(Number, &'static str), sys::CUfunction>>,
    /// Bytes of all buffers, and the most there were at once.
    held: Cell<(usize, usize)>,
}

/// Whether there is such a GPU, with what it needs.
///
/// # Errors
/// Says what is missing.
pub fn find(ordinal: i32) -> Result<()> {
    library::open()?;
    result::init().map_err(|error| anyhow::anyhow!("there is no GPU: {error}\nhint: `--device cpu` trains without"))?;
    let count = result::device::get_count()?;
    if ordinal >= count {
        bail!("there is no GPU {ordinal}: the driver shows {count}\nhint: they count from 0")
    }
    Ok(())
}

/// All that the driver shows, with their memory in bytes.
///
/// # Errors
/// When there is none, or a library of NVIDIA's is missing.
pub fn all() -> Result<Vec<(u32, Option<u64>)>> {
    find(0)?;
    let memory = |ordinal| {
        let device = result::device::get(ordinal).ok()?;
        // SAFETY: the driver gave the device.
        unsafe { result::device::total_mem(device) }.ok().map(|bytes| bytes as u64)
    };
    let ordinals = 0..result::device::get_count()?;
    Ok(ordinals.map(|ordinal| (ordinal.unsigned_abs(), memory(ordinal))).collect())
}

impl Gpu {
    /// # Errors
    /// When there is no such GPU, or a library of NVIDIA's is missing.
    pub fn open(ordinal: i32, deterministic: bool) -> Result<Rc<Gpu>> {
        find(ordinal)?;
        let device = result::device::get(ordinal)?;
        let mut version = 0;
        let attribute = |what| {
            // SAFETY: the driver gave the device.
            unsafe { result::device::get_attribute(device, what) }
        };
        let capability = (
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let multiprocessors = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // SAFETY: the device is the driver's own; its primary context lives until the program ends, and is made this
        // thread's. The pool is the device's, and is told to keep what is given back by the one attribute of type u64.
        let (stream, pool) = unsafe {
            let context = result::primary_ctx::retain(device)?;
            result::ctx::set_current(context)?;
            let pool = result::device::get_default_mem_pool(device)?;
            let mut keep = u64::MAX;
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast())?;
            sys::cuDriverGetVersion(&raw mut version).result()?;
            (result::stream::create(result::stream::StreamKind::NonBlocking)?, pool)
        };
        Ok(Rc::new(Gpu {
            ordinal,
            name: result::device::get_name(device)?,
            multiprocessors,
            deterministic,
            stream,
            device,
            pool,
            capability,
            says_arguments: version >= 12_040,
            modules: RefCell::default(),
            kernels: RefCell::default(),
            held: Cell::default(),
        }))
    }

    /// For the libraries that enqueue on it.
    pub fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Whether it computes with bf16 numbers.
    pub fn has_bf16(&self) -> bool {
        self.capability.0 >= 8
    }

    /// Free and all bytes of memory. What the pool keeps counts as used.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(usize, usize)> {
        Ok(result::mem_get_info()?)
    }

    /// Gives what the pool keeps and nobody uses back to the driver.
    ///
    /// # Errors
    /// The driver's.
    pub fn trim(&self) -> Result<()> {
        self.synchronize()?;
        // SAFETY: the pool is the device's own.
        unsafe { sys::cuMemPoolTrimTo(self.pool, 0).result()? };
        Ok(())
    }

    /// # Errors
    /// When there is not so much memory.
    pub fn allocate(self: &Rc<Gpu>, bytes: usize) -> Result<Buffer> {
        let bytes = bytes.next_multiple_of(256).max(256);
        // SAFETY: the stream is alive; nobody reads the memory before it is written, on the same stream.
        match unsafe { result::malloc_async(self.stream, bytes) } {
            Ok(address) => {
                let (now, most) = self.held.get();
                self.held.set((now + bytes, most.max(now + bytes)));
                memory::note_on_gpu(now + bytes);
                Ok(Buffer::new(self, address, bytes))
            }
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(out_of_memory(bytes, self.memory().map_or(0, |(free, _)| free)).into())
            }
            Err(error) => Err(error).context("cannot allocate memory of the GPU"),
        }
    }

    /// Bytes of all buffers.
    pub fn held(&self) -> usize {
        self.held.get().0
    }

    /// The most bytes that the pool had of the driver at once since [`Gpu::forget_most`], or that buffers held.
    ///
    /// # Errors
    /// The driver's.
    pub fn most_held(&self) -> Result<usize> {
        let mut reserved = 0u64;
        let what = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
        // SAFETY: the pool is the device's own, and the attribute is of this type.
        unsafe { result::mem_pool::get_attribute(self.pool, what, (&raw mut reserved).cast())? };
        Ok(usize::try_from(reserved)?.max(self.held.get().1))
    }

    /// Forgets what was held before, and gives the driver back what is not.
    ///
    /// # Errors
    /// The driver's.
    pub fn forget_most(&self) -> Result<()> {
        self.trim()?;
        let now = self.held.get().0;
        self.held.set((now, now));
        let mut zero = 0u64;
        let what = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
        // SAFETY: as above; it can only be set to zero.
        unsafe { result::mem_pool::set_attribute(self.pool, what, (&raw mut zero).cast())? };
        Ok(())
    }

    /// Memory that holds these bytes.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn holding(self: &Rc<Gpu>, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.allocate(bytes.len())?;
        self.upload(buffer.address, bytes)?;
        Ok(buffer)
    }

    /// Memory that holds these numbers.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn holding_floats(self: &Rc<Gpu>, numbers: &[f32]) -> Result<Buffer> {
        let mut bytes = vec![0; 4 * numbers.len()];
        write_floats(numbers, &mut bytes);
        self.holding(&bytes)
    }

    /// Gives memory back, in the order of the stream.
    pub(super) fn release(&self, address: Address, bytes: usize) {
        let (now, most) = self.held.get();
        self.held.set((now - bytes, most));
        // SAFETY: the address came from the same stream, and whoever used it enqueued that before.
        let _ = unsafe { result::free_async(address, self.stream) };
    }

    /// Copies to the GPU and waits until it is done.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload(&self, to: Address, bytes: &[u8]) -> Result<()> {
        // SAFETY: `to` lies in memory of this GPU that the caller planned for as many bytes; they are not touched
        // before the copy is over.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream)? };
        self.synchronize()
    }

    /// Copies from the GPU and waits until it is done.
    ///
    /// # Errors
    /// The driver's, those of earlier work among them.
    pub fn download(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as for `upload`.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream)? };
        self.synchronize()
    }

    /// # Errors
    /// The driver's.
    pub fn zero(&self, at: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's memory.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }.context("cannot clear memory of the GPU")
    }

    /// Waits until all is done.
    ///
    /// # Errors
    /// What went wrong in anything enqueued before.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream lives as long as this.
        unsafe { result::stream::synchronize(self.stream) }.context("the GPU reports an error")
    }

    /// Enqueues a kernel of `kernels/*.cu`, compiled for `number`.
    ///
    /// # Errors
    /// When there is no such kernel, or it takes other arguments.
    pub fn launch(&self, number: Number, name: &'static str, spread: Spread, arguments: &[Argument]) -> Result<()> {
        let kernel = self.kernel(number, name, arguments)?;
        let [x, y, z] = spread.blocks.map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|argument| argument.parts().0).collect();
        // SAFETY: the kernel was found to take arguments of these sizes; addresses among them are places that the
        // caller planned for it on this GPU and this stream. The driver copies the arguments before it returns.
        unsafe {
            let (threads, shared) = (u32::try_from(spread.threads)?, u32::try_from(spread.shared)?);
            result::launch_kernel(kernel, (x, y, z), (threads, 1, 1), shared, self.stream, &mut pointers)
        }
        .with_context(|| format!("cannot start the kernel `{name}` with {spread:?}"))
    }

    fn kernel(&self, number: Number, name: &'static str, arguments: &[Argument]) -> Result<sys::CUfunction> {
        if let Some(kernel) = self.kernels.borrow().get(&(number, name)) {
            return Ok(*kernel);
        }
        let module = self.module(number)?;
        // SAFETY: the module stays loaded until the program ends.
        let kernel = unsafe { result::module::get_function(module, CString::new(name)?) };
        let kernel = kernel.with_context(|| format!("there is no kernel `{name}`"))?;
        if self.says_arguments {
            self.check_arguments(kernel, name, arguments)?;
        }
        self.kernels.borrow_mut().insert((number, name), kernel);
        Ok(kernel)
    }

    /// A kernel reads as many bytes of each argument as it was compiled for, whatever it is given.
    fn check_arguments(&self, kernel: sys::CUfunction, name: &str, arguments: &[Argument]) -> Result<()> {
        for index in 0..=arguments.len() {
            let (mut offset, mut size) = (0, 0);
            // SAFETY: the kernel is one; both numbers are there to be written.
            let found = unsafe { sys::cuFuncGetParamInfo(kernel, index, &raw mut offset, &raw mut size) };
            let given = arguments.get(index).map(|argument| argument.parts().1);
            let taken = (found == sys::CUresult::CUDA_SUCCESS).then_some(size);
            if given != taken {
                bail!("the kernel `{name}` takes {taken:?} bytes as argument {index}, and is given {given:?}")
            }
        }
        Ok(())
    }

    fn module(&self, number: Number) -> Result<sys::CUmodule> {
        if let Some(module) = self.modules.borrow().get(&number) {
            return Ok(*module);
        }
        if number == Number::Bf16 && !self.has_bf16() {
            bail!("`{}` has no bf16\nhint: say `precision = \"f32\"`", self.name)
        }
        let image = source::compile(number, self.capability)?;
        // SAFETY: the image is what the compiler made, whole.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.context("cannot load the kernels")?;
        self.modules.borrow_mut().insert(number, module);
        Ok(module)
    }

    /// Records what `body` enqueues instead of doing it.
    ///
    /// # Errors
    /// When `body` does what cannot be recorded.
    pub fn capture(self: &Rc<Gpu>, body: impl FnOnce() -> Result<()>) -> Result<Recorded> {
        // SAFETY: the stream is alive and not being captured: this is the one place where that begins and ends.
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            result::stream::begin_capture(self.stream, mode)?;
            let done = body();
            let graph = result::stream::end_capture(self.stream);
            done?;
            let graph = graph?;
            let steps = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
            result::graph::destroy(graph)?;
            Ok(Recorded::new(self, steps?))
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: nothing else uses the stream any more; whatever goes wrong now concerns nobody.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
