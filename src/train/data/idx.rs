//! The IDX format of MNIST: four files, read by `candle-datasets`.
//!
//! Gzipped files are unpacked into a temporary folder first. What `candle-datasets` does not do is done here: the
//! header is checked against the length of the file before it is believed, labels against the number of classes, and
//! the pixels are taken back from floats in [0, 1] to the bytes they were.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use candle_datasets::vision::mnist;
use flate2::read::GzDecoder;

use super::{DataSet, Images};

const CLASSES: u32 = 10;
const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Fashion-MNIST, MIT licence, (c) Zalando SE: `assets/data/fashion-mnist-8k2k/COPYRIGHT`.
const EMBEDDED: [&[u8]; 4] = [
    include_bytes!("../../../assets/data/fashion-mnist-8k2k/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../assets/data/fashion-mnist-8k2k/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../assets/data/fashion-mnist-8k2k/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../assets/data/fashion-mnist-8k2k/t10k-labels-idx1-ubyte.gz"),
];

pub(super) fn embedded() -> Result<DataSet> {
    let unpacked = Unpacked::new()?;
    for (name, bytes) in FILES.iter().zip(EMBEDDED) {
        unpacked.add(name, GzDecoder::new(bytes)).with_context(|| format!("cannot unpack `{name}`"))?;
    }
    read(&unpacked.folder)
}

/// Whether a folder has any of the four files.
pub(super) fn is_here(folder: &Path) -> bool {
    FILES.iter().any(|name| find(folder, name).is_some())
}

pub(super) fn folder(folder: &Path) -> Result<DataSet> {
    let unpacked = Unpacked::new()?;
    for name in FILES {
        let Some(path) = find(folder, name) else {
            bail!("`{}` holds neither `{name}` nor `{name}.gz`", folder.display());
        };
        let done = match path.extension().is_some_and(|extension| extension == "gz") {
            true => unpacked.add(name, GzDecoder::new(open(&path)?)),
            false => unpacked.add(name, open(&path)?),
        };
        done.with_context(|| format!("cannot read `{name}` in `{}`", folder.display()))?;
    }
    read(&unpacked.folder).with_context(|| format!("in `{}`", folder.display()))
}

/// The file of that name, or one with something in the middle of it, `t10k-first3000-images-idx3-ubyte`; plain before
/// packed.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact =
        [name.to_owned(), format!("{name}.gz")].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    let (start, end) = name.split_once('-')?;
    let fits = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.starts_with(&format!("{start}-")) && name.ends_with(&format!("-{end}"))
    };
    exact.or_else(|| {
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        entries.filter(fits).min()
    })
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open `{}`", path.display()))
}

fn read(folder: &Path) -> Result<DataSet> {
    let (train, test) = (header(folder, FILES[0], FILES[1])?, header(folder, FILES[2], FILES[3])?);
    let set = mnist::load_dir(folder)?;
    Ok(DataSet {
        train: images(train, &set.train_images, &set.train_labels)?,
        validation: Images::none(1),
        test: images(test, &set.test_images, &set.test_labels)?,
        classes: CLASSES,
        names: None,
        skipped: Vec::new(),
    })
}

/// Height and width, after the sizes in the headers were compared with the files' lengths.
fn header(folder: &Path, images: &str, labels: &str) -> Result<(usize, usize)> {
    let [magic, count, height, width] = words::<4>(&folder.join(images), images)?;
    let length = fs::metadata(folder.join(images))?.len();
    if magic != 0x803 {
        bail!("`{images}` is not an IDX file of images: it starts with {magic:#010x}, expected 0x00000803");
    }
    if length != 16 + u64::from(count) * u64::from(height) * u64::from(width) {
        bail!("`{images}` is {length} bytes long, which does not fit its {count} images of {height}x{width} px");
    }
    let [magic, labelled] = words::<2>(&folder.join(labels), labels)?;
    if magic != 0x801 {
        bail!("`{labels}` is not an IDX file of labels: it starts with {magic:#010x}, expected 0x00000801");
    }
    if labelled != count || fs::metadata(folder.join(labels))?.len() != 8 + u64::from(labelled) {
        bail!("`{labels}` holds {labelled} labels for {count} images, or is cut off");
    }
    Ok((height as usize, width as usize))
}

fn words<const N: usize>(path: &Path, name: &str) -> Result<[u32; N]> {
    let mut file = open(path)?;
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).with_context(|| format!("`{name}` ends inside its header"))?;
        *word = u32::from_be_bytes(bytes);
    }
    Ok(words)
}

fn images((height, width): (usize, usize), pixels: &Tensor, labels: &Tensor) -> Result<Images> {
    let floats = pixels.flatten_all()?.to_vec1::<f32>()?;
    let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    if let Some(label) = labels.iter().find(|label| **label >= CLASSES) {
        bail!("label {label} where there are {CLASSES} classes");
    }
    let pixels = floats.iter().map(|value| (value * 255.0).round() as u8).collect();
    Ok(Images::of_one_size(pixels, (height, width, 1), labels))
}

/// A temporary folder that is removed when dropped.
struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    fn new() -> Result<Unpacked> {
        let parent = std::env::temp_dir();
        for attempt in 0..1000 {
            let folder = parent.join(format!("distillery-idx-{}-{attempt}", std::process::id()));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Unpacked { folder }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context(format!("cannot make `{}`", folder.display())),
            }
        }
        bail!("`{}` is full of folders of this process", parent.display())
    }

    fn add(&self, name: &str, mut from: impl Read) -> io::Result<()> {
        let mut to = io::BufWriter::new(File::create(self.folder.join(name))?);
        io::copy(&mut from, &mut to)?;
        to.flush()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Nothing depends on it: what stays behind is a few megabytes in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
