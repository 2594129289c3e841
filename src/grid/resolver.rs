//! What the jobs of one experiment have in common while they are read: teachers, and content looked up once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::document::{Defaults, Section};
use super::job_text;
use super::merge::{Key, merge};
use super::teacher::Known;
use super::text::{Fault, Texts};
use super::{Catalogue, WeightsFile};
use crate::job::{Data, Job};
use crate::plan::Places;

/// A data set as an experiment file names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSpec {
    /// Fashion-MNIST's first 8,000 training and 2,000 test images, built in.
    #[serde(rename = "fashion-mnist-8k2k")]
    FashionMnist8k2k,
    /// A folder with the four IDX files of MNIST and its relatives.
    Idx(PathBuf),
    /// A folder of `train*.parquet` and `test*.parquet` as the Hugging Face hub has them.
    Parquet(PathBuf),
    /// A folder with the `.bin` files of CIFAR-10 or CIFAR-100.
    Cifar(PathBuf),
    /// A folder of images, a directory for every class, below `train` and `test` or as one tree.
    Folder(PathBuf),
}

impl DataSpec {
    /// Where it lies, and how that is written; none for what is built in.
    pub(super) fn path(&mut self) -> Option<(&mut PathBuf, &'static str)> {
        match self {
            DataSpec::FashionMnist8k2k => None,
            DataSpec::Idx(path) => Some((path, "data.idx")),
            DataSpec::Parquet(path) => Some((path, "data.parquet")),
            DataSpec::Cifar(path) => Some((path, "data.cifar")),
            DataSpec::Folder(path) => Some((path, "data.folder")),
        }
    }
}

/// How names of weights on the hub begin.
const HUB: &str = "hf:";

pub(super) struct Resolver<'a> {
    pub texts: &'a Texts,
    pub catalogue: &'a dyn Catalogue,
    /// Relative paths of the file start here.
    pub folder: Option<&'a Path>,
    pub base: Section<'a>,
    pub defaults: Defaults<'a>,
    pub sections: Vec<(Key<'a>, Section<'a>)>,
    pub data: HashMap<DataSpec, Data>,
    pub weights: HashMap<String, WeightsFile>,
    pub teachers: BTreeMap<String, Known>,
    /// Teachers being resolved, the outermost first.
    pub open: Vec<String>,
    pub places: Places,
}

impl<'a> Resolver<'a> {
    pub fn job(&mut self, table: &DeTable<'_>, header: Range<usize>) -> Result<Job, Fault> {
        job_text::resolve(self, table, header)
    }

    /// Asks the catalogue once for each data set.
    pub fn data(&mut self, spec: &DataSpec, span: Range<usize>) -> Result<Data, Fault> {
        let mut spec = spec.clone();
        if let Some((path, _)) = spec.path() {
            *path = self.place(path, &span);
        }
        if let Some(data) = self.data.get(&spec) {
            return Ok(data.clone());
        }
        let data = self.catalogue.data(&spec).map_err(|reason| fault_of_reason(span, &reason))?;
        if let Some((path, _)) = spec.path() {
            self.places.insert(data.sha256.clone(), path.clone());
        }
        self.data.insert(spec, data.clone());
        Ok(data)
    }

    /// Looks a weights file up, each once.
    pub fn weights(&mut self, name: &str, span: Range<usize>) -> Result<WeightsFile, Fault> {
        let name = match name.starts_with(HUB) {
            true => name.to_owned(),
            false => self.place(Path::new(name), &span).to_string_lossy().into_owned(),
        };
        if let Some(found) = self.weights.get(&name) {
            return Ok(found.clone());
        }
        let found = self.catalogue.weights(&name).map_err(|reason| fault_of_reason(span, &reason))?;
        self.places.insert(found.sha256.clone(), found.path.clone());
        self.weights.insert(name, found.clone());
        Ok(found)
    }

    /// Paths in the file are meant from the file's folder, those on the command line from where it was typed.
    fn place(&self, path: &Path, span: &Range<usize>) -> PathBuf {
        match self.folder {
            Some(folder) if !self.texts.is_command_line(span) => folder.join(path),
            _ => path.to_owned(),
        }
    }

    /// Defaults and `[base]`, for one objective.
    pub fn base_for(&self, objective: &str) -> DeTable<'a> {
        let mut table = if objective == "labels" { self.defaults.labels.clone() } else { self.defaults.distil.clone() };
        merge(&mut table, &self.base.table);
        table
    }
}

/// A catalogue's reason may bring a hint on a line of its own.
fn fault_of_reason(span: Range<usize>, reason: &str) -> Fault {
    match reason.split_once("\nhint: ") {
        Some((message, hint)) => Fault::new(span, message).hint(hint),
        None => Fault::new(span, reason),
    }
}
