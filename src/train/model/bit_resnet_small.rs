//! The small BiT-ResNet: 3x3 stem, three stages of pre-activation basic blocks, GroupNorm and ReLU, pooled, linear head.
//!
//! Per block: GN+ReLU, then the shortcut's 1x1 projection branches off where the shape changes (fed by the
//! pre-activated tensor, as in BiT), 3x3 convolution with the stride, GN+ReLU, 3x3 convolution, sum; no activation
//! after the sum (paper.md 2.6). All convolutions are weight-standardised and without bias.

use candle_core::{Result, Tensor};

use super::{Blueprint, Role, Tensors};
use crate::job::{BitResnetSmall, Input};
use crate::train::ops::{Geometry, conv2d, global_mean, group_norm_relu, linear, weight_standardize};

const NORM_EPS: f64 = 1e-5;
/// As in big_vision and BiT; timm has 1e-8 (paper.md 2.6).
const STANDARDIZE_EPS: f64 = 1e-10;

pub(super) fn describe(net: &BitResnetSmall, input: Input, blueprint: &mut Blueprint) {
    let width = net.width as usize;
    blueprint.add("stem.conv.weight".into(), &[width, input.channels as usize, 3, 3], Role::Kernel);
    for block in blocks(net) {
        let Block { stage, index, from, to, .. } = block;
        let name = |part: &str| format!("stages.{stage}.blocks.{index}.{part}");
        blueprint.add(name("norm1.weight"), &[from], Role::Scale);
        blueprint.add(name("norm1.bias"), &[from], Role::Bias);
        if block.projects() {
            blueprint.add(name("downsample.conv.weight"), &[to, from, 1, 1], Role::Kernel);
        }
        blueprint.add(name("conv1.weight"), &[to, from, 3, 3], Role::Kernel);
        blueprint.add(name("norm2.weight"), &[to], Role::Scale);
        blueprint.add(name("norm2.bias"), &[to], Role::Bias);
        blueprint.add(name("conv2.weight"), &[to, to, 3, 3], Role::Kernel);
    }
    let features = width << 2;
    blueprint.add("norm.weight".into(), &[features], Role::Scale);
    blueprint.add("norm.bias".into(), &[features], Role::Bias);
    blueprint.add("head.fc.weight".into(), &[input.classes as usize, features], Role::Head);
    blueprint.add("head.fc.bias".into(), &[input.classes as usize], Role::Bias);
}

/// `[N, S, S, C]` to `[N, classes]`.
pub(super) fn forward(net: &BitResnetSmall, images: &Tensor, tensors: &mut Tensors) -> Result<Tensor> {
    let groups = net.groups() as usize;
    let mut x = standardized(images, tensors, 3, 1)?;
    for block in blocks(net) {
        let active = group_norm_relu(&x, tensors.take(), tensors.take(), groups, NORM_EPS)?;
        let shortcut = if block.projects() { standardized(&active, tensors, 1, block.stride)? } else { x };
        let branch = standardized(&active, tensors, 3, block.stride)?;
        let branch = group_norm_relu(&branch, tensors.take(), tensors.take(), groups, NORM_EPS)?;
        x = (standardized(&branch, tensors, 3, 1)? + shortcut)?;
    }
    let features = global_mean(&group_norm_relu(&x, tensors.take(), tensors.take(), groups, NORM_EPS)?)?;
    linear(&features, tensors.take(), tensors.take())
}

fn standardized(x: &Tensor, tensors: &mut Tensors, kernel: usize, stride: usize) -> Result<Tensor> {
    let weight = weight_standardize(tensors.take(), STANDARDIZE_EPS)?;
    conv2d(x, &weight, Geometry { stride, padding: kernel / 2 })
}

struct Block {
    stage: usize,
    index: usize,
    from: usize,
    to: usize,
    stride: usize,
}

impl Block {
    fn projects(&self) -> bool {
        self.from != self.to || self.stride != 1
    }
}

fn blocks(net: &BitResnetSmall) -> impl Iterator<Item = Block> {
    let (width, count) = (net.width as usize, net.blocks_per_stage() as usize);
    (0..3).flat_map(move |stage| {
        (0..count).map(move |index| {
            let first = index == 0 && stage > 0;
            let from = if first { width << (stage - 1) } else { width << stage };
            Block { stage, index, from, to: width << stage, stride: if first { 2 } else { 1 } }
        })
    })
}
