//! What is put into a GPU's stream besides work: marks, and work that was recorded.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use cudarc::driver::{DriverError, result, sys};

use super::device::Gpu;

/// Enqueued work that can be enqueued again in one call.
pub struct Recorded {
    gpu: Rc<Gpu>,
    steps: sys::CUgraphExec,
}

impl Recorded {
    pub(super) fn new(gpu: &Rc<Gpu>, steps: sys::CUgraphExec) -> Recorded {
        Recorded { gpu: Rc::clone(gpu), steps }
    }

    /// # Errors
    /// The driver's.
    pub fn launch(&self) -> Result<()> {
        // SAFETY: what it uses lives as long as this does: see `Program`.
        unsafe { result::graph::launch(self.steps, self.gpu.stream()) }.context("cannot start a recorded step")
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // SAFETY: it is this one's own. The driver waits for a launch that is under way.
        let _ = unsafe { result::graph::exec_destroy(self.steps) };
    }
}

/// A mark in the stream.
pub struct Mark {
    gpu: Rc<Gpu>,
    event: sys::CUevent,
}

impl Mark {
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Rc<Gpu>, timed: bool) -> Result<Mark> {
        let flags =
            if timed { sys::CUevent_flags::CU_EVENT_DEFAULT } else { sys::CUevent_flags::CU_EVENT_DISABLE_TIMING };
        Ok(Mark { gpu: Rc::clone(gpu), event: result::event::create(flags)? })
    }

    /// Puts it at the stream's present end.
    ///
    /// # Errors
    /// The driver's.
    pub fn set(&self) -> Result<()> {
        // SAFETY: the event is this one's own.
        unsafe { result::event::record(self.event, self.gpu.stream()) }.context("cannot set a mark")
    }

    /// Whether the GPU has passed it. Does not wait.
    ///
    /// # Errors
    /// The driver's, those of earlier work among them.
    pub fn passed(&self) -> Result<bool> {
        // SAFETY: the event is this one's own.
        match unsafe { result::event::query(self.event) } {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(error).context("the GPU reports an error"),
        }
    }

    /// Waits until the GPU has passed it.
    ///
    /// # Errors
    /// As [`Mark::passed`].
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event is this one's own.
        unsafe { result::event::synchronize(self.event) }.context("the GPU reports an error")
    }

    /// Milliseconds from another mark to this one, both passed.
    ///
    /// # Errors
    /// When one was not made for that.
    pub fn since(&self, before: &Mark) -> Result<f32> {
        type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
        // The bindings know only a newer name, which drivers before CUDA 12.8 lack.
        let mut milliseconds = 0.0;
        // SAFETY: the driver is open, and this has been its signature since CUDA 2; both events are of this stream.
        unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, c"cuEventElapsedTime".as_ptr());
            ensure!(!found.is_null(), "the driver has no `cuEventElapsedTime`");
            let elapsed = std::mem::transmute::<*mut libc::c_void, Elapsed>(found);
            elapsed(&raw mut milliseconds, before.event, self.event).result()?;
        }
        Ok(milliseconds)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: it is this one's own.
        let _ = unsafe { result::event::destroy(self.event) };
    }
}
