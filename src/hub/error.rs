//! What can go wrong between the hub and its cache, said so that a person knows what to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Reference;
use super::data::CONVERTED;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "`{text}` names nothing on the hub: {why}\nhint: write `hf:owner/name` or `hf:owner/name/path/to/file.npz`, with `@revision` behind it where `main` is not meant"
    )]
    Malformed { text: String, why: String },
    #[error(
        "`{text}` names no data set on the hub: {why}\nhint: write `hf:owner/name`, with `:config` behind it where there are several, and `@revision` where `main` is not meant"
    )]
    NoDataSet { text: String, why: String },
    #[error("`{endpoint}` is no address of a hub\nhint: `HF_ENDPOINT` is one such as `https://huggingface.co`")]
    Endpoint { endpoint: String },
    #[error(
        "requests to the hub cannot be made\nhint: they need the system's certificates (the package `ca-certificates`)"
    )]
    Client { source: reqwest::Error },
    #[error(
        "the token for the hub holds what no token does\nhint: look at `HF_TOKEN`, or at the file `token` in `HF_HOME`"
    )]
    Token,
    #[error("requests to the hub cannot be made")]
    Runtime { source: io::Error },
    #[error(
        "`{reference}` is not in the cache `{}`, and the network may not be asked\nhint: unset `HF_HUB_OFFLINE`, or name a cache that has it with `HF_HUB_CACHE`",
        cache.display()
    )]
    Offline { reference: String, cache: PathBuf },
    #[error(
        "cannot reach `{endpoint}` for `{reference}`: {why}\nhint: what is in the cache needs no network; `HF_ENDPOINT` names a mirror"
    )]
    Unreachable { endpoint: String, reference: String, why: String },
    #[error(
        "`{repository}` at `{endpoint}` is private, gated, or does not exist (HTTP {status})\nhint: check the name, or set `HF_TOKEN` to a token that may read it"
    )]
    NotAllowed { repository: String, endpoint: String, status: u16 },
    #[error(
        "`{repository}` is gated\nhint: agree to its terms at {page}, then set `HF_TOKEN` to a token that may read it"
    )]
    Gated { repository: String, page: String },
    #[error(
        "the token was refused for `{repository}` at `{endpoint}` (HTTP {status})\nhint: `HF_TOKEN`, or the file `token` in `HF_HOME`, must hold a valid token that may read it; to a gated repository its page gives access"
    )]
    TokenRefused { repository: String, endpoint: String, status: u16 },
    #[error(
        "there is no repository `{repository}` at `{endpoint}`\nhint: check owner and name; a private one shows itself only to a token in `HF_TOKEN`"
    )]
    NoRepository { repository: String, endpoint: String },
    #[error(
        "`{repository}` has no revision `{revision}`\nhint: a revision is a branch, a tag or a commit of 40 digits; without one, `main` is meant"
    )]
    NoRevision { repository: String, revision: String },
    #[error(
        "`{repository}` has no file `{file}` at revision `{revision}`\nhint: name another one as `hf:{repository}/FILE`"
    )]
    NoFile { repository: String, file: String, revision: String },
    #[error("`{endpoint}` answered `{reference}` with HTTP {status}\nhint: try again later")]
    Status { endpoint: String, reference: String, status: u16 },
    #[error(
        "`{endpoint}` does not answer as the hub does: {what}\nhint: `HF_ENDPOINT` must name a hub or a mirror of one"
    )]
    NotAHub { endpoint: String, what: &'static str },
    #[error(
        "the download of `{reference}` was cut off after {} bytes\nhint: the same command goes on from there",
        of(*have, *size)
    )]
    CutOff { reference: String, have: u64, size: Option<u64> },
    #[error("`{reference}` has the wrong SHA-256: expected {expected}, got {found}\nhint: {hint}")]
    Checksum { reference: String, expected: String, found: String, hint: String },
    #[error(
        "{}\nhint: write one behind a colon: `{example}`",
        match config {
            Some(config) => format!("`{repository}` has no configuration `{config}`: there is {}", told(there)),
            None => format!("`{repository}` has several configurations: {}", told(there)),
        }
    )]
    Configuration { repository: String, config: Option<String>, there: Vec<String>, example: String },
    #[error(
        "`{repository}` has neither parquet nor tar files at revision `{revision}`\nhint: the hub converts many data sets at `@{CONVERTED}`; others are fetched by hand, and their folder named"
    )]
    NoData { repository: String, revision: String },
    #[error(
        "`{repository}` has no {wanted}: there is {}\nhint: {}",
        told(there),
        "fetch it by hand, and name its folder"
    )]
    NoPart { repository: String, wanted: String, there: Vec<String> },
    #[error("the description of `{repository}` cannot be read: {why}\nhint: fetch it by hand, and name its folder")]
    Card { repository: String, why: String },
    #[error(
        "`{repository}` has {have} of {of} files of the kind of `{file}`\nhint: where another program fetched them, or none may ask the network, fetch the others"
    )]
    Incomplete { repository: String, file: String, have: usize, of: usize },
    #[error("the hub converted `{repository}` only in part\nhint: fetch it by hand, and name its folder")]
    Partial { repository: String },
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot write `{}`: {source}\nhint: make room or give write permission, or name another cache with `HF_HUB_CACHE`",
        path.display()
    )]
    Write { path: PathBuf, source: io::Error },
}

impl Error {
    /// Removes `bad`, so that it is not found again.
    pub(super) fn checksum(reference: &Reference, expected: String, found: String, bad: &Path) -> Error {
        let hint = match fs::remove_file(bad) {
            Ok(()) => {
                "the bad file is removed, the same command downloads it anew; if this happens again, the endpoint or \
                       the network alters it"
                    .to_owned()
            }
            Err(error) => format!("remove `{}`, which failed here: {error}", bad.display()),
        };
        Error::Checksum { reference: reference.to_string(), expected, found, hint }
    }

    /// Whether what the cache has may stand in: the hub was not asked, or said nothing about the file.
    pub(super) fn will_pass(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Client { .. } => true,
            Error::Status { status, .. } => *status == 408 || *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// The first of them, and how many more.
fn told(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 if names.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn of(have: u64, size: Option<u64>) -> String {
    match size {
        Some(size) => format!("{have} of {size}"),
        None => have.to_string(),
    }
}
