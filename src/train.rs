//! Training: one cohort on one device, from its manifest to its students' weights.
//!
//! In: a [`Manifest`] and the folder of the sweep. Out: [`Event`]s through a sink, checkpoints and weights in the
//! jobs' folders. All of candle is here. This module is synchronous, knows neither tokio nor the store, and is stopped
//! by a flag that it looks at between steps.
//!
//! There is one loop: a job that runs alone is a cohort of one. Each step makes one batch, asks the teacher once, and
//! lets every student that is due take its step, with its own view, loss, optimiser, schedule and end. Nothing a
//! student computes depends on its company, so its numbers are the same bits alone and in a cohort.

pub mod bench;
pub mod checkpoint;
pub mod data;
pub mod engine;
pub mod graph;
pub mod memory;
pub mod metric;
pub mod model;
pub mod network;
pub mod ops;
pub mod optimizer;
mod probe;
pub mod random;
#[cfg(test)]
mod reference;
mod student;
pub mod teacher;
pub mod views;
pub mod window;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Tensor;

use crate::event::{Event, Failure, Message, TeacherCheck, Which};
use crate::folder::Folder;
use crate::job::{Data, Job, Objective};
use crate::plan::{Manifest, Places, stream_key};
pub use probe::probe;

use data::{DataSet, FASHION_MNIST_8K2K, Location};
use metric::{Answers, is_chance};
use network::Engines;
use student::{Evaluated, Student, Target};
use teacher::{Recording, Teachers};
use views::Views;

/// How a cohort ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every student finished or failed; each said so.
    Complete,
    /// The flag was raised; everything is saved.
    Stopped,
}

/// Trains the students of `manifest` from where they are to their ends.
///
/// # Errors
/// What concerns all students alike: data or teachers that cannot be read. A single student's failure is an event.
pub fn run(manifest: &Manifest, folder: &Folder, stop: &AtomicBool, sink: &mut dyn FnMut(Message)) -> Result<End> {
    let job = &manifest.students.first().context("a cohort has students")?.job;
    let set = data::load(&locate(&job.data, &manifest.places)?)?;
    let mut students = Vec::new();
    for member in &manifest.students {
        students.push(Student::open(member, folder, sink)?);
    }
    let mut teachers = match &job.objective {
        Objective::Labels(_) => None,
        Objective::Distil(distil) => Some(Teachers::load(job, distil, folder, &manifest.places)?),
    };
    let mut resolutions: Vec<u32> = students.iter().map(|student| student.job.resolution).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let evaluated = evaluation_sets(job, &resolutions, &set, teachers.as_ref())?;
    if let Some(checks) = teacher_checks(&evaluated, job.data.classes) {
        let at_chance = checks
            .iter()
            .find(|check| check.split == Which::Validation && is_chance(check.top1, check.images, job.data.classes));
        for student in &students {
            checks.iter().for_each(|check| student.say(Event::Teacher(check.clone()), sink));
        }
        if let (Some(check), false) = (at_chance, manifest.allow_teacher_at_chance) {
            let message = at_chance_message(check, job);
            for student in &mut students {
                student.fail(Failure::TeacherAtChance, message.clone(), sink);
            }
            return Ok(End::Complete);
        }
    }

    let mut views = Views::new(job, &set);
    let mut engines = Engines::default();
    if let Some(teachers) = &mut teachers {
        let key = stream_key(job);
        if manifest.record_teacher {
            let numbers = job.batch as usize * job.data.classes as usize;
            teachers.record(Recording::open(&folder.recording(&key), &key, numbers)?);
        }
        if students.iter().all(|student| student.next_step().is_none()) {
            return Ok(End::Complete);
        }
        if !teachers.prepare(&views, &key, &folder.stream(&key), stop)? {
            return leave(&mut students, sink);
        }
    }
    while let Some(step) = students.iter().filter_map(Student::next_step).min() {
        if stop.load(Ordering::Relaxed) {
            return leave(&mut students, sink);
        }
        let started = Instant::now();
        let batch = views.batch(step);
        let answer = teachers.as_ref().map(|teachers| teachers.answer(&views, &batch)).transpose()?;
        let asked = started.elapsed();
        // Views that several students share are made once, but count for each: its time is what it would take alone.
        let mut shown: Vec<(views::Look, Tensor, Duration)> = Vec::new();
        for student in students.iter_mut().filter(|student| student.next_step() == Some(step)) {
            let started = Instant::now();
            let (images, showing) = match shown.iter().find(|(look, ..)| *look == student.look) {
                Some((_, images, showing)) => (images.clone(), *showing),
                None => {
                    let images = views.show(&batch, student.look)?;
                    shown.push((student.look, images.clone(), started.elapsed()));
                    (images, started.elapsed())
                }
            };
            let target = match (&student.job.objective, &answer) {
                (Objective::Distil(distil), Some(answer)) => Target::Teacher(answer.clone(), distil.distance),
                (Objective::Labels(labels), _) => Target::Labels(views.targets(
                    &batch,
                    student.look,
                    student.job.data.classes,
                    labels.label_smoothing,
                )?),
                (Objective::Distil(_), None) => unreachable!("a cohort that distils has teachers"),
            };
            let shared = asked + showing;
            student.step(&mut engines, &images, &target, shared, sink)?;
            if student.at_end_of_epoch() {
                student.finish_epoch(&mut engines, &evaluated, manifest.evaluate_every, sink)?;
            }
        }
    }
    Ok(End::Complete)
}

