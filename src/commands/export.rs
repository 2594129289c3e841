//! `export`: what was measured, for other programs.
//!
//! The store is read page by page, while a thread writes what was read before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;

use super::{Usage, choice, place, report, stem};
use crate::cli::{self, Format};
use crate::diagnostic::nearest;
use crate::export::{Csv, Entry, Form, JsonLines, Mlflow, Parquet, TensorBoard};
use crate::grid::sized;
use crate::job::JobId;
use crate::store::{Standing, Store};

pub async fn export(arguments: cli::Export) -> Result<ExitCode> {
    let (format, out) = destination(&arguments)?;
    let store = Store::open_read_only(&place::location(&arguments.place)?).await?;
    let names = experiments(&store, &arguments).await?;
    let standings = store.standings().await?;
    let wanted = wanted(&names, &standings, arguments.jobs.as_deref())?;
    let axes: BTreeSet<&String> = wanted.values().flat_map(|chosen| &chosen.axes).copied().collect();
    let axes: Vec<String> = axes.into_iter().cloned().collect();

    // A page is on its way while the one before is written.
    let (sender, mut receiver) = mpsc::channel::<Result<Vec<Entry>>>(1);
    let writer = {
        let out = out.clone();
        thread::spawn(move || write(format, out.as_deref(), &axes, &mut receiver))
    };
    let read = read(&store, &wanted, &names, &sender).await;
    let (jobs, without) = match read {
        Ok(counts) => counts,
        Err(error) => {
            // The writer ends with it, and leaves no file that looks whole.
            let _ = sender.send(Err(error)).await;
            (0, 0)
        }
    };
    drop(sender);
    let written = writer.join().map_err(|_| anyhow!("what writes has panicked"))?;
    match written {
        // A reader that went away, as `head` does, is no error.
        Err(error) if out.is_none() && is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        written => written?,
    }
    if without > 0 {
        let have = if without == 1 { "has" } else { "have" };
        eprintln!("note: {without} of {jobs} jobs {have} no numbers yet");
    }
    if let Some(out) = &out {
        eprintln!("{} {} in `{}`", jobs, if jobs == 1 { "job is" } else { "jobs are" }, out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// In which form, and where to; none is standard output.
fn destination(arguments: &cli::Export) -> Result<(Format, Option<PathBuf>)> {
    let out = arguments.out.clone().filter(|out| out.as_os_str() != "-");
    let ending = out.as_ref().and_then(|out| out.extension()).and_then(|ending| ending.to_str());
    let by_name = match ending {
        Some("jsonl" | "ndjson") => Format::Jsonl,
        Some("parquet") => Format::Parquet,
        _ => Format::Csv,
    };
    if let (None, Some(other)) = (arguments.format, ending)
        && !["csv", "jsonl", "ndjson", "parquet"].contains(&other)
    {
        let hint = "`.csv`, `.jsonl` and `.parquet` say which; or `--format csv`";
        return Err(Usage(format!("`.{other}` tells no format\nhint: {hint}")).into());
    }
    let format = arguments.format.unwrap_or(by_name);
    let is_folder = matches!(format, Format::Tensorboard | Format::Mlflow);
    let name = format.name();
    match &out {
        None if !matches!(format, Format::Csv | Format::Jsonl) => {
            let example = if is_folder { "--out DIR" } else { "--out FILE.parquet" };
            let what = if is_folder { "a folder" } else { "a file that is no text" };
            Err(Usage(format!("{name} is {what} and does not go to standard output\nhint: `{example}` says where to")))?
        }
        Some(out) if is_folder && out.exists() && !out.is_dir() => Err(Usage(format!(
            "{name} is a folder, and `{}` is a file\nhint: give a folder, or one that is not there yet",
            out.display()
        )))?,
        Some(out) if !is_folder && out.is_dir() => Err(Usage(format!(
            "{name} is a file, and `{0}` is a folder\nhint: for instance `--out {0}/export.{name}`",
            out.display()
        )))?,
        _ => Ok((format, out)),
    }
}

/// The experiments that are meant, as the store calls them; each once.
async fn experiments(store: &Store, arguments: &cli::Export) -> Result<Vec<String>> {
    let known: Vec<String> = store.experiments().await?.into_iter().map(|known| known.name).collect();
    if known.is_empty() {
        anyhow::bail!("the store holds no experiment\nhint: `distillery run quickstart` fills it");
    }
    if arguments.all {
        return Ok(known);
    }
    let mut names = Vec::new();
    for typed in &arguments.names {
        let experiment = stem(typed);
        let size = match arguments.size.as_deref() {
            Some(size) => Some(size),
            None => report::size_in(store, &experiment).await?,
        };
        let name = sized(&experiment, size);
        if !known.contains(&name) {
            let hint = match nearest(&name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`distillery status` lists those it holds".to_owned(),
            };
            Err(Usage(format!("the store holds nothing of experiment `{name}`\nhint: {hint}")))?;
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The jobs of an experiment that are wanted, and their axes.
#[derive(Default)]
struct Wanted<'a> {
    jobs: BTreeSet<JobId>,
    axes: BTreeSet<&'a String>,
}

fn wanted<'a>(
    names: &[String],
    standings: &'a [Standing],
    selector: Option<&str>,
) -> Result<BTreeMap<&'a str, Wanted<'a>>> {
    let chosen = match selector {
        Some(selector) => choice::choose(&[selector.to_owned()], standings)?,
        None => standings.iter().collect(),
    };
    let mut wanted: BTreeMap<&str, Wanted<'_>> = BTreeMap::new();
    for standing in chosen {
        for place in standing.experiments.iter().filter(|place| !place.needed && names.contains(&place.experiment)) {
            let here = wanted.entry(&place.experiment).or_default();
            here.jobs.insert(standing.id.clone());
            here.axes.extend(place.axes.keys());
        }
    }
    match selector {
        Some(selector) if wanted.is_empty() => Err(Usage(format!(
            "no job of these experiments matches `{selector}`\nhint: `distillery status NAME` lists those of an experiment"
        )))?,
        _ => Ok(wanted),
    }
}

/// Sends all jobs that are wanted; returns how many there are, and how many of them without numbers.
async fn read(
    store: &Store,
    wanted: &BTreeMap<&str, Wanted<'_>>,
    names: &[String],
    sender: &mpsc::Sender<Result<Vec<Entry>>>,
) -> Result<(usize, usize)> {
    let (mut jobs, mut without) = (0, 0);
    for name in names {
        let Some(here) = wanted.get(name.as_str()) else { continue };
        for page in store.pages(name, &here.jobs).await? {
            let outcomes = store.page(name, &page).await?.into_iter();
            let entries: Vec<Entry> = outcomes
                .filter(|(outcome, _)| here.jobs.contains(&outcome.id))
                .map(|(outcome, times)| Entry { experiment: name.clone(), outcome, times })
                .collect();
            jobs += entries.len();
            without += entries.iter().filter(|entry| entry.outcome.epochs.is_empty()).count();
            if sender.send(Ok(entries)).await.is_err() {
                // The writer has failed, and says why.
                return Ok((jobs, without));
            }
        }
    }
    Ok((jobs, without))
}

fn write(
    format: Format,
    out: Option<&Path>,
    axes: &[String],
    pages: &mut mpsc::Receiver<Result<Vec<Entry>>>,
) -> Result<()> {
    let mut entries = std::iter::from_fn(|| pages.blocking_recv()).flat_map(|page| match page {
        Ok(entries) => entries.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let mut to = |mut form: Box<dyn Form + '_>| form.write(axes, &mut entries);
    match (format, out) {
        (Format::Csv, None) => to(Box::new(Csv(io::stdout().lock()))),
        (Format::Jsonl, None) => to(Box::new(JsonLines(BufWriter::new(io::stdout().lock())))),
        (Format::Csv, Some(out)) => into_file(out, |file| to(Box::new(Csv(file)))),
        (Format::Jsonl, Some(out)) => into_file(out, |file| to(Box::new(JsonLines(BufWriter::new(file))))),
        (Format::Parquet, Some(out)) => into_file(out, |file| to(Box::new(Parquet(BufWriter::new(file))))),
        (Format::Tensorboard, Some(out)) => to(Box::new(TensorBoard(out.to_owned()))),
        (Format::Mlflow, Some(out)) => to(Box::new(Mlflow(out.to_owned()))),
        (Format::Parquet | Format::Tensorboard | Format::Mlflow, None) => unreachable!("refused by `destination`"),
    }
}

/// Under another name until it is whole.
fn into_file(out: &Path, write: impl FnOnce(File) -> Result<()>) -> Result<()> {
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(".partial");
    let unfinished = PathBuf::from(unfinished);
    let about = || format!("cannot write `{}`", out.display());
    let written = File::create(&unfinished).with_context(about).and_then(write);
    let written = written.and_then(|()| fs::rename(&unfinished, out).with_context(about));
    if written.is_err() {
        // Half of a file would only take room.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
