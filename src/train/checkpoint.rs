//! A student's state on disk: exact, atomic, and noticed when torn.
//!
//! A checkpoint is a safetensors file with the weights and the optimiser's moments; the place in the run and the sums
//! of the running epoch are in its metadata, with a SHA-256 over all of it. It is written to a temporary name, synced
//! and renamed. Two names take turns, so that a file that turns out to be torn leaves the one before it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::model::Blueprint;
use super::watch::Watch;
use crate::digest::hex;
use crate::disk;
use crate::folder::replace;

const NAMES: [&str; 2] = ["checkpoint-a.safetensors", "checkpoint-b.safetensors"];

/// Where a run is, and what its current epoch has gathered so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// Of the job: a checkpoint belongs to one.
    pub job: String,
    /// Counts the checkpoints written; the higher of two is newer.
    pub serial: u64,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u32,
    /// Of this epoch: sum of the steps' losses, of gradient norms, steps, seconds.
    pub loss: f64,
    pub gradient_norm: f64,
    pub steps: u64,
    pub seconds: f64,
    #[serde(default)]
    pub watch: Watch,
    /// The best share of validation images so far, where the best weights are kept.
    #[serde(default)]
    pub best: Option<f64>,
}

/// A student's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub place: Place,
    pub weights: Vec<f32>,
    pub moments: Vec<(String, Vec<f32>)>,
}

/// What was found in a job's folder.
#[derive(Debug)]
pub struct Found {
    pub checkpoint: Option<Checkpoint>,
    /// Files that are there but not whole.
    pub torn: Vec<String>,
}

/// Writes over the older of the two files. `moments` are borrowed as (name, numbers).
pub fn save(folder: &Path, place: &Place, weights: &[f32], moments: &[(&str, &[f32])]) -> Result<()> {
    let mut tensors = vec![("weights", weights)];
    tensors.extend(moments);
    let place_text = serde_json::to_string(place)?;
    let hash = digest(&place_text, &tensors);
    let metadata = HashMap::from([("place".to_owned(), place_text), ("sha256".to_owned(), hash)]);
    let bytes = serialize(tensors.iter().map(|(name, numbers)| (*name, vec![numbers.len()], *numbers)), metadata)?;
    let path = folder.join(NAMES[(place.serial % 2) as usize]);
    replace_file(&path, &bytes)
}

/// The newest whole checkpoint of `job`, if there is one.
pub fn load(folder: &Path, job: &str) -> Result<Found> {
    let mut found = Found { checkpoint: None, torn: Vec::new() };
    for name in NAMES {
        let path = folder.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        match parse(&bytes, job) {
            Ok(checkpoint) => {
                let newest = found.checkpoint.as_ref().map(|newest| newest.place.serial);
                if newest.is_none_or(|newest| newest < checkpoint.place.serial) {
                    found.checkpoint = Some(checkpoint);
                }
            }
            Err(error) => found.torn.push(format!("{name}: {error:#}")),
        }
    }
    Ok(found)
}

