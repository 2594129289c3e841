//! ResNets for CIFAR (arXiv 1512.03385, 4.2): 3x3 stem, three stages of blocks of two 3x3 convolutions with BatchNorm,
//! shortcuts without parameters, global mean, linear head. Names are those of `akamaster/pytorch_resnet_cifar10`.

use super::Role;
use super::bit_resnet::NORM_EPS;
use crate::job::{CifarResnet, Input};
use crate::train::graph::{Graph, Window};
use crate::train::ops::activation::Activation;
use crate::train::ops::element::Element;
use crate::train::ops::pool::GlobalMean;
use crate::train::ops::shortcut::Shortcut;

pub(super) fn build<T: Element>(net: &CifarResnet, input: Input, graph: &mut Graph<T>) {
    let window = |stride| Window { size: 3, stride, padding: 1, groups: 1, standardize: None, bias: false };
    let over = (None, NORM_EPS);
    let stem = graph.conv("conv1", graph.output, 16, window(1), None);
    let mut x = graph.stored_norm("bn1", stem, over, Activation::Relu, None);
    for stage in 0..3 {
        for index in 0..net.blocks_per_stage() {
            let name = |part: &str| format!("layer{}.{index}.{part}", stage + 1);
            let (channels, stride) = (16 << stage, if index == 0 && stage > 0 { 2 } else { 1 });
            let shortcut = match stride {
                1 => x,
                _ => graph.push(Shortcut { x: graph.extent(x), stride, channels }, x, None),
            };
            let branch = graph.conv(&name("conv1"), x, channels, window(stride), None);
            let branch = graph.stored_norm(&name("bn1"), branch, over, Activation::Relu, None);
            let branch = graph.conv(&name("conv2"), branch, channels, window(1), None);
            let sum = graph.stored_norm(&name("bn2"), branch, over, Activation::None, Some(shortcut));
            x = graph.activate(sum, Activation::Relu);
        }
    }
    let features = graph.push(GlobalMean { x: graph.extent(x) }, x, None);
    graph.linear("linear", features, input.classes as usize, Role::Head, None);
}
