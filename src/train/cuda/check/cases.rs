//! What is compared: most kinds of layers in their variants, losses, ensembles and views.

use std::rc::Rc;

use anyhow::Result;

use super::{Case, Machine, Row, distance, get, put, rounded, some};
use crate::train::cuda::device::{Number, Spread};
use crate::train::cuda::machine::normalize;
use crate::train::cuda::operation::u32_of;
use crate::train::graph::{Graph, Window};
use crate::train::mixing::{Mixed, mix};
use crate::train::model::Role;
use crate::train::ops::attention::Attention;
use crate::train::ops::gelu::Gelu;
use crate::train::ops::layer::Extent;
use crate::train::ops::loss::Loss;
use crate::train::ops::pool::{Beyond, GlobalMean, Kind, Pool};
use crate::train::ops::tokens::{FirstToken, Tokens};
use crate::train::views::normalized;

pub(super) fn case(
    name: &'static str,
    images: usize,
    extent: (usize, usize, usize),
    build: impl Fn(&mut Graph<f64>),
) -> Case {
    let (h, w, c) = extent;
    let extent = Extent { h, w, c };
    let mut graph = Graph::new(extent);
    build(&mut graph);
    let step = graph.steps.pop().expect("one layer was added");
    Case { name, images, layer: step.layer, x: extent.len(), reach: 1.0, numbers: graph.blueprint.len() }
}

fn conv(name: &'static str, (images, extent): (usize, (usize, usize, usize)), co: usize, window: Window) -> Case {
    case(name, images, extent, |graph| {
        graph.conv("op", graph.input(), co, window, None);
    })
}

fn window(size: usize, stride: usize, padding: usize) -> Window {
    Window { size, stride, padding, groups: 1, standardize: None, bias: false }
}

pub(super) fn layers() -> Vec<Case> {
    let standard = |size, stride, padding| Window { standardize: Some(1e-10), ..window(size, stride, padding) };
    let pool = |kind, window, stride, padding, beyond| {
        move |graph: &mut Graph<f64>| {
            let x = graph.extent(graph.input());
            graph.push(Pool { x, kind, window, stride, padding, beyond }, graph.input(), None);
        }
    };
    vec![
        conv("conv 1x1", (3, (7, 5, 32)), 48, window(1, 1, 0)),
        conv("conv 1x1 with bias", (3, (7, 5, 24)), 40, Window { bias: true, ..window(1, 1, 0) }),
        conv("conv 1x1 standardised", (3, (7, 5, 32)), 48, standard(1, 1, 0)),
        conv("conv 1x1 stride 2", (3, (8, 6, 32)), 48, standard(1, 2, 0)),
        conv("conv 3x3", (3, (8, 6, 32)), 16, window(3, 1, 1)),
        conv("conv 3x3 standardised", (3, (9, 7, 16)), 32, standard(3, 1, 1)),
        conv("conv 3x3 stride 2", (3, (9, 6, 16)), 32, standard(3, 2, 1)),
        conv("conv 3x3 with bias", (3, (9, 6, 16)), 32, Window { bias: true, ..window(3, 1, 1) }),
        conv("conv 7x7 stride 2 on 3 channels", (2, (17, 14, 3)), 16, standard(7, 2, 3)),
        conv("conv 4x4 stride 4 of patches", (3, (8, 12, 3)), 32, Window { bias: true, ..window(4, 4, 0) }),
        conv("conv 2x2 stride 3", (2, (11, 8, 16)), 16, window(2, 3, 0)),
        conv("conv 3x3 in 4 groups", (2, (8, 6, 32)), 64, Window { groups: 4, ..window(3, 2, 1) }),
        conv("depthwise 3x3", (3, (9, 8, 24)), 24, Window { groups: 24, ..window(3, 1, 1) }),
        conv(
            "depthwise 5x5 stride 2 with bias",
            (3, (9, 8, 16)),
            16,
            Window { groups: 16, bias: true, ..window(5, 2, 2) },
        ),
        case("linear", 37, (1, 1, 48), |graph| {
            graph.linear("op", graph.input(), 24, Role::Linear, None);
        }),
        case("linear to 10 classes", 37, (1, 1, 48), |graph| {
            graph.linear("op", graph.input(), 10, Role::Head, None);
        }),
        case("layer_norm", 5, (9, 1, 192), |graph| {
            graph.layer_norm("op", graph.input(), 1e-6);
        }),
        case("layer_norm of odd width", 5, (7, 1, 45), |graph| {
            graph.layer_norm("op", graph.input(), 1e-6);
        }),
        case("gelu", 5, (7, 3, 9), |graph| {
            let x = graph.extent(graph.input());
            graph.push(Gelu { x }, graph.input(), None);
        }),
        case("attention", 3, (13, 1, 96), |graph| {
            let x = graph.extent(graph.input());
            graph.push(Attention { x, heads: 2 }, graph.input(), None);
        }),
        case("attention of 65 tokens", 2, (65, 1, 192), |graph| {
            let x = graph.extent(graph.input());
            graph.push(Attention { x, heads: 1 }, graph.input(), None);
        }),
        case("max_pool 3/2, zeros beyond", 3, (9, 8, 12), pool(Kind::Max, 3, 2, 1, Beyond::Zeros)),
        case("max_pool 2/2", 3, (9, 8, 12), pool(Kind::Max, 2, 2, 0, Beyond::Nothing)),
        case("max_pool 3/1, nothing beyond", 3, (5, 6, 12), pool(Kind::Max, 3, 1, 1, Beyond::Nothing)),
        case("mean_pool 3/2, nothing beyond", 3, (9, 8, 12), pool(Kind::Mean, 3, 2, 1, Beyond::Nothing)),
        case("mean_pool 2/2, zeros beyond", 3, (9, 8, 12), pool(Kind::Mean, 2, 2, 1, Beyond::Zeros)),
        case("global_mean", 5, (7, 6, 40), |graph| {
            let x = graph.extent(graph.input());
            graph.push(GlobalMean { x }, graph.input(), None);
        }),
        case("tokens with a class token", 5, (4, 3, 20), |graph| {
            let x = graph.extent(graph.input());
            let class = Some(graph.tensor("class".into(), &[20], Role::Embedding));
            let positions = graph.tensor("positions".into(), &[13, 20], Role::Embedding);
            graph.push(Tokens { x, class, positions, learned: true }, graph.input(), None);
        }),
        case("tokens without", 40, (4, 3, 20), |graph| {
            let x = graph.extent(graph.input());
            let positions = graph.tensor("positions".into(), &[12, 20], Role::Embedding);
            graph.push(Tokens { x, class: None, positions, learned: true }, graph.input(), None);
        }),
        case("tokens with fixed positions", 5, (4, 4, 20), |graph| {
            let x = graph.extent(graph.input());
            let class = Some(graph.tensor("class".into(), &[20], Role::Embedding));
            let positions = graph.tensor("positions".into(), &[1, 17, 20], Role::SinCos { class: true });
            graph.push(Tokens { x, class, positions, learned: false }, graph.input(), None);
        }),
        case("tokens without, with fixed positions", 5, (4, 4, 20), |graph| {
            let x = graph.extent(graph.input());
            let positions = graph.tensor("positions".into(), &[1, 16, 20], Role::SinCos { class: false });
            graph.push(Tokens { x, class: None, positions, learned: false }, graph.input(), None);
        }),
        case("first_token", 5, (7, 1, 20), |graph| {
            let x = graph.extent(graph.input());
            graph.push(FirstToken { x }, graph.input(), None);
        }),
    ]
}

