//! Every layer against central differences in f64, against candle's plain operations, and in f32 against f64.
//!
//! A layer is put behind one that adds learned numbers to the images, so that the gradient of its input is seen as the
//! gradient of those, and runs through the engine with its plan and lanes; its result is taken for logits.

use candle_core::{Device, Result, Tensor};

use super::attention::Attention;
use super::conv::Conv;
use super::gelu::Gelu;
use super::kernel::Kernel;
use super::layer::Extent;
use super::loss::Loss;
use super::pool::{Beyond, GlobalMean, Kind, Pool};
use super::tokens::{FirstToken, Tokens};
use super::winograd::Winograd;
use crate::job::Precision;
use crate::train::engine::Engine;
use crate::train::graph::{Graph, Value, Window};
use crate::train::model::Role;
use crate::train::random::{Purpose, Stream};
use crate::train::reference::{self, Named};

/// As many that lanes of several images and a shorter last one occur.
const IMAGES: usize = 19;

/// Numbers in [-1, 1), the same for the same `index`.
fn some(count: usize, index: u64) -> Vec<f64> {
    let mut stream = Stream::new(99, Purpose::Init, index);
    (0..count).map(|_| stream.between(-1.0, 1.0)).collect()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|number| *number as f32).collect()
}

/// Something that adds layers to a graph of any type.
trait Build {
    fn build<T: crate::train::ops::element::Element>(&self, graph: &mut Graph<T>, x: Value) -> Value;
}

macro_rules! build {
    (|$graph:ident, $x:ident| $body:expr) => {{
        struct It;
        impl Build for It {
            fn build<T: crate::train::ops::element::Element>(&self, $graph: &mut Graph<T>, $x: Value) -> Value {
                $body
            }
        }
        It
    }};
}

mod norms;

fn network<T: crate::train::ops::element::Element>(extent: Extent, build: &impl Build) -> Graph<T> {
    let mut graph = Graph::new(extent);
    let shape = [extent.h, extent.w, extent.c];
    let positions = graph.tensor("shift".into(), &shape, Role::Embedding);
    let x = graph.push(Tokens { x: extent, class: None, positions, learned: true }, graph.input(), None);
    let y = build.build(&mut graph, x);
    assert_eq!(graph.output, y);
    graph
}

/// `reference` gets the shifted images `[N, H, W, C]` and the named tensors.
fn check(
    name: &str,
    (h, w, c): (usize, usize, usize),
    build: &impl Build,
    reference: impl Fn(&Tensor, &Named) -> Result<Tensor>,
) {
    let extent = Extent { h, w, c };
    let graph = network::<f64>(extent, build);
    let blueprint = graph.blueprint.clone();
    let classes = graph.extent(graph.output).len();
    let (flat, images) = (some(blueprint.len(), 1), some(IMAGES * extent.len(), 2));
    let teacher: Vec<f64> = some(IMAGES * classes, 3).into_iter().map(|logit| 2.0 * logit).collect();
    let mut engine = Engine::trainable(graph);
    let mut run = |flat: &[f64]| {
        let mut gradient = vec![0.0; flat.len()];
        let target = Loss::kl(&teacher, 1.5);
        let loss = engine.step(flat, &images, target, &mut gradient);
        (loss, gradient)
    };
    let (loss, gradient) = run(&flat);

    // Differences, for numbers all over each tensor.
    for (entry, range) in blueprint.places() {
        let step = (range.len() / 40).max(1) | 1;
        for i in range.step_by(step) {
            let mut moved = |by: f64| {
                let mut flat = flat.clone();
                flat[i] += by;
                run(&flat).0
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (expected - gradient[i]).abs() / (1e-2 + expected.abs());
            assert!(error < 1e-6, "{name}: `{}` at {i}: {} instead of {expected}", entry.name, gradient[i]);
        }
    }

    // Candle.
    let named = Named::new(&blueprint, &flat);
    let tensor = |numbers: &[f64], shape: &[usize]| Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap();
    let shifted = tensor(&images, &[IMAGES, h, w, c]).broadcast_add(named.get("shift")).unwrap();
    let logits = reference(&shifted, &named).unwrap().reshape((IMAGES, classes)).unwrap();
    let theirs = reference::kl(&logits, &tensor(&teacher, &[IMAGES, classes]), 1.5).unwrap();
    let expected = theirs.to_scalar::<f64>().unwrap();
    assert!((loss - expected).abs() < 1e-10 * expected.abs(), "{name}: loss {loss}, candle {expected}");
    // Candle's GELU has rounded constants.
    let tolerance = if name == "gelu" { 1e-6 } else { 1e-9 };
    close(name, "candle", &gradient, &named.gradient(&blueprint, &theirs), tolerance);

    // The vector kernels.
    let (flat, images, teacher) = (narrow(&flat), narrow(&images), narrow(&teacher));
    let mut single = vec![0f32; flat.len()];
    let target = Loss::kl(&teacher, 1.5);
    Engine::trainable(network::<f32>(extent, build)).step(&flat, &images, target, &mut single);
    close(name, "f64", &single.into_iter().map(f64::from).collect::<Vec<_>>(), &gradient, 2e-5);
}

fn close(name: &str, whom: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    let size = theirs.iter().map(|g| g.abs()).fold(0.0, f64::max);
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * size, "{name}: number {i} is {a}, {whom} has {b}");
    }
}

