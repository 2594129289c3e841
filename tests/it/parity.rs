//! Networks against timm's, with weights that both sides make from one formula: `tests/golden/timm_networks.py` records
//! timm's answers and gradients in f64.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distillery::card::{Card, Interpolation};
use distillery::job::{BitResnet, CifarResnet, Input, MobilenetSize, MobilenetV3, Model, Norm, Pool, Vit};
use distillery::train::checkpoint::save_student;
use distillery::train::engine::Engine;
use distillery::train::model::{Blueprint, graph};
use distillery::train::ops::loss::Loss;
use distillery::train::weights::resampled;
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    model: String,
    /// timm's name and what it was told, where that alone makes the network.
    architecture: Option<String>,
    arguments: serde_json::Map<String, serde_json::Value>,
    /// By tensor.
    shapes: BTreeMap<String, Vec<usize>>,
    resolution: u32,
    logits: Vec<f64>,
    loss: f64,
    /// By tensor: its norm, and its product with numbers of the formula.
    gradient: BTreeMap<String, (f64, f64)>,
    /// The same of running statistics after the step.
    running: BTreeMap<String, (f64, f64)>,
}

#[derive(Deserialize)]
struct Positions {
    before: usize,
    after: usize,
    /// Tokens before those of the patches.
    prefix: usize,
    numbers: Vec<f32>,
}

#[derive(Deserialize)]
struct Golden {
    networks: Vec<Recorded>,
    positions: Vec<Positions>,
}

fn golden() -> Golden {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/timm_networks.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

const CLASSES: usize = 10;
const LABELS: [usize; 2] = [3, 8];

/// In [-1, 1), exact in f32: the same for the same name and place.
fn numbers(name: &str, count: usize) -> Vec<f64> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let number = |place: u64| {
        let mut x = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        (x >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..count as u64).map(number).collect()
}

fn weight(name: &str, shape: &[usize]) -> Vec<f64> {
    let fan_in: usize = shape[1..].iter().product();
    let scaled = |x: f64| match shape.len() {
        _ if name.ends_with("bias") || name.ends_with("running_mean") => 0.1 * x,
        _ if name.ends_with("cls_token") || name.ends_with("pos_embed") => 0.5 * x,
        1 => 1.0 + 0.2 * x,
        _ => x * (3.0 / fan_in as f64).sqrt(),
    };
    // timm's are f32.
    numbers(name, shape.iter().product()).into_iter().map(|x| f64::from(scaled(x) as f32)).collect()
}

fn model(name: &str) -> Model {
    match name {
        "resnetv2_50x1_bit" => Model::BitResnet(BitResnet { depth: 50, width: 1 }),
        "vit_tiny_patch16_224" => Model::Vit(Vit::new(192, 12, 3, 16)),
        "vit_small_patch32_224" => Model::Vit(Vit::new(384, 12, 6, 32)),
        "vit_tiny_patch16_224 mean" => Model::Vit(Vit { pool: Pool::Mean, ..Vit::new(192, 12, 3, 16) }),
        "bit 26x2" => Model::BitResnet(BitResnet { depth: 26, width: 2 }),
        "cifar-resnet 20" => Model::CifarResnet(CifarResnet { depth: 20 }),
        _ => {
            let (size, rest) = name.strip_prefix("mobilenetv3_").and_then(|name| name.split_once("_100")).unwrap();
            let size = if size == "large" { MobilenetSize::Large } else { MobilenetSize::Small };
            let norm = if rest == " group" { Norm::Group } else { Norm::Batch };
            Model::MobilenetV3(MobilenetV3 { size, norm })
        }
    }
}

fn near(found: f64, expected: f64, scale: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() < tolerance * scale, "{what}: {found} instead of {expected}");
}

#[test]
fn positions_are_interpolated_as_by_timm() {
    for Positions { before, after, prefix, numbers: expected } in golden().positions {
        let from: Vec<f32> =
            numbers(&format!("positions {before}"), (prefix + before * before) * 4).iter().map(|x| *x as f32).collect();
        let found = resampled(&from, prefix, (before, after), 4);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{before} to {after}: {found} instead of {expected}");
        }
    }
}

