//! What a student learns from, what is shown to it and its teachers, and how far from them it is.

use serde::{Deserialize, Serialize};

use super::{Distance, Teacher};

/// What the student learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    Labels(Labels),
    Distil(Distil),
}

impl Objective {
    /// Whether images are mixed.
    pub fn mixes(&self) -> bool {
        match self {
            Objective::Labels(labels) => labels.mixup > 0.0,
            Objective::Distil(distil) => distil.teaching.mixes(),
        }
    }
}

/// Softmax cross-entropy against the labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Labels {
    pub view: View,
    /// `p` of the Beta(p, p) the mixup coefficient is drawn from; 0 is no mixup.
    pub mixup: f64,
    pub label_smoothing: f64,
}

/// The distance to a teacher; no label in it, as in the paper (paper.md 1.1), but where a share is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Distil {
    /// At least one.
    pub teachers: Vec<Teacher>,
    pub ensemble: Ensemble,
    pub teaching: Teaching,
    pub distance: Distance,
    /// No share is not written.
    #[serde(default, skip_serializing_if = "LabelShare::is_none")]
    pub labels: LabelShare,
    #[serde(default, skip_serializing_if = "Answers::is_live")]
    pub answers: Answers,
}

/// The part of labels in a loss: `(1 - weight) distance + weight cross-entropy`. Labels are mixed as the student's images
/// are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LabelShare {
    /// From 0 to below 1.
    pub weight: f64,
    /// Of the labels.
    pub smoothing: f64,
}

/// Whether a teacher that is asked at every step goes on being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// To the end.
    #[default]
    Live,
    Replay(Replay),
}

/// The views and answers of the first epochs again and again: as many views of every image as there are epochs, the
/// teacher asked once for each, in the manner of the stored answers of Dataset Reinforcement (arXiv 2303.08983).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Replay {
    /// At least 1, which is one view of every image.
    pub epochs: u32,
}

/// How several teachers become one target. Means are weighted by the teachers' weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensemble {
    /// As the paper's text has it.
    MeanLogits,
    /// Of softmax(logits), whatever the distance's temperature.
    MeanProbabilities,
    /// No one target: the sum of the divergences from every teacher, times its weight, as in the released code (paper.md
    /// 11.6). Up to a constant it is the sum of the weights times the divergence from the mean of the softened
    /// probabilities. What such an ensemble answers, where it is measured or compared with, is the mean of its
    /// probabilities, to which this is the same at temperature 1.
    SumOfKl,
}

/// A deterministic or random window of an image, before flip and mixup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum View {
    /// The whole image.
    #[serde(rename = "rs")]
    Resize,
    /// The centre, `1 / margin` of each side.
    #[serde(rename = "cc")]
    CentralCrop,
    /// A window of the central crop's size at a random place.
    #[serde(rename = "rc")]
    MildCrop,
    /// Random area, aspect and place.
    #[serde(rename = "ic")]
    InceptionCrop,
}

/// What teacher and student are shown (Figure 2 of the paper; paper.md 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Teaching {
    /// Both see the whole image; the teacher is asked once per image.
    #[serde(rename = "fixed/rs")]
    FixedResize,
    /// The teacher answered once for the central crop; the student sees mild random crops.
    #[serde(rename = "fixed/cc")]
    FixedCentralCrop,
    /// The teacher's mean answer over `crops` inception crops; the student sees its own inception crops.
    #[serde(rename = "fixed/ic-ens")]
    FixedInceptionEnsemble { crops: u32 },
    #[serde(rename = "independent/rc")]
    IndependentMildCrop,
    #[serde(rename = "independent/ic")]
    IndependentInceptionCrop,
    #[serde(rename = "consistent/rc")]
    ConsistentMildCrop,
    #[serde(rename = "consistent/ic")]
    ConsistentInceptionCrop,
    /// Shared inception crop and shared mixup.
    #[serde(rename = "function-matching")]
    FunctionMatching { mixup: f64 },
    /// Shared inception crop, then one mixup for the teacher and another for the student.
    #[serde(rename = "independent-mixup")]
    IndependentMixup { mixup: f64 },
}

impl Distil {
    /// Whether the true classes of the images must be known.
    pub fn needs_labels(&self) -> bool {
        self.labels.weight > 0.0 || self.distance.needs_labels()
    }

    /// Of the answers that the student is given for an image, in the loss: one, or one of every teacher.
    pub fn weights(&self) -> Vec<f64> {
        match self.ensemble {
            Ensemble::MeanLogits | Ensemble::MeanProbabilities => vec![1.0],
            Ensemble::SumOfKl => self.teachers.iter().map(|teacher| teacher.weight).collect(),
        }
    }
}

impl LabelShare {
    pub fn is_none(&self) -> bool {
        self.weight == 0.0
    }
}

impl Answers {
    pub fn is_live(&self) -> bool {
        *self == Answers::Live
    }
}

impl Teaching {
    /// Whether images are mixed.
    pub fn mixes(&self) -> bool {
        matches!(self, Teaching::FunctionMatching { .. } | Teaching::IndependentMixup { .. })
    }

    /// Whether the teacher is asked before training, once for each image.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Teaching::FixedResize | Teaching::FixedCentralCrop | Teaching::FixedInceptionEnsemble { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Teaching::FixedResize => "fixed/rs",
            Teaching::FixedCentralCrop => "fixed/cc",
            Teaching::FixedInceptionEnsemble { .. } => "fixed/ic-ens",
            Teaching::IndependentMildCrop => "independent/rc",
            Teaching::IndependentInceptionCrop => "independent/ic",
            Teaching::ConsistentMildCrop => "consistent/rc",
            Teaching::ConsistentInceptionCrop => "consistent/ic",
            Teaching::FunctionMatching { .. } => "function-matching",
            Teaching::IndependentMixup { .. } => "independent-mixup",
        }
    }
}
