//! What can go wrong with a store, said so that a person knows what to do.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no store at `{}`\nhint: `distillery run NAME` makes one; `--folder` names another place", path.display())]
    Missing { path: PathBuf },
    #[error(
        "`{}` is not a database\nhint: move it away, or name another folder with `--folder`",
        path.display()
    )]
    NotADatabase { path: PathBuf },
    #[error(
        "the store `{}` is damaged\nhint: move it away; `distillery run NAME` makes it anew from what the workers wrote down",
        path.display()
    )]
    Damaged { path: PathBuf },
    #[error("the store `{}` was written by a newer distillery\nhint: use that version, or another folder", path.display())]
    Newer { path: PathBuf },
    #[error(
        "the store `{}` was written by an older distillery\nhint: `distillery run NAME` brings it up to date",
        path.display()
    )]
    Older { path: PathBuf },
    #[error(
        "the store `{}` was made by another build: its migration {version} differs\nhint: use another folder; results in the old one stay readable with the build that made it",
        path.display()
    )]
    Changed { path: PathBuf, version: i64 },
    #[error(
        "the store `{}` is locked by another process\nhint: is a second `distillery`, or an SQL shell with an open transaction, at work on it?",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error("cannot open the store `{}`", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("cannot make the folder `{}`", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("job `{job}` cannot be started: {why}")]
    NotStartable { job: String, why: &'static str },
    #[error("the query was refused: {why}\nhint: {hint}")]
    Refused { why: String, hint: &'static str },
    #[error("the query failed: {message}\nhint: `SELECT sql FROM sqlite_master` lists tables and columns")]
    Query { message: String },
    #[error("the store holds something this version cannot read: {what}")]
    Unreadable { what: String, source: Option<serde_json::Error> },
    #[error("the store failed{}", advice(.0))]
    Sql(#[from] sqlx::Error),
}

impl Error {
    /// What is in the way, where trying again may help.
    pub fn passing(&self) -> Option<&'static str> {
        let Error::Sql(error) = self else { return None };
        passing(error)
    }

    pub(super) fn opening(path: &Path, source: sqlx::Error) -> Error {
        let path = path.to_owned();
        match sqlite_code(&source) {
            // SQLITE_BUSY and SQLITE_LOCKED
            Some(5 | 6) => Error::Locked { path },
            // SQLITE_CORRUPT
            Some(11) => Error::Damaged { path },
            // SQLITE_NOTADB
            Some(26) => Error::NotADatabase { path },
            _ => Error::Open { path, source },
        }
    }
}

fn passing(error: &sqlx::Error) -> Option<&'static str> {
    match sqlite_code(error)? {
        // SQLITE_BUSY and SQLITE_LOCKED
        5 | 6 => Some("somebody else has locked the store"),
        // SQLITE_FULL
        13 => Some("there is no room on the store's disk"),
        _ => None,
    }
}

/// Nothing where trying again does not help.
fn advice(error: &sqlx::Error) -> String {
    let hint = "hint: the same command goes on when that is over";
    passing(error).map_or(String::new(), |why| format!(": {why}\n{hint}"))
}

/// The primary result code, the low byte of the extended one.
fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
