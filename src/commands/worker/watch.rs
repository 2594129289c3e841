//! A worker's signals, its heartbeat, and the end of its time: what must be heeded whatever it is busy with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use super::voice::say_line;
use crate::event::{Beat, Line};
use crate::plan::Device;
use crate::train::control::STOP;
use crate::train::{Control, memory};

/// Seconds between two beats; `DISTILLERY_BEAT_SECONDS` sets others, for tests.
const BEAT: f64 = 5.0;
const TICK: Duration = Duration::from_millis(100);
/// Signals closer together are one: a batch system or a terminal may tell the worker and its scheduler, which tells it
/// again, as does the kernel when the scheduler dies.
const APART: Duration = Duration::from_secs(1);
/// Before the end that Slurm sets; more where it takes longer to save.
const MARGIN: Duration = Duration::from_secs(120);
const SAVES: u32 = 3;

/// Listens and beats until the process ends: the first signal asks to stop in order, a later SIGTERM or SIGINT ends it.
///
/// # Errors
/// When signals cannot be listened to.
pub fn start(control: &Arc<Control>, device: Device) -> Result<()> {
    let (asked, at_once) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&at_once))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    for signal in [SIGTERM, SIGINT, SIGUSR1] {
        flag::register_usize(signal, control.flag(), STOP)?;
    }
    let beat = seconds("DISTILLERY_BEAT_SECONDS").filter(|seconds| *seconds > 0.0).unwrap_or(BEAT);
    let mut watch = Watch {
        control: Arc::clone(control),
        device,
        every: Duration::from_secs_f64(beat.min(1e6)),
        beaten: None,
        end: end_of_time(SystemTime::now()),
        asked,
        asked_at: None,
        at_once,
    };
    thread::spawn(move || {
        loop {
            watch.look();
            thread::sleep(TICK.min(watch.every));
        }
    });
    Ok(())
}

struct Watch {
    control: Arc<Control>,
    device: Device,
    every: Duration,
    beaten: Option<Instant>,
    end: Option<SystemTime>,
    /// Whether SIGTERM or SIGINT came, when that was seen, and whether the next one ends the process.
    asked: Arc<AtomicBool>,
    asked_at: Option<Instant>,
    at_once: Arc<AtomicBool>,
}

impl Watch {
    fn look(&mut self) {
        if self.beaten.is_none_or(|beaten| beaten.elapsed() >= self.every) {
            self.beaten = Some(Instant::now());
            let memory_bytes = match self.device {
                Device::Cpu => memory::peak_bytes().unwrap_or(0),
                Device::Cuda { .. } => memory::most_on_gpu(),
            };
            if !say_line(&Line::Beat { beat: Beat { memory_bytes } }) {
                self.control.stop();
            }
        }
        if self.asked.load(Ordering::Relaxed) {
            let asked_at = *self.asked_at.get_or_insert_with(Instant::now);
            self.at_once.store(asked_at.elapsed() >= APART, Ordering::Relaxed);
        }
        if let Some(end) = self.end
            && is_due(end, SystemTime::now(), self.control.saving())
        {
            eprintln!("note: the time that Slurm gave is nearly over: all is saved, to go on another time");
            self.control.stop();
            self.end = None;
        }
    }
}

/// Whether it is time to leave, where everyone is saved in `saving`.
fn is_due(end: SystemTime, now: SystemTime, saving: Duration) -> bool {
    now + MARGIN.max(SAVES * saving) >= end
}

/// What Slurm says. An end that is over is that of an earlier job, whose variables are still there.
fn end_of_time(now: SystemTime) -> Option<SystemTime> {
    let end = UNIX_EPOCH + Duration::try_from_secs_f64(seconds("SLURM_JOB_END_TIME")?).ok()?;
    (end > now).then_some(end)
}

fn seconds(variable: &str) -> Option<f64> {
    std::env::var(variable).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leaves_in_time_to_save() {
        let end = UNIX_EPOCH + Duration::from_secs(10_000);
        let due = |before, saving| is_due(end, end - Duration::from_secs(before), Duration::from_secs(saving));
        assert!(!due(121, 0) && due(120, 0) && !due(121, 40) && due(300, 100) && !due(301, 100));
    }

    #[test]
    fn signals_at_once_are_one() {
        let mut watch = Watch {
            control: Arc::default(),
            device: Device::Cpu,
            every: Duration::MAX,
            beaten: Some(Instant::now()),
            end: None,
            asked: Arc::default(),
            asked_at: None,
            at_once: Arc::default(),
        };
        let is_last = |watch: &mut Watch| {
            watch.look();
            watch.at_once.load(Ordering::Relaxed)
        };
        assert!(!is_last(&mut watch));
        watch.asked.store(true, Ordering::Relaxed);
        assert!(!is_last(&mut watch));
        watch.asked_at = watch.asked_at.map(|at| at.checked_sub(APART).unwrap());
        assert!(is_last(&mut watch));
    }
}
