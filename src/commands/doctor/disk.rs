//! The folder: whether it can be written to, on what it lies, how much is free.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::table;
use super::Check;
use crate::folder::Folder;

/// Less is soon used up.
const LITTLE_BYTES: f64 = 1e9;

/// With a store on a server the folder may be on a network: files in it are written whole or not at all.
pub fn checks(folder: &Folder, has_server: bool) -> Vec<Check> {
    let place = existing(folder.root());
    let mut checks = vec![writable(folder.root(), &place)];
    if !has_server {
        checks.push(file_system(&place));
    }
    if let Some(free) = free_bytes(&place) {
        let found = format!("{} free", table::bytes(free));
        checks.push(if free < LITTLE_BYTES {
            Check::note("disk", found, "`distillery gc` frees what nothing needs; `--folder` names another place")
        } else {
            Check::ok("disk", found)
        });
    }
    checks
}

/// Where the folder is, or will be made.
pub fn existing(root: &Path) -> PathBuf {
    let full = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    full.ancestors().find(|path| path.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// For whoever is not root.
pub fn free_bytes(place: &Path) -> Option<f64> {
    crate::disk::room(&place.join("a file")).map(|(free, _)| free as f64)
}

fn writable(root: &Path, place: &Path) -> Check {
    let probe = place.join(format!(".distillery-doctor-{}", std::process::id()));
    let written = fs::write(&probe, b"is this written?").and_then(|()| fs::read(&probe));
    let _ = fs::remove_file(&probe);
    match written {
        Ok(bytes) if bytes == b"is this written?" && root.exists() => {
            Check::ok("folder", format!("`{}`", root.display()))
        }
        Ok(bytes) if bytes == b"is this written?" => {
            Check::ok("folder", format!("`{}` is not there yet", root.display()))
        }
        Ok(_) => Check::problem(
            "folder",
            format!("`{}` forgets what is written", place.display()),
            "name another folder with `--folder`",
        ),
        Err(error) => Check::problem(
            "folder",
            format!("`{}` cannot be written to: {error}", place.display()),
            "name another folder with `--folder`",
        ),
    }
}

/// A SQLite store with a write-ahead log shares memory among its users: they must be on one machine, and so must it.
#[cfg(target_os = "linux")]
fn file_system(place: &Path) -> Check {
    let kind = match nix::sys::statfs::statfs(place) {
        Ok(about) => about.filesystem_type().0 as u32,
        Err(error) => return Check::note("file system", format!("unknown: {error}"), "the store wants a local one"),
    };
    let network = [
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB"),
        (0x0BD0_0BD0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x00C3_6400, "Ceph"),
        (0x1983_0326, "BeeGFS"),
        (0x5346_414F, "AFS"),
        (0x0102_1997, "9P"),
    ];
    let local = [
        (0xEF53, "ext"),
        (0x5846_5342, "XFS"),
        (0x9123_683E, "Btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794C_7630, "overlay"),
        (0x2FC1_2FC1, "ZFS"),
        (0xF2F5_2010, "F2FS"),
        (0xCA45_1A4E, "bcachefs"),
    ];
    let named = |list: &[(u32, &'static str)]| list.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name);
    match (named(&network), named(&local)) {
        (Some(name), _) => Check::problem(
            "file system",
            format!("{name}, over the network: its locks do not keep a store whole"),
            "name a folder on a disk of this machine with `--folder`",
        ),
        (None, Some("tmpfs")) => {
            Check::note("file system", "tmpfs, in memory", "what is there is gone after a restart")
        }
        (None, Some(name)) => Check::ok("file system", name),
        (None, None) if kind == 0x6573_5546 => {
            Check::note("file system", "FUSE", "if it is over the network, name a local folder with `--folder`")
        }
        (None, None) => Check::ok("file system", format!("of type {kind:#x}")),
    }
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> Check {
    Check::note("file system", "not known on this system", "the store wants a local one")
}
