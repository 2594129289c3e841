//! How two images become one.

use serde::{Deserialize, Serialize};

/// How a mode that mixes does it, whatever the coefficient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    /// A weighted mean (arXiv 1710.09412), as in the paper.
    #[default]
    Mixup,
    /// A box of one image in the other (arXiv 1905.04899).
    Cutmix,
}

impl Mixing {
    pub fn is_mixup(&self) -> bool {
        *self == Mixing::Mixup
    }
}
