//! Reads an experiment file: a base job and the axes that vary it become the list of jobs.
//!
//! Input: the file's text, `key=value` overrides, and a [`Catalogue`] that knows the content of data sets and weights.
//! Output: an [`Experiment`], or one [`Report`] that points at the word at fault. Nothing is run and nothing is looked
//! at but the text; files, clocks and devices are the catalogue's and the caller's.
//!
//! ```text
//! defaults.toml  <  [base]  <  [grid.set]  <  [grid.product], [grid.zip]  <  key=value
//! ```
//!
//! Tables are merged key by key with the places of their words kept, and only the merged table is given to serde. The
//! alternative, reading `[base]` into a job first and patching that, could not say which line a wrong value came from
//! and would need every field to be optional.
//!
//! Teachers are outside the grid: `[teachers.NAME]` follows `[base]`, not the axes or the command line's job keys, so
//! that all jobs of an experiment have the same teacher.

pub mod axes;
mod block;
mod check;
mod document;
mod images;
mod job_text;
mod key;
mod merge;
mod optimizer;
mod resolver;
mod size;
mod teacher;
mod teaching;
mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use toml::de::DeTable;

use crate::card::Card;
use crate::diagnostic::Report;
use crate::job::{Data, Job, JobId, Model, NetworkSource, Normalization, short_hash};
use crate::plan::{Places, RunSettings, Site};
use block::Block;
use check::Check;
use resolver::Resolver;
use text::{Fault, Texts};

pub use crate::source::Source as DataSource;
pub use size::SIZES;

/// An experiment file.
#[derive(Clone, Debug)]
pub struct Source {
    /// As it is shown in messages; its stem is the experiment's name.
    pub name: String,
    pub text: String,
    /// Relative paths in the file start here; none: where the program was started.
    pub folder: Option<PathBuf>,
}

/// Looks up what the grid itself must not: the content of data sets and weights.
///
/// A reason is one line, which may be followed by a second that starts with `hint: `.
pub trait Catalogue {
    fn data(&self, source: &DataSource) -> Result<FoundData, String>;

    /// A file of weights, or `hf:owner/name[/file][@revision]` of the hub.
    fn weights(&self, name: &str) -> Result<WeightsFile, String>;
}

/// A data set that was looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundData {
    pub data: Data,
    /// For a worker: what may change, as a branch of the hub, is what it was.
    pub source: DataSource,
    /// Of the training part; empty where its images have none.
    pub train_labels: Arc<[u32]>,
    /// Whether the images of training, validation and test part have labels.
    pub labelled: [bool; 3],
    /// What the paper does with it, where it is one of the paper's.
    pub split: Option<[&'static str; 3]>,
}

/// A file of weights that was looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightsFile {
    /// Of its content, hexadecimal.
    pub sha256: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// What it says it holds.
    pub card: Option<Card>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The file's stem, and behind a hyphen its size, where it has several.
    pub name: String,
    pub stem: String,
    pub size: Option<String>,
    pub title: Option<String>,
    /// The file as it was.
    pub text: String,
    /// Each once, in the order of blocks and axes.
    pub jobs: Vec<GridJob>,
    pub run: RunSettings,
    /// What a batch system is asked for.
    pub site: Site,
    /// Of the set of jobs: the same for files that ask the same, whatever their names.
    pub hash: String,
    pub teachers: BTreeMap<String, NetworkSource>,
    /// Names of what is varied anywhere in the file, in file order.
    pub axes: Vec<String>,
    /// Where the data sets and weights lie that are not built in.
    pub places: Places,
}

/// A job and its place in the grid.
#[derive(Clone, Debug)]
pub struct GridJob {
    pub id: JobId,
    pub job: Arc<Job>,
    /// Axis and value as written, without quotes. Only axes of its blocks that decide something about this job.
    pub axes: BTreeMap<String, String>,
}

const IDENTITY: &str = "distillery experiment 1\n";

/// # Errors
/// At the first problem, in the order of the file's sections.
pub fn read(source: &Source, overrides: &[String], catalogue: &dyn Catalogue) -> Result<Experiment, Report> {
    let texts = Texts::new(&source.name, &source.text, overrides);
    expand(source, &texts, catalogue).map_err(|fault| texts.report(fault))
}

/// Whether there can be such a network, and such a normalisation, by the rules for experiments.
///
/// # Errors
/// What is wrong, and a hint on a line of its own.
pub fn check(model: &Model, normalization: &Normalization, resolution: Option<u32>) -> Result<(), String> {
    let (table, header) = (DeTable::new(), 0..0);
    let check = Check { table: &table, header };
    let fits =
        check.model("model", model, resolution).and_then(|()| check.normalization("normalization", normalization));
    fits.map_err(|fault| match fault.hint {
        Some(hint) => format!("{}\nhint: {hint}", fault.message),
        None => fault.message,
    })
}

