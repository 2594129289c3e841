//! Live lines on a terminal: one a running cohort and one for the whole, below what scrolls by.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain::happening;
use super::tally::Tally;
use crate::event::{Event, Message};
use crate::plan::{CohortId, Plan};
use crate::schedule::Notice;

pub(super) struct Live {
    tally: Tally,
    lines: MultiProgress,
    /// In the order they were started, which is the order on the screen.
    cohorts: Vec<(CohortId, ProgressBar)>,
    total: ProgressBar,
}

impl Live {
    pub fn new(plan: &Plan) -> Live {
        // To standard error, a few times a second, and cut at the terminal's width: indicatif's own ways.
        let lines = MultiProgress::new();
        let total = lines.add(line());
        Live { tally: Tally::new(plan), lines, cohorts: Vec::new(), total }
    }

    pub fn notice(&mut self, notice: &Notice, now: Duration) {
        self.tally.notice(notice, now);
        match notice {
            Notice::CohortStarted { cohort, .. } => {
                let bar = self.lines.insert_before(&self.total, line());
                self.cohorts.push((cohort.clone(), bar));
                self.show(cohort, now);
            }
            Notice::Message { cohort, .. } => self.show(cohort, now),
            Notice::CohortEnded { cohort } => {
                if let Some(at) = self.cohorts.iter().position(|(id, _)| id == cohort) {
                    let (_, bar) = self.cohorts.remove(at);
                    bar.finish_and_clear();
                    self.lines.remove(&bar);
                }
            }
            _ => {}
        }
        // That a job starts is seen in the live line already.
        let is_start = matches!(notice, Notice::Message { message: Message { event: Event::Started { .. }, .. }, .. });
        if !is_start {
            for text in happening(&self.tally, notice) {
                // A terminal that cannot be written to is not worth ending a sweep for.
                let _ = self.lines.println(text);
            }
        }
        self.total.set_message(self.tally.total_line(now));
    }

    fn show(&self, cohort: &CohortId, now: Duration) {
        if let Some((_, bar)) = self.cohorts.iter().find(|(id, _)| id == cohort) {
            bar.set_message(format!("{}: {}", self.tally.cohort(cohort), self.tally.cohort_line(cohort, now)));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Whatever is printed next begins on a clean line.
        for (_, bar) in &self.cohorts {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_msg}").expect("the template is a constant that parses");
    ProgressBar::new_spinner().with_style(style)
}
