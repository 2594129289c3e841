//! What the jobs of one experiment have in common while they are read: teachers, and content looked up once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::document::{Defaults, Section};
use super::job_text;
use super::merge::{Key, merge};
use super::teacher::Known;
use super::text::{Fault, Texts};
use super::{Catalogue, FoundData, WeightsFile};
use crate::job::Job;
use crate::plan::Places;
use crate::source::{HUB, Source};

pub(super) struct Resolver<'a> {
    pub texts: &'a Texts,
    pub catalogue: &'a dyn Catalogue,
    /// Relative paths of the file start here.
    pub folder: Option<&'a Path>,
    pub base: Section<'a>,
    pub defaults: Defaults<'a>,
    pub sections: Vec<(Key<'a>, Section<'a>)>,
    pub data: HashMap<Source, FoundData>,
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
    pub fn data(&mut self, source: &Source, span: Range<usize>) -> Result<FoundData, Fault> {
        let mut source = source.clone();
        if let Some(path) = source.origin.path_mut() {
            *path = self.place(path, &span);
        }
        if let Some(found) = self.data.get(&source) {
            return Ok(found.clone());
        }
        let found = self.catalogue.data(&source).map_err(|reason| fault_of_reason(span, &reason))?;
        self.places.data.insert(found.data.sha256.clone(), found.source.clone());
        self.data.insert(source, found.clone());
        Ok(found)
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
        self.places.weights.insert(found.sha256.clone(), found.path.clone());
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
