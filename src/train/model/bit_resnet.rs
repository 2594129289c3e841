//! BiT-ResNet, the network of the paper (paper.md 2.6): pre-activation bottlenecks, GroupNorm with 32 groups, weight
//! standardisation.
//!
//! Stem: 7x7 convolution of stride 2, no norm, then zeros around and 3x3 maxima of stride 2. Per block: GN+ReLU, from
//! there the shortcut's 1x1 projection in the first block of every stage, 1x1 convolution to a quarter of the width,
//! GN+ReLU, 3x3 with the stride, GN+ReLU, 1x1, sum; no activation after the sum.

use crate::job::{BitResnet, Input};
use crate::train::graph::{Graph, Window};
use crate::train::ops::element::Element;
use crate::train::ops::pool::{Beyond, GlobalMean, Kind, Pool};

pub(super) const NORM_EPS: f64 = 1e-5;
/// As in big_vision and BiT; timm has 1e-8 (paper.md 2.6).
const STANDARDIZE_EPS: f64 = 1e-10;
const GROUPS: usize = 32;

pub(super) fn standardized(size: usize, stride: usize) -> Window {
    Window { size, stride, padding: size / 2, groups: 1, standardize: Some(STANDARDIZE_EPS), bias: false }
}

pub(super) fn build<T: Element>(net: &BitResnet, input: Input, graph: &mut Graph<T>) {
    let width = 64 * net.width as usize;
    let stem = graph.conv("stem.conv", graph.output, width, standardized(7, 2), None);
    let pool = Pool { x: graph.extent(stem), kind: Kind::Max, window: 3, stride: 2, padding: 1, beyond: Beyond::Zeros };
    let mut x = graph.push(pool, stem, None);
    for (stage, blocks) in net.blocks().into_iter().enumerate() {
        for index in 0..blocks {
            let name = |part: &str| format!("stages.{stage}.blocks.{index}.{part}");
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let (middle, to) = (width << stage, (width << stage) * 4);
            let active = graph.group_norm_relu(&name("norm1"), x, GROUPS, NORM_EPS);
            let shortcut = if index == 0 {
                graph.conv(&name("downsample.conv"), active, to, standardized(1, stride), None)
            } else {
                x
            };
            let branch = graph.conv(&name("conv1"), active, middle, standardized(1, 1), None);
            let branch = graph.group_norm_relu(&name("norm2"), branch, GROUPS, NORM_EPS);
            let branch = graph.conv(&name("conv2"), branch, middle, standardized(3, stride), None);
            let branch = graph.group_norm_relu(&name("norm3"), branch, GROUPS, NORM_EPS);
            x = graph.conv(&name("conv3"), branch, to, standardized(1, 1), Some(shortcut));
        }
    }
    let active = graph.group_norm_relu("norm", x, GROUPS, NORM_EPS);
    let features = graph.push(GlobalMean { x: graph.extent(active) }, active, None);
    graph.convolutional_head("head.fc", features, input.classes as usize);
}
