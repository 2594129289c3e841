//! The small BiT-ResNet: 3x3 stem, three stages of pre-activation basic blocks, GroupNorm and ReLU, pooled, linear head.
//!
//! Per block: GN+ReLU, then the shortcut's 1x1 projection branches off where the shape changes (fed by the
//! pre-activated tensor, as in BiT), 3x3 convolution with the stride, GN+ReLU, 3x3 convolution, sum; no activation
//! after the sum (paper.md 2.6). All convolutions are weight-standardised and without bias.

use super::bit_resnet::{NORM_EPS, standardized};
use crate::job::{BitResnetSmall, Input};
use crate::train::graph::Graph;
use crate::train::ops::element::Element;
use crate::train::ops::pool::GlobalMean;

pub(super) fn build<T: Element>(net: &BitResnetSmall, input: Input, graph: &mut Graph<T>) {
    let (width, groups) = (net.width as usize, net.groups() as usize);
    let mut x = graph.conv("stem.conv", graph.output, width, standardized(3, 1), None);
    for stage in 0..3 {
        for index in 0..net.blocks_per_stage() {
            let name = |part: &str| format!("stages.{stage}.blocks.{index}.{part}");
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let to = width << stage;
            let active = graph.group_norm_relu(&name("norm1"), x, groups, NORM_EPS);
            let shortcut = if stride != 1 || graph.extent(x).c != to {
                graph.conv(&name("downsample.conv"), active, to, standardized(1, stride), None)
            } else {
                x
            };
            let branch = graph.conv(&name("conv1"), active, to, standardized(3, stride), None);
            let branch = graph.group_norm_relu(&name("norm2"), branch, groups, NORM_EPS);
            x = graph.conv(&name("conv2"), branch, to, standardized(3, 1), Some(shortcut));
        }
    }
    let active = graph.group_norm_relu("norm", x, groups, NORM_EPS);
    let features = graph.push(GlobalMean { x: graph.extent(active) }, active, None);
    graph.convolutional_head("head.fc", features, input.classes as usize);
}
