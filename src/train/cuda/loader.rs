//! Views on their way to the GPU: made by the host's idle cores some steps before they are asked for, in memory that the
//! GPU reads by itself.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use cudarc::driver::result;
use rayon::Yield;

use super::device::{Address, Gpu};
use super::transfer::Pinned;
use crate::train::moment::Moment;
use crate::train::views::Look;

/// Batches of a look that are made, copied or about to be.
const SLOTS: usize = 4;

/// The views of one look.
pub struct Loader {
    gpu: Rc<Gpu>,
    look: Look,
    slots: Vec<Slot>,
    /// Whose turn it is.
    next: usize,
}

struct Slot {
    memory: Pinned,
    /// The step that it is being filled for.
    making: Option<(u64, Arc<Made>)>,
}

/// How the making of a batch went.
#[derive(Default)]
struct Made {
    ended: AtomicBool,
    result: Mutex<Option<Result<()>>>,
}

/// A slot's memory in the hands of whoever fills it. Dropped, it is given back.
struct Blank {
    bytes: &'static mut [u8],
    made: Arc<Made>,
}

impl Loader {
    /// Of batches of `bytes`.
    ///
    /// # Errors
    /// When the host has no memory that can be pinned.
    pub fn new(gpu: &Rc<Gpu>, look: Look, bytes: usize) -> Result<Loader> {
        let slots = (0..SLOTS).map(|_| Ok(Slot { memory: Pinned::new(gpu, bytes)?, making: None }));
        Ok(Loader { gpu: Rc::clone(gpu), look, slots: slots.collect::<Result<_>>()?, next: 0 })
    }

    /// Copies the pixels of this moment's batch, made before or now, and has those of the next steps made.
    ///
    /// # Errors
    /// The driver's, and those of encoded images.
    pub fn send(&mut self, moment: &Moment<'_, '_>, to: Address) -> Result<()> {
        let slot = &mut self.slots[self.next];
        let ready = match slot.making.take() {
            None => false,
            Some((step, made)) => {
                let result = made.wait();
                // Of another step it is where students came and went.
                if step == moment.step {
                    result?;
                }
                step == moment.step
            }
        };
        if !ready {
            slot.memory.wait()?;
            moment.views.pixels(moment.batch, self.look, slot.memory.bytes())?;
        }
        // SAFETY: `to` was planned for as many bytes; the slot is not written again before its mark is passed.
        unsafe { result::memcpy_htod_async(to, slot.memory.bytes(), self.gpu.stream())? };
        slot.memory.mark()?;
        self.next = (self.next + 1) % SLOTS;
        self.ask(moment)
    }

    /// Has the next steps' views made in the slots whose copies have passed.
    fn ask(&mut self, moment: &Moment<'_, '_>) -> Result<()> {
        for ahead in 1..SLOTS as u64 {
            let step = moment.step + ahead;
            let slot = &mut self.slots[(self.next + ahead as usize - 1) % SLOTS];
            if step >= moment.end {
                break;
            }
            if slot.making.is_some() {
                continue;
            }
            if !slot.memory.passed()? {
                break;
            }
            let made = Arc::new(Made::default());
            // SAFETY: the slot is neither copied, filled nor freed before `made` has ended: `send` and `drop` wait for it.
            let bytes = unsafe { std::mem::transmute::<&mut [u8], &'static mut [u8]>(slot.memory.bytes()) };
            let blank = Blank { bytes, made: Arc::clone(&made) };
            slot.making = Some((step, made));
            let (views, look) = (moment.views, self.look);
            moment.scope.spawn(move |_| {
                let batch = views.batch(step);
                let result = views.pixels(&batch, look, &mut *blank.bytes);
                *blank.made.lock() = Some(result);
            });
        }
        Ok(())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some((_, made)) = slot.making.take() {
                // What it says matters to nobody any more.
                let _ = made.wait();
            }
        }
    }
}

impl Made {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Result<()>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until it has ended; meanwhile this thread does what there is to do.
    fn wait(&self) -> Result<()> {
        while !self.ended.load(Ordering::Acquire) {
            if rayon::yield_now() != Some(Yield::Executed) {
                thread::yield_now();
            }
        }
        self.lock().take().context("the views of a batch were begun and not made")?
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        self.made.ended.store(true, Ordering::Release);
    }
}
