//! Answers that took long, on disk: logits `[images, classes]` of the first so many training images.
//!
//! The file carries the stream key it answers and a checksum; one that is torn, or of another question, is not used.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::disk;
use crate::folder::replace;

const NAME: &str = "logits";

pub(super) fn save(file: &Path, key: &str, chunks: &[Tensor]) -> Result<()> {
    if chunks.is_empty() {
        return Ok(());
    }
    let all = Tensor::cat(chunks, 0)?;
    let bytes: Vec<u8> = all.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect();
    let metadata = HashMap::from([("checksum".to_owned(), checksum(key, &bytes))]);
    let view = TensorView::new(Dtype::F32, all.dims().to_vec(), &bytes)?;
    let bytes = safetensors::serialize([(NAME, view)], Some(metadata))?;
    let folder = file.parent().context("a file lies in a folder")?;
    disk::ensure_room(file, bytes.len() as u64)?;
    fs::create_dir_all(folder).and_then(|()| replace(file, &bytes)).map_err(|error| disk::explain(file, error))
}

pub(super) fn load(file: &Path, key: &str) -> Option<Tensor> {
    let bytes = fs::read(file).ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    let tensors = SafeTensors::deserialize(&bytes).ok()?;
    let view = tensors.tensor(NAME).ok()?;
    if header.metadata().as_ref()?.get("checksum")? != &checksum(key, view.data()) {
        return None;
    }
    let numbers = view.data().chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    Tensor::from_vec(numbers.collect::<Vec<_>>(), view.shape(), &Device::Cpu).ok()
}

fn checksum(key: &str, bytes: &[u8]) -> String {
    hex(&Sha256::new_with_prefix(key).chain_update(bytes).finalize())
}
