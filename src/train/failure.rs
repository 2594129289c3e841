//! What kind of failure an error is.

use std::io::{self, ErrorKind};

use super::cuda;
use super::memory::OutOfMemory;
use crate::disk::{DiskFull, is_full};
use crate::event::Failure;

/// Another attempt has the job, and what this one would write is its to write.
#[derive(Debug, thiserror::Error)]
#[error("attempt {newer} has this job now; nothing more is written for attempt {own}")]
pub struct TakenOver {
    pub own: u32,
    pub newer: u32,
}

/// By the first of its causes that says something.
pub fn class(error: &anyhow::Error) -> Failure {
    for cause in error.chain() {
        if cause.is::<OutOfMemory>() || cuda::is_out_of_memory(cause) {
            return Failure::OutOfMemory;
        }
        if cause.is::<TakenOver>() {
            return Failure::Lost;
        }
        if cause.is::<DiskFull>() {
            return Failure::DiskFull;
        }
        match cause.downcast_ref::<io::Error>() {
            Some(error) if is_full(error) => return Failure::DiskFull,
            Some(error) if error.kind() == ErrorKind::OutOfMemory => return Failure::OutOfMemory,
            Some(_) => return Failure::Io,
            None => {}
        }
    }
    Failure::Error
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_cause_decides_however_it_is_wrapped() {
        let of = |code| -> anyhow::Result<()> { Err(io::Error::from_raw_os_error(code)).context("a").context("b") };
        assert_eq!(class(&of(libc::ENOSPC).unwrap_err()), Failure::DiskFull);
        assert_eq!(class(&of(libc::EDQUOT).unwrap_err()), Failure::DiskFull);
        assert_eq!(class(&of(libc::ENOMEM).unwrap_err()), Failure::OutOfMemory);
        assert_eq!(class(&of(libc::EACCES).unwrap_err()), Failure::Io);
        assert_eq!(class(&anyhow::anyhow!("no file of that name")), Failure::Error);
        let full = DiskFull { path: "a".into(), wanted: None, free: None };
        assert_eq!(class(&anyhow::Error::new(full).context("b")), Failure::DiskFull);
        assert_eq!(class(&anyhow::Error::new(TakenOver { own: 1, newer: 2 }).context("b")), Failure::Lost);
        assert_eq!(class(&anyhow::Error::new(OutOfMemory("none".into())).context("b")), Failure::OutOfMemory);
    }
}
