//! Architectures by name and size, with their arithmetic: parameters and multiply-adds, counted without a device.

mod cifar_resnet;
mod mobilenet_v3;

use serde::{Deserialize, Serialize};

pub use cifar_resnet::CifarResnet;
pub use mobilenet_v3::{Block, MobilenetSize, MobilenetV3, Norm};

/// A network's shape. Its input's channels and classes come from the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    BitResnetSmall(BitResnetSmall),
    BitResnet(BitResnet),
    Vit(Vit),
    MobilenetV3(MobilenetV3),
    CifarResnet(CifarResnet),
}

/// The BiT-ResNet of the paper cut down for images of 16 to 64 px: pre-activation basic blocks, GroupNorm, weight
/// standardisation, a 3x3 stem without pooling, three stages of widths `width`, `2 width`, `4 width` at strides 1, 2, 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BitResnetSmall {
    /// Convolutions and head: 8, 14, 20, ... (`6 n + 2`, n blocks a stage).
    pub depth: u32,
    /// Channels of the first stage; a multiple of 4.
    pub width: u32,
}

/// The paper's BiT-ResNet (paper.md 2.6): pre-activation bottlenecks, GroupNorm with 32 groups, weight standardisation,
/// a 7x7 stem with pooling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BitResnet {
    /// One of [`BitResnet::DEPTHS`].
    pub depth: u32,
    /// Factor of all widths, 1 to 4; R50x1 has 64 channels after the stem and 2,048 before the head.
    pub width: u32,
}

/// Vision transformer (arXiv 2010.11929); the perceptron is four times as wide.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vit {
    /// Channels of a token: 192 in ViT-Ti, 384 in S, 768 in B. A multiple of `16 heads`.
    pub width: u32,
    /// Blocks: 12 in ViT-Ti, S and B.
    pub depth: u32,
    /// 3 in ViT-Ti, 6 in S, 12 in B.
    pub heads: u32,
    /// Side of a patch in pixels; divides the resolution.
    pub patch: u32,
    #[serde(default, skip_serializing_if = "Pool::is_default")]
    pub pool: Pool,
    #[serde(default, skip_serializing_if = "Positions::is_default")]
    pub positions: Positions,
}

/// What a vision transformer's head reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// A token of its own, before the patches.
    #[default]
    ClassToken,
    /// The mean of the patches; there is no class token (timm: `class_token=False, global_pool='avg', fc_norm=False`).
    Mean,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    #[default]
    Learned,
    /// Fixed sines and cosines of row and column, as in big_vision (`sincos2d`); a class token has zeros.
    SinCos,
}

impl Pool {
    fn is_default(&self) -> bool {
        *self == Pool::default()
    }
}

impl Positions {
    fn is_default(&self) -> bool {
        *self == Positions::default()
    }
}

/// What a network is fed and asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    pub channels: u32,
    pub classes: u32,
    /// Side in pixels.
    pub resolution: u32,
    pub normalization: Normalization,
}

/// How pixels in [0, 1] were given to a network when it was trained: `(pixel - mean) / std`, for red, green and blue; of
/// grey images the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    pub mean: [f64; 3],
    pub std: [f64; 3],
}

impl Default for Normalization {
    /// [-1, 1], as the paper's networks (paper.md 1.8).
    fn default() -> Normalization {
        Normalization { mean: [0.5; 3], std: [0.5; 3] }
    }
}

impl Normalization {
    pub fn is_default(&self) -> bool {
        *self == Normalization::default()
    }
}

impl Input {
    /// In the range of [-1, 1].
    pub fn new(channels: u32, classes: u32, resolution: u32) -> Input {
        Input { channels, classes, resolution, normalization: Normalization::default() }
    }
}

impl Model {
    /// How it is written in tables: `bit-resnet-small 8x16`.
    pub fn label(&self) -> String {
        match self {
            Model::BitResnetSmall(net) => format!("bit-resnet-small {}x{}", net.depth, net.width),
            Model::BitResnet(net) => format!("bit-resnet {}x{}", net.depth, net.width),
            Model::Vit(net) => {
                let pool = if net.pool == Pool::Mean { " mean" } else { "" };
                let positions = if net.positions == Positions::SinCos { " sin-cos" } else { "" };
                format!("vit {}x{}/{}{pool}{positions}", net.width, net.depth, net.patch)
            }
            Model::MobilenetV3(net) => format!("mobilenet-v3 {}", net.label()),
            Model::CifarResnet(net) => format!("cifar-resnet {}", net.depth),
        }
    }

    fn count(&self, input: Input) -> Count {
        match self {
            Model::BitResnetSmall(net) => net.count(input),
            Model::BitResnet(net) => net.count(input),
            Model::Vit(net) => net.count(input),
            Model::MobilenetV3(net) => net.count(input),
            Model::CifarResnet(net) => net.count(input),
        }
    }

    /// Whether a step of training looks at all of its images at once, as BatchNorm does.
    pub fn needs_whole_batch(&self) -> bool {
        match self {
            Model::BitResnetSmall(_) | Model::BitResnet(_) | Model::Vit(_) => false,
            Model::MobilenetV3(net) => net.norm == Norm::Batch,
            Model::CifarResnet(_) => true,
        }
    }

