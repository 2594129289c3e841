//! Weights as Google published them: `.npz` files of BiT-ResNets by BiT's TensorFlow code and big_vision's JAX code, and of
//! vision transformers (`npz/vit.rs`).
//!
//! # Names
//! As in `paper.md` 2.6: `resnet/block1/unit01/a/standardized_conv2d/kernel` (BiT; layers may be numbered by a suffix) and
//! `block1/unit01/conv1/kernel` (big_vision; below `params/` or `opt/target/` in whole checkpoints, whose other arrays
//! are left out) are timm's `stages.0.blocks.0.conv1.weight`.
//!
//! # Shapes
//! Kernels are `[H, W, I, O]` or, of a linear layer, `[I, O]`; timm's are `[O, I, H, W]` and `[O, I]`.

mod vit;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::npy::NpzTensors;
use candle_core::{DType, Tensor};

use super::Found;

/// Where a checkpoint of big_vision keeps the network's numbers.
const BELOW: [&str; 2] = ["params/", "opt/target/"];

pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Found>> {
    let context = || format!("`{}` is no whole `.npz` file", path.display());
    let unread = |error: candle_core::Error| match error.to_string() {
        text if text.contains("not supported") => anyhow!(
            "`{}` is an `.npz` that cannot be read: {text}\nhint: write it with `numpy.savez`, uncompressed and in C order",
            path.display()
        ),
        _ => anyhow::Error::new(error).context(context()),
    };
    let file = NpzTensors::new(path).map_err(unread)?;
    let names: Vec<&str> = file.names().into_iter().map(String::as_str).collect();
    let below = BELOW.into_iter().find(|below| names.iter().any(|name| name.starts_with(below)));
    let is_vit = names.iter().any(|name| name.contains("Transformer/"));
    let mut found = BTreeMap::new();
    for name in names {
        let Some(own) = name.strip_prefix(below.unwrap_or_default()) else { continue };
        let tensor = file.get(name).map_err(unread)?.with_context(context)?;
        let kind = tensor.dtype();
        let floats = matches!(kind, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        let tensor = vit::flattened(own, &tensor)?;
        let tensor = if own.ends_with("kernel") { turned(&tensor)? } else { tensor };
        let shape = tensor.dims().to_vec();
        let numbers = match floats {
            true => Some(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?),
            false => None,
        };
        let known = timm_name(own, is_vit).unwrap_or_else(|| name.to_owned());
        let before = found.insert(known.clone(), Found { shape, kind: format!("{kind:?}"), numbers });
        ensure!(before.is_none(), "`{}` has two tensors that are `{known}`", path.display());
    }
    vit::join(&mut found);
    Ok(found)
}

/// From inputs before outputs to timm's order.
fn turned(kernel: &Tensor) -> Result<Tensor> {
    Ok(match kernel.rank() {
        4 => kernel.permute((3, 2, 0, 1))?.contiguous()?,
        2 => kernel.t()?.contiguous()?,
        _ => kernel.clone(),
    })
}

/// None for what is no part of a network that is known.
fn timm_name(name: &str, is_vit: bool) -> Option<String> {
    if let Some(token) = vit::token(name) {
        return Some(token.to_owned());
    }
    // BiT numbers its layers in some files.
    let parts: Vec<&str> = name.strip_prefix("resnet/").unwrap_or(name).split('/').map(unnumbered).collect();
    let (layer, number) = parts.split_at(parts.len() - 1);
    let number = match *number.first()? {
        "kernel" | "gamma" | "scale" => "weight",
        "bias" | "beta" => "bias",
        _ => return None,
    };
    let whole: Vec<&str> = name.split('/').collect();
    if let Some(layer) = vit::layer(&whole[..whole.len() - 1]) {
        return Some(format!("{layer}.{number}"));
    }
    let layer = match layer {
        ["root_block", "standardized_conv2d" | "conv_root"] => "stem.conv".to_owned(),
        ["group_norm" | "norm-pre-head"] => "norm".to_owned(),
        ["head"] if is_vit => "head".to_owned(),
        ["head", "conv2d"] | ["head"] => "head.fc".to_owned(),
        [block, unit, rest @ ..] => {
            let place = |text: &str, kind: &str| text.strip_prefix(kind)?.parse::<u32>().ok()?.checked_sub(1);
            let (stage, block) = (place(block, "block")?, place(unit, "unit")?);
            let of_letter = |letter: &str| 1 + ["a", "b", "c"].iter().position(|one| *one == letter).unwrap_or(0);
            let part = match rest {
                ["a", "proj", "standardized_conv2d"] | ["conv_proj"] => "downsample.conv".to_owned(),
                [letter @ ("a" | "b" | "c"), "group_norm"] => format!("norm{}", of_letter(letter)),
                [letter @ ("a" | "b" | "c"), "standardized_conv2d"] => format!("conv{}", of_letter(letter)),
                ["gn1" | "gn2" | "gn3"] => rest[0].replace("gn", "norm"),
                ["conv1" | "conv2" | "conv3"] => rest[0].to_owned(),
                _ => return None,
            };
            format!("stages.{stage}.blocks.{block}.{part}")
        }
        _ => return None,
    };
    Some(format!("{layer}.{number}"))
}

/// `standardized_conv2d_12` is `standardized_conv2d`.
fn unnumbered(part: &str) -> &str {
    match part.rsplit_once('_') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use candle_core::Device;

    use super::*;
    use crate::job::{BitResnetSmall, Input, Model, Vit};
    use crate::train::model::Blueprint;
    use crate::train::weights::load_weights;

    #[test]
    fn published_names_are_timms() {
        for (published, timm) in [
            ("resnet/root_block/standardized_conv2d/kernel", "stem.conv.weight"),
            ("resnet/block1/unit01/a/group_norm/gamma", "stages.0.blocks.0.norm1.weight"),
            ("resnet/block3/unit36/c/standardized_conv2d_107/kernel", "stages.2.blocks.35.conv3.weight"),
            ("resnet/block2/unit01/a/proj/standardized_conv2d/kernel", "stages.1.blocks.0.downsample.conv.weight"),
            ("resnet/block4/unit03/b/group_norm_2/beta", "stages.3.blocks.2.norm2.bias"),
            ("resnet/group_norm/beta", "norm.bias"),
            ("resnet/head/conv2d/bias", "head.fc.bias"),
            ("root_block/conv_root/kernel", "stem.conv.weight"),
            ("block2/unit03/gn3/scale", "stages.1.blocks.2.norm3.weight"),
            ("block2/unit03/conv2/kernel", "stages.1.blocks.2.conv2.weight"),
            ("block1/unit01/conv_proj/kernel", "stages.0.blocks.0.downsample.conv.weight"),
            ("norm-pre-head/bias", "norm.bias"),
            ("head/kernel", "head.fc.weight"),
        ] {
            assert_eq!(timm_name(published, false).as_deref(), Some(timm), "{published}");
        }
        for other in ["step", "block0/unit01/conv1/kernel", "block1/unit01/d/group_norm/gamma", "head/kernel/mean", ""]
        {
            assert_eq!(timm_name(other, false), None, "{other}");
        }
    }

    /// The other way, for files to be read.
    fn published(timm: &str, bit: bool) -> String {
        let parts: Vec<&str> = timm.split('.').collect();
        let number = |norm: bool| match (parts[parts.len() - 1], norm, bit) {
            ("weight", true, true) => "gamma",
            ("weight", true, false) => "scale",
            ("bias", true, true) => "beta",
            ("weight", ..) => "kernel",
            _ => "bias",
        };
        match (&parts[..], bit) {
            (["stem", ..], true) => "resnet/root_block/standardized_conv2d/kernel".into(),
            (["stem", ..], false) => "root_block/conv_root/kernel".into(),
            (["norm", _], true) => format!("resnet/group_norm/{}", number(true)),
            (["norm", _], false) => format!("norm-pre-head/{}", number(true)),
            (["head", ..], true) => format!("resnet/head/conv2d/{}", number(false)),
            (["head", ..], false) => format!("head/{}", number(false)),
            (["stages", stage, "blocks", block, layer, ..], _) => {
                let (stage, block) = (stage.parse::<u32>().unwrap() + 1, block.parse::<u32>().unwrap() + 1);
                let letter =
                    ["a", "b", "c"][layer.bytes().last().map_or(0, |byte| usize::from(byte.wrapping_sub(b'1'))).min(2)];
                let rest = match (*layer, bit) {
                    ("downsample", true) => "a/proj/standardized_conv2d".into(),
                    ("downsample", false) => "conv_proj".into(),
                    (norm, true) if norm.starts_with("norm") => format!("{letter}/group_norm"),
                    (_, true) => format!("{letter}/standardized_conv2d_7"),
                    (other, false) => other.replace("norm", "gn"),
                };
                let prefix = if bit { "resnet/" } else { "" };
                format!("{prefix}block{stage}/unit{block:02}/{rest}/{}", number(layer.starts_with("norm")))
            }
            _ => panic!("{timm}"),
        }
    }

    type Named = Vec<(String, Tensor)>;

    #[test]
    fn files_of_both_kinds_are_read_and_what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // Small, with the names of the large ones.
        let model = Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 });
        let blueprint = Blueprint::new(&model, Input::new(3, 5, 32));
        let mut flat = blueprint.scratch(1);
        flat.iter_mut().enumerate().for_each(|(i, number)| *number += (i % 7) as f32 * 1e-3);
        let write = |bit: bool, change: &dyn Fn(&mut Named)| {
            let mut tensors: Named = blueprint
                .places()
                .map(|(entry, range)| {
                    let tensor = Tensor::from_slice(&flat[range], &entry.shape[..], &Device::Cpu).unwrap();
                    let tensor = match entry.shape.len() {
                        // big_vision's head is a matrix.
                        4 if !bit && entry.name == "head.fc.weight" => {
                            tensor.flatten_from(1).unwrap().t().unwrap().contiguous().unwrap()
                        }
                        4 => tensor.permute((2, 3, 1, 0)).unwrap().contiguous().unwrap(),
                        _ => tensor,
                    };
                    let below = if bit { "" } else { "params/" };
                    (format!("{below}{}", published(&entry.name, bit)), tensor)
                })
                .collect();
            change(&mut tensors);
            let path = folder.path().join("weights.npz");
            Tensor::write_npz(&tensors, &path).unwrap();
            (load_weights(&path, &blueprint), path)
        };
        assert_eq!(write(true, &|_| ()).0.unwrap(), flat);
        let one = || Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let with_more = |tensors: &mut Named| tensors.push(("opt/count".into(), one()));
        assert_eq!(write(false, &with_more).0.unwrap(), flat);
        let wrong = |tensors: &mut Named| {
            tensors.retain(|(name, _)| !name.ends_with("root_block/standardized_conv2d/kernel"));
            tensors.push(("resnet/else".into(), one()));
            let norm = tensors.iter_mut().find(|(name, _)| name == "resnet/group_norm/gamma").unwrap();
            norm.1 = one();
        };
        let error = write(true, &wrong).0.unwrap_err().to_string();
        for part in
            ["missing: `stem.conv.weight`", "unexpected: `resnet/else`", "`norm.weight` is F32 [1], expected F32 [64]"]
        {
            assert!(error.contains(part), "{error}");
        }
        let (_, path) = write(true, &|_| ());
        let whole = fs::read(&path).unwrap();
        for length in [4, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load_weights(&path, &blueprint).unwrap_err().to_string();
            assert!(error.contains("is no whole `.npz` file"), "{length}: {error}");
        }
    }

    /// A ViT written as `vit_jax` and as big_vision do: the same numbers in their own names, orders and shapes.
    #[test]
    fn vision_transformers_of_both_kinds_are_read() {
        let (width, heads) = (32, 2);
        let model = Model::Vit(Vit::new(width as u32, 2, heads as u32, 4));
        let blueprint = Blueprint::new(&model, Input::new(3, 5, 8));
        let flat: Vec<f32> = (0..blueprint.len()).map(|i| (i % 8191) as f32 / 100.0).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vit.npz");
        for big_vision in [false, true] {
            let mut tensors = Named::new();
            let mut put = |name: String, tensor: Tensor| {
                tensors.push((if big_vision { format!("params/{name}") } else { name }, tensor))
            };
            let numbered = |kind: &str, place: usize| {
                let place = match (big_vision, kind) {
                    (false, _) => place,
                    (true, "LayerNorm") => place / 2,
                    (true, _) => 0,
                };
                format!("{kind}_{place}")
            };
            for (entry, range) in blueprint.places() {
                let tensor = Tensor::from_slice(&flat[range], &entry.shape[..], &Device::Cpu).unwrap();
                let (layer, number) = entry.name.rsplit_once('.').unwrap_or((&entry.name, ""));
                let number = match number {
                    "weight" if layer.contains("norm") => "scale",
                    "weight" => "kernel",
                    other => other,
                };
                let turned = match tensor.rank() {
                    4 => tensor.permute((2, 3, 1, 0)).unwrap().contiguous().unwrap(),
                    2 => tensor.t().unwrap().contiguous().unwrap(),
                    _ => tensor.clone(),
                };
                let parts: Vec<&str> = layer.split('.').collect();
                match &parts[..] {
                    ["cls_token"] => put("cls".into(), tensor),
                    ["pos_embed"] if big_vision => put("pos_embedding".into(), tensor),
                    ["pos_embed"] => put("Transformer/posembed_input/pos_embedding".into(), tensor),
                    ["patch_embed", _] => put(format!("embedding/{number}"), turned),
                    ["norm"] => put(format!("Transformer/encoder_norm/{number}"), tensor),
                    ["head"] => put(format!("head/{number}"), turned),
                    ["blocks", block, rest @ ..] => {
                        let block = format!("Transformer/encoderblock_{block}");
                        let attention = format!("{block}/{}", numbered("MultiHeadDotProductAttention", 1));
                        match rest {
                            ["norm1"] => put(format!("{block}/{}/{number}", numbered("LayerNorm", 0)), tensor),
                            ["norm2"] => put(format!("{block}/{}/{number}", numbered("LayerNorm", 2)), tensor),
                            ["mlp", fc] => {
                                let dense = if *fc == "fc1" { "Dense_0" } else { "Dense_1" };
                                put(format!("{block}/{}/{dense}/{number}", numbered("MlpBlock", 3)), turned);
                            }
                            ["attn", "proj"] if number == "bias" => put(format!("{attention}/out/bias"), tensor),
                            ["attn", "proj"] => {
                                let kernel = turned.reshape((heads, width / heads, width)).unwrap();
                                put(format!("{attention}/out/kernel"), kernel);
                            }
                            _ => {
                                for (third, part) in ["query", "key", "value"].iter().enumerate() {
                                    let own = tensor.narrow(0, third * width, width).unwrap();
                                    let own = match number {
                                        "bias" => own.reshape((heads, width / heads)).unwrap(),
                                        _ => own
                                            .t()
                                            .unwrap()
                                            .contiguous()
                                            .unwrap()
                                            .reshape((width, heads, width / heads))
                                            .unwrap(),
                                    };
                                    put(format!("{attention}/{part}/{number}"), own);
                                }
                            }
                        }
                    }
                    _ => panic!("{}", entry.name),
                }
            }
            Tensor::write_npz(&tensors, &path).unwrap();
            assert_eq!(load_weights(&path, &blueprint).unwrap(), flat, "big_vision: {big_vision}");
        }
    }
}
