//! Trained weights from files: safetensors under timm's names, and the `.npz` of BiT and of big_vision.
//!
//! In: a file and a network's [`Blueprint`]. Out: the flat vector of its numbers, in f32. What a file is, its first bytes
//! say. What does not fit is told all at once, by name.

mod npz;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};

use super::model::Blueprint;

/// The first bytes of a zip archive, which an `.npz` is.
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// A file's tensor under timm's name, laid as timm lays it.
struct Found {
    shape: Vec<usize>,
    /// As the file says it.
    kind: String,
    /// None where they are no floating-point numbers of 16 or 32 bits.
    numbers: Option<Vec<f32>>,
}

/// Reads weights into the blueprint's order. A linear layer may be kept as a 1x1 convolution, and the other way.
///
/// # Errors
/// Lists every tensor that is missing, unexpected or of another shape or type, in one message; and names a file that
/// cannot be read, is torn, or holds numbers that are not finite.
pub fn load_weights(path: &Path, blueprint: &Blueprint) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut found = if bytes.starts_with(ARCHIVE) { npz::read(path)? } else { safetensors(path, &bytes)? };
    let mut wrong = Vec::new();
    let mut flat = Vec::with_capacity(blueprint.len());
    for entry in &blueprint.tensors {
        match found.remove(&entry.name) {
            None => wrong.push(format!("missing `{}`", entry.name)),
            Some(Found { shape, numbers: Some(numbers), .. }) if squeezed(&shape) == squeezed(&entry.shape) => {
                flat.extend(numbers);
            }
            Some(Found { shape, kind, .. }) => {
                wrong.push(format!("`{}` is {kind} {shape:?}, expected F32 {:?}", entry.name, entry.shape));
            }
        }
    }
    wrong.extend(found.into_keys().map(|name| format!("unexpected `{name}`")));
    if !wrong.is_empty() {
        bail!("`{}` does not fit the network: {}", path.display(), wrong.join(", "));
    }
    if flat.iter().any(|value| !value.is_finite()) {
        bail!("`{}` holds numbers that are not finite", path.display());
    }
    Ok(flat)
}

fn safetensors(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Found>> {
    let file = SafeTensors::deserialize(bytes)
        .with_context(|| format!("`{}` is neither a whole safetensors file nor an `.npz`", path.display()))?;
    let tensors = file.iter().map(|(name, view)| {
        let kind = format!("{:?}", view.dtype());
        (name.to_owned(), Found { shape: view.shape().to_vec(), kind, numbers: numbers(view.dtype(), view.data()) })
    });
    Ok(tensors.collect())
}

/// Without ones at the end.
fn squeezed(shape: &[usize]) -> &[usize] {
    let last = shape.iter().rposition(|side| *side != 1).map_or(0, |place| place + 1);
    &shape[..last]
}

fn numbers(kind: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let singles = || bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    match kind {
        Dtype::F32 => Some(singles().collect()),
        Dtype::BF16 => Some(halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        Dtype::F16 => Some(halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::train::model::Role;

    /// Numbers of 16 bits, and a head kept as a convolution or as a matrix.
    #[test]
    fn weights_of_other_types_and_shapes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let mut blueprint = Blueprint { tensors: Vec::new() };
        blueprint.add("head.weight".into(), &[2, 3, 1, 1], Role::Head);
        let expected = [1.0, -2.0, 0.5, 0.25, 4.0, -0.125];
        let write = |kind, shape: &[usize], bytes: Vec<u8>| {
            let view = TensorView::new(kind, shape.to_vec(), &bytes).unwrap();
            fs::write(&path, safetensors::serialize([("head.weight", view)], None).unwrap()).unwrap();
            load_weights(&path, &blueprint)
        };
        let bf16: Vec<u8> = expected.iter().flat_map(|x: &f32| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
        let f16: Vec<u8> =
            [0x3c00u16, 0xc000, 0x3800, 0x3400, 0x4400, 0xb000].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let f32: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(write(Dtype::BF16, &[2, 3, 1, 1], bf16).unwrap(), expected);
        assert_eq!(write(Dtype::F16, &[2, 3], f16.clone()).unwrap(), expected);
        assert_eq!(write(Dtype::F32, &[2, 3, 1], f32).unwrap(), expected);
        let error = write(Dtype::F16, &[3, 2], f16.clone()).unwrap_err().to_string();
        assert!(error.contains("`head.weight` is F16 [3, 2], expected F32 [2, 3, 1, 1]"), "{error}");
        assert!(write(Dtype::I16, &[2, 3], f16).unwrap_err().to_string().contains("is I16"));
    }
}
