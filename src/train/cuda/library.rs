//! NVIDIA's libraries, found and opened when a GPU is first asked for.
//!
//! The program is not linked to them, so one program runs on machines with and without a GPU. A library that is open
//! already is found by its name wherever it lies, so opening it here by its path is all that the bindings need.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Folders to look in before any other, as `PATH` names them.
pub const FOLDERS: &str = "DISTILLERY_CUDA_LIBRARIES";

/// Where the wheels of PyTorch and CUDA's own installer put them; `*` stands for any one name.
const USUAL: [&str; 8] = [
    "/usr/local/cuda/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
    "/usr/lib/python3*/*-packages/nvidia/*/lib",
    "/opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib",
    "/opt/*/lib/python3*/site-packages/nvidia/*/lib",
];

/// A library under the names it has had, newest first, and what it opens by a bare name itself.
struct Library {
    what: &'static str,
    names: &'static [&'static str],
    before: &'static [&'static str],
    hint: &'static str,
}

const WHEELS: &str = "install CUDA 13 or 12 (`pip install torch` brings it), or name its folders in \
                      `DISTILLERY_CUDA_LIBRARIES`";

const DRIVER: Library = Library {
    what: "NVIDIA's driver",
    names: &["libcuda.so.1"],
    before: &[],
    hint: "a GPU needs its driver; `--device cpu` trains without one",
};
const COMPILER: Library = Library {
    what: "NVIDIA's run-time compiler",
    names: &["libnvrtc.so.13", "libnvrtc.so.12"],
    before: &["libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so.12.9", "libnvrtc-builtins.so.12.8"],
    hint: WHEELS,
};
const PRODUCTS: Library =
    Library { what: "cuBLASLt", names: &["libcublasLt.so.13", "libcublasLt.so.12"], before: &[], hint: WHEELS };
#[cfg(feature = "cudnn")]
const CONVOLUTIONS: Library = Library { what: "cuDNN", names: &["libcudnn.so.9"], before: &[], hint: WHEELS };

/// Whether this machine has NVIDIA's driver.
pub fn has_driver() -> bool {
    open_one(&DRIVER, &folders()).is_ok()
}

/// Opens what every GPU needs.
///
/// # Errors
/// Names the library that is missing, and says what to do.
pub fn open() -> Result<()> {
    let folders = folders();
    for library in [&DRIVER, &COMPILER, &PRODUCTS] {
        open_one(library, &folders)?;
    }
    Ok(())
}

/// Opens cuDNN.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "cudnn")]
pub fn open_cudnn() -> Result<()> {
    open_one(&CONVOLUTIONS, &folders())
}

fn open_one(library: &Library, folders: &[PathBuf]) -> Result<()> {
    for name in library.names {
        // Where the system looks comes last: folders that were named are meant.
        for folder in folders.iter().map(Some).chain([None]) {
            let at = |name: &str| folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
            if folder.is_some() && !at(name).exists() {
                continue;
            }
            for before in library.before {
                keep_open(&at(before));
            }
            if keep_open(&at(name)) {
                return Ok(());
            }
        }
    }
    bail!("cannot open {} (`{}`)\nhint: {}", library.what, library.names[0], library.hint)
}

/// Opens a library for all that is opened later; it stays open. False when that is not possible.
fn keep_open(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: a terminated string is given; NVIDIA's libraries may be opened at any time and are never closed.
    let handle = unsafe { libc::dlopen(CStr::as_ptr(&path), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    !handle.is_null()
}

fn folders() -> Vec<PathBuf> {
    let named = std::env::var_os(FOLDERS).unwrap_or_default();
    let around_python = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os);
    let around_python = around_python.map(|root| PathBuf::from(root).join("lib/python3*/site-packages/nvidia/*/lib"));
    let usual = around_python.chain(USUAL.iter().map(PathBuf::from));
    std::env::split_paths(&named).chain(usual.flat_map(|pattern| matching(&pattern))).collect()
}

/// The folders that a pattern stands for, in the order of their names. `*` stands for any part of one name.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern {
        let part = part.to_string_lossy();
        let Some((before, after)) = part.split_once('*') else {
            found.iter_mut().for_each(|folder| folder.push(part.as_ref()));
            continue;
        };
        let mut next = Vec::new();
        for folder in &found {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after) {
                    next.push(folder.join(name.as_ref()));
                }
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|folder| folder.is_dir());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_folders() {
        let root = tempfile::tempdir().unwrap();
        for folder in
            ["python3.11/site-packages/nvidia/cu13/lib", "python3.9/dist-packages/nvidia/cudnn/lib", "other/x"]
        {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let found = matching(&root.path().join("python3*/*-packages/nvidia/*/lib"));
        let expected = ["python3.11/site-packages/nvidia/cu13/lib", "python3.9/dist-packages/nvidia/cudnn/lib"];
        assert_eq!(found, expected.map(|folder| root.path().join(folder)));
        assert_eq!(matching(&root.path().join("python2*")), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_missing_is_named_with_a_hint() {
        let missing = Library { what: "nothing", names: &["libno-such.so.0"], before: &[], hint: "look elsewhere" };
        let error = open_one(&missing, &[]).unwrap_err().to_string();
        assert_eq!(error, "cannot open nothing (`libno-such.so.0`)\nhint: look elsewhere");
    }
}
