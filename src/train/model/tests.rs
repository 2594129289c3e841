//! Every architecture against itself in candle's plain operations, in f64: loss and every gradient. And in f32 against
//! f64.

use candle_core::{D, Device, Result, Tensor};

use super::*;
use crate::job::{BitResnet, BitResnetSmall, CifarResnet, MobilenetSize, MobilenetV3, Norm, Pool, Positions, Vit};
use crate::train::engine::Engine;
use crate::train::ops::loss::Loss;
use crate::train::ops::pool::{Beyond, Kind};
use crate::train::reference::{self, Named};

/// Numbers in [-1, 1), the same for the same `index`.
fn some(count: usize, index: u64) -> Vec<f64> {
    let mut stream = Stream::new(99, Purpose::Init, index);
    (0..count).map(|_| stream.between(-1.0, 1.0)).collect()
}

fn models() -> Vec<(Model, Input)> {
    let input = |channels, resolution| Input::new(channels, 7, resolution);
    let normalization = Normalization { mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] };
    let normalized = Input { normalization, ..input(3, 12) };
    vec![
        (Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 4 }), input(2, 9)),
        (Model::BitResnetSmall(BitResnetSmall { depth: 14, width: 16 }), input(3, 12)),
        (Model::BitResnet(BitResnet { depth: 26, width: 1 }), input(3, 33)),
        (Model::Vit(Vit::new(48, 2, 3, 4)), input(3, 12)),
        (Model::Vit(Vit { pool: Pool::Mean, ..Vit::new(32, 1, 2, 4) }), input(3, 8)),
        (Model::Vit(Vit { positions: Positions::SinCos, ..Vit::new(32, 1, 2, 4) }), input(3, 8)),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Group }), input(3, 40)),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Large, norm: Norm::Batch }), input(3, 33)),
        (Model::CifarResnet(CifarResnet { depth: 20 }), normalized),
    ]
}

/// Logits by candle, images `[N, S, S, C]`.
fn logits(model: &Model, input: Input, named: &Named, images: &Tensor) -> Result<Tensor> {
    let channel = |numbers: [f64; 3]| Tensor::new(&numbers[..images.dim(3)?], &Device::Cpu);
    let images = &match input.normalization == Normalization::default() {
        true => images.clone(),
        false => {
            let Normalization { mean, std } = input.normalization;
            (images * 0.5)?.affine(1.0, 0.5)?.broadcast_sub(&channel(mean)?)?.broadcast_div(&channel(std)?)?
        }
    };
    match model {
        Model::BitResnetSmall(net) => small(net, named, images),
        Model::BitResnet(net) => bottlenecks(net, named, images),
        Model::Vit(net) => transformer(net, named, images),
        Model::MobilenetV3(net) => mobile(net, named, images),
        Model::CifarResnet(net) => cifar(net, named, images),
    }
}