fn window(size: usize, stride: usize, padding: usize, groups: usize) -> Window {
    Window { size, stride, padding, groups, standardize: None, bias: true }
}

fn conv_of_candle(x: &Tensor, named: &Named, name: &str, geometry: (usize, usize, usize)) -> Result<Tensor> {
    let bias = named.0.contains_key(&format!("{name}.bias")).then(|| named.get("conv.bias"));
    reference::conv(x, named.get(&format!("{name}.weight")), bias, geometry)
}

#[test]
fn convolutions() {
    macro_rules! case {
        ($h:literal x $w:literal x $ci:literal > $co:literal, $size:literal, $stride:literal, $padding:literal, $groups:literal) => {
            check(
                concat!("conv ", stringify!($h x $w x $ci > $co, k $size s $stride p $padding g $groups)),
                ($h, $w, $ci),
                &build!(|graph, x| graph.conv("conv", x, $co, window($size, $stride, $padding, $groups), None)),
                |x, named| conv_of_candle(x, named, "conv", ($stride, $padding, $groups)),
            );
        };
    }
    case!(5 x 4 x 1 > 3, 3, 1, 1, 1);
    case!(6 x 7 x 2 > 5, 3, 2, 1, 1);
    case!(7 x 6 x 3 > 17, 3, 2, 1, 1);
    case!(5 x 5 x 2 > 4, 1, 2, 0, 1);
    case!(4 x 5 x 3 > 33, 1, 1, 0, 1);
    case!(6 x 5 x 2 > 3, 3, 2, 0, 1);
    case!(7 x 5 x 2 > 2, 5, 3, 2, 1);
    case!(9 x 8 x 3 > 4, 7, 2, 3, 1);
    case!(4 x 4 x 2 > 3, 2, 2, 0, 1);
    case!(4 x 5 x 4 > 6, 3, 1, 1, 2);
    case!(5 x 3 x 6 > 3, 3, 2, 1, 3);
    case!(5 x 4 x 5 > 5, 3, 1, 1, 5);
    case!(6 x 7 x 3 > 3, 5, 2, 2, 3);
}

/// Wide layers: several blocks of channels, and the padded rows of scratch.
#[test]
fn wide_convolutions() {
    check(
        "conv of 256 channels",
        (2, 3, 256),
        &build!(|graph, x| graph.conv("conv", x, 20, window(3, 2, 1, 1), None)),
        |x, named| conv_of_candle(x, named, "conv", (2, 1, 1)),
    );
    check(
        "linear of 256 channels",
        (2, 2, 256),
        &build!(|graph, x| graph.conv("conv", x, 40, window(1, 1, 0, 1), None)),
        |x, named| conv_of_candle(x, named, "conv", (1, 0, 1)),
    );
}

fn winograd<T: crate::train::ops::element::Element>(graph: &mut Graph<T>, x: Value, residual: Option<Value>) -> Value {
    let from = graph.extent(x);
    let weight = graph.tensor("conv.weight".into(), &[32, from.c, 3, 3], Role::Kernel);
    let kernel =
        Kernel { ci: from.c, co: 32, kh: 3, kw: 3, groups: 1, stride: 1, padding: 1, standardize: Some(1e-10), weight };
    graph.push(Winograd::new(from, kernel), x, residual)
}

fn standard_conv_of_candle(x: &Tensor, named: &Named) -> Result<Tensor> {
    reference::conv(x, &reference::standardize(named.get("conv.weight"), 1e-10)?, None, (1, 1, 1))
}

#[test]
fn winograd_convolutions() {
    macro_rules! case {
        ($h:literal x $w:literal x $ci:literal) => {
            check(
                concat!("winograd ", stringify!($h x $w x $ci)),
                ($h, $w, $ci),
                &build!(|graph, x| winograd(graph, x, None)),
                standard_conv_of_candle,
            );
        };
    }
    case!(4 x 6 x 16);
    case!(5 x 3 x 16);
    case!(1 x 1 x 48);
}

