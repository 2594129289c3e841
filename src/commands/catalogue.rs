//! What the grid asks about the outside world: the content of data sets and weights files.

use std::fs::File;
use std::path::Path;

use crate::digest;
use crate::grid::{Catalogue, DataSpec};
use crate::job::Data;
use crate::train::data::{self, Location};

/// Reads what it is asked for. The grid asks once per name, so nothing is remembered here.
#[derive(Debug, Default)]
pub struct Shelf;

impl Catalogue for Shelf {
    fn data(&self, spec: &DataSpec) -> Result<Data, String> {
        let location = match spec {
            DataSpec::FashionMnist8k2k => Location::FashionMnist8k2k,
            DataSpec::Idx(folder) => Location::Idx(folder.clone()),
        };
        let set = data::load(&location).map_err(|error| format!("{error:#}"))?;
        Ok(data::identify(&location, &set))
    }

    fn weights(&self, path: &Path) -> Result<String, String> {
        File::open(path)
            .and_then(digest::of_reader)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    }
}
