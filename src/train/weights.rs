//! Trained weights from files: safetensors under timm's names, and the `.npz` of BiT and of big_vision.
//!
//! In: a file and a network's [`Blueprint`]. Out: the flat vector of its numbers, in f32. What a file is, its first bytes
//! say. What does not fit is told all at once, by name.

mod npz;
mod positions;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};

use super::model::{Blueprint, Entry, Role};

/// Of a vision transformer.
const POSITIONS: &str = "pos_embed";

/// The first bytes of a zip archive, which an `.npz` is.
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// A file's tensor under timm's name, laid as timm lays it.
struct Found {
    shape: Vec<usize>,
    /// As the file says it.
    kind: String,
    /// None where they are no floating-point numbers of 16, 32 or 64 bits.
    numbers: Option<Vec<f32>>,
}

/// At most so many names of a kind are told.
const NAMED: usize = 20;

/// Reads weights into the blueprint's order. A linear layer may be kept as a 1x1 convolution, and the other way;
/// positions of a square of patches are brought to that of this network, as timm does it.
///
/// # Errors
/// Lists the tensors that are missing, unexpected, of another shape or type, or not finite, in one message; and names a
/// file that cannot be read or is torn.
pub fn load_weights(path: &Path, blueprint: &Blueprint) -> Result<Vec<f32>> {
    load(path, blueprint, None)
}

/// As [`load_weights`], but the head is that of `fresh` whatever the file has.
///
/// # Errors
/// As [`load_weights`].
pub fn load_body(path: &Path, blueprint: &Blueprint, fresh: &[f32]) -> Result<Vec<f32>> {
    load(path, blueprint, Some(fresh))
}

fn load(path: &Path, blueprint: &Blueprint, fresh: Option<&[f32]>) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.starts_with(ARCHIVE) && holds(&bytes, b"data.pkl") {
        bail!(
            "`{}` is a checkpoint of torch\nhint: `safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"w.safetensors\")`",
            path.display()
        );
    }
    let mut found = if bytes.starts_with(ARCHIVE) { npz::read(path)? } else { safetensors(path, &bytes)? };
    // Torch counts a BatchNorm's batches; nobody needs to know.
    found.retain(|name, _| !name.ends_with(".num_batches_tracked"));
    let head = blueprint.head();
    let (mut missing, mut other, mut infinite, mut negative) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut flat = Vec::with_capacity(blueprint.len());
    for (entry, range) in blueprint.places() {
        let tensor = found.remove(&entry.name);
        if let (Some(fresh), true) = (fresh, head.contains(&entry.name)) {
            flat.extend(&fresh[range]);
            continue;
        }
        match tensor {
            // Given by a formula.
            None if matches!(entry.role, Role::SinCos { .. }) => flat.extend(entry.fixed()),
            None => missing.push(format!("`{}`", entry.name)),
            Some(tensor) => match tensor.fitted(entry) {
                Ok(numbers) => {
                    if numbers.iter().any(|number| !number.is_finite()) {
                        infinite.push(format!("`{}`", entry.name));
                    }
                    if entry.role == Role::RunningVariance && numbers.iter().any(|number| *number < 0.0) {
                        negative.push(format!("`{}`", entry.name));
                    }
                    flat.extend(numbers);
                }
                Err(Found { shape, kind, .. }) => {
                    let only_head = head.contains(&entry.name) && shape.first() != entry.shape.first();
                    other.push((
                        only_head,
                        format!("`{}` is {kind} {shape:?}, expected F32 {:?}", entry.name, entry.shape),
                    ));
                }
            },
        }
    }
    let unexpected: Vec<String> = found.into_keys().map(|name| format!("`{name}`")).collect();
    let only_head = missing.is_empty() && unexpected.is_empty() && other.iter().all(|(only_head, _)| *only_head);
    let other: Vec<String> = other.into_iter().map(|(_, text)| text).collect();
    let kinds = [("missing", missing), ("unexpected", unexpected), ("of another shape or type", other)];
    let problems: Vec<String> = kinds.iter().filter_map(|(kind, names)| told(kind, names)).collect();
    if !problems.is_empty() {
        let hint = match only_head {
            true => "the head is of other classes than the data; a student that starts from it says `head = \"reset\"`",
            false => "is it of another architecture? `distillery models` lists those there are",
        };
        bail!("`{}` does not fit the network: {}\nhint: {hint}", path.display(), problems.join("; "));
    }
    if let Some(told) = told("not finite", &infinite) {
        bail!("`{}` holds numbers that are no numbers: {told}", path.display());
    }
    if let Some(told) = told("negative", &negative) {
        bail!("`{}` holds variances that can be none: {told}", path.display());
    }
    Ok(flat)
}

/// Whether the beginning of a file names `what`.
fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes[..bytes.len().min(4096)].windows(what.len()).any(|window| window == what)
}

fn told(kind: &str, names: &[String]) -> Option<String> {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = &names[..names.len().min(NAMED)];
    (!names.is_empty()).then(|| format!("{kind}: {}{more}", names.join(", ")))
}

impl Found {
    /// The numbers as the entry wants them; itself where it does not fit.
    fn fitted(mut self, entry: &Entry) -> Result<Vec<f32>, Found> {
        let Some(numbers) = self.numbers.take() else { return Err(self) };
        if squeezed(&self.shape) == squeezed(&entry.shape) {
            return Ok(numbers);
        }
        match entry.name == POSITIONS {
            true => positions::fitted(&numbers, &self.shape, &entry.shape).ok_or(self),
            false => Err(self),
        }
    }
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
        Dtype::F64 => Some(bytes.as_chunks().0.iter().map(|eight| f64::from_le_bytes(*eight) as f32).collect()),
        Dtype::F16 => Some(halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

pub use positions::resampled;

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
        assert!(error.contains("hint: the head is of other classes"), "{error}");
        assert!(write(Dtype::I16, &[2, 3], f16).unwrap_err().to_string().contains("is I16"));
    }
}
