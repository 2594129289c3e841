//! MobileNet v3 (arXiv 1905.02244, tables 1 and 2), the student of another family in the paper's appendix.

use serde::{Deserialize, Serialize};

use super::{Count, Input};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MobilenetV3 {
    pub size: MobilenetSize,
    #[serde(default)]
    pub norm: Norm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MobilenetSize {
    Large,
    Small,
}

/// In place of BatchNorm the paper has GroupNorm with 8 groups (paper.md 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    #[default]
    Group,
    Batch,
}

/// One block: 1x1 convolution to more channels, depthwise, squeeze-and-excite, 1x1 to the block's own. The first block of
/// a network has no first convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub stage: u32,
    pub index: u32,
    pub kernel: u32,
    pub expanded: u32,
    pub channels: u32,
    pub squeeze_excite: bool,
    /// Hard-swish instead of ReLU.
    pub hard_swish: bool,
    pub stride: u32,
}

impl Block {
    /// Channels between squeeze and excite: a quarter, to a multiple of 8 that is not below nine tenths of it.
    pub fn hidden(&self) -> u32 {
        let quarter = self.expanded / 4;
        let rounded = ((quarter + 4) / 8 * 8).max(8);
        if 10 * rounded < 9 * quarter { rounded + 8 } else { rounded }
    }
}

impl MobilenetV3 {
    pub const STEM: u32 = 16;
    pub const GROUPS: u32 = 8;

    pub fn label(&self) -> String {
        let size = if self.size == MobilenetSize::Large { "large" } else { "small" };
        let norm = if self.norm == Norm::Group { "group" } else { "batch" };
        format!("{size} {norm}-norm")
    }

    /// The last convolution's channels, and the head's.
    pub fn features(&self) -> (u32, u32) {
        match self.size {
            MobilenetSize::Large => (960, 1280),
            MobilenetSize::Small => (576, 1024),
        }
    }

    pub fn blocks(&self) -> Vec<Block> {
        // Kernel, expanded, channels, squeeze-and-excite, hard-swish, stride; a stage a row.
        type Row = (u32, u32, u32, bool, bool, u32);
        let stages: &[&[Row]] = match self.size {
            MobilenetSize::Large => &[
                &[(3, 16, 16, false, false, 1)],
                &[(3, 64, 24, false, false, 2), (3, 72, 24, false, false, 1)],
                &[(5, 72, 40, true, false, 2), (5, 120, 40, true, false, 1), (5, 120, 40, true, false, 1)],
                &[
                    (3, 240, 80, false, true, 2),
                    (3, 200, 80, false, true, 1),
                    (3, 184, 80, false, true, 1),
                    (3, 184, 80, false, true, 1),
                ],
                &[(3, 480, 112, true, true, 1), (3, 672, 112, true, true, 1)],
                &[(5, 672, 160, true, true, 2), (5, 960, 160, true, true, 1), (5, 960, 160, true, true, 1)],
            ],
            MobilenetSize::Small => &[
                &[(3, 16, 16, true, false, 2)],
                &[(3, 72, 24, false, false, 2), (3, 88, 24, false, false, 1)],
                &[(5, 96, 40, true, true, 2), (5, 240, 40, true, true, 1), (5, 240, 40, true, true, 1)],
                &[(5, 120, 48, true, true, 1), (5, 144, 48, true, true, 1)],
                &[(5, 288, 96, true, true, 2), (5, 576, 96, true, true, 1), (5, 576, 96, true, true, 1)],
            ],
        };
        let mut blocks = Vec::new();
        for (stage, rows) in stages.iter().enumerate() {
            for (index, (kernel, expanded, channels, squeeze_excite, hard_swish, stride)) in rows.iter().enumerate() {
                blocks.push(Block {
                    stage: stage as u32,
                    index: index as u32,
                    kernel: *kernel,
                    expanded: *expanded,
                    channels: *channels,
                    squeeze_excite: *squeeze_excite,
                    hard_swish: *hard_swish,
                    stride: *stride,
                });
            }
        }
        blocks
    }

    pub(super) fn count(&self, input: Input) -> Count {
        let mut count = Count::default();
        let mut side = u64::from(input.resolution).div_ceil(2);
        let (mut from, mut norms) = (u64::from(Self::STEM), u64::from(Self::STEM));
        count.conv(u64::from(input.channels), from, (3, 1), side);
        for (place, block) in self.blocks().into_iter().enumerate() {
            let (middle, to) = (u64::from(block.expanded), u64::from(block.channels));
            if place > 0 {
                count.conv(from, middle, (1, 1), side);
                norms += middle;
            }
            side = side.div_ceil(u64::from(block.stride));
            count.conv(middle, middle, (u64::from(block.kernel), middle), side);
            if block.squeeze_excite {
                count.linear(middle, u64::from(block.hidden()));
                count.linear(u64::from(block.hidden()), middle);
            }
            count.conv(middle, to, (1, 1), side);
            norms += middle + to;
            from = to;
        }
        let (last, features) = self.features();
        count.conv(from, u64::from(last), (1, 1), side);
        count.parameters += 2 * (norms + u64::from(last));
        count.linear(u64::from(last), u64::from(features));
        count.linear(u64::from(features), u64::from(input.classes));
        count
    }
}