fn norm(named: &Named, name: &str, x: &Tensor, groups: usize) -> Result<Tensor> {
    let (weight, bias) = (named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")));
    reference::group_norm_relu(x, weight, bias, groups, 1e-5)
}

fn head(named: &Named, name: &str, x: &Tensor) -> Result<Tensor> {
    reference::linear(x, &named.get(&format!("{name}.weight")).flatten_from(1)?, named.get(&format!("{name}.bias")))
}

fn weight(named: &Named, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
    let w = reference::standardize(named.get(&format!("{name}.weight")), 1e-10)?;
    let padding = w.dim(2)? / 2;
    reference::conv(x, &w, None, (stride, padding, 1))
}

fn small(net: &BitResnetSmall, named: &Named, images: &Tensor) -> Result<Tensor> {
    let groups = net.groups() as usize;
    let mut x = weight(named, "stem.conv", images, 1)?;
    for stage in 0..3 {
        for block in 0..net.blocks_per_stage() {
            let name = format!("stages.{stage}.blocks.{block}");
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let active = norm(named, &format!("{name}.norm1"), &x, groups)?;
            let shortcut = match named.0.contains_key(&format!("{name}.downsample.conv.weight")) {
                true => weight(named, &format!("{name}.downsample.conv"), &active, stride)?,
                false => x,
            };
            let branch = weight(named, &format!("{name}.conv1"), &active, stride)?;
            let branch = norm(named, &format!("{name}.norm2"), &branch, groups)?;
            x = (weight(named, &format!("{name}.conv2"), &branch, 1)? + shortcut)?;
        }
    }
    head(named, "head.fc", &reference::global_mean(&norm(named, "norm", &x, groups)?)?)
}

fn bottlenecks(net: &BitResnet, named: &Named, images: &Tensor) -> Result<Tensor> {
    let x = weight(named, "stem.conv", images, 2)?;
    let mut x = reference::pool(&x, Kind::Max, (3, 2, 1), Beyond::Zeros)?;
    for (stage, blocks) in net.blocks().into_iter().enumerate() {
        for block in 0..blocks {
            let name = format!("stages.{stage}.blocks.{block}");
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let active = norm(named, &format!("{name}.norm1"), &x, 32)?;
            let shortcut = match block {
                0 => weight(named, &format!("{name}.downsample.conv"), &active, stride)?,
                _ => x,
            };
            let branch = weight(named, &format!("{name}.conv1"), &active, 1)?;
            let branch = norm(named, &format!("{name}.norm2"), &branch, 32)?;
            let branch = weight(named, &format!("{name}.conv2"), &branch, stride)?;
            let branch = norm(named, &format!("{name}.norm3"), &branch, 32)?;
            x = (weight(named, &format!("{name}.conv3"), &branch, 1)? + shortcut)?;
        }
    }
    head(named, "head.fc", &reference::global_mean(&norm(named, "norm", &x, 32)?)?)
}

fn transformer(net: &Vit, named: &Named, images: &Tensor) -> Result<Tensor> {
    let (width, patch, n) = (net.width as usize, net.patch as usize, images.dim(0)?);
    let (kernel, bias) = (named.get("patch_embed.proj.weight"), named.get("patch_embed.proj.bias"));
    let patches = reference::conv(images, kernel, Some(bias), (patch, 0, 1))?.flatten(1, 2)?;
    let tokens = match net.pool {
        Pool::ClassToken => Tensor::cat(&[named.get("cls_token").broadcast_as((n, 1, width))?, patches], 1)?,
        Pool::Mean => patches,
    };
    let mut x = tokens.broadcast_add(named.get("pos_embed"))?;
    let norm = |name: &str, x: &Tensor| {
        reference::layer_norm(x, named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")), 1e-6)
    };
    for block in 0..net.depth {
        let name = |part: &str| format!("blocks.{block}.{part}");
        let joint = head(named, &name("attn.qkv"), &norm(&name("norm1"), &x)?)?;
        let mixed = reference::attention(&joint, net.heads as usize)?;
        x = (x + head(named, &name("attn.proj"), &mixed)?)?;
        let hidden = head(named, &name("mlp.fc1"), &norm(&name("norm2"), &x)?)?.gelu_erf()?;
        x = (x + head(named, &name("mlp.fc2"), &hidden)?)?;
    }
    let norm = norm("norm", &x)?;
    match net.pool {
        Pool::ClassToken => head(named, "head", &norm.narrow(1, 0, 1)?.squeeze(D::Minus2)?),
        Pool::Mean => head(named, "head", &norm.mean(1)?),
    }
}

fn plain(named: &Named, name: &str, x: &Tensor, stride: usize) -> Result<Tensor> {
    let w = named.get(&format!("{name}.weight"));
    let groups = if w.dim(1)? == 1 { x.dim(3)? } else { 1 };
    reference::conv(x, w, None, (stride, w.dim(2)? / 2, groups))
}

fn mobile(net: &MobilenetV3, named: &Named, images: &Tensor) -> Result<Tensor> {
    let norm = |name: &str, x: &Tensor| {
        let (weight, bias) = (named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")));
        match net.norm {
            Norm::Group => reference::group_norm(x, weight, bias, 8, 1e-5),
            Norm::Batch => reference::batch_norm(x, weight, bias, 1e-5),
        }
    };
    let mut x = reference::hard_swish(&norm("bn1", &plain(named, "conv_stem", images, 2)?)?)?;
    for (place, block) in net.blocks().into_iter().enumerate() {
        let name = |part: &str| format!("blocks.{}.{}.{part}", block.stage, block.index);
        let act = |x: Tensor| if block.hard_swish { reference::hard_swish(&x) } else { x.relu() };
        let mut y = x.clone();
        if place > 0 {
            y = act(norm(&name("bn1"), &plain(named, &name("conv_pw"), &y, 1)?)?)?;
        }
        let (second, project, third) = if place == 0 { ("bn1", "conv_pw", "bn2") } else { ("bn2", "conv_pwl", "bn3") };
        y = act(norm(&name(second), &plain(named, &name("conv_dw"), &y, block.stride as usize)?)?)?;
        if block.squeeze_excite {
            let part = |part: &str| named.get(&name(part)).clone();
            let parts = ["reduce.weight", "reduce.bias", "expand.weight", "expand.bias"];
            let parts = parts.map(|of| part(&format!("se.conv_{of}")));
            y = reference::squeeze_excite(&y, [&parts[0], &parts[1], &parts[2], &parts[3]])?;
        }
        y = norm(&name(third), &plain(named, &name(project), &y, 1)?)?;
        x = if y.dims() == x.dims() { (y + x)? } else { y };
    }
    let last = format!("blocks.{}.0", if net.size == MobilenetSize::Large { 6 } else { 5 });
    let x = norm(&format!("{last}.bn1"), &plain(named, &format!("{last}.conv"), &x, 1)?)?;
    let features = reference::global_mean(&reference::hard_swish(&x)?)?;
    head(named, "classifier", &reference::hard_swish(&head(named, "conv_head", &features)?)?)
}

fn cifar(net: &CifarResnet, named: &Named, images: &Tensor) -> Result<Tensor> {
    let norm = |name: &str, x: &Tensor| {
        let (weight, bias) = (named.get(&format!("{name}.weight")), named.get(&format!("{name}.bias")));
        reference::batch_norm(x, weight, bias, 1e-5)
    };
    let mut x = norm("bn1", &plain(named, "conv1", images, 1)?)?.relu()?;
    for stage in 0..3 {
        for block in 0..net.blocks_per_stage() {
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = norm(&name("bn1"), &plain(named, &name("conv1"), &x, stride)?)?.relu()?;
            let y = norm(&name("bn2"), &plain(named, &name("conv2"), &y, 1)?)?;
            x = (y + reference::shortcut(&x, stride, 16 << stage)?)?.relu()?;
        }
    }
    head(named, "linear", &reference::global_mean(&x)?)
}

/// Weights of the size networks have, off the zero head, where the gradient of all below would vanish.
fn weights(blueprint: &Blueprint) -> Vec<f64> {
    let mut flat: Vec<f64> = blueprint.scratch(1).into_iter().map(f64::from).collect();
    let noise = some(flat.len(), 5);
    flat.iter_mut().zip(noise).for_each(|(weight, noise)| *weight += 0.1 * noise);
    flat
}

#[test]
fn networks_are_those_of_candle_and_every_tensor_learns() {
    for (model, input) in models() {
        let graph = graph::<f64>(&model, input);
        let blueprint = graph.blueprint.clone();
        let flat = weights(&blueprint);
        let (side, n) = (input.resolution as usize, 3);
        let shape = (n, side, side, input.channels as usize);
        let images = some(n * side * side * input.channels as usize, 6);
        let teacher = some(n * 7, 7).into_iter().map(|logit| 3.0 * logit).collect::<Vec<_>>();

        let mut gradient = vec![0.0; flat.len()];
        let target = Loss::kl(&teacher, 2.0);
        let loss = Engine::trainable(graph).step(&flat, &images, target, &mut gradient);

        let named = Named::new(&blueprint, &flat);
        let tensor = |numbers: &[f64], shape: &[usize]| Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap();
        let images_of_candle = tensor(&images, &[shape.0, shape.1, shape.2, shape.3]);
        let answer = logits(&model, input, &named, &images_of_candle).unwrap();
        let theirs = reference::kl(&answer, &tensor(&teacher, &[n, 7]), 2.0).unwrap();
        let expected = theirs.to_scalar::<f64>().unwrap();
        assert!((loss - expected).abs() < 1e-9 * expected, "{}: {loss}, candle {expected}", model.label());

        let expected = named.gradient(&blueprint, &theirs);
        // Candle's GELU has rounded constants.
        compare(&model, &blueprint, &gradient, &expected, if matches!(model, Model::Vit(_)) { 1e-6 } else { 1e-8 });
        for (entry, range) in blueprint.places() {
            let moves = gradient[range].iter().any(|g| *g != 0.0);
            assert_eq!(moves, entry.role.learns(), "{}: the gradient of `{}`", model.label(), entry.name);
        }

        let narrow = |numbers: &[f64]| numbers.iter().map(|number| *number as f32).collect::<Vec<f32>>();
        let (flat, images, teacher) = (narrow(&flat), narrow(&images), narrow(&teacher));
        let mut single = vec![0f32; flat.len()];
        let target = Loss::kl(&teacher, 2.0);
        let graph = super::graph::<f32>(&model, input);
        Engine::trainable(graph).step(&flat, &images, target, &mut single);
        let wide: Vec<f64> = single.into_iter().map(f64::from).collect();
        compare(&model, &blueprint, &wide, &expected, 1e-3);
    }
}

/// Tensor by tensor, relative to the largest number of each. Before a BatchNorm a bias may have no gradient at all, so
/// rounding is measured by the whole.
fn compare(model: &Model, blueprint: &Blueprint, gradient: &[f64], expected: &[f64], tolerance: f64) {
    let largest = |numbers: &[f64]| numbers.iter().map(|g| g.abs()).fold(0.0, f64::max);
    for (entry, range) in blueprint.places() {
        let (ours, theirs) = (&gradient[range.clone()], &expected[range]);
        let size = largest(theirs).max(1e-4 * largest(expected));
        let error = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error <= tolerance * size, "{}: `{}` is off by {error:e} of {size:e}", model.label(), entry.name);
    }
}

#[test]
fn parameters_and_multiplications_are_counted_as_built() {
    let w1 = Input::new(3, 100, 32);
    let imagenet = Input::new(3, 1000, 224);
    let mut all = models();
    // Sizes of the CPU benchmarks, and paper.md 2.5.
    let known = [
        (Model::BitResnetSmall(BitResnetSmall { depth: 20, width: 16 }), w1, 278_132),
        (Model::BitResnetSmall(BitResnetSmall { depth: 20, width: 32 }), w1, 1_095_812),
        (Model::BitResnet(BitResnet { depth: 50, width: 1 }), imagenet, 25_549_352),
        (Model::BitResnet(BitResnet { depth: 152, width: 2 }), imagenet, 236_335_208),
        // As timm and the net's own repository count them.
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Large, norm: Norm::Group }), imagenet, 5_483_032),
        (Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Batch }), imagenet, 2_542_856),
        (Model::CifarResnet(CifarResnet { depth: 20 }), Input::new(3, 10, 32), 269_722),
        (Model::CifarResnet(CifarResnet { depth: 56 }), Input::new(3, 10, 32), 853_018),
    ];
    for (model, input, expected) in known {
        assert_eq!(model.parameters(input), expected, "{}", model.label());
        all.push((model, input));
    }
    for (model, input) in all {
        let graph = graph::<f32>(&model, input);
        assert_eq!(model.parameters(input), graph.blueprint.parameters() as u64, "{}", model.label());
        assert_eq!(model.macs(input), graph.macs(), "{}", model.label());
    }
}
