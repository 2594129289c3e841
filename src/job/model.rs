//! Architectures by name and size, with their arithmetic: parameters and multiply-adds, counted without a device.

use serde::{Deserialize, Serialize};

/// A network's shape. Its input's channels and classes come from the data.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    BitResnetSmall(BitResnetSmall),
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

/// What a network is fed and asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    pub channels: u32,
    pub classes: u32,
    /// Side in pixels.
    pub resolution: u32,
}

impl Model {
    /// How it is written in tables: `bit-resnet-small 8x16`.
    pub fn label(&self) -> String {
        match self {
            Model::BitResnetSmall(net) => format!("bit-resnet-small {}x{}", net.depth, net.width),
        }
    }

    /// Trainable numbers.
    pub fn parameters(&self, input: Input) -> u64 {
        match self {
            Model::BitResnetSmall(net) => net.count(input).parameters,
        }
    }

    /// Multiply-adds of one image's forward pass (convolutions and head).
    pub fn macs(&self, input: Input) -> u64 {
        match self {
            Model::BitResnetSmall(net) => net.count(input).macs,
        }
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
        let mut conv = |from: u64, to: u64, kernel: u64, side: u64| {
            count.parameters += from * to * kernel * kernel;
            count.macs += from * to * kernel * kernel * side * side;
        };
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
        count.parameters += norms + 2 * from + from * classes + classes;
        count.macs += from * classes;
        count
    }
}