/// A network as an experiment writes it, `{ vit = { ... } }`, from somewhere else; `name` is what the text is called.
///
/// # Errors
/// As [`read`].
pub fn network(name: &str, text: &str, resolution: Option<u32>) -> Result<Model, Report> {
    #[derive(serde::Deserialize)]
    struct Text {
        model: Model,
    }
    let texts = Texts::new(name, &format!("model = {text}"), &[]);
    let read = || {
        let table = texts.file()?;
        let (span, table) = (table.span(), table.into_inner());
        let deserializer = toml::Deserializer::from(toml::Spanned::new(span.clone(), table.clone()));
        let Text { model } = serde::Deserialize::deserialize(deserializer).map_err(|error| {
            Fault::from_toml(&error)
                .or_hint("for instance `{ cifar-resnet = { depth = 20 } }`; `distillery models` lists all")
        })?;
        Check { table: &table, header: span }.model("model", &model, resolution)?;
        Ok(model)
    };
    read().map_err(|fault: Fault| texts.report(fault))
}

fn expand(source: &Source, texts: &Texts, catalogue: &dyn Catalogue) -> Result<Experiment, Fault> {
    let document = document::read(texts)?;
    let overrides = document.overrides;
    let names: Vec<_> = document.teachers.iter().map(|(name, _)| name.clone()).collect();
    let mut resolver = Resolver {
        texts,
        catalogue,
        folder: source.folder.as_deref(),
        base: document.base,
        defaults: document.defaults,
        sections: document.teachers,
        weights: HashMap::new(),
        data: HashMap::new(),
        teachers: BTreeMap::new(),
        open: Vec::new(),
        places: Places::default(),
    };
    let mut blocks = Vec::new();
    for section in document.blocks {
        blocks.push(Block::read(section, texts, &overrides)?);
    }
    if blocks.is_empty() {
        blocks.push(Block::single());
    }

    let mut collected = Collected::default();
    for block in &blocks {
        collect(block, &overrides, &mut resolver, &mut collected)?;
    }
    // After the jobs: what `[base]` lacks is then reported there, not at a teacher that inherits it. A teacher that no
    // job names is read all the same, for it may be malformed.
    for name in &names {
        resolver.teacher(name.get_ref(), name.span())?;
    }
    check_overrides(&overrides, &collected.jobs)?;
    let mut axes: Vec<String> = Vec::new();
    for axis in blocks.iter().flat_map(|block| &block.axes) {
        if !axes.contains(&axis.name) {
            axes.push(axis.name.clone());
        }
    }
    if let Some(halving) = &document.run.halving {
        let wrong = |why| Fault::new(document.run_span.clone(), why);
        halving.check(&axes, document.run.evaluations).map_err(|why| {
            wrong(why).hint("for instance `halving = { axes = [\"learning-rate\"], at = [30, 100], keep = 0.5 }`")
        })?;
    }
    let ids: BTreeSet<&str> = collected.places.keys().map(JobId::as_str).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let stem = stem(&source.name);
    if document.size.is_none()
        && let Some(size) = SIZES.into_iter().find(|size| stem.ends_with(&format!("-{size}")))
    {
        let of = &stem[..stem.len() - size.len() - 1];
        let fault = Fault::new(0..0, format!("`{stem}` is what the size `{size}` of `{of}` is called in the store"));
        return Err(fault.hint("give the file another name, or make it that size: `[sizes.NAME]`"));
    }
    Ok(Experiment {
        name: sized(&stem, document.size.as_deref()),
        stem,
        size: document.size,
        title: document.title,
        text: source.text.clone(),
        hash: short_hash(IDENTITY, &ids.join("\n")),
        run: document.run,
        site: document.site,
        teachers: resolver.teachers.into_iter().map(|(name, known)| (name, known.source)).collect(),
        axes,
        places: resolver.places,
        jobs: collected.jobs,
    })
}

/// Jobs in order, and where each lies in that order.
#[derive(Default)]
struct Collected {
    jobs: Vec<GridJob>,
    places: HashMap<JobId, usize>,
}

impl Collected {
    /// The same job of another cell brings only its axes. Hashing their texts is most of what a hundred thousand jobs
    /// take, and needs nobody's company.
    fn add(&mut self, cells: Vec<(Job, BTreeMap<String, String>)>) {
        let ids: Vec<JobId> = cells.par_iter().map(|(job, _)| job.id()).collect();
        for (id, (job, axes)) in ids.into_iter().zip(cells) {
            match self.places.entry(id.clone()) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    let known = &mut self.jobs[*place.get()].axes;
                    for (axis, value) in axes {
                        known.entry(axis).or_insert(value);
                    }
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(self.jobs.len());
                    self.jobs.push(GridJob { id, job: Arc::new(job), axes });
                }
            }
        }
    }
}

