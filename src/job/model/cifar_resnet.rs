//! ResNets for 32 px images (arXiv 1512.03385, 4.2).

use serde::{Deserialize, Serialize};

use super::{Count, Input};

/// Three stages of 16, 32 and 64 channels at strides 1, 2 and 2, two 3x3 convolutions a block, BatchNorm, shortcuts
/// without parameters (option A).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CifarResnet {
    /// One of [`CifarResnet::DEPTHS`]: `6 n + 2`, n blocks a stage.
    pub depth: u32,
}

impl CifarResnet {
    pub const DEPTHS: [u32; 5] = [20, 32, 44, 56, 110];

    pub fn blocks_per_stage(&self) -> u32 {
        (self.depth - 2) / 6
    }

    pub(super) fn count(&self, input: Input) -> Count {
        let mut count = Count::default();
        let (mut side, mut from, mut norms) = (u64::from(input.resolution), 16, 2 * 16);
        count.conv(u64::from(input.channels), from, (3, 1), side);
        for stage in 0..3 {
            for block in 0..self.blocks_per_stage() {
                if stage > 0 && block == 0 {
                    side = side.div_ceil(2);
                }
                let to = 16 << stage;
                count.conv(from, to, (3, 1), side);
                count.conv(to, to, (3, 1), side);
                norms += 4 * to;
                from = to;
            }
        }
        count.parameters += norms;
        count.linear(from, u64::from(input.classes));
        count
    }
}
