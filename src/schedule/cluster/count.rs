//! Tasks by what Slurm makes of them, each once, however many jobs it has.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::words::is_running;
use crate::event::Event;
use crate::job::JobId;
use crate::store::{Noted, Task};

/// Tasks that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    pub running: usize,
    pub waiting: usize,
    /// Why, by Slurm, and how many.
    pub reasons: BTreeMap<String, usize>,
}

impl Count {
    pub fn of<'a>(tasks: impl Iterator<Item = &'a Task>) -> Count {
        let mut count = Count::default();
        let mut seen = HashSet::new();
        for task in tasks.filter(|task| !task.is_over) {
            if !seen.insert((&task.tag, task.place)) {
                continue;
            }
            if is_running(&task.state) {
                count.running += 1;
            } else {
                count.waiting += 1;
                *count.reasons.entry(task.reason().to_owned()).or_default() += 1;
            }
        }
        count
    }
}

/// Tasks that wait, with nothing but jobs that nobody wants: by number and index.
pub fn unwanted(tasks: &[Task], is_wanted: impl Fn(&JobId) -> bool) -> Vec<(String, u32)> {
    let mut wanted: BTreeMap<(String, u32), bool> = BTreeMap::new();
    for task in tasks.iter().filter(|task| !task.is_over && !is_running(&task.state)) {
        let Some(number) = task.number.clone() else { continue };
        *wanted.entry((number, task.place)).or_default() |= is_wanted(&task.job);
    }
    wanted.into_iter().filter(|(_, is)| !is).map(|(task, _)| task).collect()
}

/// How often a job was saved further on than before.
pub(super) fn steps_forward(events: &[Noted]) -> usize {
    let (mut furthest, mut forward) = (0, 0);
    for event in events {
        if let Ok(Event::Stopped { step, .. }) = serde_json::from_str(&event.text)
            && step > furthest
        {
            (furthest, forward) = (step, forward + 1);
        }
    }
    forward
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task(place: u32, job: &str, state: &str) -> Task {
        Task {
            tag: "t".to_owned(),
            number: Some("7".to_owned()),
            place,
            job: JobId::from_stored(job.to_owned()),
            epoch: 0,
            state: state.to_owned(),
            reason: None,
            node: None,
            is_over: state == "COMPLETED",
            age: Duration::ZERO,
        }
    }

    #[test]
    fn a_task_counts_once_and_stays_while_one_of_its_jobs_is_wanted() {
        let tasks = [
            task(0, "a", "PENDING"),
            task(0, "b", "PENDING"),
            task(1, "c", "PENDING"),
            task(2, "d", "RUNNING"),
            task(3, "e", "COMPLETED"),
        ];
        let count = Count::of(tasks.iter());
        assert_eq!((count.running, count.waiting), (1, 2));
        assert_eq!(count.reasons["just submitted"], 2);
        assert_eq!(unwanted(&tasks, |job| job.as_str() == "a"), [("7".to_owned(), 1)]);
        assert!(unwanted(&tasks, |_| true).is_empty());
    }

    #[test]
    fn a_step_further_is_one_forward() {
        let event = |text: &str| Noted {
            at_ms: 0,
            job: JobId::from_stored("a".to_owned()),
            attempt: Some(1),
            kind: "stopped".to_owned(),
            text: text.to_owned(),
        };
        let stopped = |step| event(&serde_json::json!(Event::Stopped { epoch: 0, step }).to_string());
        // Nothing was saved by one that was killed, and nothing new by the third.
        let events = [stopped(3), event(r#"{ "message": "it ended without a word" }"#), stopped(3), stopped(9)];
        assert_eq!(steps_forward(&events), 2);
        assert_eq!(steps_forward(&[stopped(0)]), 0);
    }
}
