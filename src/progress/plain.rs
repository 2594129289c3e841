//! Lines for a log file or a pipe. Pure: notices and the time since the run began in, lines out.

use std::collections::HashMap;
use std::time::Duration;

use super::tally::Tally;
use crate::event::{Event, Message};
use crate::plan::{CohortId, Plan};
use crate::schedule::{Level, Notice};

/// Between two lines about how far a cohort is.
const QUIET_FOR: Duration = Duration::from_secs(10);

pub struct Plain {
    tally: Tally,
    /// When something was last said about a cohort.
    said: HashMap<CohortId, Duration>,
}

impl Plain {
    pub fn new(plan: &Plan) -> Plain {
        Plain { tally: Tally::new(plan), said: HashMap::new() }
    }

    /// Everything worth a line.
    pub fn notice(&mut self, notice: &Notice, now: Duration) -> Vec<String> {
        self.tally.notice(notice, now);
        let mut lines = happening(&self.tally, notice);
        match notice {
            Notice::CohortStarted { cohort, .. } => {
                self.said.insert(cohort.clone(), now);
                lines.insert(0, format!("cohort {:.8} {} begins", cohort.as_str(), self.tally.cohort(cohort)));
            }
            Notice::Message { cohort, message: Message { event: Event::Epoch(_) | Event::Step { .. }, .. } } => {
                let said = self.said.entry(cohort.clone()).or_insert(now);
                if now.saturating_sub(*said) >= QUIET_FOR {
                    *said = now;
                    lines.push(format!(
                        "cohort {:.8} {}: {}; all: {}",
                        cohort.as_str(),
                        self.tally.cohort(cohort),
                        self.tally.cohort_line(cohort, now),
                        self.tally.total_line(now),
                    ));
                }
            }
            _ => {}
        }
        lines
    }

    /// Only what a person should act on.
    pub fn trouble(&mut self, notice: &Notice, now: Duration) -> Vec<String> {
        self.tally.notice(notice, now);
        let is_trouble = matches!(
            notice,
            Notice::Lost { .. }
                | Notice::Blocked { .. }
                | Notice::Stopping { .. }
                | Notice::Again { .. }
                | Notice::Note(_)
                | Notice::Message {
                    message: Message { event: Event::Failed { .. } | Event::Torn { .. } | Event::Flagged { .. }, .. },
                    ..
                }
        );
        if is_trouble { happening(&self.tally, notice) } else { Vec::new() }
    }
}

/// Lines about what happened to a job, for a log and for above the live lines. The tally knows of it already.
pub(super) fn happening(tally: &Tally, notice: &Notice) -> Vec<String> {
    match notice {
        Notice::Message { message, .. } => said(tally, message).into_iter().collect(),
        Notice::Lost { cohort, jobs, why, again } => {
            let jobs = if jobs.len() == 1 { "1 job".to_owned() } else { format!("{} jobs", jobs.len()) };
            let then = if *again { "starting it again" } else { "given up for this run" };
            let name = tally.cohort(cohort);
            vec![format!("lost cohort {:.8} {name} with {jobs} unfinished: {why}\n  {then}", cohort.as_str())]
        }
        Notice::Blocked { job, by } => {
            vec![format!("blocked {}: it needs job {:.8}, which failed", tally.job(job), by.as_str())]
        }
        Notice::Again { jobs, class, after, .. } => {
            let when = if after.is_zero() { "at once".to_owned() } else { format!("in {:.0} s", after.as_secs_f64()) };
            jobs.iter().map(|job| format!("{}: {}; again {when}", tally.job(job), class.name())).collect()
        }
        Notice::Note(text) => vec![text.clone()],
        Notice::Stopping { level: Level::Drain } => {
            vec!["starting nothing more; what runs goes on to its end".to_owned()]
        }
        Notice::Stopping { level: Level::Now } => vec!["ending at once".to_owned()],
        Notice::Stopping { .. } => {
            vec!["stopping: finishing the step and saving; Ctrl-C again ends at once".to_owned()]
        }
        Notice::CohortStarted { .. } | Notice::CohortEnded { .. } => Vec::new(),
    }
}

fn said(tally: &Tally, message: &Message) -> Option<String> {
    let job = tally.job(&message.job);
    let counted = || format!("[{}/{}]", tally.done, tally.total);
    match &message.event {
        Event::Started { epoch: 0 } => Some(format!("started {job}")),
        Event::Started { epoch } => Some(format!("started {job}: goes on after epoch {epoch}")),
        Event::Finished => {
            let validation = tally.validation(&message.job);
            let result = validation.map(|share| format!(": validation {:.1} %", 100.0 * share)).unwrap_or_default();
            Some(format!("{} done {job}{result}", counted()))
        }
        Event::Stopped { epoch, step } => Some(format!("stopped {job}: saved after epoch {epoch}, step {step}")),
        Event::Failed { class, message } => Some(format!("{} failed {job}: {}: {message}", counted(), class.name())),
        Event::Torn { file } => Some(format!("torn checkpoint `{file}` of {job}: the one before it is used")),
        Event::Flagged { message, .. } => Some(format!("warning: {job} {message}")),
        Event::Teacher(_) | Event::Epoch(_) | Event::Step { .. } => None,
    }
}
