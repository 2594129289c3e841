//! What is compared: most kinds of layers in their variants, losses, ensembles and views.

use std::rc::Rc;

use anyhow::Result;

use super::{Case, Machine, Row, distance, get, put, rounded, some};
use crate::job::{Dist, Distance, Dkd, Ensemble, Kl, PseudoLabels, Scale};
use crate::train::cuda::device::Number;
use crate::train::cuda::frozen::gather;
use crate::train::cuda::loss::{Beside, Places, launch};
use crate::train::cuda::machine::normalize;
use crate::train::graph::{Graph, Window};
use crate::train::mixing::{Mixed, mix};
use crate::train::model::Role;
use crate::train::ops::attention::Attention;
use crate::train::ops::gelu::Gelu;
use crate::train::ops::layer::Extent;
use crate::train::ops::loss::{Labels, Loss, Teachers};
use crate::train::ops::pool::{Beyond, GlobalMean, Kind, Pool};
use crate::train::ops::tokens::{FirstToken, Tokens};
use crate::train::status;
use crate::train::teacher::Voice;
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
    let kl = |temperature, scale| Distance::Kl(Kl { temperature, scale });
    let dkd = Distance::Dkd(Dkd { alpha: 1.5, beta: 8.0, temperature: 4.0 });
    let dist = Distance::Dist(Dist { beta: 1.0, gamma: 2.0, temperature: 4.0 });
    let pseudo = |smoothing| Distance::PseudoLabels(PseudoLabels { smoothing });
    for (name, classes, distance, weights, told) in [
        ("kl from logits", 100, Some(kl(1.0, Scale::Squared)), &[1.0][..], 0.0),
        ("kl, T = 7, 10 classes", 10, Some(kl(7.0, Scale::Squared)), &[1.0], 0.0),
        ("kl, T = 3, plain, with labels", 130, Some(kl(3.0, Scale::Plain)), &[1.0], 0.25),
        ("kl, three teachers", 130, Some(kl(2.0, Scale::Squared)), &[1.0, 0.5, 2.25], 0.5),
        ("squared", 130, Some(Distance::Squared), &[1.0], 0.0),
        ("euclidean", 1000, Some(Distance::Euclidean), &[1.0], 0.0),
        ("pseudo-labels", 10, Some(pseudo(0.0)), &[1.0], 0.0),
        ("pseudo-labels, smoothed, with labels", 300, Some(pseudo(0.2)), &[1.0], 0.5),
        ("dkd", 100, Some(dkd), &[1.0], 0.0),
        ("dkd, 3 classes, with labels", 3, Some(dkd), &[1.0], 0.75),
        ("dist", 200, Some(dist), &[1.0], 0.0),
        ("dist, 7 classes, with labels", 7, Some(dist), &[1.0], 0.25),
        ("cross_entropy", 1000, None, &[], 1.0),
    ] {
        rows.push(Row::new(name, number, loss(machine, number, classes, (distance, weights, told))?));
    }
    rows.push(Row::new("views: normalise, mixup, cutmix", number, views(machine, number)?));
    if number == Number::F32 {
        for (name, rule) in [
            ("ensemble by logits", Ensemble::MeanLogits),
            ("ensemble by probabilities", Ensemble::MeanProbabilities),
            ("ensemble side by side", Ensemble::SumOfKl),
        ] {
            rows.push(Row::new(name, number, ensemble(machine, rule)?));
        }
    }
    Ok(rows)
}