    /// Trainable numbers.
    pub fn parameters(&self, input: Input) -> u64 {
        self.count(input).parameters
    }

    /// Multiply-adds of one image's forward pass (convolutions, linear layers, attention).
    pub fn macs(&self, input: Input) -> u64 {
        self.count(input).macs
    }

    /// Floating-point operations of one image's forward pass: two a multiply-add.
    pub fn forward_flops(&self, input: Input) -> f64 {
        2.0 * self.macs(input) as f64
    }

    /// Of one image's forward and backward pass: the backward's two products cost twice the forward.
    pub fn training_flops(&self, input: Input) -> f64 {
        3.0 * self.forward_flops(input)
    }
}

#[derive(Default)]
struct Count {
    parameters: u64,
    macs: u64,
}

impl Count {
    /// A convolution without bias from `from` to `to` channels, of which each sees `from / groups`, on `side`² pixels.
    fn conv(&mut self, from: u64, to: u64, (kernel, groups): (u64, u64), side: u64) {
        let weights = from / groups * to * kernel * kernel;
        self.parameters += weights;
        self.macs += weights * side * side;
    }

    fn linear(&mut self, from: u64, to: u64) {
        self.parameters += from * to + to;
        self.macs += from * to;
    }
}

impl BitResnetSmall {
    pub fn blocks_per_stage(&self) -> u32 {
        (self.depth - 2) / 6
    }

    /// GroupNorm's groups for `channels`: eight, so that the narrowest group of a net of width 16 holds two channels
    /// as in BiT's first stage; four where eight would leave single channels.
    pub fn groups(&self) -> u32 {
        if self.width.is_multiple_of(16) { 8 } else { 4 }
    }

    fn count(&self, input: Input) -> Count {
        let mut count = Count::default();
        let mut side = u64::from(input.resolution);
        let width = u64::from(self.width);
        let mut conv = |from, to, kernel, side| count.conv(from, to, (kernel, 1), side);
        conv(u64::from(input.channels), width, 3, side);
        let (mut from, mut norms) = (width, 0);
        for stage in 0..3 {
            for block in 0..self.blocks_per_stage() {
                let to = width << stage;
                if stage > 0 && block == 0 {
                    side = side.div_ceil(2);
                }
                if from != to {
                    conv(from, to, 1, side);
                }
                conv(from, to, 3, side);
                conv(to, to, 3, side);
                norms += 2 * (from + to);
                from = to;
            }
        }
        let classes = u64::from(input.classes);
        count.parameters += norms + 2 * from;
        count.linear(from, classes);
        count
    }
}

impl BitResnet {
    pub const DEPTHS: [u32; 4] = [26, 50, 101, 152];

    /// Of the four stages.
    pub fn blocks(&self) -> [u32; 4] {
        match self.depth {
            26 => [2, 2, 2, 2],
            101 => [3, 4, 23, 3],
            152 => [3, 8, 36, 3],
            _ => [3, 4, 6, 3],
        }
    }

    fn count(&self, input: Input) -> Count {
        let mut count = Count::default();
        let mut conv = |from, to, kernel, side| count.conv(from, to, (kernel, 1), side);
        let width = 64 * u64::from(self.width);
        // Seven by seven at stride 2, then pooled by stride 2.
        let mut side = u64::from(input.resolution).div_ceil(2);
        conv(u64::from(input.channels), width, 7, side);
        side = side.div_ceil(2);
        let (mut from, mut norms) = (width, 0);
        for (stage, blocks) in self.blocks().into_iter().enumerate() {
            let (middle, to) = (width << stage, (width << stage) * 4);
            for block in 0..blocks {
                conv(from, middle, 1, side);
                if block == 0 && stage > 0 {
                    side = side.div_ceil(2);
                }
                if block == 0 {
                    conv(from, to, 1, side);
                }
                conv(middle, middle, 3, side);
                conv(middle, to, 1, side);
                norms += 2 * (from + 2 * middle);
                from = to;
            }
        }
        let classes = u64::from(input.classes);
        count.parameters += norms + 2 * from;
        count.linear(from, classes);
        count
    }
}

impl Vit {
    /// With class token and learned positions.
    pub fn new(width: u32, depth: u32, heads: u32, patch: u32) -> Vit {
        Vit { width, depth, heads, patch, pool: Pool::ClassToken, positions: Positions::Learned }
    }

    fn count(&self, input: Input) -> Count {
        let (width, depth, patch) = (u64::from(self.width), u64::from(self.depth), u64::from(self.patch));
        let patches = (u64::from(input.resolution) / patch).pow(2);
        let (class, classes) = (u64::from(self.pool == Pool::ClassToken), u64::from(input.classes));
        let tokens = patches + class;
        let positions = if self.positions == Positions::Learned { tokens } else { 0 };
        let pixels = u64::from(input.channels) * patch * patch;
        // qkv, projection and the perceptron: twelve squares of the width.
        let block = 12 * width * width + 13 * width;
        Count {
            parameters: width * (class + positions)
                + width * (pixels + 1)
                + depth * block
                + 2 * width
                + classes * (width + 1),
            macs: patches * pixels * width
                + depth * (tokens * 12 * width * width + 2 * tokens * tokens * width)
                + width * classes,
        }
    }
}
