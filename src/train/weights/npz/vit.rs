//! Vision transformers of Google's JAX code: `vit_jax` (also AugReg's) and big_vision.
//!
//! # Names
//! `Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel` is a third of timm's `blocks.0.attn.qkv.weight`.
//! Both count a block's parts, big_vision each kind by itself, `vit_jax` all in a row.
//!
//! # Shapes
//! Queries, keys and values `[C, heads, C / heads]`, the projection `[heads, C / heads, C]`; timm's are `[3 C, C]` and
//! `[C, C]`.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;

use super::Found;

const PARTS: [&str; 3] = ["query", "key", "value"];

/// timm's name of a layer, or for queries, keys and values that of their third; none for what is no part of one.
pub(super) fn layer(parts: &[&str]) -> Option<String> {
    let rest = match parts {
        ["embedding"] => return Some("patch_embed.proj".into()),
        ["Transformer", "encoder_norm"] => return Some("norm".into()),
        ["Transformer", rest @ ..] => rest,
        _ => return None,
    };
    let [block, kind, rest @ ..] = rest else { return None };
    let block: u32 = block.strip_prefix("encoderblock_")?.parse().ok()?;
    let (kind, number) = kind.rsplit_once('_')?;
    let number: u32 = number.parse().ok()?;
    let part = match (kind, rest) {
        ("LayerNorm", []) => {
            if number == 0 {
                "norm1".into()
            } else {
                "norm2".into()
            }
        }
        ("MlpBlock", ["Dense_0"]) => "mlp.fc1".into(),
        ("MlpBlock", ["Dense_1"]) => "mlp.fc2".into(),
        ("MultiHeadDotProductAttention", ["out"]) => "attn.proj".into(),
        ("MultiHeadDotProductAttention", [part]) if PARTS.contains(part) => format!("attn.qkv.{part}"),
        _ => return None,
    };
    Some(format!("blocks.{block}.{part}"))
}

/// timm's name of what is no layer.
pub(super) fn token(name: &str) -> Option<&'static str> {
    match name {
        "cls" => Some("cls_token"),
        "pos_embedding" | "Transformer/posembed_input/pos_embedding" => Some("pos_embed"),
        _ => None,
    }
}

/// Heads side by side, as matrices and vectors.
pub(super) fn flattened(name: &str, tensor: &Tensor) -> Result<Tensor> {
    Ok(match (name.rsplit('/').nth(1), tensor.rank()) {
        (Some("out"), 3) => tensor.flatten(0, 1)?,
        (Some("query" | "key" | "value"), 3) => tensor.flatten(1, 2)?,
        (Some("query" | "key" | "value"), 2) if name.ends_with("bias") => tensor.flatten_all()?,
        _ => tensor.clone(),
    })
}

/// Puts queries, keys and values together.
pub(super) fn join(found: &mut BTreeMap<String, Found>) {
    let first = format!(".{}.", PARTS[0]);
    let queries: Vec<String> =
        found.keys().filter(|name| name.contains(".attn.qkv") && name.contains(&first)).cloned().collect();
    for query in queries {
        let names = PARTS.map(|part| query.replace(&first, &format!(".{part}.")));
        if !names.iter().all(|name| found.contains_key(name)) {
            continue;
        }
        let parts: Vec<Found> = names.iter().filter_map(|name| found.remove(name)).collect();
        let kind = parts[0].kind.clone();
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        let numbers: Option<Vec<Vec<f32>>> = parts.into_iter().map(|part| part.numbers).collect();
        found.insert(query.replace(&first, "."), Found { shape, kind, numbers: numbers.map(|parts| parts.concat()) });
    }
}
