//! Times of day as people read them, where they are.

use crate::event::now_ms;

use super::tally::duration;

/// `12:03:11`
pub fn clock(ms: i64) -> String {
    let time = local(ms);
    format!("{:02}:{:02}:{:02}", time.tm_hour, time.tm_min, time.tm_sec)
}

/// `2026-11-26 12:03:11`
pub fn date(ms: i64) -> String {
    let time = local(ms);
    format!("{:04}-{:02}-{:02} {}", time.tm_year + 1900, time.tm_mon + 1, time.tm_mday, clock(ms))
}

/// `12 min ago`
pub fn ago(ms: i64) -> String {
    format!("{} ago", duration((now_ms() - ms).max(0) as f64 / 1000.0))
}

fn local(ms: i64) -> libc::tm {
    let seconds = ms.div_euclid(1000) as libc::time_t;
    // SAFETY: all zeros is a valid `tm`; `localtime_r` writes to nothing else, and leaves it as it is when it fails.
    unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut time);
        time
    }
}
