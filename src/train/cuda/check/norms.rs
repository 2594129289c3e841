//! What is compared of norms, activations, and the parts of networks that stand beside them.

use super::Case;
use super::cases::case;
use crate::train::graph::Graph;
use crate::train::ops::activation::Activation::{self, HardSwish, None as Nothing, Relu};
use crate::train::ops::rescale::Rescale;
use crate::train::ops::shortcut::Shortcut;

/// As far as activations and gates have corners, and beyond.
const BEYOND_CORNERS: f64 = 8.0;

type Sizes = (usize, usize, usize);

pub(super) fn layers() -> Vec<Case> {
    let mut cases = Vec::new();
    // Groups of one channel, of few, of many; channels that are no vectors; one pixel.
    for (name, extent, groups) in [
        ("group_norm_relu", (9, 8, 64), 32),
        ("group_norm_relu, wide groups", (7, 7, 96), 4),
        ("group_norm_relu, channels by themselves", (6, 5, 16), 16),
        ("group_norm_relu, one group", (6, 5, 40), 1),
        ("group_norm_relu, 6 channels", (6, 5, 6), 2),
        ("group_norm_relu, one pixel", (1, 1, 64), 8),
        ("group_norm_relu, 1,024 channels", (3, 2, 1024), 32),
    ] {
        cases.push(case(name, 3, extent, move |graph| {
            graph.group_norm_relu("op", graph.input(), groups, 1e-5);
        }));
    }
    // Those without an activation add a residual.
    for (name, extent, groups, activation) in [
        ("group_norm, relu", (9, 8, 64), 8, Relu),
        ("group_norm, hard-swish", (9, 8, 64), 8, HardSwish),
        ("group_norm, hard-swish, 72 channels", (7, 5, 72), 8, HardSwish),
        ("group_norm, relu, 6 channels", (6, 5, 6), 2, Relu),
        ("group_norm, hard-swish, 36 channels", (7, 5, 36), 4, HardSwish),
        ("group_norm with a residual", (7, 5, 40), 8, Nothing),
        ("group_norm with a residual, 6 channels", (6, 5, 6), 2, Nothing),
        ("group_norm, hard-swish, one pixel", (1, 1, 576), 8, HardSwish),
    ] {
        cases.push(stored(name, 3, extent, Some(groups), activation));
    }
    for (name, images, extent, activation) in [
        ("batch_norm, relu", 3, (9, 8, 64), Relu),
        ("batch_norm, hard-swish, 24 channels", 5, (7, 5, 24), HardSwish),
        ("batch_norm, relu, 20 channels", 3, (6, 5, 20), Relu),
        ("batch_norm with a residual", 3, (9, 7, 136), Nothing),
        ("batch_norm with a residual, 7 channels", 3, (5, 3, 7), Nothing),
        ("batch_norm, hard-swish, 45 channels", 3, (5, 3, 45), HardSwish),
        ("batch_norm, hard-swish, one pixel", 9, (1, 1, 72), HardSwish),
        ("batch_norm, relu, 1,024 channels", 3, (3, 2, 1024), Relu),
        ("batch_norm, relu, many rows", 4, (40, 40, 16), Relu),
    ] {
        cases.push(stored(name, images, extent, None, activation));
    }
    for (name, extent, activation) in [
        ("relu", (7, 5, 8), Relu),
        ("relu, odd", (7, 3, 9), Relu),
        ("hard-swish", (1, 1, 64), HardSwish),
        ("hard-swish, odd", (5, 3, 7), HardSwish),
    ] {
        let activate = move |graph: &mut Graph<f64>| {
            graph.activate(graph.input(), activation);
        };
        cases.push(Case { reach: BEYOND_CORNERS, ..case(name, 3, extent, activate) });
    }
    for (name, images, extent, hidden) in [
        ("squeeze_excite", 5, (7, 5, 24), 8),
        ("squeeze_excite, odd", 3, (6, 5, 21), 7),
        ("squeeze_excite, wide", 9, (3, 2, 576), 144),
        ("squeeze_excite, one pixel", 4, (1, 1, 72), 24),
    ] {
        let excite = move |graph: &mut Graph<f64>| {
            graph.squeeze_excite("op", graph.input(), hidden);
        };
        cases.push(Case { reach: BEYOND_CORNERS, ..case(name, images, extent, excite) });
    }
    for (name, extent, stride, channels) in [
        ("shortcut", (8, 8, 16), 2, 32),
        ("shortcut of odd sizes", (9, 6, 5), 2, 8),
        ("shortcut of stride 1", (4, 3, 6), 1, 9),
    ] {
        cases.push(case(name, 3, extent, move |graph| {
            let x = graph.extent(graph.input());
            graph.push(Shortcut { x, stride, channels }, graph.input(), None);
        }));
    }
    for (name, extent) in [("rescale", (5, 3, 3)), ("rescale of grey", (5, 3, 1)), ("rescale of 4", (5, 3, 4))] {
        cases.push(case(name, 3, extent, move |graph| {
            let x = graph.extent(graph.input());
            let (scale, shift) = ([2.2, 1.9, 0.6, 1.3], [0.1, -0.2, 0.5, 0.7]);
            graph.push(Rescale { x, scale, shift }, graph.input(), None);
        }));
    }
    cases
}

fn stored(name: &'static str, images: usize, extent: Sizes, groups: Option<usize>, activation: Activation) -> Case {
    case(name, images, extent, move |graph| {
        graph.stored_norm("op", graph.input(), (groups, 1e-5), activation, None);
    })
}
