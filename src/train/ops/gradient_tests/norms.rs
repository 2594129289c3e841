//! Norms, and what networks with stored norms have beside them.

use candle_core::{Result, Tensor};

use super::super::activation::Activation;
use super::super::pool::GlobalMean;
use super::super::shortcut::Shortcut;
use super::*;

/// GroupNorm is a lens, so it is checked in front of everything that looks through one.
#[test]
fn norms() {
    fn seen(x: &Tensor, named: &Named, groups: usize) -> Result<Tensor> {
        reference::group_norm_relu(x, named.get("norm.weight"), named.get("norm.bias"), groups, 1e-5)
    }
    check(
        "group norm, pooled",
        (3, 4, 6),
        &build!(|graph, x| {
            let x = graph.group_norm_relu("norm", x, 2, 1e-5);
            graph.push(GlobalMean { x: graph.extent(x) }, x, None)
        }),
        |x, named| reference::global_mean(&seen(x, named, 2)?),
    );
    check(
        "group norm, convolved with a stride",
        (5, 3, 4),
        &build!(|graph, x| {
            let x = graph.group_norm_relu("norm", x, 4, 1e-5);
            graph.conv("conv", x, 5, window(3, 2, 1, 1), None)
        }),
        |x, named| conv_of_candle(&seen(x, named, 4)?, named, "conv", (2, 1, 1)),
    );
    check(
        "group norm, Winograd's convolution, residual",
        (4, 3, 32),
        &build!(|graph, x| {
            let seen = graph.group_norm_relu("norm", x, 8, 1e-5);
            winograd(graph, seen, Some(x))
        }),
        |x, named| standard_conv_of_candle(&seen(x, named, 8)?, named)? + x,
    );
    check(
        "group norm, pointwise twice and depthwise, residual",
        (2, 3, 6),
        &build!(|graph, x| {
            let seen = graph.group_norm_relu("norm", x, 1, 1e-5);
            let a = graph.conv("a", seen, 6, window(1, 1, 0, 1), None);
            graph.conv("b", seen, 6, window(1, 1, 0, 1), Some(a));
            let b = graph.output;
            let again = graph.group_norm_relu("again", b, 3, 1e-5);
            graph.conv("deep", again, 6, window(3, 1, 1, 6), Some(x))
        }),
        |x, named| {
            let through = seen(x, named, 1)?;
            let one = |name: &str| {
                let (weight, bias) = (named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")));
                reference::conv(&through, weight, Some(bias), (1, 0, 1))
            };
            let b = (one("a")? + one("b")?)?;
            let again = (named.get("again.weight"), named.get("again.bias"));
            let again = reference::group_norm_relu(&b, again.0, again.1, 3, 1e-5)?;
            let (weight, bias) = (named.get("deep.weight"), named.get("deep.bias"));
            reference::conv(&again, weight, Some(bias), (1, 1, 6))? + x
        },
    );
    fn named_norm<'a>(named: &'a Named, name: &str) -> (&'a Tensor, &'a Tensor) {
        (named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")))
    }
    check(
        "stored group norm with hard-swish, squeeze and excite, and a norm with a residual",
        (3, 4, 8),
        &build!(|graph, x| {
            let y = graph.stored_norm("a", x, (Some(2), 1e-5), Activation::HardSwish, None);
            let y = graph.squeeze_excite("se", y, 3);
            let y = graph.stored_norm("b", y, (Some(4), 1e-5), Activation::None, Some(x));
            graph.activate(y, Activation::HardSwish)
        }),
        |x, named| {
            let y = reference::group_norm(x, named_norm(named, "a").0, named_norm(named, "a").1, 2, 1e-5)?;
            let (reduce, expand) = (named_norm(named, "se.conv_reduce"), named_norm(named, "se.conv_expand"));
            let y = reference::squeeze_excite(&reference::hard_swish(&y)?, [reduce.0, reduce.1, expand.0, expand.1])?;
            let y = reference::group_norm(&y, named_norm(named, "b").0, named_norm(named, "b").1, 4, 1e-5)?;
            reference::hard_swish(&(y + x)?)
        },
    );
    check(
        "batch norm with ReLU, convolved, batch norm with a residual, ReLU, shortcut",
        (3, 5, 4),
        &build!(|graph, x| {
            let y = graph.stored_norm("a", x, (None, 1e-5), Activation::Relu, None);
            let y = graph.conv("conv", y, 4, window(3, 1, 1, 1), None);
            let y = graph.stored_norm("b", y, (None, 1e-5), Activation::None, Some(x));
            let y = graph.activate(y, Activation::Relu);
            graph.push(Shortcut { x: graph.extent(y), stride: 2, channels: 7 }, y, None)
        }),
        |x, named| {
            let y = reference::batch_norm(x, named_norm(named, "a").0, named_norm(named, "a").1, 1e-5)?.relu()?;
            let y = conv_of_candle(&y, named, "conv", (1, 1, 1))?;
            let y = reference::batch_norm(&y, named_norm(named, "b").0, named_norm(named, "b").1, 1e-5)?;
            reference::shortcut(&(y + x)?.relu()?, 2, 7)
        },
    );
    check("layer norm", (5, 1, 7), &build!(|graph, x| graph.layer_norm("norm", x, 1e-6)), |x, named| {
        reference::layer_norm(x, named.get("norm.weight"), named.get("norm.bias"), 1e-6)
    });
    check(
        "standardised convolution",
        (4, 5, 3),
        &build!(|graph, x| {
            let window = Window { standardize: Some(1e-10), bias: false, ..window(3, 2, 1, 1) };
            graph.conv("conv", x, 5, window, None)
        }),
        |x, named| {
            let w = reference::standardize(named.get("conv.weight"), 1e-10)?;
            reference::conv(x, &w, None, (2, 1, 1))
        },
    );
}
