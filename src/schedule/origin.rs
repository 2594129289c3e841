//! Who this process is: what every attempt it begins is marked with.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::alive::here;
use crate::digest;
use crate::event::now_ms;
use crate::store::Provenance;

/// The provenance of this process. Reads its own binary once (for the hash), and asks git about the source tree it was
/// built from, if that is still there.
pub fn provenance(device: &str, threads: u32) -> Provenance {
    let (host, pid) = (here(), std::process::id());
    Provenance {
        owner: format!("local:{host}/{pid}/{}", now_ms()),
        host,
        pid,
        device: device.to_owned(),
        threads,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        binary_sha256: binary_sha256().unwrap_or_default(),
        git_commit: git_commit(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        expected_ms: None,
    }
}

fn binary_sha256() -> std::io::Result<String> {
    // Through the kernel's link: the file that runs, even if a new build took its name.
    File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?)).and_then(digest::of_reader)
}

fn git_commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=40", "--match="])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
