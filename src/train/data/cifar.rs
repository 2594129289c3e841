//! CIFAR-10 and CIFAR-100 as their authors published them: `.bin` files of one or two label bytes and 3,072 of pixels.
//!
//! Of CIFAR-10, files whose names start with `data_batch` are for training, with `test_batch` for testing, and
//! `batches.meta.txt` names the classes; of CIFAR-100, `train.bin`, `test.bin` and `fine_label_names.txt`, and the fine
//! label counts. Planes of red, green and blue follow each other in a file; here they are interleaved.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{DataSet, Images};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// One of both sets.
struct Kind {
    train: &'static str,
    test: &'static str,
    names: &'static str,
    /// The last counts.
    label_bytes: usize,
    classes: u32,
}

const KINDS: [Kind; 2] = [
    Kind { train: "data_batch", test: "test_batch", names: "batches.meta.txt", label_bytes: 1, classes: 10 },
    Kind { train: "train", test: "test", names: "fine_label_names.txt", label_bytes: 2, classes: 100 },
];

fn kind(folder: &Path) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| [kind.train, kind.test].iter().any(|prefix| !files(folder, prefix).is_empty()))
}

pub(super) fn is_here(folder: &Path) -> bool {
    kind(folder).is_some()
}

fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(".bin")
    };
    let mut files: Vec<PathBuf> = entries.filter(ours).collect();
    files.sort();
    files
}

/// # Errors
/// When files cannot be read or are not as long as whole images. Either part may be missing.
pub(super) fn folder(folder: &Path) -> Result<DataSet> {
    let Some(kind) = kind(folder) else { bail!("`{}` holds no CIFAR", folder.display()) };
    Ok(DataSet {
        train: part(folder, kind, kind.train)?,
        validation: Images::none(3),
        test: part(folder, kind, kind.test)?,
        classes: kind.classes,
        names: names(folder, kind),
        skipped: Vec::new(),
    })
}

fn part(folder: &Path, kind: &Kind, prefix: &str) -> Result<Images> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in files(folder, prefix) {
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let size = kind.label_bytes + 3 * PIXELS;
        ensure!(
            bytes.len().is_multiple_of(size),
            "`{}` is {} bytes long, which is no whole number of images of {size}",
            path.display(),
            bytes.len()
        );
        for (index, image) in bytes.chunks_exact(size).enumerate() {
            let (label, planes) = image.split_at(kind.label_bytes);
            let label = u32::from(label[kind.label_bytes - 1]);
            ensure!(label < kind.classes, "image {index} of `{}` has label {label}", path.display());
            labels.push(label);
            pixels.extend((0..PIXELS).flat_map(|place| [0, 1, 2].map(|plane| planes[plane * PIXELS + place])));
        }
    }
    Ok(Images::of_one_size(pixels, (SIDE, SIDE, 3), labels))
}

fn names(folder: &Path, kind: &Kind) -> Option<Vec<String>> {
    let text = fs::read_to_string(folder.join(kind.names)).ok()?;
    let names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    (names.len() == kind.classes as usize).then_some(names)
}
