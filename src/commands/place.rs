//! Where the folder and the store of a sweep are: as typed, or as the folder remembers.

use std::fs;
use std::io::ErrorKind;
use std::path::absolute;

use anyhow::{Context, Result};

use super::Usage;
use crate::cli;
use crate::folder::{Folder, replace};
use crate::store::{Error, Location};

pub fn folder(place: &cli::Place) -> Folder {
    Folder::new(&place.folder)
}

/// Where jobs and numbers are kept: what `--store` names, what the folder was last run with, or a file in the folder.
///
/// # Errors
/// When `--store` names no place for a store, or another one than the folder was run with.
pub fn location(place: &cli::Place) -> Result<Location> {
    let folder = folder(place);
    let remembered = match fs::read_to_string(folder.store_url()) {
        Ok(text) => Some(
            text.trim()
                .parse::<Location>()
                .with_context(|| format!("`{}` does not say where the store is", folder.store_url().display()))?,
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(format!("cannot read `{}`", folder.store_url().display())),
    };
    let typed = match place.store.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => match text.parse().map_err(|error: Error| Usage(error.to_string()))? {
            Location::Sqlite(path) => Some(Location::Sqlite(absolute(path)?)),
            server @ Location::Postgres(_) => Some(server),
        },
        None => None,
    };
    match (typed, remembered) {
        // With a password in it that the folder does not keep.
        (Some(typed), Some(remembered)) if typed.to_string() == remembered.to_string() => Ok(typed),
        (Some(typed), Some(remembered)) => Err(Usage(format!(
            "`{}` was run with the store `{remembered}`, not with `{typed}`\nhint: leave `--store` and DISTILLERY_STORE out, or name another folder with `--folder`",
            folder.root().display()
        ))
        .into()),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Ok(Location::Sqlite(folder.store())),
    }
}

/// Lets the folder remember its store, so that nobody has to type it again.
///
/// # Errors
/// When that cannot be written.
pub fn remember(place: &cli::Place, location: &Location) -> Result<()> {
    let folder = folder(place);
    let path = folder.store_url();
    if location.file() == Some(&folder.store()) || path.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder.root())
        .and_then(|()| replace(&path, format!("{location}\n").as_bytes()))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