/// Losses of rows, or of the batch where they have none, and the slope. One row of the student's is its teacher's.
fn loss(
    machine: &Machine,
    number: Number,
    classes: usize,
    (distance_to, weights, told): (Option<Distance>, &[f64], f64),
) -> Result<f64> {
    const IMAGES: usize = 11;
    let (libraries, gpu) = (&machine.libraries, &machine.libraries.gpu);
    let many = |count, index| rounded(some(count, index), Number::F32);
    let wide = |x: &f64| f64::from(8.0 * *x as f32);
    let mut logits: Vec<f64> = many(IMAGES * classes, 5).iter().map(wide).collect();
    let answers: Vec<f64> = many(weights.len() * IMAGES * classes, 6).iter().map(wide).collect();
    if let Some(same) = answers.get(..classes).filter(|_| distance_to == Some(Distance::Euclidean)) {
        logits[..classes].copy_from_slice(same);
    }
    let labels: Vec<f64> =
        many(IMAGES * classes, 7).iter().map(|x| f64::from(x.abs() as f32 / classes as f32)).collect();
    let teachers = distance_to.map(|distance| Teachers { logits: &answers, weights, distance });
    let expected = Loss { teachers, labels: Some(Labels { probabilities: &labels, weight: told }) };
    let mut slope = vec![0.0; logits.len()];
    let share = 1.0 / IMAGES as f64;
    let each: Vec<f64> = if expected.is_of_batch() {
        vec![expected.evaluate(&logits, classes, share, &mut slope)]
    } else {
        let rows = logits.chunks_exact(classes).zip(slope.chunks_exact_mut(classes)).enumerate();
        rows.map(|(row, (logits, slope))| expected.rows(row..row + 1, classes).evaluate(logits, classes, share, slope))
            .collect()
    };
    let told = status::Loss { distance: distance_to, teachers: weights.len(), told: told as f32 };
    let narrow: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
    let beside = Beside::of(gpu, told, &narrow, IMAGES, classes)?;
    let [logits, answers, labels] = [&logits, &answers, &labels].map(|numbers| put(libraries, numbers, Number::F32));
    let (logits, answers, labels) = (logits?.0, answers?.0, labels?.0);
    let (losses, slopes) = (gpu.allocate(4 * IMAGES)?, gpu.allocate(slope.len() * number.bytes())?);
    let places = Places {
        logits: logits.address,
        answers: Some(answers.address),
        labels: Some(labels.address),
        losses: losses.address,
        slope: slopes.address,
    };
    launch(gpu, number, told, &places, &beside, (IMAGES, classes), share as f32)?;
    let mut found = get(libraries, losses.address, IMAGES, Number::F32)?;
    if expected.is_of_batch() {
        found = vec![found.iter().sum()];
    }
    let error = distance(&get(libraries, slopes.address, slope.len(), number)?, &slope);
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

fn ensemble(machine: &Machine, ensemble: Ensemble) -> Result<f64> {
    const IMAGES: usize = 4;
    const CLASSES: usize = 150;
    const WEIGHTS: [f64; 3] = [1.0, 0.25, 1.5];
    let (libraries, gpu) = (&machine.libraries, &machine.libraries.gpu);
    let answers: Vec<Vec<f64>> = (0..3).map(|index| rounded(some(IMAGES * CLASSES, 8 + index), Number::F32)).collect();
    let width = Voice::of(ensemble, &WEIGHTS, 0).width(CLASSES);
    let to = gpu.allocate(4 * IMAGES * width)?;
    for (place, answer) in answers.iter().enumerate() {
        let logits = put(libraries, answer, Number::F32)?;
        let voice = Voice::of(ensemble, &WEIGHTS, place);
        gather(gpu, logits.0.address, to.address, (IMAGES, CLASSES), voice)?;
        gpu.synchronize()?;
    }
    let mut expected = vec![0.0; IMAGES * width];
    for (place, (answer, weight)) in answers.iter().zip(WEIGHTS).enumerate() {
        for (to, row) in expected.chunks_exact_mut(width).zip(answer.chunks_exact(CLASSES)) {
            let (sum, share) = (row.iter().map(|x| x.exp()).sum::<f64>(), weight / WEIGHTS.iter().sum::<f64>());
            match ensemble {
                Ensemble::MeanLogits => to.iter_mut().zip(row).for_each(|(to, x)| *to += share * x),
                Ensemble::MeanProbabilities => to.iter_mut().zip(row).for_each(|(to, x)| *to += share * x.exp() / sum),
                Ensemble::SumOfKl => to[place * CLASSES..][..CLASSES].copy_from_slice(row),
            }
        }
    }
    if ensemble == Ensemble::MeanProbabilities {
        expected.iter_mut().for_each(|p| *p = p.ln());
    }
    Ok(distance(&get(libraries, to.address, IMAGES * width, Number::F32)?, &expected))
}
