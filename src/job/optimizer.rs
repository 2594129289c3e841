//! Optimisers, and what weight decay follows.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    Adam(Adam),
    Sgd(Sgd),
    Shampoo(Shampoo),
    Muon(Muon),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
}

/// Momentum in torch's convention: a sum of gradients without damping, multiplied by the learning rate when applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sgd {
    /// 0 is plain gradient descent.
    pub momentum: f64,
    pub nesterov: bool,
}

/// Shampoo in blocks (arXiv 1802.09568, 2002.09018; paper.md 1.9). Momentum as [`Sgd`]'s: against Adam's, a learning rate
/// is smaller by `1 - momentum`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shampoo {
    /// Largest side of a block of a matrix.
    pub block: u32,
    /// Steps from one computation of the inverse roots to the next.
    pub every: u32,
    /// What the statistics of rows and columns keep of themselves at each step; 1 sums them up.
    pub beta2: f64,
    pub momentum: f64,
    pub nesterov: bool,
    /// Added to the statistics' diagonals before roots are taken, as a share of their largest eigenvalues.
    pub epsilon: f64,
    pub graft: Graft,
}

/// Whose length a matrix's update has, and the whole rule of what is no matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Graft {
    /// The gradient itself.
    Sgd,
    /// The gradient over the root of the sum of its squares.
    Adagrad(Adagrad),
    /// The gradient over the root of the moving average of its squares, which is corrected for its beginning as Adam's.
    Rmsprop(Rmsprop),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adagrad {
    pub epsilon: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rmsprop {
    pub beta2: f64,
    pub epsilon: f64,
}

/// Muon (Jordan et al. 2024), with updates of the size of Adam's, which moves what is no hidden matrix (arXiv 2502.16982).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Muon {
    pub momentum: f64,
    pub nesterov: bool,
    /// Of Newton and Schulz.
    pub iterations: u32,
    pub adam: Adam,
}

/// What weight decay follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// The schedule but not the learning rate: `weight -= share (rate update + decay weight)`, the paper's.
    #[default]
    Schedule,
    /// The scheduled learning rate: `weight -= share rate (update + decay weight)`, torch's AdamW.
    LearningRate,
    /// Not decoupled: `gradient += decay weight` after clipping, torch's SGD and Adam.
    Gradient,
}

impl Decay {
    pub fn is_usual(&self) -> bool {
        *self == Decay::Schedule
    }
}
