//! What the grid asks about the outside world: the content of data sets and weights files.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

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
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            let mut file = File::open(path)?;
            let mut buffer = vec![0; 1 << 20];
            loop {
                match io::Read::read(&mut file, &mut buffer)? {
                    0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                    read => hasher.update(&buffer[..read]),
                }
            }
        };
        hash().map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    }
}
