//! Processors, memory, GPUs.

use std::num::NonZero;
use std::process::{Command, Stdio};

use super::super::table;
use super::Check;
use crate::train::{cuda, memory};

/// Less is hardly enough for a worker.
const LITTLE_BYTES: u64 = 1 << 30;

pub fn checks() -> Vec<Check> {
    vec![processor(), ram(), gpu()]
}

fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let sets = instructions();
    let found = format!("{cores} cores; {}", if sets.is_empty() { "no vectors".to_owned() } else { sets.join(", ") });
    if cfg!(target_arch = "x86_64") && !sets.contains(&"avx2") {
        return Check::note("processor", found, "without AVX2 and FMA it computes several times slower");
    }
    Check::ok("processor", found)
}

/// Those that matter here.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let sets = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let sets = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let sets = [("none", false)];
    sets.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

fn ram() -> Check {
    match memory::available_bytes() {
        None => Check::note("memory", "this system does not say how much is free", "see that there is enough"),
        Some(free) => {
            let found = format!("{} free for a run, limits of its group included", table::bytes(free as f64));
            if free < LITTLE_BYTES {
                return Check::note("memory", found, "fewer `--slots`, or smaller batches, may be needed");
            }
            Check::ok("memory", found)
        }
    }
}

fn gpu() -> Check {
    let named = nvidia_smi();
    match cuda::find(0) {
        Ok(()) => Check::ok("gpu", named.unwrap_or_else(|| "there, with the libraries it needs".to_owned())),
        // A GPU that cannot be used is worth a word; none is how most machines are.
        Err(error) => {
            let text = format!("{error:#}");
            match (named, text.split_once("\nhint: ")) {
                (Some(named), Some((why, hint))) => Check::note("gpu", format!("{named}\nnot used: {why}"), hint),
                (Some(named), None) => Check::note("gpu", format!("{named}\nnot used: {text}"), "runs are on the CPU"),
                (None, _) if cuda::library::has_driver() => Check::error("gpu", &text),
                (None, _) => Check::ok("gpu", "none: runs are on the CPU"),
            }
        }
    }
}

/// A GPU a line, where NVIDIA's program is at hand.
fn nvidia_smi() -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=index,name,memory.free,memory.total,driver_version", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [index, name, free, all, driver] = fields.as_slice() else { return None };
        Some(format!("{index}: {name}, {free} of {all} MiB free, driver {driver}"))
    };
    let lines: Vec<String> = text.lines().filter_map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
