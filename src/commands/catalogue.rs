//! What the grid asks about the outside world: the content of data sets and weights files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use super::Usage;
use super::shared::{self, Prints};
use crate::card::Card;
use crate::digest;
use crate::grid::{self, Catalogue, DataSource, Experiment, FoundData, WeightsFile};
use crate::hub::{self, DataReference, Reference, Settings};
use crate::job::{Data, Head, Init, Input, Job, NetworkSource, Weights};
use crate::known::{self, Known};
use crate::source::Origin;
use crate::train::data::DATA_FOLDER;
use crate::train::data::{self, DataSet};
use crate::train::model::Blueprint;
use crate::train::weights::{load_body, load_weights};

/// Reads what it is asked for. The grid asks once per name.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Of each data set, by its SHA-256.
    prints: RefCell<BTreeMap<String, Prints>>,
}

impl Catalogue for Shelf {
    fn data(&self, source: &DataSource) -> Result<FoundData, String> {
        let look = || {
            let local = on_this_machine(source)?;
            let set = data::open(&local)?;
            let found = found(source, local, &set);
            let digests = [&set.train, &set.validation, &set.test].map(|images| images.digests().to_vec());
            let prints = Prints { digests, train_labels: found.train_labels.clone() };
            self.prints.borrow_mut().insert(found.data.sha256.clone(), prints);
            anyhow::Ok(found)
        };
        look().map_err(|error| format!("{error:#}"))
    }

    fn weights(&self, name: &str) -> Result<WeightsFile, String> {
        weights(name).map_err(|error| format!("{error:#}"))
    }
}

impl Shelf {
    /// Says where images that are trained on are also among those that are measured on.
    pub fn note_shared(&self, experiment: &Experiment) {
        let jobs = experiment.jobs.iter().map(|cell| &cell.job);
        shared::notes(&self.prints.borrow(), jobs).iter().for_each(|note| eprintln!("note: {note}"));
    }
}

/// What is told of a data set, with a word about what of it is left out.
fn found(source: &DataSource, local: DataSource, set: &DataSet) -> FoundData {
    let data = data::identify(&local, set);
    note_skipped(&data.name, &set.skipped);
    let labelled = [&set.train, &set.validation, &set.test].map(data::Images::are_labelled);
    let train_labels = if labelled[0] { set.train.labels.clone().into() } else { Arc::default() };
    let split = match &source.origin {
        Origin::Known { name, .. } => known::find(name).map(|known| {
            note_sizes(known, &data);
            [known.split.train, known.split.validation, known.split.test]
        }),
        _ => None,
    };
    FoundData { data, source: local, train_labels, labelled, split }
}

/// A data set of the hub is fetched; others are where they are.
///
/// # Errors
/// The hub's.
pub fn on_this_machine(source: &DataSource) -> Result<DataSource> {
    let Origin::Hub(text) = &source.origin else { return Ok(source.clone()) };
    let Some(reference) = DataReference::parse(text) else { anyhow::bail!("`{text}` names no data set of the hub") };
    let reference = reference?;
    let parts = ["train", "validation", "test"];
    let mut fetched = hub::fetch_data(&reference, &parts, &Settings::from_environment(), &mut progress(text))?;
    let files = parts.map(|part| fetched.parts.remove(part).unwrap_or_default());
    Ok(DataSource { origin: Origin::Fetched { name: source.origin.name(), files }, ..source.clone() })
}

/// Says where a data set of the paper is not what it was there.
pub fn note_sizes(known: &Known, data: &Data) {
    let found = [("train", data.train_images), ("validation", data.validation_images), ("test", data.test_images)];
    for (part, images) in known.parts {
        let here = found.iter().find(|(name, _)| name == part).map_or(0, |(_, images)| *images);
        if here != *images {
            eprintln!("note: {} has {images} images in `{part}`, here there are {here}", known.title);
        }
    }
    if data.classes != known.classes {
        eprintln!("note: {} has {} classes, here there are {}", known.title, known.classes, data.classes);
    }
}

/// Names the images that are left out of a data set.
pub fn note_skipped(name: &str, skipped: &[String]) {
    if !skipped.is_empty() {
        eprintln!("note: {} images of `{name}` cannot be read and are left out:", skipped.len());
        skipped.iter().for_each(|why| eprintln!("  {why}"));
    }
}

/// Looks up a file of weights on this machine, or on the hub, with the card that tells what it is.
///
/// # Errors
/// When it cannot be read or fetched.
pub fn weights(name: &str) -> Result<WeightsFile> {
    weights_with(name, &Settings::from_environment())
}

