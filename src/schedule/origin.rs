//! Who this process is: what every attempt it begins is marked with.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::alive::here;
use crate::digest;
use crate::event::now_ms;
use crate::store::{Provenance, shown};

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
        command: typed(std::env::args()),
        expected_ms: None,
    }
}

/// For a shell: what has blanks or signs is quoted. `key=value` needs no quotes where it stands.
fn typed(words: impl Iterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./=:,+%@".contains(c);
    let quoted = |word: String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word,
        false => shlex::try_quote(&word).map_or_else(|_| word.clone(), Into::into),
    };
    // Kept in the store, and shown: no password belongs there.
    words.map(|word| quoted(shown(&word))).collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["distillery", "run", "run k.toml", "epochs=2", "split.train='train[:6]'"].map(str::to_owned);
        let text = typed(words.clone().into_iter());
        assert!(text.starts_with("distillery run 'run k.toml' epochs=2 "), "{text}");
        assert_eq!(shlex::split(&text).unwrap(), words);
        let words = ["run", "--store", "postgres://me:secret@host/runs"].map(str::to_owned);
        assert_eq!(typed(words.into_iter()), "run --store postgres://me@host/runs");
    }
}
