//! What is asked of a worker on its standard input: one [`Request`] a line.
//!
//! Only a pipe is listened to. A terminal, a file or `/dev/null` ask nothing, and their end means nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread;

use crate::event::Request;
use crate::job::JobId;
use crate::train::Control;

/// Passes on what comes in, from a thread of its own. `jobs` are all of the cohort's; when the last of them is to leave,
/// all stop.
pub fn listen(control: &Arc<Control>, jobs: BTreeSet<JobId>) {
    if is_pipe() {
        let control = Arc::clone(control);
        // It is never waited for: it reads until the process ends.
        thread::spawn(move || read(io::stdin().lock(), &control, jobs));
    }
}

fn read(lines: impl BufRead, control: &Control, mut jobs: BTreeSet<JobId>) {
    for line in lines.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Request::Leave(leaving)) => {
                jobs.retain(|job| !leaving.contains(job));
                if jobs.is_empty() {
                    // Also where they wait for a teacher that answers for all of them.
                    control.stop();
                } else {
                    control.leave(leaving);
                }
            }
            Err(error) => eprintln!("warning: `{line}` is no request: {error}"),
        }
    }
    // Nobody is there to listen either: save and leave.
    control.stop();
}

fn is_pipe() -> bool {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let about = input.and_then(|input| File::from(input).metadata());
    about.is_ok_and(|about| about.file_type().is_fifo())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::control::Asked;

    #[test]
    fn requests_are_passed_on_and_the_end_is_a_stop() {
        let job = |name: &str| JobId::from_stored(name.to_owned());
        let all = || BTreeSet::from([job("a"), job("b")]);
        let control = Control::default();
        let (reader, writer) = io::pipe().unwrap();
        thread::scope(|scope| {
            let listening = scope.spawn(|| read(io::BufReader::new(reader), &control, all()));
            let say = |text: &str| io::Write::write_all(&mut &writer, text.as_bytes()).unwrap();
            say("nonsense\n{\"leave\":[\"a\"]}\n");
            let mut asked = control.take();
            while asked == Asked::Nothing {
                thread::yield_now();
                asked = control.take();
            }
            assert_eq!(asked, Asked::Leave(BTreeSet::from([job("a")])));
            assert!(!control.is_stopped());
            drop(writer);
            listening.join().unwrap();
        });
        assert!(control.is_stopped());
    }

    #[test]
    fn when_all_are_to_leave_they_stop() {
        let job = |name: &str| JobId::from_stored(name.to_owned());
        let (reader, mut writer) = io::pipe().unwrap();
        let control = Arc::new(Control::default());
        let listening = {
            let (control, jobs) = (Arc::clone(&control), BTreeSet::from([job("a"), job("b")]));
            thread::spawn(move || read(io::BufReader::new(reader), &control, jobs))
        };
        io::Write::write_all(&mut writer, b"{\"leave\":[\"a\"]}\n{\"leave\":[\"b\"]}\n").unwrap();
        for _ in 0..1000 {
            if control.is_stopped() {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(control.is_stopped());
        drop(writer);
        listening.join().unwrap();
    }
}