/// Removes a finished job's checkpoints: its result is the student's file.
pub fn remove(folder: &Path) -> Result<()> {
    for name in NAMES {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove `{name}` in `{}`", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes trained weights under timm's names.
pub fn save_student(path: &Path, blueprint: &Blueprint, flat: &[f32], job: &str) -> Result<()> {
    let mut rest = flat;
    let entries = blueprint.tensors.iter().map(|entry| {
        let (numbers, after) = rest.split_at(entry.len());
        rest = after;
        (entry.name.as_str(), entry.shape.clone(), numbers)
    });
    let entries: Vec<_> = entries.collect();
    let bytes = serialize(entries, HashMap::from([("job".to_owned(), job.to_owned())]))?;
    replace_file(path, &bytes)
}

fn parse(bytes: &[u8], job: &str) -> Result<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let metadata = header.metadata().as_ref().context("no metadata")?;
    let (Some(place_text), Some(hash)) = (metadata.get("place"), metadata.get("sha256")) else {
        bail!("no place or checksum")
    };
    let mut tensors: Vec<(String, Vec<f32>)> =
        file.iter().map(|(name, view)| (name.to_owned(), floats(view.data()).collect())).collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let borrowed: Vec<(&str, &[f32])> = tensors.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    if digest(place_text, &borrowed) != *hash {
        bail!("checksum does not match");
    }
    let place: Place = serde_json::from_str(place_text)?;
    if place.job != job {
        bail!("belongs to job {}", place.job);
    }
    let at = tensors.iter().position(|(name, _)| name == "weights").context("no weights")?;
    let (_, weights) = tensors.remove(at);
    Ok(Checkpoint { place, weights, moments: tensors })
}

/// The old file stays until the new one is whole, and where there is no room for both.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    disk::ensure_room(path, bytes.len() as u64)?;
    replace(path, bytes).map_err(|error| disk::explain(path, error))
}

/// Of the place and all numbers, tensors in the order of their names.
fn digest(place: &str, tensors: &[(&str, &[f32])]) -> String {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut hash = Sha256::new_with_prefix(place);
    for (name, numbers) in sorted {
        hash.update(name);
        hash.update(bytes_of(numbers));
    }
    hex(&hash.finalize())
}

fn serialize<'a>(
    tensors: impl IntoIterator<Item = (&'a str, Vec<usize>, &'a [f32])>,
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let tensors: Vec<_> = tensors.into_iter().map(|(name, shape, numbers)| (name, shape, bytes_of(numbers))).collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize(views, Some(metadata))?)
}

fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(serial: u64) -> Place {
        Place { job: "j".into(), serial, step: serial * 10, epoch: serial as u32, loss: 0.1 + 0.2, ..Place::default() }
    }

    #[test]
    fn comes_back_bit_for_bit_and_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let weights = vec![1.5f32, -0.0, f32::MIN_POSITIVE, 1e-45];
        for serial in 0..3 {
            save(folder.path(), &place(serial), &weights, &[("m", &[2.0])]).unwrap();
        }
        let found = load(folder.path(), "j").unwrap();
        assert!(found.torn.is_empty());
        let checkpoint = found.checkpoint.unwrap();
        assert_eq!(checkpoint.place, place(2));
        assert_eq!(checkpoint.moments, [("m".to_owned(), vec![2.0])]);
        let bits = |numbers: &[f32]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&checkpoint.weights), bits(&weights));
    }

    /// Cut off at every length and with every single byte turned, a checkpoint is refused and the other one used.
    #[test]
    fn a_torn_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &place(1), &[1.0, 2.0], &[]).unwrap();
        save(folder.path(), &place(2), &[3.0, 4.0], &[]).unwrap();
        let newer = folder.path().join(NAMES[0]);
        let whole = fs::read(&newer).unwrap();
        let older = |bytes: &[u8]| {
            fs::write(&newer, bytes).unwrap();
            let found = load(folder.path(), "j").unwrap();
            assert_eq!(found.torn.len(), 1, "{bytes:?}");
            assert_eq!(found.checkpoint.unwrap().weights, [1.0, 2.0]);
        };
        for length in 0..whole.len() {
            older(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            // Blanks that pad the header carry no meaning: a changed one may still parse, but then nothing is lost.
            if whole[at] != b' ' {
                older(&bytes);
            }
        }
        fs::write(&newer, &whole).unwrap();
        assert_eq!(load(folder.path(), "j").unwrap().checkpoint.unwrap().weights, [3.0, 4.0]);
    }

    #[test]
    fn another_jobs_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &place(1), &[1.0], &[]).unwrap();
        let found = load(folder.path(), "k").unwrap();
        assert!(found.checkpoint.is_none());
        assert!(found.torn[0].contains("belongs to job j"), "{:?}", found.torn);
    }
}
