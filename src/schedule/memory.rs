//! Whether the kernel ended somebody for want of memory.

use std::fs;

/// How often it did, on this machine or in this control group, since they began; 0 where it does not say.
pub(super) fn kills() -> u64 {
    let of = |path: &str| fs::read_to_string(path).map_or(0, |text| count(&text));
    of("/proc/vmstat") + of("/sys/fs/cgroup/memory.events") + of("/sys/fs/cgroup/memory/memory.oom_control")
}

/// The sum of the lines `oom_kill N`.
fn count(text: &str) -> u64 {
    text.lines().filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kills_are_counted() {
        assert_eq!(count("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(count("nr_free_pages 1\noom_kill 12\n"), 12);
        assert_eq!(count("oom_kill many\n"), 0);
        assert_eq!(count(""), 0);
    }
}
