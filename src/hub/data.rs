//! Data sets of the hub: the files of their parts, downloaded or from the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::cache::{self, Cache};
use super::choice::{self, Choice, Refusal};
use super::client::Client;
use super::reference::{CARD, DataReference};
use super::{Error, Files, Reference, Settings, Tell, drive, locate};

/// The branch where the hub keeps what it has converted to parquet.
pub(super) const CONVERTED: &str = "refs/convert/parquet";

/// A data set of the hub that lies in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedData {
    /// By `train`, `validation` and `test`, as far as they are wanted and there: parquet files, or tar shards, in their
    /// order.
    pub parts: BTreeMap<String, Vec<PathBuf>>,
    /// The configuration's name, `default` where there is only one without a name.
    pub config: String,
    /// What the revision meant; of what the hub converted, that of `refs/convert/parquet`.
    pub commit: String,
}

/// Finds the files of the `wanted` parts (`train`, `validation`, `test`) in the cache, or downloads them. A branch or
/// tag is looked up on the hub each time; where the hub cannot be reached, what the cache has of it stands in. A commit
/// that is in the cache asks nobody.
///
/// Where the repository has neither parquet nor tar files, and no revision was named, the hub's own conversion to parquet
/// is taken. `progress` hears the bytes of all files together. The call blocks; it may be made from within an asynchronous
/// program.
///
/// # Errors
/// When the data set cannot be found or downloaded, its configuration is unknown or not named where there are several,
/// or it has none of the wanted parts.
pub fn fetch_data(
    reference: &DataReference,
    wanted: &[&str],
    settings: &Settings,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<FetchedData, Error> {
    drive(progress, async |tell| obtain(reference, wanted, settings, tell).await)
}

async fn obtain(
    reference: &DataReference,
    wanted: &[&str],
    settings: &Settings,
    tell: &mut Tell<'_>,
) -> Result<FetchedData, Error> {
    let card = &reference.card;
    let (commit, files) = list(card, settings).await?;
    if let Some(choice) = choose(reference, &commit, &files, settings).await? {
        return bring(reference, wanted, settings, tell, (commit, files, choice)).await;
    }
    let lacking = || Error::NoData { repository: card.repository(), revision: card.revision().to_owned() };
    // What was converted belongs to no commit that anybody could have named.
    if card.is_pinned() {
        return Err(lacking());
    }
    let (commit, files) = match list(&card.at(CONVERTED), settings).await {
        Err(Error::NoRevision { .. }) => return Err(lacking()),
        listed => listed?,
    };
    let choice = choose(reference, &commit, &files, settings).await?.ok_or_else(lacking)?;
    bring(reference, wanted, settings, tell, (commit, files, choice)).await
}

/// All files at the reference's revision, and the commit that it is.
async fn list(reference: &Reference, settings: &Settings) -> Result<(String, Files), Error> {
    let cache = Cache::new(&settings.cache, reference);
    let revision = reference.revision();
    let known = cache.commit(revision).and_then(|commit| cache.files(&commit).map(|files| (commit, files)));
    if let Some(known) = known.filter(|_| settings.offline || cache::is_commit(revision)) {
        return Ok(known);
    }
    // What another program fetched may be all, too.
    let stand_in = || {
        let commit = cache.commit(revision)?;
        let files = cache.files(&commit).or_else(|| cache.fetched(&commit))?;
        Some((commit, files))
    };
    if settings.offline {
        let offline = || Error::Offline { reference: reference.to_string(), cache: settings.cache.clone() };
        return stand_in().ok_or_else(offline);
    }
    let asked = async { Client::new(settings)?.list(reference).await };
    let (commit, files) = match asked.await {
        Err(error) if error.will_pass() => return stand_in().ok_or(error),
        asked => asked?,
    };
    cache.note_files(&commit, &files)?;
    cache.note(revision, &commit)?;
    Ok((commit, files))
}

async fn choose(
    reference: &DataReference,
    commit: &str,
    files: &Files,
    settings: &Settings,
) -> Result<Option<Choice>, Error> {
    let (repository, config) = (reference.repository(), reference.config().map(str::to_owned));
    let card = if files.contains_key(CARD) {
        let path = locate(&reference.card.at(commit), settings, &mut |_, _| {}).await?.path;
        Some(fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?)
    } else {
        None
    };
    choice::choose(files, card.as_deref(), reference.config()).map_err(|refusal| match refusal {
        Refusal::Card(why) => Error::Card { repository, why },
        Refusal::Incomplete { file, have, of } => Error::Incomplete { repository, file, have, of },
        Refusal::Partial => Error::Partial { repository },
        Refusal::Configuration(there) => {
            let one = there.first().cloned();
            let example = DataReference { config: one, ..reference.clone() }.to_string();
            Error::Configuration { repository, config, there, example }
        }
    })
}

/// The files of a choice, one after the other.
async fn bring(
    reference: &DataReference,
    wanted: &[&str],
    settings: &Settings,
    tell: &mut Tell<'_>,
    (commit, files, choice): (String, Files, Choice),
) -> Result<FetchedData, Error> {
    let card = reference.card.at(&commit);
    let cache = Cache::new(&settings.cache, &card);
    let chosen = choice.parts.iter().filter(|(part, _)| wanted.contains(part));
    let chosen: Vec<_> = chosen.flat_map(|(part, files)| files.iter().map(move |file| (*part, file))).collect();
    if chosen.is_empty() {
        let there = choice.parts.keys().map(|part| (*part).to_owned()).chain(choice.others).collect();
        return Err(Error::NoPart { repository: reference.repository(), wanted: wanted.join(", "), there });
    }
    let size = |file: &String| files.get(file).copied().flatten();
    let missing: Vec<_> = chosen.iter().filter(|(_, file)| cache.at(&commit, file).is_none()).collect();
    let total: Option<u64> = missing.iter().map(|(_, file)| size(file)).sum();
    let mut before = 0;
    let mut parts = BTreeMap::<String, Vec<PathBuf>>::new();
    for (part, file) in &chosen {
        let mut have = 0;
        let mut tell = |bytes, _| {
            have = bytes;
            tell(before + bytes, total);
        };
        let found = locate(&card.sibling(file)?, settings, &mut tell).await?;
        parts.entry((*part).to_owned()).or_default().push(found.path);
        before += have;
    }
    Ok(FetchedData { parts, config: choice.config, commit })
}
