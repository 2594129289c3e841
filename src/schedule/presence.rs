//! Who lives: each scheduler holds a lock on a file of its own for as long as its process exists, however that ends.
//!
//! On one host this tells at once, and whatever the clocks say, that a scheduler is gone. Of another host it tells nothing:
//! there the lease that is no longer renewed has to do.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;

use crate::alive::here as host;
use crate::folder::Folder;
use crate::store::{self, Store};

/// Held while it lives.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    _file: File,
}

impl Presence {
    /// # Errors
    /// When the file cannot be made, or is held: an owner's name is his alone.
    pub fn take(folder: &Folder, owner: &str) -> io::Result<Presence> {
        let path = path(folder, owner);
        fs::create_dir_all(folder.schedulers())?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.try_lock()?;
        Ok(Presence { path, _file: file })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a scheduler is certainly gone. `owner_host` is where it ran.
///
/// A scheduler makes its file before it writes its name anywhere, so one without a file has ended.
pub fn is_gone(folder: &Folder, owner: &str, owner_host: Option<&str>) -> bool {
    if owner_host.is_some_and(|name| !name.is_empty() && name != host()) {
        return false;
    }
    match OpenOptions::new().write(true).open(path(folder, owner)) {
        Ok(file) => !matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes down which schedulers are gone, and removes what is left of them.
///
/// # Errors
/// The store's.
pub async fn bury(folder: &Folder, store: &Store) -> Result<(), store::Error> {
    for other in store.schedulers().await? {
        if other.ended_ms.is_none() && is_gone(folder, &other.owner, Some(&other.host)) {
            store.unregister(&other.owner).await?;
            let _ = fs::remove_file(path(folder, &other.owner));
        }
    }
    Ok(())
}

fn path(folder: &Folder, owner: &str) -> PathBuf {
    let name = owner.replace(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)), "-");
    folder.schedulers().join(format!("{name}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drops_it_is_gone_and_who_holds_it_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        let here = host();
        assert!(is_gone(&folder, "local:a/1/2", Some(&here)), "never seen");
        let presence = Presence::take(&folder, "local:a/1/2").unwrap();
        assert!(!is_gone(&folder, "local:a/1/2", Some(&here)));
        assert!(Presence::take(&folder, "local:a/1/2").is_err());
        assert!(is_gone(&folder, "local:a/1/3", None));
        drop(presence);
        assert!(is_gone(&folder, "local:a/1/2", Some(&here)));
        // Left behind by a kill: the file is there, nobody holds it.
        fs::write(path(&folder, "local:a/1/4"), "").unwrap();
        assert!(is_gone(&folder, "local:a/1/4", Some(&here)));
        assert!(!is_gone(&folder, "local:a/1/4", Some("elsewhere")));
    }
}
