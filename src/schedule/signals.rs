//! Signals become a [`Stop`]: of SIGINT and SIGTERM the first asks for order, the second for haste; SIGUSR1, with which
//! batch systems announce an end, and SIGHUP, of a terminal that was closed, ask for order however often they come. So does
//! the time at which a Slurm job will be ended, some minutes before.
//!
//! Workers are in process groups of their own, so a Ctrl-C at the terminal reaches the scheduler only.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use super::stop::{Level, Stop, stop};

/// Seconds since 1970.
const END_TIME: &str = "SLURM_JOB_END_TIME";
/// For workers to finish their steps and save.
const MARGIN: Duration = Duration::from_secs(180);

/// Listens from now on, for as long as the runtime lives.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen() -> io::Result<Stop> {
    Ok(listen_for_end()?.0)
}

/// The same, and whether it was a batch system that announced an end: then the rest is for another time, and not unwanted.
///
/// # Errors
/// As [`listen`].
pub fn listen_for_end() -> io::Result<(Stop, Arc<AtomicBool>)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut announced = signal(SignalKind::user_defined1())?;
    let mut closed = signal(SignalKind::hangup())?;
    let end = std::env::var(END_TIME).ok().and_then(|text| time_left(&text, SystemTime::now()));
    let (stopper, stop) = stop();
    let is_announced = Arc::new(AtomicBool::new(false));
    let announce = Arc::clone(&is_announced);
    tokio::spawn(async move {
        let mut ending = std::pin::pin!(wait(end));
        let mut ended = false;
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => { stopper.press(); }
                Some(()) = terminate.recv() => { stopper.press(); }
                Some(()) = announced.recv() => {
                    announce.store(true, Ordering::Relaxed);
                    stopper.raise(Level::Finish);
                }
                Some(()) = closed.recv() => stopper.raise(Level::Finish),
                () = &mut ending, if !ended => {
                    ended = true;
                    announce.store(true, Ordering::Relaxed);
                    eprintln!("note: this Slurm job ends in {} s: saving and leaving", MARGIN.as_secs());
                    stopper.raise(Level::Finish);
                }
                else => return,
            }
        }
    });
    Ok((stop, is_announced))
}

async fn wait(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

/// Until the margin before the end begins.
fn time_left(end: &str, now: SystemTime) -> Option<Duration> {
    let end = UNIX_EPOCH + Duration::from_secs(end.trim().parse().ok()?);
    // One that is over is another job's, left in the environment.
    Some(end.duration_since(now).ok()?.saturating_sub(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_left_before_the_end() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(time_left("1300", now), Some(Duration::from_secs(120)));
        assert_eq!(time_left("1100\n", now), Some(Duration::ZERO), "it is time already");
        assert_eq!(time_left("900", now), None, "it is over");
        assert_eq!(time_left("NONE", now), None);
    }
}