/// What is exported is what timm loads, strictly: every tensor of its state by name and shape, to the same bits, and a card
/// from which it makes that network. So its logits are the recorded ones.
fn exported(model: &Model, input: Input, network: &Recorded, weights: &[f64]) {
    let (place, blueprint) = (tempfile::tempdir().unwrap(), Blueprint::new(model, input));
    let path = place.path().join("student.safetensors");
    let single: Vec<f32> = weights.iter().map(|x| *x as f32).collect();
    save_student(&path, &blueprint, &single, "none").unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeMap<String, Vec<usize>> =
        file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    assert_eq!(found, network.shapes, "{}", model.label());
    for (name, view) in file.iter() {
        let expected = weight(name, view.shape()).into_iter().flat_map(|x| (x as f32).to_le_bytes());
        assert!(view.data().iter().copied().eq(expected), "{}: `{name}`", model.label());
    }
    let card = Card {
        model: model.clone(),
        classes: input.classes,
        channels: input.channels,
        resolution: input.resolution,
        normalization: input.normalization,
        crop: 1.0,
        interpolation: Interpolation::Plain,
        job: None,
        data: None,
    };
    let card = card.to_json();
    assert_eq!(card["architecture"].as_str(), network.architecture.as_deref(), "{}", model.label());
    if network.architecture.is_some() {
        assert_eq!(card["model_args"].as_object(), Some(&network.arguments), "{}", model.label());
    }
}

macro_rules! families {
    ($($test:ident: $family:literal, $count:literal;)*) => {
        $(#[test]
        fn $test() {
            networks_and_gradients_are_timms($family, $count);
        })*

        #[test]
        fn every_recorded_network_is_tested() {
            assert_eq!(golden().networks.len(), 0 $(+ $count)*);
        }
    };
}

families! {
    bit_resnet_50_is_timms: "resnetv2_50x1", 2;
    bit_resnet_26_of_double_width_is_timms: "bit 26x2", 2;
    vit_ti_is_timms: "vit_tiny", 4;
    vit_s_is_timms: "vit_small", 2;
    mobilenet_v3_large_is_timms: "mobilenetv3_large", 4;
    mobilenet_v3_small_is_timms: "mobilenetv3_small", 4;
    cifar_resnet_is_torchs: "cifar", 2;
}

fn networks_and_gradients_are_timms(family: &str, count: usize) {
    let recorded: Vec<Recorded> =
        golden().networks.into_iter().filter(|network| network.model.starts_with(family)).collect();
    assert_eq!(recorded.len(), count);
    for network in recorded {
        let Recorded { model: name, resolution, logits, loss, gradient, running, .. } = &network;
        let (resolution, loss) = (*resolution, *loss);
        let input = Input::new(3, CLASSES as u32, resolution);
        let mut engine = Engine::<f64>::trainable(graph(&model(name), input));
        let blueprint = engine.graph().blueprint.clone();
        let mut weights: Vec<f64> =
            blueprint.tensors.iter().flat_map(|entry| weight(&entry.name, &entry.shape)).collect();
        exported(&model(name), input, &network, &weights);
        let images = numbers("images", 2 * 3 * resolution.pow(2) as usize);
        let mut targets = vec![0.0; 2 * CLASSES];
        LABELS.iter().enumerate().for_each(|(image, label)| targets[image * CLASSES + label] = 1.0);
        let mut found = vec![0.0; weights.len()];
        let target = Loss::cross_entropy(&targets);
        let found_loss = engine.step(&weights, &images, target, &mut found);
        let found_logits = engine.forward(&weights, &images);

        let what = format!("{name} at {resolution} px");
        let scale = logits.iter().map(|x| x.abs()).fold(0.0, f64::max);
        logits.iter().zip(&found_logits).for_each(|(a, b)| near(*b, *a, scale, 1e-4, &what));
        near(found_loss, loss, loss, 1e-4, &what);
        // In f32 as well, by the engine that trains.
        let mut narrow = Engine::<f32>::frozen(graph(&model(name), input));
        let single: Vec<f32> = weights.iter().map(|x| *x as f32).collect();
        narrow.load(&single);
        let images: Vec<f32> = images.iter().map(|x| *x as f32).collect();
        let in_f32 = narrow.forward(&single, &images);
        logits.iter().zip(in_f32).for_each(|(a, b)| near(f64::from(b), *a, scale, 1e-4, &what));

        assert_eq!(gradient.len() + running.len(), blueprint.tensors.len(), "{what}");
        engine.settle(&mut weights);
        // A bias before a BatchNorm has none but what rounding leaves.
        let largest = gradient.values().map(|(norm, _)| *norm).fold(0.0, f64::max);
        for (entry, range) in blueprint.places() {
            let ((norm, along), own) = match running.get(&entry.name) {
                Some(recorded) => (*recorded, &weights[range]),
                None => (gradient[&entry.name], &found[range]),
            };
            let scale = norm.max(1e-9 * largest);
            let own_norm = own.iter().map(|x| x * x).sum::<f64>().sqrt();
            let own_along: f64 =
                own.iter().zip(numbers(&format!("along {}", entry.name), own.len())).map(|(a, b)| a * b).sum();
            let what = format!("{what}: the gradient, or running statistics, of `{}`", entry.name);
            near(own_norm, norm, scale, 1e-3, &what);
            near(own_along, along, scale, 1e-3, &what);
        }
    }
}
