//! SIGINT and SIGTERM become a [`Stop`]: the first of either asks for order, the second for haste.
//!
//! Workers are in process groups of their own, so a Ctrl-C at the terminal reaches the scheduler only.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::stop::{Level, Stop, stop};

/// Listens from now on, for as long as the runtime lives.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen() -> io::Result<Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stopper, stop) = stop();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                Some(()) = terminate.recv() => {}
                else => return,
            }
            if stopper.press() == Level::Now {
                // A third press means nothing new, but must not kill the scheduler before its workers are gone.
                continue;
            }
        }
    });
    Ok(stop)
}
