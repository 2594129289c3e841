//! A blob's way into the cache: what there is of it is kept, and the rest is asked for.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::cache::{Cache, is_sha256};
use super::client::{Client, Described};
use super::{Error, Reference, Tell};
use crate::digest;

/// Between two attempts, times the number of the attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Downloads the content into its place. Nothing lies there that was not whole and, where the etag is a SHA-256, right.
pub(super) async fn download(
    client: &Client<'_>,
    reference: &Reference,
    described: &Described,
    cache: &Cache,
    tell: &mut Tell<'_>,
) -> Result<(), Error> {
    let incomplete = cache.incomplete(&described.etag)?;
    let mut attempt = 1;
    while let Err(error) = go_on(client, reference, described, &incomplete, tell).await {
        if attempt == client.attempts() || !(error.will_pass() || matches!(error, Error::CutOff { .. })) {
            return Err(error);
        }
        tokio::time::sleep(PAUSE * attempt).await;
        attempt += 1;
    }
    let reading = |source| Error::Read { path: incomplete.clone(), source };
    if is_sha256(&described.etag) {
        let found = digest::of_reader(File::open(&incomplete).map_err(reading)?).map_err(reading)?;
        if !found.eq_ignore_ascii_case(&described.etag) {
            return Err(Error::checksum(reference, described.etag.clone(), found, &incomplete));
        }
    }
    let blob = cache.blob(&described.etag);
    fs::rename(&incomplete, &blob).map_err(|source| Error::Write { path: blob, source })
}

/// Appends what is missing to `path`.
async fn go_on(
    client: &Client<'_>,
    reference: &Reference,
    described: &Described,
    path: &Path,
    tell: &mut Tell<'_>,
) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = File::options().create(true).append(true).open(path).map_err(failed)?;
    let mut have = file.metadata().map_err(failed)?.len();
    if described.size.is_some_and(|size| have > size) {
        file.set_len(0).map_err(failed)?;
        have = 0;
    }
    if described.size == Some(have) {
        return Ok(());
    }
    let mut response = client.bytes(reference, &described.commit, have).await?;
    if have > 0 && !goes_on(&response, have) {
        file.set_len(0).map_err(failed)?;
        have = 0;
        // The whole is welcome where a part cannot be had.
        if response.status() != StatusCode::OK {
            response = client.bytes(reference, &described.commit, 0).await?;
        }
    }
    let size = described.size.or_else(|| Some(have + response.content_length()?));
    tell(have, size);
    let cut_off = |have| Error::CutOff { reference: reference.to_string(), have, size };
    while let Some(piece) = response.chunk().await.map_err(|_| cut_off(have))? {
        file.write_all(&piece).map_err(failed)?;
        have += piece.len() as u64;
        tell(have, size);
    }
    file.sync_data().map_err(failed)?;
    match size {
        Some(size) if have < size => Err(cut_off(have)),
        // A checksum, where there is one, tells more than a length.
        Some(size) if have > size && !is_sha256(&described.etag) => {
            file.set_len(0).map_err(failed)?;
            Err(client.no_hub("it sends more than it announced"))
        }
        _ => Ok(()),
    }
}

/// Whether the answer starts behind the first `have` bytes.
fn goes_on(response: &Response, have: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && start == Some(have)
}