/// The same, of the hub by other settings.
///
/// # Errors
/// As [`weights`].
pub fn weights_with(name: &str, settings: &Settings) -> Result<WeightsFile> {
    match Reference::parse(name) {
        None => local(Path::new(name)),
        Some(reference) => fetched(&reference?, settings),
    }
}

/// Reads every weights file that an experiment names into the network it is for: what does not fit should be known
/// before the first job begins.
///
/// # Errors
/// As [`load_weights`], each of which is the user's to mend.
pub fn check_weights(experiment: &Experiment) -> Result<()> {
    let mut jobs: Vec<&Job> = experiment.jobs.iter().map(|cell| &cell.job).collect();
    let mut seen: Vec<(&Weights, Input, Head)> = Vec::new();
    while let Some(job) = jobs.pop() {
        jobs.extend(job.needs());
        let teachers = job.teachers().iter().map(|teacher| (&teacher.source, job.teacher_input(teacher), Head::Keep));
        let init = match &job.init {
            Init::Scratch => None,
            Init::Trained(trained) => Some((&trained.source, job.input(), trained.head)),
        };
        for (source, input, head) in teachers.chain(init) {
            let NetworkSource::Weights(weights) = source else { continue };
            if seen.contains(&(weights, input, head)) {
                continue;
            }
            seen.push((weights, input, head));
            let path =
                experiment.places.weights.get(&weights.sha256).context("weights that were looked up have a place")?;
            let blueprint = Blueprint::new(&weights.model, input);
            let read = match head {
                Head::Keep => load_weights(path, &blueprint),
                Head::Reset => load_body(path, &blueprint, &vec![0.0; blueprint.len()]),
            };
            read.map_err(|error| Usage(format!("{error:#}")))?;
        }
    }
    Ok(())
}

fn local(name: &Path) -> Result<WeightsFile> {
    // What does not lie where it is said to lie may lie where data sets do.
    let elsewhere =
        std::env::var_os(DATA_FOLDER).zip(name.file_name()).map(|(folder, file)| Path::new(&folder).join(file));
    let path = &match elsewhere {
        Some(path) if !name.exists() && path.is_file() => path,
        _ => name.to_owned(),
    };
    let sha256 = File::open(path).and_then(digest::of_reader);
    let sha256 = sha256.map_err(|error| anyhow!("cannot read `{}`: {error}", path.display()))?;
    // The card of `name.safetensors` is `name.json`; a repository's `config.json` is that of its `model.safetensors`.
    let whole = path.file_stem().is_some_and(|stem| stem == "model");
    let beside = [Some(path.with_extension("json")), whole.then(|| path.with_file_name("config.json"))];
    let card = match beside.iter().flatten().find(|card| card.is_file()) {
        Some(card) => read_card(card)?,
        None => None,
    };
    Ok(WeightsFile { sha256, path: path.to_owned(), card })
}

fn fetched(reference: &Reference, settings: &Settings) -> Result<WeightsFile> {
    let found = hub::fetch(reference, settings, &mut progress(&reference.to_string()))?;
    // Of the same commit, whatever the branch becomes meanwhile.
    let card = reference.sibling("config.json")?.at(&found.commit);
    let card = hub::fetch_optional(&card, settings, &mut |_, _| {})?;
    let card = card.map(|card| read_card(&card.path)).transpose()?.flatten();
    Ok(WeightsFile { sha256: found.sha256, path: found.path, card })
}

fn read_card(path: &Path) -> Result<Option<Card>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let wrong = |error: String| anyhow!("`{}` is no card of weights: {error}", path.display());
    let card = Card::from_json(&text).map_err(|error| wrong(format!("{error}\nhint: move it away, or mend it")))?;
    if let Some(card) = &card {
        grid::check(&card.model, &card.normalization, Some(card.resolution)).map_err(wrong)?;
    }
    Ok(card)
}

/// Bytes of what is worth a word.
const LARGE: u64 = 20_000_000;

/// Says once that something large is on its way, and every tenth of it.
fn progress(name: &str) -> impl FnMut(u64, Option<u64>) + use<> {
    let name = name.to_owned();
    let mut told = None;
    move |done, total| {
        let Some(total) = total.filter(|total| *total >= LARGE) else { return };
        let tenth = done * 10 / total;
        if told.is_none_or(|told| tenth > told) {
            told = Some(tenth);
            eprintln!("fetching `{name}`: {} of {} MB", done / 1_000_000, total.div_ceil(1_000_000));
        }
    }
}
