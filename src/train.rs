//! Training: one cohort on one device, from its manifest to its students' weights.
//!
//! In: a [`Manifest`] and the folder of the sweep. Out: [`Event`]s through a sink, checkpoints and weights in the
//! jobs' folders. All of candle is here. This module is synchronous, knows neither tokio nor the store, and is asked to
//! stop, or to let some of its students go, by a [`Control`] that it looks at between steps.
//!
//! There is one loop: a job that runs alone is a cohort of one. Each step makes one batch, asks the teacher once, and
//! lets every student that is due take its step, with its own view, loss, optimiser, schedule and end. Nothing a
//! student computes depends on its company, so its numbers are the same bits alone and in a cohort.

pub mod augment;
pub mod bench;
pub mod buffers;
pub mod checkpoint;
pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "train/no_cuda.rs"]
pub mod cuda;
pub mod data;
pub mod engine;
pub mod evaluate;
mod evaluation;
pub mod failure;
pub mod graph;
pub mod memory;
pub mod metric;
pub mod mixing;
pub mod model;
mod moment;
pub mod network;
pub mod ops;
pub mod optimizer;
mod pool;
mod probe;
pub mod random;
#[cfg(test)]
mod reference;
pub mod resample;
pub mod status;
mod student;
pub mod teacher;
pub mod views;
mod watch;
pub mod weights;
pub mod window;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::event::{Event, Failure, Message, TeacherCheck, Which};
use crate::folder::Folder;
use crate::job::{Data, Job, Objective};
use crate::plan::{Manifest, Places, stream_key};
use crate::source::{FASHION_MNIST_8K2K, Origin, Source};
pub use control::Control;
pub use probe::{Probe, probe};

use control::Asked;
use data::DataSet;
use evaluation::Evaluated;
use metric::{Answers, is_chance};
use moment::Moment;
use network::{Machine, Shown};
use student::{Student, Target};
use teacher::{Recording, Teachers};
use views::Views;

/// How a cohort ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every student finished, failed or was asked to leave; each said so.
    Complete,
    /// All were asked to stop; everything is saved.
    Stopped,
}

/// Trains the students of `manifest` from where they are to their ends.
///
/// # Errors
/// What concerns all students alike: data or teachers that cannot be read. A single student's failure is an event.
pub fn run(manifest: &Manifest, folder: &Folder, control: &Control, sink: &mut dyn FnMut(Message)) -> Result<End> {
    let job = &manifest.students.first().context("a cohort has students")?.job;
    let mut machine = Machine::open(manifest.device)?;
    if let (Machine::Cuda(gpu), Some(parts)) = (&machine, manifest.parts) {
        gpu.cut(parts);
    }
    let open = |data: &Data| -> Result<DataSet> {
        let source = locate(data, &manifest.places)?;
        let set = data::open(&source)?;
        ensure!(
            data::identify(&source, &set).sha256 == data.sha256,
            "data set `{}` is no longer what it was when the run began\nhint: run the same command again: what changed are other jobs",
            data.name
        );
        set.with_channels(job.data.channels).hold(manifest.images, job.decode)
    };
    let set = open(&job.data)?;
    let train_on = job.train_on.iter().map(|set| open(&set.data)).collect::<Result<Vec<_>>>()?;
    let mut students = Vec::new();
    for member in &manifest.students {
        students.push(Student::open(member, folder, &manifest.places, sink)?);
    }
    let mut teachers = match &job.objective {
        Objective::Labels(_) => None,
        Objective::Distil(distil) => Some(Teachers::load(&machine, job, distil, folder, &manifest.places)?),
    };
    let mut resolutions: Vec<u32> = students.iter().map(|student| student.job.resolution).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let evaluated = evaluation_sets(job, &resolutions, &set, teachers.as_ref(), manifest.minitrain)?;
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

    let views = Views::new(job, &set, &train_on);
    if let Some(teachers) = &mut teachers {
        let stream = stream_key(job);
        let key = teachers.key(&stream);
        // What is replayed was asked about once, so it is kept.
        if manifest.record_teacher || job.cycle().is_some() {
            teachers.record(Recording::open(&folder.recording(&stream), &key, teachers.numbers())?);
        }
        if students.iter().all(|student| student.next_step().is_none()) {
            return Ok(End::Complete);
        }
        if !teachers.prepare(&views, &key, &folder.stream(&stream), control)? {
            return leave(&mut students, 0.0, sink);
        }
    }
    let mut begun = 0;
    loop {
        // Some may have left while they waited.
        begun += students[begun..].iter().take_while(|student| student.next_step().is_none()).count();
        let rest = &mut students[begun..];
        if rest.is_empty() {
            return Ok(End::Complete);
        }
        let count = fitting(&machine, rest, manifest.at_once)?;
        memory::pretend(count)?;
        let (group, waiting) = rest.split_at_mut(count);
        for student in group.iter_mut() {
            student.enter(&machine)?;
        }
        let end = train(group, waiting, &mut machine, teachers.as_mut(), &views, &evaluated, manifest, control, sink)?;
        group.iter_mut().for_each(Student::leave);
        if end == End::Stopped {
            return leave(waiting, 0.0, sink);
        }
        begun += count;
    }
}

