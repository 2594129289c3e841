//! What one training run is: a [`Job`], complete and resolved, and its identity.
//!
//! A job holds everything that decides its numbers and nothing else: no path, no device, no logging interval, no
//! hidden default. Its [`JobId`] is a hash of its canonical text, so the same question has the same id on every
//! machine, whatever the order of keys or the style of the TOML it came from, and two experiments that ask it share
//! one run. Choices that do not apply to a job cannot be written down in it: a job that learns from labels has no
//! temperature, a mode that does not mix has no mixup coefficient.
//!
//! This module depends on nothing else of the crate.

mod augment;
mod distance;
mod ema;
mod mixing;
mod model;
mod objective;
mod optimizer;
mod picture;
mod source;
mod split;
mod training_set;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use augment::Augment;
pub use distance::{Dist, Distance, Dkd, Kl, PseudoLabels, Scale};
pub use ema::Ema;
pub use mixing::Mixing;
pub use model::{
    BitResnet, BitResnetSmall, Block, CifarResnet, Input, MobilenetSize, MobilenetV3, Model, Norm, Normalization, Pool,
    Positions, Vit,
};
pub use objective::{Answers, Distil, Ensemble, LabelShare, Labels, Objective, Replay, Teaching, View};
pub use optimizer::{Adagrad, Adam, Decay, Graft, Muon, Optimizer, Rmsprop, Sgd, Shampoo};
pub use picture::{Decode, Resize};
pub use source::{Head, Init, NetworkSource, Teacher, Trained, Weights};
pub use split::{Part, PerClass, Slice, SliceText, Split};
pub use training_set::{TrainingSet, shares};

/// Stands before the canonical text when it is hashed; a change of meaning of any field must change it.
const IDENTITY: &str = "distillery job 1\n";

/// One training run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Job {
    pub data: Data,
    pub split: Split,
    /// What the student is shown where that is not `data`, of which then only validation and test are used. None is not
    /// written, nor are the next two at their defaults: a job without has the id it had before there was such a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_on: Vec<TrainingSet>,
    pub student: Model,
    pub init: Init,
    /// Side of the square the student sees, in pixels.
    pub resolution: u32,
    pub crop: Crop,
    #[serde(default, skip_serializing_if = "Resize::is_usual")]
    pub resize: Resize,
    #[serde(default, skip_serializing_if = "Decode::is_usual")]
    pub decode: Decode,
    /// Left-right flips with probability one half, drawn before a view is shared (paper.md 3.1).
    pub flip: bool,
    /// Of the shared view, or of each where there are two; not of what a teacher is asked once.
    #[serde(default, skip_serializing_if = "Augment::is_off")]
    pub augment: Augment,
    /// Where the mode mixes at all.
    #[serde(default, skip_serializing_if = "Mixing::is_mixup")]
    pub mixing: Mixing,
    pub objective: Objective,
    pub epochs: u32,
    /// Images a step.
    pub batch: u32,
    pub optimizer: Optimizer,
    /// Peak learning rate, reached at the end of the warm-up.
    pub learning_rate: f64,
    /// In the paper's convention decoupled: it follows the schedule but is not multiplied by the learning rate
    /// (arXiv 2106.05237's released code; torch's AdamW value is this divided by the learning rate).
    pub weight_decay: f64,
    #[serde(default, skip_serializing_if = "Decay::is_usual")]
    pub decay: Decay,
    pub warmup: Warmup,
    pub schedule: Schedule,
    pub clip: Clip,
    pub precision: Precision,
    /// Off is not written, so a job without has the id it had before there was such a choice.
    #[serde(default, skip_serializing_if = "Ema::is_off")]
    pub ema: Ema,
    /// Seeds order, views, mixing and initialisation, each through its own stream.
    pub seed: u64,
}

/// A data set by content. Where its files lie is not identity and is kept beside the job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Data {
    /// What people call it.
    pub name: String,
    /// Of the images and labels of all its parts: encoded as they are, where they are files of images, else their pixels.
    pub sha256: String,
    /// 0 where images have no labels.
    pub classes: u32,
    /// 1 for grey, 3 for RGB.
    pub channels: u32,
    /// Images in the training, validation and test files; splits are cut from these.
    pub train_images: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_images: u32,
    pub test_images: u32,
}

/// The geometry of crops. Which of them is used is the teaching mode's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Crop {
    /// Inception crop: smallest and largest share of the image's area.
    pub area: [f64; 2],
    /// Inception crop: narrowest and widest ratio of width to height.
    pub aspect: [f64; 2],
    /// Inception crop: boxes tried before the whole image is taken.
    pub tries: u32,
    /// Mild and central crop, and evaluation: a window of `1 / margin` of each side. 1.25 is the paper's 128 of 160 px;
    /// 1.0 makes both crops the whole image.
    pub margin: f64,
}

