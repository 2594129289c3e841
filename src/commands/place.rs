//! Where the folder and the store of a sweep are: as typed, or as the folder remembers.

use std::fs;
use std::io::ErrorKind;
use std::path::absolute;

use anyhow::{Context, Result};

use super::Usage;
use crate::cli;
use crate::folder::{Folder, replace};
use crate::job::short_hash;
use crate::store::{Error, Location, Store};

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
        (Some(typed), Some(remembered)) if typed.is(&remembered) => Ok(typed),
        (Some(typed), Some(remembered)) => Err(Usage(format!(
            "`{}` was run with the store `{remembered}`, not with `{typed}`\nhint: leave `--store` and DISTILLERY_STORE out, or name another folder with `--folder`; if the database has moved, write its new place into `{}`",
            folder.root().display(),
            folder.store_url().display()
        ))
        .into()),
        // What was run with it would be seen by nobody any more, and two who do not know of each other would be at work here.
        (Some(typed @ Location::Postgres(_)), None) if folder.store().exists() => Err(Usage(format!(
            "`{}` has a store of its own, `{}`, so `{typed}` cannot be its store\nhint: leave `--store` and DISTILLERY_STORE out, or name another folder with `--folder`",
            folder.root().display(),
            folder.store().display()
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

/// Sees that a server's database and the folder belong together: the results of its jobs are files there, and what runs is known by
/// locks there. `may_settle`: a database that belongs to none yet is this folder's from now on.
///
/// # Errors
/// When the database belongs to another folder.
pub async fn settle(folder: &Folder, store: &Store, may_settle: bool) -> Result<()> {
    if store.location().file().is_some() {
        return Ok(());
    }
    let path = folder.name_file();
    let name = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound && may_settle => {
            let seed = format!("{}\n{}\n{}", crate::alive::here(), std::process::id(), crate::event::now_ms());
            let name = short_hash("distillery folder 1\n", &seed);
            fs::create_dir_all(folder.root())
                .and_then(|()| replace(&path, format!("{name}\n").as_bytes()))
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            name
        }
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(format!("cannot read `{}`", path.display())),
    };
    let shown = absolute(folder.root())?;
    if let Some(other) = store.settle(&name, &shown.to_string_lossy()).await? {
        return Err(Usage(format!(
            "the database `{}` belongs to the folder `{other}`, not to `{}`\nhint: use that folder, or a database of its own for this one",
            store.location(),
            shown.display()
        ))
        .into());
    }
    Ok(())
}
