//! What starts next, and where: a device with a slot and room, a cohort whose needs are done, those of its jobs that the store
//! lets this scheduler have.

use std::collections::HashSet;
use std::time::Instant;

use tokio::sync::mpsc;

use super::super::board::Place;
use super::super::stop::Level;
use super::super::{Engine, Error, Notice, Order, memory};
use super::{PATIENCE, Run, Working, patiently};
use crate::job::{Job, JobId};
use crate::plan::{Device, Manifest, Member, Student, cohort_cost};
use crate::store::{Claim, Provenance};

/// Of a GPU's memory, what cohorts that share it may take together.
const SHARE: f64 = 0.9;

impl<E: Engine, O: FnMut(&Notice)> Run<'_, E, O> {
    /// The device that the next cohort may start on: of those that have a slot the one with the fewest cohorts.
    pub(super) fn free(&self) -> Option<Device> {
        if self.stop.level() > Level::Go || self.disk.is_some() {
            return None;
        }
        let on = |device: Device| self.working.values().filter(move |working| working.device == device);
        let free = self.settings.devices.iter().filter(|(device, memory)| {
            let count = on(*device).count();
            if count == 0 || !device.is_cuda() {
                return count < self.settings.slots.max(1);
            }
            // As much as the largest took is assumed of the next.
            let taken = on(*device).map(|working| working.memory_bytes);
            let (sum, most) = (taken.clone().sum::<u64>(), taken.max().unwrap_or(0));
            count < self.settings.slots
                && on(*device).all(|working| working.begun)
                && memory.is_none_or(|memory| (sum + most) as f64 <= SHARE * memory as f64)
        });
        free.map(|(device, _)| *device).min_by_key(|device| on(*device).count())
    }

    /// A cohort gets its share of the threads among those that run and those that could: all of them while a teacher is
    /// the only one, one each in the thick of a sweep. Its numbers do not depend on it.
    pub(super) async fn start_next(
        &mut self,
        device: Device,
    ) -> Result<Option<(usize, Manifest, mpsc::UnboundedReceiver<Order>)>, Error> {
        loop {
            let slots = (self.settings.slots * self.settings.devices.len()).max(1);
            let sharing = (self.working.len() + self.board.ready()).clamp(1, slots);
            let threads = (self.settings.threads / u32::try_from(sharing).unwrap_or(u32::MAX)).max(1);
            let Some((cohort, students)) = self.board.next(|cohort| self.working.contains_key(&cohort)) else {
                return Ok(None);
            };
            let students = self.claim(cohort, &students, device, threads).await?;
            if students.is_empty() {
                continue;
            }
            let jobs: Vec<JobId> = students.iter().map(|student| student.job.id()).collect();
            let shape = self.shapes.get(&self.likeness(cohort)).copied().unwrap_or_default();
            let run = &self.settings.run;
            let manifest = Manifest {
                cohort: self.id(cohort),
                students,
                places: self.settings.places.clone(),
                evaluations: run.evaluations,
                minitrain: run.minitrain,
                allow_teacher_at_chance: run.allow_teacher_at_chance,
                record_teacher: run.record_teacher,
                images: run.images,
                checkpoints: run.checkpoints.clone(),
                at_once: shape.at_once,
                parts: shape.parts,
                threads,
                device,
            };
            let (orders, receiver) = mpsc::unbounded_channel();
            let now = Instant::now();
            let working = Working {
                jobs: jobs.clone(),
                device,
                orders,
                heard: now,
                begun: false,
                memory_bytes: 0,
                kills: memory::kills(),
                frozen: false,
                asked: HashSet::new(),
                stopped: Vec::new(),
                short: Vec::new(),
            };
            self.working.insert(cohort, working);
            self.tell(&Notice::CohortStarted { cohort: self.id(cohort), jobs });
            return Ok(Some((cohort, manifest, receiver)));
        }
    }

    /// Takes those of a cohort's jobs that may be taken, on the store's word.
    async fn claim(
        &mut self,
        cohort: usize,
        students: &[&Member],
        device: Device,
        threads: u32,
    ) -> Result<Vec<Student>, Error> {
        let jobs: Vec<JobId> = students.iter().map(|(job, _)| job.clone()).collect();
        let expected = self.settings.flops_per_second.filter(|_| !device.is_cuda()).map(|rate| {
            let seconds = cohort_cost(&self.plan.cohorts[cohort]).total() / rate / f64::from(threads);
            (1e3 * seconds) as u64
        });
        let own = self.settings.provenance.clone();
        let provenance = Provenance { threads, device: device.to_string(), expected_ms: expected, ..own };
        let (lease, dead) = (self.settings.watch.lease, &self.others.dead);
        let (id, dead) = (self.id(cohort), dead.clone());
        let claims = patiently!(self, self.store.claim(&jobs, &id, &provenance, lease, &dead));
        let mut ours = Vec::new();
        for ((id, job), claim) in students.iter().zip(claims) {
            match claim {
                Claim::Begun(attempt) => {
                    self.others.dead.remove(id);
                    self.started.insert(id.clone(), (cohort, attempt));
                    ours.push(Student { attempt, job: Job::clone(job) });
                }
                Claim::Done => self.board.done(id),
                Claim::Theirs => self.board.put(id, Place::Elsewhere),
                Claim::Unwanted => self.board.put(id, Place::Unwanted),
                // Recorded before the plan was made, so somebody took it out of the store.
                Claim::Unknown => {
                    let blocked = self.board.failed(id);
                    self.block(&blocked, "it is not in the store").await?;
                }
            }
        }
        Ok(ours)
    }
}
