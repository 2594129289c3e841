//! How a window of an encoded image becomes pixels.

use serde::{Deserialize, Serialize};

/// From a window to a square of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Between the four nearest pixels, however much it shrinks: as the paper's code does (paper.md 3.1).
    #[default]
    Bilinear,
    /// Over all that an output pixel covers, as torchvision's default.
    BilinearAntialias,
    /// As timm's, over all that an output pixel covers.
    Bicubic,
}

/// How much of a JPEG is decoded. Other images are always decoded in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decode {
    #[default]
    Full,
    /// At the smallest scale of an eighth, a quarter, a half or all that still has as many pixels as are
    /// asked for. A reduced image is one of means, so that views with and without antialias come close.
    Reduced,
}

impl Resize {
    pub fn is_usual(&self) -> bool {
        *self == Resize::default()
    }
}

impl Decode {
    pub fn is_usual(&self) -> bool {
        *self == Decode::default()
    }
}