/// How many of the first students are trained at once: as many as are wanted and fit on the machine, by the memory that
/// is left; at least one.
fn fitting(machine: &Machine, students: &[Student], at_once: Option<u32>) -> Result<usize> {
    let wanted = at_once.map_or(students.len(), |most| (most as usize).clamp(1, students.len()));
    let Machine::Cuda(gpu) = machine else { return Ok(wanted) };
    let mut most = 0;
    for (count, student) in students.iter().enumerate().take(wanted) {
        most = student.bytes(gpu)?.max(most);
        if count > 0 && gpu.room(most)? <= count {
            eprintln!("note: {count} of {} students fit on the GPU at once; the others come after", students.len());
            return Ok(count);
        }
    }
    Ok(wanted)
}

/// Trains students that fit on the machine together. Others wait; they may be asked to leave, too.
#[expect(clippy::too_many_arguments, reason = "all of a cohort, and what it is told")]
fn train(
    students: &mut [Student],
    waiting: &mut [Student],
    machine: &mut Machine,
    mut teachers: Option<&mut Teachers>,
    views: &Views<'_>,
    evaluated: &[Evaluated<'_>],
    manifest: &Manifest,
    control: &Control,
    sink: &mut dyn FnMut(Message),
) -> Result<End> {
    let end = students.iter().map(|student| student.job.total_steps()).max().unwrap_or(0);
    rayon::in_place_scope(|scope| {
        while let Some(step) = students.iter().filter_map(Student::next_step).min() {
            match control.take() {
                Asked::Nothing => {}
                Asked::Leave(jobs) => {
                    let asked = seconds(teachers.as_deref())?;
                    for student in students.iter_mut().chain(waiting.iter_mut()).filter(|one| jobs.contains(one.id())) {
                        student.stop(asked, sink)?;
                        student.leave();
                    }
                    continue;
                }
                Asked::Stop => {
                    teachers.as_mut().map_or(Ok(()), |teachers| teachers.finish())?;
                    return leave(students, seconds(teachers.as_deref())?, sink);
                }
            }
            for student in students.iter_mut().filter(|student| student.next_step() == Some(step) && student.is_new()) {
                student.begin(seconds(teachers.as_deref())?);
            }
            let started = Instant::now();
            let batch = views.batch(step);
            let moment = Moment { views, batch: &batch, step, end, scope };
            let answer = teachers.as_mut().map(|teachers| teachers.answer(machine, &moment)).transpose()?;
            let asked = started.elapsed();
            // Views that several students share are made once, but count for each: its time is what it would take alone.
            let mut shown: Vec<(views::Look, Shown, Duration)> = Vec::new();
            let mut saved = false;
            for student in students.iter_mut().filter(|student| student.next_step() == Some(step)) {
                let started = Instant::now();
                let (images, showing) = match shown.iter().find(|(look, ..)| *look == student.look) {
                    Some((_, images, showing)) => (images.clone(), *showing),
                    None => {
                        let images = machine.show(&moment, student.look, student.job.precision)?;
                        shown.push((student.look, images.clone(), started.elapsed()));
                        (images, started.elapsed())
                    }
                };
                let smoothing = match &student.job.objective {
                    Objective::Labels(labels) => Some(labels.label_smoothing),
                    Objective::Distil(distil) => distil.needs_labels().then_some(distil.labels.smoothing),
                };
                let classes = student.job.data.classes;
                let labels = smoothing.map(|smoothing| views.targets(&batch, student.look, classes, smoothing));
                let target = Target { answer: answer.clone(), labels: labels.transpose()? };
                let shared = asked + showing;
                student.step(machine, &images, &target, shared, sink)?;
                if student.at_end_of_epoch() {
                    student.finish_epoch(machine, evaluated, manifest, seconds(teachers.as_deref())?, sink)?;
                    saved = true;
                } else if student.is_to_save(&manifest.checkpoints) {
                    student.save_between(seconds(teachers.as_deref())?, sink)?;
                    saved = true;
                }
            }
            if saved {
                control.saved_in(students.iter().map(Student::saving).sum());
            }
        }
        teachers.map_or(Ok(()), Teachers::finish)?;
        Ok(End::Complete)
    })
}

/// That teachers spent on a GPU so far.
fn seconds(teachers: Option<&Teachers>) -> Result<f64> {
    teachers.map_or(Ok(0.0), Teachers::seconds)
}

/// Saves everyone. `asked` are the teachers' seconds on a GPU so far.
fn leave(students: &mut [Student], asked: f64, sink: &mut dyn FnMut(Message)) -> Result<End> {
    for student in students {
        student.stop(asked, sink)?;
    }
    Ok(End::Stopped)
}

/// Where a data set lies on this machine.
///
/// # Errors
/// When nobody said.
pub fn locate(data: &Data, places: &Places) -> Result<Source> {
    match places.data.get(&data.sha256) {
        Some(source) => Ok(source.clone()),
        None if data.name == FASHION_MNIST_8K2K => Ok(Source::of(Origin::BuiltIn)),
        None => anyhow::bail!("data set `{}` has no place on this machine", data.name),
    }
}

/// The splits students are measured on, with the teachers' answers. The students of a cohort share data and split but
/// may differ in resolution. Of what they are trained on, only the first images are looked at (paper.md 1.8), and none
/// where that is another data set.
fn evaluation_sets<'a>(
    job: &Job,
    resolutions: &[u32],
    set: &'a DataSet,
    teachers: Option<&Teachers>,
    minitrain: u32,
) -> Result<Vec<Evaluated<'a>>> {
    let whole = |slice| {
        let (images, range) = set.slice(slice);
        (images, (range.start as u32..range.end as u32).collect())
    };
    let mut splits = Vec::new();
    if minitrain > 0 && job.train_on.is_empty() {
        let (images, mut chosen) = pool::training_images(job, set);
        chosen.truncate(minitrain as usize);
        if images.are_labelled() {
            splits.push((Which::Train, (images, chosen)));
        }
    }
    splits.push((Which::Validation, whole(&job.split.validation)));
    splits.push((Which::Test, whole(&job.split.test)));
    let mut evaluated = Vec::new();
    for (which, (images, chosen)) in splits {
        let mut set = Evaluated::new(which, job, images, chosen, resolutions)?;
        if let Some(teachers) = teachers {
            let (each, together) = teachers.answer_all(&set)?;
            (set.each, set.together) = (each, Some(together));
        }
        evaluated.push(set);
    }
    Ok(evaluated)
}

/// The accuracy of every teacher, and of their ensemble where there are several; none without teachers.
fn teacher_checks(evaluated: &[Evaluated<'_>], classes: u32) -> Option<Vec<TeacherCheck>> {
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