/// What is no layer.
pub(super) fn others(machine: &Rc<Machine>, number: Number) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, classes, temperature) in
        [("kl from logits", 100, Some(1.0)), ("kl, T = 7, 10 classes", 10, Some(7.0)), ("cross_entropy", 1000, None)]
    {
        rows.push(Row::new(name, number, loss(machine, number, classes, temperature)?));
    }
    rows.push(Row::new("views: normalise, mixup, cutmix", number, views(machine, number)?));
    if number == Number::F32 {
        for probabilities in [false, true] {
            let name = if probabilities { "ensemble by probabilities" } else { "ensemble by logits" };
            rows.push(Row::new(name, number, ensemble(machine, probabilities)?));
        }
    }
    Ok(rows)
}

/// Losses of rows, and the slope.
fn loss(machine: &Machine, number: Number, classes: usize, temperature: Option<f64>) -> Result<f64> {
    const IMAGES: usize = 11;
    let (libraries, gpu) = (&machine.libraries, &machine.libraries.gpu);
    let many = |index| rounded(some(IMAGES * classes, index), Number::F32);
    let logits: Vec<f64> = many(5).iter().map(|x| f64::from(8.0 * *x as f32)).collect();
    let target: Vec<f64> = match temperature {
        Some(_) => many(6).iter().map(|x| f64::from(8.0 * *x as f32)).collect(),
        None => many(6).iter().map(|x| f64::from(x.abs() as f32 / classes as f32)).collect(),
    };
    let expected = match temperature {
        Some(temperature) => Loss::Kl { teacher: &target, temperature },
        None => Loss::CrossEntropy { probabilities: &target },
    };
    let mut slope = vec![0.0; logits.len()];
    let each: Vec<f64> = (0..IMAGES)
        .map(|row| {
            let range = row * classes..(row + 1) * classes;
            let (logits, slope) = (&logits[range.clone()], &mut slope[range]);
            expected.rows(row..row + 1, classes).evaluate(logits, classes, 1.0 / IMAGES as f64, slope)
        })
        .collect();
    let (device_logits, device_target) = (put(libraries, &logits, Number::F32)?, put(libraries, &target, Number::F32)?);
    let (losses, slopes) = (gpu.allocate(4 * IMAGES)?, gpu.allocate(logits.len() * number.bytes())?);
    let arguments = [
        device_logits.0.address.into(),
        device_target.0.address.into(),
        losses.address.into(),
        slopes.address.into(),
        u32_of(classes).into(),
        temperature.is_some().into(),
        (temperature.unwrap_or(1.0) as f32).into(),
        (1.0 / IMAGES as f32).into(),
    ];
    gpu.launch(number, "loss_rows", Spread::blocks([IMAGES, 1, 1], 128), &arguments)?;
    let found = get(libraries, losses.address, IMAGES, Number::F32)?;
    let error = distance(&get(libraries, slopes.address, logits.len(), number)?, &slope);
    Ok(error.max(distance(&found, &each)))
}

