//! The allocator's settings, the memory and processor time a process used, and the want of memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest value glibc takes for the size from which on an allocation gets pages of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MMAP_THRESHOLD_BYTES: i32 = 32 << 20;

/// Keeps freed memory instead of giving every large array's pages back and having them cleared again: without this a
/// third of a training step can go into page faults. For processes that train; glibc only.
pub fn keep_freed_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets parameters of the allocator; a refused value leaves the old one.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// The most resident memory this process had so far, where the system says.
pub fn peak_bytes() -> Option<u64> {
    of_status("VmHWM:")
}

/// The resident memory of this process, where the system says.
pub fn resident_bytes() -> Option<u64> {
    of_status("VmRSS:")
}

fn of_status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Memory is wanted that is not there, of the host or of a GPU.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OutOfMemory(pub String);

/// The most bytes that buffers of GPUs had at once in this process.
static MOST_ON_GPU: AtomicU64 = AtomicU64::new(0);

/// Notes how many bytes buffers of a GPU have.
pub fn note_on_gpu(bytes: usize) {
    MOST_ON_GPU.fetch_max(bytes as u64, Ordering::Relaxed);
}

/// The most bytes of a GPU that this process's buffers had at once; what driver and libraries take besides is not in it.
pub fn most_on_gpu() -> u64 {
    MOST_ON_GPU.load(Ordering::Relaxed)
}

/// For tests of what is done when memory is short: with `DISTILLERY_TEST_MEMORY=n` in the environment a machine is said
/// to have no room for more than n students at once.
///
/// # Errors
/// When it is set, and `students` are more.
pub fn pretend(students: usize) -> Result<(), OutOfMemory> {
    let most = std::env::var("DISTILLERY_TEST_MEMORY").ok().and_then(|text| text.parse().ok());
    match most {
        Some(most) if students > most => Err(OutOfMemory(format!(
            "`DISTILLERY_TEST_MEMORY` leaves no room for {students} students at once, {most} would fit"
        ))),
        _ => Ok(()),
    }
}

/// What new work may take without pushing others out, where the system says.
pub fn available_bytes() -> Option<u64> {
    let about = fs::read_to_string("/proc/meminfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let free = kib * 1024;
    Some(group_bytes().map_or(free, |own| own.min(free)))
}

/// Where control groups lie.
const GROUPS: &str = "/sys/fs/cgroup";

/// What is left of the limits of this process's control groups, as of a container or a batch system.
fn group_bytes() -> Option<u64> {
    left(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new(GROUPS))
}

/// The least that is left of the memory of any of the groups, which are written as the system tells a process its own,
/// and of those around each. `root` holds those of version 2, or `unified` in it does, and those of version 1 in `memory`.
fn left(groups: &str, root: &Path) -> Option<u64> {
    let number = |file: PathBuf| -> Option<u64> { fs::read_to_string(file).ok()?.trim().parse().ok() };
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (trees, limit, used) = match controllers {
            "" => (&["", "unified"][..], "memory.max", "memory.current"),
            of if of.split(',').any(|one| one == "memory") => {
                (&["memory"][..], "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        for tree in trees {
            for group in Path::new(group.trim_start_matches('/')).ancestors() {
                let folder = root.join(tree).join(group);
                // Without a limit it says `max`, or a number beyond any machine.
                let Some(limit) = number(folder.join(limit)) else { continue };
                let left = limit.saturating_sub(number(folder.join(used)).unwrap_or(0));
                least = Some(least.map_or(left, |least: u64| least.min(left)));
            }
        }
    }
    least
}

/// Processor time of this process so far, seconds: (user, system).
pub fn processor_seconds() -> (f64, f64) {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    // SAFETY: all zeros is a valid `rusage`, and `getrusage` writes to nothing else.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        (seconds(usage.ru_utime), seconds(usage.ru_stime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let left = |groups: &str| left(groups, root.path());
        assert_eq!(left("0::/job/step\n"), None);
        write("job/step/memory.max", "max\n");
        write("job/step/memory.current", "100\n");
        assert_eq!(left("0::/job/step\n"), None);
        // A group around it has the limit, and what others in it use is used.
        write("job/memory.max", "5000\n");
        write("job/memory.current", "1500\n");
        assert_eq!(left("0::/job/step\n"), Some(3500));
        write("job/step/memory.max", "2000\n");
        assert_eq!(left("0::/job/step\n"), Some(1900));
        // In a container the path is that of the machine, and its own group the root.
        assert_eq!(left("0::/elsewhere\n"), None);
        write("memory.max", "700\n");
        assert_eq!(left("0::/elsewhere\n"), Some(700));
        assert_eq!(left("0::/\n"), Some(700));
        write("memory.max", "max\n");
        // The first version, alone or beside the second.
        write("memory/a:b/memory.limit_in_bytes", "900\n");
        write("memory/a:b/memory.usage_in_bytes", "1000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.usage_in_bytes", "0\n");
        assert_eq!(left("3:cpu,memory:/a:b\n0::/job\n"), Some(0));
        assert_eq!(left("3:memory:/\n2:cpu:/a:b\n"), Some(9_223_372_036_854_771_712));
        write("unified/x/memory.max", "40\n");
        assert_eq!(left("0::/x\n"), Some(40));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_used() {
        let before = peak_bytes().unwrap();
        let used = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_bytes().unwrap();
        assert!(used[0] == 1 && after >= before.max(64 << 20), "{before} {after}");
    }
}
