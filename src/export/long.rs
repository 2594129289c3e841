//! The tidy long table: which columns it has, and the rows of a job.
//!
//! Columns of the job come first, then `axis.NAME` of every axis (which each form writes in its way), then those of the row.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use super::Entry;
use crate::event::{Epoch, Evaluation, Which};
use crate::job::{Init, Job, NetworkSource, Objective, Optimizer};
use crate::store::Outcome;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Whole,
    Number,
}

/// The columns of a job.
pub const JOB: [(&str, Kind); 16] = [
    ("job", Kind::Text),
    ("experiment", Kind::Text),
    ("state", Kind::Text),
    ("data", Kind::Text),
    ("student", Kind::Text),
    ("teaching", Kind::Text),
    ("epochs", Kind::Whole),
    ("batch", Kind::Whole),
    ("resolution", Kind::Whole),
    ("optimizer", Kind::Text),
    ("learning_rate", Kind::Number),
    ("weight_decay", Kind::Number),
    // Empty where the distance has none.
    ("temperature", Kind::Number),
    // `scratch`, or from a `job` or `weights`.
    ("init", Kind::Text),
    // Network and what it comes from, `;` between several.
    ("teachers", Kind::Text),
    ("seed", Kind::Whole),
];

/// The columns of a row.
pub const ROW: [(&str, Kind); 9] = [
    ("epoch", Kind::Whole),
    ("step", Kind::Whole),
    ("images", Kind::Whole),
    ("student_flops", Kind::Number),
    ("teacher_flops", Kind::Number),
    ("seconds", Kind::Number),
    ("split", Kind::Text),
    ("metric", Kind::Text),
    ("value", Kind::Number),
];

/// Before the name of an axis.
pub const AXIS: &str = "axis.";

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(Cow<'static, str>),
    Whole(u64),
    /// Perhaps not finite, which is as none.
    Number(f64),
    None,
}

/// One number that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Finished epochs; 0 is before the first step, when teachers are measured. So for the next two.
    pub epoch: u32,
    pub step: u64,
    pub images: u64,
    /// Since the start.
    pub student_flops: f64,
    pub teacher_flops: f64,
    /// Of this epoch.
    pub seconds: f64,
    /// None of what was measured while training.
    pub split: Option<Which>,
    pub metric: Cow<'static, str>,
    pub value: f64,
}

/// Of [`JOB`].
pub fn job_cells(entry: &Entry) -> [Cell; JOB.len()] {
    let Entry { experiment, outcome, .. } = entry;
    let job = &outcome.job;
    [
        Cell::text(outcome.id.to_string()),
        Cell::text(experiment.clone()),
        Cell::text(outcome.state.name()),
        Cell::text(job.data.name.clone()),
        Cell::text(job.student.label()),
        Cell::text(job.teaching_name()),
        Cell::Whole(job.epochs.into()),
        Cell::Whole(job.batch.into()),
        Cell::Whole(job.resolution.into()),
        Cell::text(optimizer(job)),
        Cell::Number(job.learning_rate),
        Cell::Number(job.weight_decay),
        temperature(job).map_or(Cell::None, Cell::Number),
        Cell::text(init(job)),
        teachers(job).map_or(Cell::None, Cell::text),
        Cell::Whole(job.seed),
    ]
}

/// All numbers of a job: its teachers', then epoch by epoch what was measured while training, then each split's.
pub fn rows(outcome: &Outcome) -> impl Iterator<Item = Row> {
    let several = outcome.job.teachers().len() > 1;
    let teachers = outcome.teachers.iter().flat_map(move |check| {
        let name = match check.teacher {
            // What it is taught by, one teacher or an ensemble, always has this name.
            Some(place) if several => format!("teacher.{place}"),
            _ => "teacher".to_owned(),
        };
        [("top1", check.top1), ("top5", check.top5)].map(|(metric, value)| Row {
            epoch: 0,
            step: 0,
            images: 0,
            student_flops: 0.0,
            teacher_flops: 0.0,
            seconds: f64::NAN,
            split: Some(check.split),
            metric: format!("{name}.{metric}").into(),
            value,
        })
    });
    teachers.chain(outcome.epochs.iter().flat_map(of_epoch))
}

/// How TensorBoard and MLflow have it: `test/top1`, `training/loss`.
pub fn tag(row: &Row) -> String {
    match row.split {
        Some(split) => format!("{}/{}", split.name(), row.metric),
        None => format!("training/{}", row.metric.trim_start_matches("training_")),
    }
}

