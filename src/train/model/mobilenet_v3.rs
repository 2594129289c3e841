//! MobileNet v3 (arXiv 1905.02244) with timm's names: stem, blocks of depthwise convolutions between pointwise ones with
//! squeeze-and-excite, a last pointwise convolution, global mean, a hidden layer, linear head.
//!
//! With GroupNorm of eight groups in place of BatchNorm it is the paper's student of another family (paper.md 2.1).

use super::Role;
use super::bit_resnet::NORM_EPS;
use crate::job::{Input, MobilenetV3, Norm};
use crate::train::graph::{Graph, Window};
use crate::train::ops::activation::Activation;
use crate::train::ops::element::Element;
use crate::train::ops::pool::GlobalMean;

fn window(size: u32, stride: u32, groups: usize) -> Window {
    let (size, stride) = (size as usize, stride as usize);
    Window { size, stride, padding: size / 2, groups, standardize: None, bias: false }
}

pub(super) fn build<T: Element>(net: &MobilenetV3, input: Input, graph: &mut Graph<T>) {
    let groups = (net.norm == Norm::Group).then_some(MobilenetV3::GROUPS as usize);
    let over = (groups, NORM_EPS);
    let stem = graph.conv("conv_stem", graph.output, MobilenetV3::STEM as usize, window(3, 2, 1), None);
    let mut x = graph.stored_norm("bn1", stem, over, Activation::HardSwish, None);
    let mut stages = 0;
    for (place, block) in net.blocks().into_iter().enumerate() {
        let name = |part: &str| format!("blocks.{}.{}.{part}", block.stage, block.index);
        let activation = if block.hard_swish { Activation::HardSwish } else { Activation::Relu };
        let (middle, channels) = (block.expanded as usize, block.channels as usize);
        let residual = (block.stride == 1 && graph.extent(x).c == channels).then_some(x);
        // The first block is a depthwise-separable one, whose parts are counted from the depthwise on.
        let mut inside = x;
        let names = if place == 0 { ["bn1", "conv_pw", "bn2"] } else { ["bn2", "conv_pwl", "bn3"] };
        if place > 0 {
            inside = graph.conv(&name("conv_pw"), x, middle, window(1, 1, 1), None);
            inside = graph.stored_norm(&name("bn1"), inside, over, activation, None);
        }
        inside = graph.conv(&name("conv_dw"), inside, middle, window(block.kernel, block.stride, middle), None);
        inside = graph.stored_norm(&name(names[0]), inside, over, activation, None);
        if block.squeeze_excite {
            inside = graph.squeeze_excite(&name("se"), inside, block.hidden() as usize);
        }
        inside = graph.conv(&name(names[1]), inside, channels, window(1, 1, 1), None);
        x = graph.stored_norm(&name(names[2]), inside, over, Activation::None, residual);
        stages = block.stage + 1;
    }
    let (last, features) = net.features();
    let name = |part: &str| format!("blocks.{stages}.0.{part}");
    let x = graph.conv(&name("conv"), x, last as usize, window(1, 1, 1), None);
    let x = graph.stored_norm(&name("bn1"), x, over, Activation::HardSwish, None);
    let x = graph.push(GlobalMean { x: graph.extent(x) }, x, None);
    let x = graph.conv("conv_head", x, features as usize, Window { bias: true, ..window(1, 1, 1) }, None);
    let x = graph.activate(x, Activation::HardSwish);
    graph.linear("classifier", x, input.classes as usize, Role::Head, None);
}