/// Winograd's way and the direct one, in f32, at the sizes of real layers: equal but for rounding.
#[test]
fn winograd_is_the_direct_convolution() {
    for (side, ci, co) in [(32, 16, 16), (15, 32, 64), (8, 128, 128)] {
        let extent = Extent { h: side, w: side, c: ci };
        let run = |direct: bool| {
            let mut graph = Graph::<f32>::new(extent);
            let positions = graph.tensor("shift".into(), &[side, side, ci], Role::Embedding);
            let x = graph.push(Tokens { x: extent, class: None, positions, learned: true }, graph.input(), None);
            let weight = graph.tensor("conv.weight".into(), &[co, ci, 3, 3], Role::Kernel);
            let kernel =
                Kernel { ci, co, kh: 3, kw: 3, groups: 1, stride: 1, padding: 1, standardize: Some(1e-10), weight };
            assert!(Winograd::suits(extent, co, &kernel));
            let y = match direct {
                true => graph.push(Conv::new(extent, co, kernel, None).unwrap(), x, None),
                false => graph.push(Winograd::new(extent, kernel), x, None),
            };
            graph.push(GlobalMean { x: graph.extent(y) }, y, None);
            let flat = narrow(&some(graph.blueprint.len(), 1));
            let (images, teacher) = (narrow(&some(3 * extent.len(), 2)), narrow(&some(3 * co, 3)));
            let mut gradient = vec![0f32; flat.len()];
            let target = Loss::kl(&teacher, 1.0);
            let loss = Engine::trainable(graph).step(&flat, &images, target, &mut gradient);
            (loss, gradient.into_iter().map(f64::from).collect::<Vec<_>>())
        };
        let ((loss, gradient), (direct_loss, direct)) = (run(false), run(true));
        assert!((loss - direct_loss).abs() < 1e-5 * direct_loss, "{loss} {direct_loss}");
        close("winograd", "the direct way", &gradient, &direct, 3e-4);
    }
}

#[test]
fn transformer_layers() {
    check("gelu", (3, 2, 5), &build!(|graph, x| graph.push(Gelu { x: graph.extent(x) }, x, None)), |x, _| x.gelu_erf());
    check(
        "attention",
        (5, 1, 96),
        &build!(|graph, x| graph.push(Attention { x: graph.extent(x), heads: 2 }, x, None)),
        |x, _| reference::attention(&x.flatten(1, 2)?, 2),
    );
    check(
        "class token, linear with residual, first token",
        (2, 3, 5),
        &build!(|graph, x| {
            let class = graph.tensor("class".into(), &[1, 1, 5], Role::Embedding);
            let positions = graph.tensor("positions".into(), &[1, 7, 5], Role::Embedding);
            let x = graph.push(Tokens { x: graph.extent(x), class: Some(class), positions, learned: true }, x, None);
            let norm = graph.layer_norm("norm", x, 1e-6);
            let x = graph.linear("linear", norm, 5, Role::Linear, Some(x));
            graph.push(FirstToken { x: graph.extent(x) }, x, None)
        }),
        |x, named| {
            let class = named.get("class").broadcast_as((IMAGES, 1, 5))?;
            let x = Tensor::cat(&[class, x.flatten(1, 2)?], 1)?.broadcast_add(named.get("positions"))?;
            let norm = reference::layer_norm(&x, named.get("norm.weight"), named.get("norm.bias"), 1e-6)?;
            let linear = reference::linear(&norm, named.get("linear.weight"), named.get("linear.bias"))?;
            (x + linear)?.narrow(1, 0, 1)
        },
    );
}

#[test]
fn pools() {
    check(
        "global mean",
        (3, 5, 4),
        &build!(|graph, x| graph.push(GlobalMean { x: graph.extent(x) }, x, None)),
        |x, _| reference::global_mean(x),
    );
    macro_rules! case {
        ($kind:ident, $beyond:ident, $h:literal x $w:literal, $window:literal, $stride:literal, $padding:literal) => {
            check(
                concat!("pool ", stringify!($kind $beyond $h x $w k $window s $stride p $padding)),
                ($h, $w, 3),
                &build!(|graph, x| {
                    let (kind, beyond) = (Kind::$kind, Beyond::$beyond);
                    let pool =
                        Pool { x: graph.extent(x), kind, window: $window, stride: $stride, padding: $padding, beyond };
                    graph.push(pool, x, None)
                }),
                |x, _| reference::pool(x, Kind::$kind, ($window, $stride, $padding), Beyond::$beyond),
            );
        };
    }
    case!(Max, Zeros, 6 x 7, 3, 2, 1);
    case!(Max, Nothing, 5 x 6, 3, 2, 1);
    case!(Max, Nothing, 4 x 6, 2, 2, 0);
    case!(Mean, Zeros, 7 x 5, 3, 2, 1);
    case!(Mean, Nothing, 6 x 5, 3, 1, 1);
    case!(Mean, Zeros, 7 x 7, 2, 2, 0);
}