/// Pixels, shown plain and mixed in both ways, with the last image's partner at the other end.
fn views(machine: &Machine, number: Number) -> Result<f64> {
    const IMAGES: usize = 5;
    const SIDE: usize = 7;
    const SIZE: usize = SIDE * SIDE * 3;
    let gpu = &machine.libraries.gpu;
    let pixels: Vec<u8> = some(IMAGES * SIZE, 7).iter().map(|x| (127.5 + 127.5 * x) as u8).collect();
    let place = gpu.holding(&pixels)?;
    let shown = gpu.allocate(pixels.len() * number.bytes())?;
    let plain = normalized(&pixels);
    let mut error = 0f64;
    let ways = [
        None,
        Some(Mixed::Mixup { share: 0.7 }),
        Some(Mixed::Cutmix { cut: [0.2, 0.5, 0.6, 0.9] }),
        Some(Mixed::Cutmix { cut: [0.0, 0.3, 0.7, 1.0] }),
        Some(Mixed::Cutmix { cut: [0.5; 4] }),
    ];
    for mixed in ways {
        normalize(gpu, number, place.address, shown.address, (IMAGES, SIDE, SIZE), mixed)?;
        let expected = mixed.map_or_else(|| plain.clone(), |mixed| mix(&plain, SIDE, 3, mixed));
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let found = get(&machine.libraries, shown.address, pixels.len(), number)?;
        error = error.max(distance(&found, &expected));
        // A weighted mean may be rounded once or twice; the rest is the same bits.
        if !matches!(mixed, Some(Mixed::Mixup { .. })) && found != rounded(expected, number) {
            error = f64::INFINITY;
        }
    }
    Ok(error)
}

fn ensemble(machine: &Machine, probabilities: bool) -> Result<f64> {
    const IMAGES: usize = 4;
    const CLASSES: usize = 150;
    let (libraries, gpu) = (&machine.libraries, &machine.libraries.gpu);
    let answers: Vec<Vec<f64>> = (0..3).map(|index| rounded(some(IMAGES * CLASSES, 8 + index), Number::F32)).collect();
    let to = gpu.allocate(4 * IMAGES * CLASSES)?;
    for (place, answer) in answers.iter().enumerate() {
        let logits = put(libraries, answer, Number::F32)?;
        let (place, count) = (u32_of(place), u32_of(answers.len()));
        if probabilities {
            let classes = u32_of(CLASSES);
            let arguments = [logits.0.address.into(), to.address.into(), classes.into(), place.into(), count.into()];
            gpu.launch(Number::F32, "mean_probabilities", Spread::blocks([IMAGES, 1, 1], 128), &arguments)?;
        } else {
            let n = IMAGES * CLASSES;
            let arguments = [logits.0.address.into(), to.address.into(), (n as u64).into(), place.into(), count.into()];
            gpu.launch(Number::F32, "mean_logits", Spread::over(n), &arguments)?;
        }
        gpu.synchronize()?;
    }
    let mut expected = vec![0.0; IMAGES * CLASSES];
    for answer in &answers {
        for (to, row) in expected.chunks_exact_mut(CLASSES).zip(answer.chunks_exact(CLASSES)) {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            for (to, x) in to.iter_mut().zip(row) {
                *to += if probabilities { x.exp() / sum } else { *x } / answers.len() as f64;
            }
        }
    }
    if probabilities {
        expected.iter_mut().for_each(|p| *p = p.ln());
    }
    Ok(distance(&get(libraries, to.address, IMAGES * CLASSES, Number::F32)?, &expected))
}