fn of_epoch(epoch: &Epoch) -> impl Iterator<Item = Row> {
    let training = [
        ("training_loss", epoch.training_loss),
        ("learning_rate", epoch.learning_rate),
        ("gradient_norm", epoch.gradient_norm),
        ("images_per_second", epoch.images_per_second),
    ];
    let training = training.into_iter().map(|(metric, value)| (None, metric, value));
    let measured = epoch.evaluations.iter().flat_map(|evaluation| {
        of_evaluation(evaluation).map(|(metric, value)| (Some(evaluation.split), metric, value))
    });
    training.chain(measured).map(|(split, metric, value)| Row {
        epoch: epoch.epoch,
        step: epoch.step,
        images: epoch.images,
        student_flops: epoch.student_flops,
        teacher_flops: epoch.teacher_flops,
        seconds: epoch.seconds,
        split,
        metric: metric.into(),
        value,
    })
}

/// What was measured, and not what there is nothing of.
fn of_evaluation(evaluation: &Evaluation) -> impl Iterator<Item = (&'static str, f64)> {
    let all = [
        ("loss", Some(evaluation.loss)),
        ("top1", Some(evaluation.top1)),
        ("top5", Some(evaluation.top5)),
        ("kl", evaluation.kl),
        ("agreement", evaluation.agreement),
        ("agreement5", evaluation.agreement5),
        ("distance", evaluation.distance),
        ("entropy", evaluation.entropy),
        ("teacher_entropy", evaluation.teacher_entropy),
        ("calibration_error", evaluation.calibration_error),
    ];
    all.into_iter().filter_map(|(metric, value)| Some((metric, value?)))
}

impl Row {
    /// Of [`ROW`].
    pub fn cells(&self) -> [Cell; ROW.len()] {
        [
            Cell::Whole(self.epoch.into()),
            Cell::Whole(self.step),
            Cell::Whole(self.images),
            Cell::Number(self.student_flops),
            Cell::Number(self.teacher_flops),
            Cell::Number(self.seconds),
            self.split.map_or(Cell::None, |split| Cell::text(split.name())),
            Cell::Text(self.metric.clone()),
            Cell::Number(self.value),
        ]
    }
}

impl Cell {
    pub fn text(text: impl Into<Cow<'static, str>>) -> Cell {
        Cell::Text(text.into())
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Cell::None) || matches!(self, Cell::Number(number) if !number.is_finite())
    }
}

impl fmt::Display for Cell {
    /// Numbers in as few digits as give the same number again; nothing for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(text) => f.write_str(text),
            Cell::Whole(number) => number.fmt(f),
            Cell::Number(number) if number.is_finite() => write!(f, "{number:?}"),
            Cell::Number(_) | Cell::None => Ok(()),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Whole(number) => serializer.serialize_u64(*number),
            // JSON has no others: what is not finite is null.
            Cell::Number(number) => serializer.serialize_f64(*number),
            Cell::None => serializer.serialize_none(),
        }
    }
}

fn optimizer(job: &Job) -> &'static str {
    match job.optimizer {
        Optimizer::Adam(_) => "adam",
        Optimizer::Sgd(_) => "sgd",
        Optimizer::Shampoo(_) => "shampoo",
        Optimizer::Muon(_) => "muon",
    }
}

fn temperature(job: &Job) -> Option<f64> {
    match &job.objective {
        Objective::Labels(_) => None,
        Objective::Distil(distil) => distil.distance.temperature(),
    }
}

fn init(job: &Job) -> &'static str {
    match &job.init {
        Init::Scratch => "scratch",
        Init::Trained(trained) => match trained.source {
            NetworkSource::Job(_) => "job",
            NetworkSource::Weights(_) => "weights",
        },
    }
}

/// `bit-resnet-small 14x32 job 3fa2c1de00112233; bit-resnet 152x2 sha256 00112233aabbccdd`; none where it learns from
/// labels.
fn teachers(job: &Job) -> Option<String> {
    let of = |source: &NetworkSource| match source {
        NetworkSource::Job(job) => format!("{} job {}", job.student.label(), job.id()),
        NetworkSource::Weights(weights) => {
            format!("{} sha256 {}", weights.model.label(), weights.sha256.get(..16).unwrap_or(&weights.sha256))
        }
    };
    let all: Vec<String> = job.teachers().iter().map(|teacher| of(&teacher.source)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}
