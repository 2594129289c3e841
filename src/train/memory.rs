//! The allocator's settings, and the memory and processor time a process used.

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
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What new work may take without pushing others out, where the system says.
pub fn available_bytes() -> Option<u64> {
    let about = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let free = kib * 1024;
    Some(group_bytes().map_or(free, |own| own.min(free)))
}

/// What is left of the limit of this process's control group (version 2), as of a container or a batch system.
fn group_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |name: &str| -> Option<u64> {
        let inside = format!("/sys/fs/cgroup{}/{name}", group.trim_end_matches('/'));
        let text =
            std::fs::read_to_string(inside).or_else(|_| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")));
        text.ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
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
    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_grows_with_what_is_used() {
        let before = super::peak_bytes().unwrap();
        let used = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = super::peak_bytes().unwrap();
        assert!(used[0] == 1 && after >= before.max(64 << 20), "{before} {after}");
    }
}
