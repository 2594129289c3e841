//! Copies between the host and the GPU that nobody waits for, through memory of the host that the GPU reads by itself.

use std::ffi::c_void;
use std::rc::Rc;

use anyhow::Result;
use cudarc::driver::{result, sys};

use super::buffer::write_floats;
use super::device::{Address, Gpu};
use super::mark::Mark;

/// Copies that are under way at once: so far the host may be ahead of the GPU.
const AHEAD: usize = 4;

/// Memory of the host that stays where it is.
pub struct Pinned {
    start: *mut c_void,
    bytes: usize,
    mark: Mark,
    used: bool,
}

impl Pinned {
    /// # Errors
    /// When the host has no memory that can be pinned.
    pub fn new(gpu: &Rc<Gpu>, bytes: usize) -> Result<Pinned> {
        // SAFETY: it is read and written only through `bytes` below, zeroed first.
        let start = unsafe {
            let start = result::malloc_host(bytes.max(1), sys::CU_MEMHOSTALLOC_PORTABLE)?;
            std::ptr::write_bytes(start.cast::<u8>(), 0, bytes);
            start
        };
        Ok(Pinned { start, bytes, mark: Mark::new(gpu, false)?, used: false })
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is this one's own, as long as said, and zeroed when it was made.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }

    /// Says that a copy of it is now at the stream's end.
    ///
    /// # Errors
    /// The driver's.
    pub fn mark(&mut self) -> Result<()> {
        self.used = true;
        self.mark.set()
    }

    /// Whether no copy of it is under way. Does not wait.
    ///
    /// # Errors
    /// The driver's.
    pub fn passed(&self) -> Result<bool> {
        Ok(!self.used || self.mark.passed()?)
    }

    /// Until no copy of it is under way.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait(&self) -> Result<()> {
        if self.passed()? { Ok(()) } else { self.mark.wait() }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.used {
            let _ = self.mark.wait();
        }
        // SAFETY: it is this one's own, and no copy is under way.
        let _ = unsafe { result::free_host(self.start) };
    }
}

/// Copies of one kind to the GPU.
pub struct Uploads {
    gpu: Rc<Gpu>,
    slots: Vec<Pinned>,
    next: usize,
}

impl Uploads {
    /// Of at most so many bytes each.
    ///
    /// # Errors
    /// When the host has no memory that can be pinned.
    pub fn new(gpu: &Rc<Gpu>, bytes: usize) -> Result<Uploads> {
        let slots = (0..AHEAD).map(|_| Pinned::new(gpu, bytes)).collect::<Result<_>>()?;
        Ok(Uploads { gpu: Rc::clone(gpu), slots, next: 0 })
    }

    /// Copies what `fill` writes. Waits only where the host is too far ahead.
    ///
    /// # Errors
    /// `fill`'s and the driver's.
    pub fn send<E>(&mut self, to: Address, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<()>
    where
        anyhow::Error: From<E>,
    {
        let slot = &mut self.slots[self.next];
        slot.wait()?;
        fill(slot.bytes())?;
        // SAFETY: `to` was planned for as many bytes; the slot is not written again before the mark is passed.
        unsafe { result::memcpy_htod_async(to, slot.bytes(), self.gpu.stream())? };
        slot.mark()?;
        self.next = (self.next + 1) % AHEAD;
        Ok(())
    }
}

impl Uploads {
    /// Copies these numbers.
    ///
    /// # Errors
    /// The driver's.
    pub fn send_floats(&mut self, to: Address, numbers: &[f32]) -> Result<()> {
        self.send(to, |bytes| {
            write_floats(numbers, bytes);
            Ok::<(), anyhow::Error>(())
        })
    }
}

/// A look at some bytes of the GPU: asked for now, seen when they have come.
pub struct Peek {
    gpu: Rc<Gpu>,
    slot: Pinned,
}

impl Peek {
    /// # Errors
    /// As [`Uploads::new`].
    pub fn new(gpu: &Rc<Gpu>, bytes: usize) -> Result<Peek> {
        Ok(Peek { gpu: Rc::clone(gpu), slot: Pinned::new(gpu, bytes)? })
    }

    /// Asks, unless an answer is still awaited.
    ///
    /// # Errors
    /// The driver's.
    pub fn ask(&mut self, from: Address) -> Result<()> {
        if !self.slot.used {
            // SAFETY: as for `Uploads::send`, the other way.
            unsafe { result::memcpy_dtoh_async(self.slot.bytes(), from, self.gpu.stream())? };
            self.slot.mark.set()?;
            self.slot.used = true;
        }
        Ok(())
    }

    /// The bytes asked for, once. Does not wait, unless told to.
    ///
    /// # Errors
    /// The driver's, those of earlier work among them.
    pub fn look(&mut self, wait: bool) -> Result<Option<&[u8]>> {
        if !self.slot.used {
            return Ok(None);
        }
        if wait {
            self.slot.mark.wait()?;
        } else if !self.slot.mark.passed()? {
            return Ok(None);
        }
        self.slot.used = false;
        Ok(Some(self.slot.bytes()))
    }
}
