//! What a running cohort says: the contract between training, scheduler, store and progress.
//!
//! A worker writes one JSON object a line, each a [`Message`], to its standard output and, if it is lasting, to the
//! spool file in the job's folder before that. A message that is read twice changes nothing: an epoch's row belongs to
//! (job, epoch), and training is deterministic.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::job::JobId;

/// Milliseconds since 1970, on this machine's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An event with the job and the attempt it speaks of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Message {
    pub job: JobId,
    pub attempt: u32,
    /// Milliseconds since 1970, on the worker's clock.
    pub at_ms: i64,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Training begins, or goes on, after `epoch` finished epochs.
    Started {
        epoch: u32,
    },
    /// A teacher of this job was measured on the job's data before the first step.
    Teacher(TeacherCheck),
    /// An epoch is over.
    Epoch(Epoch),
    /// A checkpoint failed its checksum and the one before it is used.
    Torn {
        file: String,
    },
    /// Inside an epoch; for the progress display only, neither spooled nor stored.
    Step {
        step: u64,
        loss: f64,
        images_per_second: f64,
    },
    /// Something about its evaluations that a reader should know. It goes on.
    Flagged {
        flag: Flag,
        message: String,
    },
    /// All epochs are done and the final weights are on disk.
    Finished,
    /// Asked to stop; everything up to `epoch` and the steps since are saved.
    Stopped {
        epoch: u32,
        step: u64,
    },
    Failed {
        class: Failure,
        message: String,
    },
}

/// What a run's evaluations say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// It had learnt, and then answered no better than guessing.
    Collapsed,
    /// To the end no better than guessing.
    AtChance,
    /// The same number again and again, to the last bit.
    Constant,
}

/// Why a job ended without its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The teacher is no better than guessing on the target data.
    TeacherAtChance,
    /// The loss is no longer a finite number.
    NotFinite,
    /// Files that cannot be read or written.
    Io,
    /// Nothing more can be written.
    DiskFull,
    /// Of the host or the device.
    OutOfMemory,
    /// The worker ended without a word.
    Lost,
    /// Anything else: a bug or a job that cannot be run.
    Error,
}

/// What a worker says every few seconds, whatever it is busy with: one that is frozen does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Beat {
    /// Most that it had in memory so far, of its device where that is a GPU, else of the host.
    pub memory_bytes: u64,
}

/// A line of a worker's standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Message(Box<Message>),
    Beat { beat: Beat },
}

/// A line of a worker's standard input. Its end means that nobody listens any more: save and leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// These students save and leave the cohort, which says [`Event::Stopped`] of them; the others go on.
    Leave(Vec<JobId>),
}

/// A teacher's accuracy on the data its students are evaluated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TeacherCheck {
    /// Position in the job's list of teachers; none for the ensemble of several.
    pub teacher: Option<u32>,
    pub split: Which,
    pub images: u64,
    /// Shares of the images, 0 to 1.
    pub top1: f64,
    pub top5: f64,
}

/// The row of one epoch of one job. Sums since the start unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Epoch {
    /// Finished epochs, from 1.
    pub epoch: u32,
    pub step: u64,
    pub images: u64,
    /// Mean over this epoch's images; for distillation T² KL(teacher || student) in nats.
    pub training_loss: f64,
    /// At the epoch's last step.
    pub learning_rate: f64,
    /// Mean over this epoch's steps of the global L2 norm before clipping.
    pub gradient_norm: f64,
    /// Forward and backward of the student.
    pub student_flops: f64,
    /// What the teachers' answers cost this job if it ran alone.
    pub teacher_flops: f64,
    /// Wall time of this epoch: loader, teacher and this student, without the cohort's other students.
    pub seconds: f64,
    pub images_per_second: f64,
    /// Empty in epochs without evaluation.
    pub evaluations: Vec<Evaluation>,
}

/// A student measured on one split, on central crops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evaluation {
    pub split: Which,
    pub images: u64,
    /// Mean cross-entropy against the labels, in nats.
    pub loss: f64,
    /// Shares of the images, 0 to 1.
    pub top1: f64,
    pub top5: f64,
    /// Mean KL(teacher || student) at temperature 1, in nats; none without a teacher.
    pub kl: Option<f64>,
    /// Share of the images on which student and teacher name the same class first; none without a teacher.
    pub agreement: Option<f64>,
    /// Share of the images on which the teacher's first class is among the student's first five.
    #[serde(default)]
    pub agreement5: Option<f64>,
    /// Mean Euclidean distance between the student's and the teacher's logits.
    #[serde(default)]
    pub distance: Option<f64>,
    /// Mean entropy of the student's answers at temperature 1, in nats; none in rows from before it was measured, as are
    /// the next two.
    #[serde(default)]
    pub entropy: Option<f64>,
    /// Of the teacher's.
    #[serde(default)]
    pub teacher_entropy: Option<f64>,
    /// Expected calibration error of the first answers, in fifteen bins of equal width (arXiv 1706.04599): 0 to 1.
    #[serde(default)]
    pub calibration_error: Option<f64>,
    /// In the last epoch alone: which images are answered right, a bit each, eight a byte from the lowest, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    Train,
    Validation,
    Test,
}

impl Epoch {
    /// JSON has no other numbers.
    pub fn is_finite(&self) -> bool {
        let own = [self.training_loss, self.learning_rate, self.gradient_norm, self.seconds, self.images_per_second];
        let measured = self.evaluations.iter().flat_map(|evaluation| {
            let Evaluation { kl, agreement, distance, entropy, calibration_error, .. } = evaluation;
            let optional = [kl, agreement, distance, entropy, calibration_error].into_iter().copied().flatten();
            [evaluation.loss, evaluation.top1, evaluation.top5].into_iter().chain(optional)
        });
        own.into_iter().chain(measured).all(f64::is_finite)
    }
}

impl Which {
    pub fn name(self) -> &'static str {
        match self {
            Which::Train => "train",
            Which::Validation => "validation",
            Which::Test => "test",
        }
    }
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Failure::TeacherAtChance => "teacher-at-chance",
            Failure::NotFinite => "not-finite",
            Failure::Io => "io",
            Failure::DiskFull => "disk-full",
            Failure::OutOfMemory => "out-of-memory",
            Failure::Lost => "lost",
            Failure::Error => "error",
        }
    }
}

impl Event {
    /// Whether it must survive the death of the scheduler.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Event::Step { .. })
    }
}
