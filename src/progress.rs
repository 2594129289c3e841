//! What a person sees while a plan runs: notices in, text on standard error out. Nothing on standard output, which is
//! for data.
//!
//! On a terminal one live line for each running cohort and one for the whole, lines about jobs scrolling by above them.
//! Elsewhere plain lines: when a job starts, ends or fails, and at most one every ten seconds for a cohort. There is no
//! colour, so `NO_COLOR` has nothing to switch off. It decides nothing and keeps nothing: `status` reads the store.

mod clock;
mod live;
mod plain;
mod tally;
mod words;

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use crate::plan::Plan;
use crate::schedule::Notice;

pub use clock::{ago, clock, date};
pub use plain::Plain;
pub use tally::{duration, loss, short};
pub use words::{Tone, jobs, noted, said};

/// How much is shown, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Failures only.
    Quiet,
    Plain,
    Live,
}

impl Mode {
    /// What suits standard error.
    pub fn of_stderr(quiet: bool) -> Mode {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match (quiet, std::io::stderr().is_terminal() && !dumb) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Live,
            (false, false) => Mode::Plain,
        }
    }
}

/// The display of one run.
pub struct Progress {
    begun: Instant,
    display: RefCell<Display>,
}

enum Display {
    Quiet(Plain),
    Plain(Plain),
    Live(live::Live),
}

impl Progress {
    pub fn new(plan: &Plan, mode: Mode) -> Progress {
        let display = match mode {
            Mode::Quiet => Display::Quiet(Plain::new(plan)),
            Mode::Plain => Display::Plain(Plain::new(plan)),
            Mode::Live => Display::Live(live::Live::new(plan)),
        };
        Progress { begun: Instant::now(), display: RefCell::new(display) }
    }

    pub fn notice(&self, notice: &Notice) {
        let now = self.begun.elapsed();
        match &mut *self.display.borrow_mut() {
            Display::Quiet(plain) => print(plain.trouble(notice, now)),
            Display::Plain(plain) => print(plain.notice(notice, now)),
            Display::Live(live) => live.notice(notice, now),
        }
    }
}

/// A closed standard error is no reason to end a sweep, so this is not `eprintln!`.
fn print(lines: Vec<String>) {
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(stderr, "{line}");
    }
}
