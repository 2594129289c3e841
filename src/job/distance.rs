//! What is minimised between a teacher's and a student's logits.
//!
//! Every distance is a mean over the batch; `{ dist = ... }` alone looks at the images of a batch together. Temperatures
//! divide the logits of both.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// KL(teacher || student) of softmax(logits / T) (paper.md 1.1), which is the paper's.
    Kl(Kl),
    /// The squared Euclidean distance of the logits: the sum over classes of squared differences.
    Squared,
    /// The Euclidean distance of the logits; where they are equal its gradient is zero.
    Euclidean,
    /// Cross-entropy to the class that the teacher's logits are largest for, the first of equal ones.
    PseudoLabels(PseudoLabels),
    /// Correlations in place of probabilities (Huang et al., arXiv 2205.10536).
    Dist(Dist),
    /// Decoupled distillation (Zhao et al., arXiv 2203.08679).
    Dkd(Dkd),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kl {
    pub temperature: f64,
    #[serde(default, skip_serializing_if = "Scale::is_squared")]
    pub scale: Scale,
}

/// What the divergence is multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// T², as in the released code: the size of the gradient hardly depends on T.
    #[default]
    Squared,
    /// 1, as the paper's text reads (paper.md 11.11).
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PseudoLabels {
    /// The share of the target that is spread over all classes.
    pub smoothing: f64,
}

/// `T² (beta (1 - mean correlation of an image's probabilities) + gamma (1 - mean correlation of a class's))`, Pearson's
/// and each between teacher and student; a class's are those of all images of the batch. Where a student's probabilities
/// are all equal, as a new one's are, it correlates with nothing and the gradient is some 1e8 times as large as elsewhere:
/// it wants clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dist {
    /// Of the relation between the classes of an image.
    pub beta: f64,
    /// Of the relation between the images of a class.
    pub gamma: f64,
    pub temperature: f64,
}

/// `T² (alpha KL of (true class, all others) + beta KL among the others)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dkd {
    /// Of the true class against all others together.
    pub alpha: f64,
    /// Of the others among themselves.
    pub beta: f64,
    pub temperature: f64,
}

impl Distance {
    pub fn name(&self) -> &'static str {
        match self {
            Distance::Kl(_) => "kl",
            Distance::Squared => "squared",
            Distance::Euclidean => "euclidean",
            Distance::PseudoLabels(_) => "pseudo-labels",
            Distance::Dist(_) => "dist",
            Distance::Dkd(_) => "dkd",
        }
    }

    /// None where there is no such thing.
    pub fn temperature(&self) -> Option<f64> {
        match self {
            Distance::Kl(kl) => Some(kl.temperature),
            Distance::Dist(dist) => Some(dist.temperature),
            Distance::Dkd(dkd) => Some(dkd.temperature),
            Distance::Squared | Distance::Euclidean | Distance::PseudoLabels(_) => None,
        }
    }

    /// Whether it must know the true class of every image.
    pub fn needs_labels(&self) -> bool {
        matches!(self, Distance::Dkd(_))
    }

    /// Whether it is no sum over images.
    pub fn is_of_batch(&self) -> bool {
        matches!(self, Distance::Dist(_))
    }
}

impl Kl {
    /// With T², as in the released code.
    pub fn new(temperature: f64) -> Kl {
        Kl { temperature, scale: Scale::Squared }
    }

    /// What the divergence is multiplied by.
    pub fn factor(&self) -> f64 {
        match self.scale {
            Scale::Squared => self.temperature * self.temperature,
            Scale::Plain => 1.0,
        }
    }
}

impl Scale {
    pub fn is_squared(&self) -> bool {
        *self == Scale::Squared
    }
}