/// KL of a student that is the teacher is zero, and of two coins it is what the formula says.
#[test]
fn losses_by_hand() {
    let logits = |p: f64| [p.ln(), (1.0 - p).ln()];
    let kl = |p, q, temperature| {
        let target = logits(p);
        Loss::kl(&target, temperature).evaluate(&logits(q), 2, 1.0, &mut [0.0; 2])
    };
    assert!(kl(0.3, 0.3, 2.0).abs() < 1e-12);
    let expected = 0.25 * (0.25f64 / 0.5).ln() + 0.75 * (0.75f64 / 0.5).ln();
    assert!((kl(0.25, 0.5, 1.0) - expected).abs() < 1e-12);
    // At T = 2 the probabilities become sqrt(p) / (sqrt(p) + sqrt(1 - p)); the loss carries T².
    let soft = 0.25f64.sqrt() / (0.25f64.sqrt() + 0.75f64.sqrt());
    let expected = 4.0 * (soft * (soft / 0.5).ln() + (1.0 - soft) * ((1.0 - soft) / 0.5).ln());
    assert!((kl(0.25, 0.5, 2.0) - expected).abs() < 1e-12);
    let ce = Loss::cross_entropy(&[0.9, 0.1]).evaluate(&logits(0.25), 2, 1.0, &mut [0.0; 2]);
    assert!((ce + 0.9 * 0.25f64.ln() + 0.1 * 0.75f64.ln()).abs() < 1e-12);
}

/// Cross-entropy, also against targets that are no distribution, by candle.
#[test]
fn cross_entropy_is_candles() {
    let (logits, target) = (some(12, 1), some(12, 2).into_iter().map(f64::abs).collect::<Vec<_>>());
    let mut gradient = vec![0.0; 12];
    let loss = Loss::cross_entropy(&target).evaluate(&logits, 4, 1.0 / 3.0, &mut gradient) / 3.0;
    let var = candle_core::Var::from_tensor(&Tensor::from_slice(&logits, (3, 4), &Device::Cpu).unwrap()).unwrap();
    let target = Tensor::from_slice(&target, (3, 4), &Device::Cpu).unwrap();
    let theirs = reference::cross_entropy(&var, &target).unwrap();
    assert!((loss - theirs.to_scalar::<f64>().unwrap()).abs() < 1e-12);
    let expected = theirs.backward().unwrap().get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    close("cross-entropy", "candle", &gradient, &expected, 1e-12);
}

/// Linear layers and wide 3x3 convolutions in bf16: the gradients of f32 to within the rounding, and not the same bits.
#[test]
fn bf16_is_near_f32() {
    let extent = Extent { h: 7, w: 6, c: 64 };
    let build = build!(|graph, x| {
        let seen = graph.group_norm_relu("norm", x, 8, 1e-5);
        let window = Window { bias: false, ..window(3, 1, 1, 1) };
        let y = graph.conv("conv", seen, 64, window, Some(x));
        let y = graph.linear("linear", y, 20, Role::Linear, None);
        graph.push(GlobalMean { x: graph.extent(y) }, y, None)
    });
    let run = |precision| {
        let graph = network::<f32>(extent, &build).with_precision(precision);
        let flat: Vec<f32> = narrow(&some(graph.blueprint.len(), 1)).iter().map(|weight| 0.2 * weight).collect();
        let (images, teacher) = (narrow(&some(IMAGES * extent.len(), 2)), narrow(&some(IMAGES * 20, 3)));
        let mut gradient = vec![0f32; flat.len()];
        let target = Loss::kl(&teacher, 1.0);
        let loss = Engine::trainable(graph).step(&flat, &images, target, &mut gradient);
        (loss, gradient.into_iter().map(f64::from).collect::<Vec<_>>())
    };
    let ((loss, gradient), (rounded_loss, rounded)) = (run(Precision::F32), run(Precision::Bf16));
    assert!((loss - rounded_loss).abs() < 1e-2 * loss, "{loss} {rounded_loss}");
    assert_ne!(gradient, rounded);
    close("bf16", "f32", &rounded, &gradient, 2e-2);
}