/// Saves everyone.
fn leave(students: &mut [Student], sink: &mut dyn FnMut(Message)) -> Result<End> {
    for student in students {
        student.stop(sink)?;
    }
    Ok(End::Stopped)
}

/// Where a job's data lies on this machine.
pub fn locate(data: &Data, places: &Places) -> Result<Location> {
    match places.get(&data.sha256) {
        Some(path) => Ok(Location::Idx(path.clone())),
        None if data.name == FASHION_MNIST_8K2K => Ok(Location::FashionMnist8k2k),
        None => anyhow::bail!("data set `{}` has no place on this machine", data.name),
    }
}

/// The splits students are measured on, with the teachers' answers. The students of a cohort share data and split but
/// may differ in resolution.
fn evaluation_sets(
    job: &Job,
    resolutions: &[u32],
    set: &DataSet,
    teachers: Option<&Teachers>,
) -> Result<Vec<Evaluated>> {
    let mut evaluated = Vec::new();
    for (which, slice) in [(Which::Validation, &job.split.validation), (Which::Test, &job.split.test)] {
        let (images, range) = set.slice(slice);
        let show = |resolution| views::evaluation(images, range.clone(), &job.crop, resolution);
        let answers = teachers.map(|teachers| teachers.answer_each(show)).transpose()?;
        let (each, together) = match answers {
            None => (Vec::new(), None),
            Some((each, together)) => (each, Some(together.flatten_all()?.to_vec1::<f32>()?)),
        };
        let each = each.iter().map(|logits| Ok(logits.flatten_all()?.to_vec1::<f32>()?)).collect::<Result<_>>()?;
        let shown =
            resolutions.iter().map(|resolution| Ok((*resolution, show(*resolution)?))).collect::<Result<_>>()?;
        let labels = images.labels[range.clone()].to_vec();
        evaluated.push(Evaluated { which, labels, images: shown, each, together });
    }
    Ok(evaluated)
}

/// The accuracy of every teacher, and of their ensemble where there are several; none without teachers.
fn teacher_checks(evaluated: &[Evaluated], classes: u32) -> Option<Vec<TeacherCheck>> {
    let mut checks = Vec::new();
    for set in evaluated {
        let together = set.together.as_ref().filter(|_| set.each.len() > 1);
        let each = set.each.iter().enumerate().map(|(place, logits)| (Some(place as u32), logits));
        for (teacher, logits) in each.chain(together.map(|logits| (None, logits))) {
            let answers = Answers { logits, labels: &set.labels, classes: classes as usize };
            let (top1, top5) = answers.accuracy();
            checks.push(TeacherCheck { teacher, split: set.which, images: set.labels.len() as u64, top1, top5 });
        }
    }
    (!checks.is_empty()).then_some(checks)
}

fn at_chance_message(check: &TeacherCheck, job: &Job) -> String {
    let who = match check.teacher {
        Some(place) => format!("teacher {}", place + 1),
        None => "the ensemble of teachers".to_owned(),
    };
    format!(
        "{who} answers {:.1} % of {} validation images of `{}` right, no better than guessing among {} classes\n\
         hint: train the teacher for longer, or say `run.teacher-at-chance = \"allow\"` if this is what you want to study",
        check.top1 * 100.0,
        check.images,
        job.data.name,
        job.data.classes,
    )
}
