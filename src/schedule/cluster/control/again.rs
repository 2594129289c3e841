//! What came to nothing: submitted again after a while, and given up when nothing brings it forward.

use std::time::Duration;

use super::{Control, patiently};
use crate::schedule::board::Place;
use crate::schedule::cluster::count::steps_forward;
use crate::schedule::cluster::slurm::{exit_code, log};
use crate::schedule::cluster::words::{is_no_fault, remedy};
use crate::schedule::stop::Level;
use crate::schedule::{AWAY, Error, Notice};
use crate::store::{Stand, Task};

/// Before a cohort that came to nothing is submitted again; twice as long each time.
const AGAIN: Duration = Duration::from_secs(30);
/// The longest of those.
const LATEST: Duration = Duration::from_secs(1800);
/// As many tasks whose store did not answer count as one that came to nothing by itself.
const AWAY_FOR_ONE: usize = 4;

impl<O: FnMut(&Notice)> Control<'_, O> {
    /// What is to be submitted, again if need be: not at once, and not for ever.
    pub(super) async fn again(&mut self, stand: &Stand, past: &[&Task]) -> Result<(), Error> {
        let job = &stand.job;
        // Who runs it again wants that what had failed is tried again.
        let forgiven = self.failed_before.contains_key(job);
        let counts = |task: &&&Task| task.epoch >= stand.epoch && !(forgiven && self.old.contains(&task.tag));
        let idle: Vec<&&Task> = past.iter().rev().take_while(counts).collect();
        let mut faults = idle.iter().filter(|task| !is_no_fault(&task.state)).count();
        // Those whose store did not answer are forgiven more: it may be back, or have room, some time later.
        let most = self.cluster.retries.no_progress.max(1) as usize;
        let left = exit_code(AWAY);
        let away = idle.iter().filter(|task| task.reason.as_deref() == Some(&*left)).count();
        faults = faults.saturating_sub(away.min(AWAY_FOR_ONE * most - most));
        if faults > 1 {
            // An epoch may take longer than a task has time: a step that was saved is a step forward.
            let events = patiently!(self, self.cluster.store.events(job));
            faults = faults.saturating_sub(steps_forward(&events));
        }
        if let (true, Some(last)) = (faults >= most, idle.first()) {
            let log = log(&self.cluster.folder.array(&last.tag), last);
            let place = log.display();
            let mut hint = match log.exists() {
                true => format!("see `{place}`"),
                false => format!("`{place}` was never begun: does the node see this folder, and may it write there?"),
            };
            hint.extend(remedy(&last.state).map(|remedy| format!("; {remedy}")));
            let (name, words) = (last.name(), last.words());
            let why =
                format!("{faults} tasks ended without an epoch; of the last, {name}, Slurm says {words}\nhint: {hint}");
            patiently!(self, self.cluster.store.give_up(std::slice::from_ref(job), &why));
            return self.fail(job, &why).await;
        }
        let wait =
            if idle.is_empty() { Duration::ZERO } else { (AGAIN * 2u32.pow(idle.len().min(8) as u32 - 1)).min(LATEST) };
        // In proportion, where a test looks more often.
        let wait = wait.mul_f64((self.cluster.every.as_secs_f64() / 15.0).min(1.0));
        if let Some(last) = past.last().filter(|task| task.state == "CANCELLED") {
            self.once(format!(
                "task {} was cancelled in Slurm and is submitted again; `distillery cancel` ends jobs",
                last.name()
            ));
        }
        self.board.put(job, Place::Interrupted);
        if past.last().is_none_or(|last| last.age >= wait) {
            self.board.again(std::slice::from_ref(job));
        }
        Ok(())
    }
}