/// Linear from zero to the peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warmup {
    Steps(u64),
    /// Of the run's steps, 0 to 1.
    Share(f64),
}

/// From the end of the warm-up to the last step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    Cosine,
    Linear,
    /// The square of what is left, as in the paper's Shampoo runs (paper, appendix D).
    Quadratic,
    Constant,
    /// Constant, then linear to zero over this share of what follows the warm-up.
    Cooldown(f64),
}

/// Gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clip {
    Off,
    /// At this global L2 norm.
    Norm(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    F32,
    /// Matrix products of numbers rounded to bfloat16, summed in f32; everything else in f32.
    Bf16,
}

/// The first 16 hexadecimal digits of the hash of a job's canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Arc<str>);

impl Job {
    /// The text the id is the hash of: JSON, keys sorted, shortest round-trip numbers.
    pub fn canonical_text(&self) -> String {
        canonical_text(self)
    }

    pub fn id(&self) -> JobId {
        JobId(short_hash(IDENTITY, &self.canonical_text()).into())
    }

    /// What the student's network is fed.
    pub fn input(&self) -> Input {
        let normalization = self.normalization();
        Input { normalization, ..Input::new(self.data.channels, self.data.classes, self.resolution) }
    }

    /// What a teacher's network is fed.
    pub fn teacher_input(&self, teacher: &Teacher) -> Input {
        Input { resolution: teacher.resolution, normalization: teacher.source.normalization(), ..self.input() }
    }

    /// A student sees what the network it starts from saw; otherwise [-1, 1].
    pub fn normalization(&self) -> Normalization {
        match &self.init {
            Init::Scratch => Normalization::default(),
            Init::Trained(trained) => trained.source.normalization(),
        }
    }

    /// The teachers, none where the job learns from labels.
    pub fn teachers(&self) -> &[Teacher] {
        match &self.objective {
            Objective::Labels(_) => &[],
            Objective::Distil(distil) => &distil.teachers,
        }
    }

    /// The jobs that must be done before this one can start.
    pub fn needs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.sources().filter_map(|source| match source {
            NetworkSource::Job(job) => Some(job),
            NetworkSource::Weights(_) => None,
        })
    }

    /// The trained networks this job is told about: its teachers, and what it starts from.
    pub fn sources(&self) -> impl Iterator<Item = &NetworkSource> {
        let init = match &self.init {
            Init::Scratch => None,
            Init::Trained(trained) => Some(&trained.source),
        };
        self.teachers().iter().map(|teacher| &teacher.source).chain(init)
    }

    /// Images of an epoch.
    pub fn train_images(&self) -> u64 {
        match (self.train_on.as_slice(), &self.split.per_class) {
            ([], None) => self.split.train.len(),
            ([], Some(chosen)) => u64::from(chosen.images),
            (sets, _) => sets.iter().map(|set| set.slice.len()).sum(),
        }
    }

    /// Steps after which what is shown begins anew; none where it never does.
    pub fn cycle(&self) -> Option<u64> {
        match &self.objective {
            Objective::Distil(Distil { answers: Answers::Replay(replay), .. }) => {
                Some(self.steps_at(replay.epochs).max(1))
            }
            _ => None,
        }
    }

    /// Optimiser steps after `epochs` epochs: batches run on over the end of an epoch, so an epoch is not a whole
    /// number of them (paper.md 1.5: total = round(epochs * images / batch)).
    pub fn steps_at(&self, epochs: u32) -> u64 {
        let images = u64::from(epochs) * self.train_images();
        let batch = u64::from(self.batch);
        (images + batch / 2) / batch
    }

    pub fn total_steps(&self) -> u64 {
        self.steps_at(self.epochs)
    }

    /// The share of the run's steps in which the learning rate rises; 1 where the run ends before it has risen.
    pub fn warmup_share(&self) -> f64 {
        match self.warmup {
            Warmup::Share(share) => share,
            Warmup::Steps(steps) => (steps as f64 / self.total_steps().max(1) as f64).min(1.0),
        }
    }

    /// How the mode is written in an experiment file; `labels` where there is no teacher.
    pub fn teaching_name(&self) -> &'static str {
        match &self.objective {
            Objective::Labels(_) => "labels",
            Objective::Distil(distil) => distil.teaching.name(),
        }
    }
}

impl JobId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For ids that come back from the store.
    pub fn from_stored(text: String) -> JobId {
        JobId(text.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// JSON with sorted keys. Through [`serde_json::Value`], whose maps are ordered by key.
pub fn canonical_text(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("a job's parts are plain data");
    value.to_string()
}

/// 16 hexadecimal digits of the SHA-256 of `domain` and `text`.
pub fn short_hash(domain: &str, text: &str) -> String {
    let digest = Sha256::new().chain_update(domain).chain_update(text).finalize();
    crate::digest::hex(&digest[..8])
}