fn collect<'a>(
    block: &Block<'a>,
    overrides: &DeTable<'a>,
    resolver: &mut Resolver<'a>,
    collected: &mut Collected,
) -> Result<(), Fault> {
    let under = |objective| {
        let mut table = resolver.base_for(objective);
        merge::merge(&mut table, &block.set.table);
        table
    };
    let (labels, distil) = (under("labels"), under("distil"));
    let header = if resolver.base.span.is_empty() { block.header.clone() } else { resolver.base.span.clone() };
    let mut useful_axes = vec![false; block.axes.len()];
    let mut useful_keys = BTreeSet::new();
    let mut cells = Vec::new();
    for cell in block.cells() {
        let points = || block.axes.iter().zip(&cell).map(|(axis, &index)| (axis, &axis.points[index]));
        let objective = std::iter::once(overrides)
            .chain(points().map(|(_, point)| &point.overlay))
            .chain([&distil])
            .find_map(|table| table.get("objective"));
        let is_labels = objective.is_some_and(|value| value.get_ref().as_str() == Some("labels"));
        let mut table = if is_labels { labels.clone() } else { distil.clone() };
        for (_, point) in points() {
            merge::merge(&mut table, &point.overlay);
        }
        merge::merge(&mut table, overrides);
        let job = resolver.job(&table, header.clone())?;

        let mut axes = BTreeMap::new();
        for ((axis, point), useful) in points().zip(&mut useful_axes) {
            // An override of another choice (`warmup.steps` over an axis `warmup.share`) takes the axis's value away.
            if job_text::has_effect(axis.top(), &job) && merge::find(&table, &axis.name).is_some() {
                *useful = true;
                axes.insert(axis.name.clone(), point.written.clone());
            }
        }
        for key in block.set.table.keys().filter(|key| job_text::has_effect(key.get_ref(), &job)) {
            useful_keys.insert(key.get_ref().as_ref());
        }
        cells.push((job, axes));
    }
    if cells.is_empty() {
        return Err(Fault::new(block.header.clone(), "this grid block has no jobs")
            .hint("`exclude` drops every cell; remove the block or exclude less"));
    }
    collected.add(cells);
    // The command line may take the use from an axis of a sound file, but the file by itself must be sound.
    if overrides.is_empty() {
        if let Some((axis, _)) = block.axes.iter().zip(useful_axes).find(|(_, useful)| !useful) {
            return Err(without_effect(axis.key.clone(), &axis.name, axis.top(), "job of this block"));
        }
        let mut keys = merge::in_order(&block.set.table);
        if let Some(key) = keys.find(|key| !useful_keys.contains(key.get_ref().as_ref())) {
            return Err(without_effect(key.span(), key.get_ref(), key.get_ref(), "job of this block"));
        }
    }
    Ok(())
}

fn check_overrides(overrides: &DeTable<'_>, jobs: &[GridJob]) -> Result<(), Fault> {
    for key in merge::in_order(overrides) {
        if !jobs.iter().any(|grid| job_text::has_effect(key.get_ref(), &grid.job)) {
            return Err(without_effect(key.span(), key.get_ref(), key.get_ref(), "job"));
        }
    }
    Ok(())
}

fn without_effect(span: std::ops::Range<usize>, name: &str, key: &str, on: &str) -> Fault {
    let hint = match key {
        "mixup" | "mixing" => "only `function-matching`, `independent-mixup` and `objective = \"labels\"` mix images",
        "fixed-crops" => "only `teaching = \"fixed/ic-ens\"` counts crops",
        "ensemble" => "only several teachers need a rule to become one",
        "teacher-weights" => "only several teachers have weights",
        "answers" => "only a teacher that is asked at every step goes on being asked: `fixed/...` and labels do not",
        "decay" => "a `weight-decay` of 0 follows nothing",
        "view" => "only `objective = \"labels\"` has it",
        "label-smoothing" => "only `objective = \"labels\"` and a `label-weight` bring labels",
        _ => "only `objective = \"distil\"` has it",
    };
    Fault::new(span, format!("`{name}` has no effect on any {on}")).hint(hint)
}

/// What the store calls a size of an experiment.
pub fn sized(stem: &str, size: Option<&str>) -> String {
    size.map_or_else(|| stem.to_owned(), |size| format!("{stem}-{size}"))
}

/// The experiment's own name, of whatever size the store calls it.
pub fn without_size(name: &str) -> &str {
    SIZES.iter().find_map(|size| name.strip_suffix(size)?.strip_suffix('-')).unwrap_or(name)
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
}
