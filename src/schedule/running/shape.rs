//! How much is done at once, and less of it where that had too little memory.

use super::super::stop::Level;
use super::super::{Engine, Error, Notice};
use super::{PATIENCE, Run, Working, patiently};
use crate::job::JobId;
use crate::plan::Device;

/// How much is done at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub at_once: Option<u32>,
    pub parts: Option<u32>,
}

impl Shape {
    /// Half as much; none where there is no less. The effective batch stays.
    fn smaller(self, students: usize, batch: u32, device: Device) -> Option<Shape> {
        let students = u32::try_from(students).unwrap_or(u32::MAX);
        let at_once = self.at_once.unwrap_or(students).min(students);
        if at_once > 1 {
            return Some(Shape { at_once: Some(at_once.div_ceil(2)), ..self });
        }
        // The CPU takes its images one by one anyway.
        let parts = self.parts.unwrap_or(1) * 2;
        (device.is_cuda() && parts <= batch).then_some(Shape { at_once: Some(1), parts: Some(parts) })
    }
}

impl<E: Engine, O: FnMut(&Notice)> Run<'_, E, O> {
    /// Tries students that had too little memory again, with less of them at once.
    pub(super) async fn shrink(&mut self, cohort: usize, working: Working) -> Result<(), Error> {
        let likeness = self.likeness(cohort);
        let shape = self.shapes.get(&likeness).copied().unwrap_or_default();
        let batch = self.plan.cohorts[cohort].jobs.iter().map(|(_, job)| job.batch).max().unwrap_or(1);
        let Some(smaller) = shape.smaller(working.jobs.len(), batch, working.device) else {
            for (job, why) in working.short {
                self.give_up(&job, &format!("{why}\nit does not fit alone either")).await?;
            }
            return Ok(());
        };
        let mut text = format!("too little memory for {} students at once", working.jobs.len());
        if let Some(at_once) = smaller.at_once {
            text += &format!("; again with {at_once}");
        }
        if let Some(parts) = smaller.parts {
            text += &format!(" and a batch in {parts} parts");
        }
        let jobs: Vec<JobId> = working.short.into_iter().map(|(job, _)| job).collect();
        let attempts: Vec<(JobId, u32)> =
            jobs.iter().filter_map(|job| Some((job.clone(), self.started.get(job)?.1))).collect();
        let event = serde_json::json!({ "message": text, "at-once": smaller.at_once, "parts": smaller.parts });
        patiently!(self, self.store.note(&attempts, "split", &event.to_string()));
        self.shapes.insert(likeness, smaller);
        let id = self.id(cohort);
        self.note(format!("cohort {:.8}: {text}", id.as_str()));
        if self.stop.level() < Level::Finish {
            self.board.again(&jobs);
        }
        Ok(())
    }

    /// Cohorts that take the same memory, as far as anybody can tell, have this in common.
    pub(super) fn likeness(&self, cohort: usize) -> String {
        let mut kinds: Vec<String> = self.plan.cohorts[cohort]
            .jobs
            .iter()
            .map(|(_, job)| format!("{} {} {} {:?}", job.student.label(), job.resolution, job.batch, job.precision))
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_less_until_there_is_none() {
        let gpu = Device::Cuda { ordinal: 0, deterministic: false };
        let sizes = |device| {
            let mut shape = Shape::default();
            let mut seen = Vec::new();
            while let Some(smaller) = shape.smaller(5, 8, device) {
                shape = smaller;
                seen.push((shape.at_once.unwrap(), shape.parts.unwrap_or(1)));
            }
            seen
        };
        assert_eq!(sizes(Device::Cpu), [(3, 1), (2, 1), (1, 1)]);
        assert_eq!(sizes(gpu), [(3, 1), (2, 1), (1, 1), (1, 2), (1, 4), (1, 8)]);
    }
}
