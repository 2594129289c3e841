//! The room that a file system has left, and the want of it.
//!
//! Whoever trains looks before it writes, and leaves some room alone: what must still be written when it has stopped, the
//! store and the spools, then finds it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// Left alone.
const RESERVE_BYTES: u64 = 64 << 20;
/// Of a small file system one part in so many, if that is less.
const RESERVE_SHARE: u64 = 16;

/// Nothing more can be written there, or nothing so large.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk is full: cannot write {}`{}`{}\nhint: make room there; the same command then goes on",
    wanted.map(|bytes| format!("the {} of ", Size(bytes))).unwrap_or_default(),
    path.display(),
    free.map(|bytes| format!(", {} are free", Size(bytes))).unwrap_or_default()
)]
pub struct DiskFull {
    pub path: PathBuf,
    /// In bytes, where that is known.
    pub wanted: Option<u64>,
    pub free: Option<u64>,
}

/// Looks whether `bytes` can be written to `path` beside what is there, with something left for others. A file system
/// that does not say has room.
///
/// # Errors
/// When there is none.
pub fn ensure_room(path: &Path, bytes: u64) -> Result<(), DiskFull> {
    let Some((free, all)) = room(path) else { return Ok(()) };
    let reserve = RESERVE_BYTES.min(all / RESERVE_SHARE);
    if free >= bytes.saturating_add(reserve) {
        return Ok(());
    }
    Err(DiskFull { path: path.to_owned(), wanted: Some(bytes), free: Some(free) })
}

/// What went wrong when `path` was written: the want of room if it was that.
pub fn explain(path: &Path, error: io::Error) -> anyhow::Error {
    if is_full(&error) {
        let free = room(path).map(|(free, _)| free);
        return DiskFull { path: path.to_owned(), wanted: None, free }.into();
    }
    anyhow::Error::new(error).context(format!("cannot write `{}`", path.display()))
}

/// Whether nothing more can be written: to the file system, or by this user.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Bytes that are free for this user, and all bytes, of the file system that `path` lies on or would.
pub fn room(path: &Path) -> Option<(u64, u64)> {
    let place = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let about = statvfs(place).ok()?;
    // Their type differs between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "their type differs between systems")]
    let blocks = |count| (count as u64).saturating_mul(about.fragment_size() as u64);
    Some((blocks(about.blocks_available()), blocks(about.blocks())))
}

/// `1.5 GiB`.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.0 as f64 / 1024.0;
        match kib {
            ..1024.0 => write!(f, "{kib:.0} KiB"),
            ..1_048_576.0 => write!(f, "{:.1} MiB", kib / 1024.0),
            _ => write!(f, "{:.1} GiB", kib / 1_048_576.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/yet/there.bin");
        let (free, all) = room(&path).unwrap();
        assert!(free <= all && all > 0);
        assert!(ensure_room(&path, 1).is_ok(), "the tests' disk is nearly full");
        let full = ensure_room(&path, all).unwrap_err().to_string();
        assert!(full.contains("there.bin") && full.contains(" are free\nhint: "), "{full}");
        // Its last bytes are for others.
        assert!(ensure_room(&path, free).is_err());
    }

    #[test]
    fn want_of_room_is_told_from_other_errors() {
        let path = Path::new("/tmp/a");
        for code in [libc::ENOSPC, libc::EDQUOT] {
            let error = explain(path, io::Error::from_raw_os_error(code));
            assert!(error.is::<DiskFull>(), "{error:#}");
        }
        let other = explain(path, io::Error::from_raw_os_error(libc::EIO));
        assert!(!other.is::<DiskFull>() && format!("{other:#}").starts_with("cannot write `/tmp/a`: "), "{other:#}");
        assert_eq!(Size(3 << 29).to_string(), "1.5 GiB");
    }
}
