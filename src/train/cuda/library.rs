//! NVIDIA's libraries, found and opened when a GPU is first asked for.
//!
//! The program is not linked to them, so one program runs on machines with and without a GPU. The bindings open a library by
//! its bare name; where it is open already it is found by that, wherever it lies, so it is opened here by its path first.
//! All are of one CUDA version, the newest that the driver knows.

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

const WHEELS: &str = "install CUDA 13 or 12 (`pip install torch` brings it), or name its folders in \
                      `DISTILLERY_CUDA_LIBRARIES`";

/// Versions of CUDA, newest first.
const MAJORS: [i32; 2] = [13, 12];

const DRIVER: &str = "libcuda.so.1";

/// What a version's run-time compiler opens by a bare name itself.
const BUILTINS: [&str; 5] = [
    "libnvrtc-builtins.so.13.0",
    "libnvrtc-builtins.so.13.1",
    "libnvrtc-builtins.so.13.2",
    "libnvrtc-builtins.so.12.9",
    "libnvrtc-builtins.so.12.8",
];

/// Whether this machine has NVIDIA's driver.
pub fn has_driver() -> bool {
    open_first(DRIVER, &folders().concat()).is_some()
}

/// Opens what every GPU needs.
///
/// # Errors
/// Names what is missing, and says what to do.
pub fn open() -> Result<()> {
    let [named, usual] = folders();
    let all = [named.clone(), usual].concat();
    if open_first(DRIVER, &all).is_none() {
        bail!(
            "cannot open NVIDIA's driver (`{DRIVER}`)\nhint: a GPU needs its driver; `--device cpu` trains without one"
        );
    }
    let version = driver_version();
    if version < 1000 * MAJORS[MAJORS.len() - 1] {
        bail!(
            "NVIDIA's driver knows CUDA {}.{}\nhint: update it to one for CUDA 12 or newer",
            version / 1000,
            version % 1000 / 10
        );
    }
    // Folders that were named are meant, whatever versions lie elsewhere.
    for folders in [&named, &all] {
        for major in MAJORS.into_iter().filter(|major| *major <= version / 1000) {
            let compiler = open_compiler(major, folders);
            let products = open_first(&format!("libcublasLt.so.{major}"), folders);
            if let (Some(compiler), Some(products)) = (compiler, products) {
                // SAFETY: both are open, and are what the bindings look for.
                let (own, other) = unsafe { (cudarc::nvrtc::sys::culib(), cudarc::cublaslt::sys::culib()) };
                // SAFETY: only the functions' addresses are used.
                let found = unsafe { (own.get::<Function>(b"nvrtcVersion"), other.get::<Function>(b"cublasLtCreate")) };
                warn_of_another(&compiler, found.0.map(|function| *function).ok());
                warn_of_another(&products, found.1.map(|function| *function).ok());
                return Ok(());
            }
        }
    }
    let most = (version / 1000).min(MAJORS[0]);
    bail!(
        "cannot open NVIDIA's run-time compiler and cuBLASLt (`libnvrtc.so.{most}`, `libcublasLt.so.{most}`)\nhint: {WHEELS}"
    )
}

type Function = unsafe extern "C" fn();

/// The bindings ask for `lib....so` first, which may be another copy than the one that was opened for them.
fn warn_of_another(opened: &Path, function: Option<Function>) {
    let mut place = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let Some(function) = function else { return };
    // SAFETY: the structure is there to be written; the name it then points to lives as long as the library.
    let found = unsafe {
        let known = libc::dladdr(function as *const libc::c_void, &raw mut place) != 0 && !place.dli_fname.is_null();
        known.then(|| CStr::from_ptr(place.dli_fname).to_string_lossy().into_owned())
    };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if let (Some(found), Some(opened)) = (found, real(opened))
        && real(Path::new(&found)).is_some_and(|found| found != opened)
    {
        eprintln!(
            "warning: `{found}` is used, not `{}`: it has the shorter name where the system looks",
            opened.display()
        );
    }
}

fn open_compiler(major: i32, folders: &[PathBuf]) -> Option<PathBuf> {
    let name = format!("libnvrtc.so.{major}");
    for folder in folders.iter().filter(|folder| folder.join(&name).exists()) {
        BUILTINS.iter().for_each(|builtins| {
            keep_open(&folder.join(builtins));
        });
    }
    open_first(&name, folders)
}

/// Opens cuDNN.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "cudnn")]
pub fn open_cudnn() -> Result<()> {
    let [named, usual] = folders();
    let name = "libcudnn.so.9";
    match open_first(name, &named).or_else(|| open_first(name, &usual)) {
        Some(_) => Ok(()),
        None => bail!("cannot open cuDNN (`{name}`)\nhint: {WHEELS}"),
    }
}

/// The version of CUDA that the driver knows, as 1000 times the major and 10 times the minor number.
fn driver_version() -> i32 {
    type Version = unsafe extern "C" fn(*mut i32) -> i32;
    let mut version = 0;
    // SAFETY: this is the function's signature in all versions, and it may be called before anything else.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"cuDriverGetVersion".as_ptr());
        if !found.is_null() {
            std::mem::transmute::<*mut libc::c_void, Version>(found)(&raw mut version);
        }
    }
    version
}

/// Opens a library in the first folder that has it, or else where the system looks; returns where.
fn open_first(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let there = folders.iter().map(|folder| folder.join(name)).filter(|path| path.exists());
    there.chain([PathBuf::from(name)]).find(|path| keep_open(path))
}

/// Opens a library for all that is opened later; it stays open. False when that is not possible.
fn keep_open(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: a terminated string is given; NVIDIA's libraries may be opened at any time and are never closed.
    let handle = unsafe { libc::dlopen(CStr::as_ptr(&path), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    !handle.is_null()
}

/// Folders that were named, and the usual ones.
fn folders() -> [Vec<PathBuf>; 2] {
    let named = std::env::var_os(FOLDERS).unwrap_or_default();
    let named = std::env::split_paths(&named).filter(|folder| folder.is_dir()).collect();
    let python = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let local = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local"));
    let conda = std::env::var_os("CONDA_PREFIX").map(|root| PathBuf::from(root).join("lib"));
    let packages = python.chain(local).map(|root| root.join("lib/python3*/site-packages/nvidia/*/lib"));
    let usual = packages.chain(conda).chain(USUAL.iter().map(PathBuf::from));
    [named, usual.flat_map(|pattern| matching(&pattern)).collect()]
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
    fn the_first_folder_that_has_it_is_taken() {
        assert_eq!(open_first("libno-such.so.0", &[]), None);
        let root = tempfile::tempdir().unwrap();
        // There, but no library: the next place is tried, which is where the system looks.
        std::fs::write(root.path().join("libc.so.6"), "none").unwrap();
        assert_eq!(open_first("libc.so.6", &[root.path().to_owned()]), Some(PathBuf::from("libc.so.6")));
    }
}
