//! `report`: draws reports from what the store holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Usage, complain, place, print, print_json, shipped, table};
use crate::cli;
use crate::grid::{SIZES, sized, without_size};
use crate::report::{self, Recorded, Report, Source, Summary, Theme};
use crate::store::{Outcome, Registered, Rows, Spent, Store};

/// Missing jobs that are told in the terminal.
const MOST_TOLD: usize = 12;
/// The device of attempts that are no runs: their numbers were published by others.
const PUBLISHED: &str = "published";

pub async fn report(arguments: cli::Report) -> Result<ExitCode> {
    let (folder, location) = (place::folder(&arguments.place), place::location(&arguments.place)?);
    let asked: Vec<String> = if arguments.all { Vec::new() } else { arguments.names.clone() };
    if asked.is_empty() && !arguments.all {
        let text = "no report is named\nhint: `distillery report NAME`, or `--all` for every report that has runs";
        return Err(Usage(text.to_owned()).into());
    }
    // A name that nothing has is told before a store is asked for that may not be there either.
    for name in asked.iter().filter(|_| location.file().is_some_and(|file| !file.exists())) {
        shipped::report(name)?;
    }
    let store = Store::open_read_only(&location).await?;
    let sources = if arguments.all { all(&store).await? } else { named(&store, &asked, &arguments).await? };
    let out = arguments.out.clone().unwrap_or_else(|| folder.reports());
    let theme = match arguments.theme {
        cli::Theme::Light => Theme::Light,
        cli::Theme::Dark => Theme::Dark,
    };
    if arguments.html {
        return page(&store, &sources, &arguments, &out).await;
    }
    let (mut drawn, mut failed) = (Vec::new(), false);
    for source in &sources {
        match one(&store, source, arguments.size.as_deref(), &out, theme).await {
            Ok(one) => drawn.push(one),
            Err(error) if !arguments.all => return Err(error),
            // Of all reports those are passed over that have nothing to show yet.
            Err(error) if is_empty(&error) => eprintln!("nothing to draw yet: `{}`", source.name),
            Err(error) => {
                complain(&error.context(format!("report `{}` is not drawn", source.name)));
                failed = true;
            }
        }
    }
    let code = if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if arguments.index {
        print(&report::index(&drawn.into_iter().map(|one| (one.report, one.summary)).collect::<Vec<_>>()))?;
        return Ok(code);
    }
    if arguments.json {
        print_json(&drawn)?;
        return Ok(code);
    }
    for one in &drawn {
        print(&format!("{}\n{}\n", one.results, one.places()))?;
        for missing in one.missing.iter().take(MOST_TOLD) {
            eprintln!("missing: {missing}");
        }
        if one.missing.len() > MOST_TOLD {
            eprintln!("missing: {} more, in {}", one.missing.len() - MOST_TOLD, one.markdown.display());
        }
    }
    Ok(code)
}

async fn one(store: &Store, source: &Source, size: Option<&str>, out: &Path, theme: Theme) -> Result<Drawn> {
    draw(&told(store, source, size).await?, out, theme)
}

async fn told(store: &Store, source: &Source, size: Option<&str>) -> Result<Gathered> {
    let report = report::read(source)?;
    let size = match size {
        Some(size) => Some(size),
        None => size_of(store, &report).await?,
    };
    gathered(store, report, size).await
}

/// One page of HTML for all that was asked for.
async fn page(store: &Store, sources: &[Source], arguments: &cli::Report, out: &Path) -> Result<ExitCode> {
    let mut all = Vec::new();
    for source in sources {
        match told(store, source, arguments.size.as_deref()).await {
            Ok(told) => all.push(told),
            Err(error) if arguments.all && is_empty(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut sections = Vec::new();
    for Gathered { report, outcomes, recorded, spent, size } in &all {
        let with = size.as_ref().map_or(String::new(), |size| format!(" size={size}"));
        let runs = report.experiments.0.iter().filter(|experiment| !report.known.absent.contains(experiment));
        let run = runs.map(|experiment| format!("distillery run {experiment}{with}"));
        let stem = without_size(&report.name);
        sections.push(report::Told {
            report,
            outcomes,
            spent,
            experiments: recorded,
            commands: run.chain([format!("distillery report {stem} --html")]).collect(),
        });
    }
    let (title, name) = match sections.as_slice() {
        [one] => (one.report.title.clone(), one.report.name.clone()),
        _ => ("Reports".to_owned(), "index".to_owned()),
    };
    let html = report::page(&title, &sections)?;
    fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))?;
    let path = out.join(format!("{name}.html"));
    fs::write(&path, html).with_context(|| format!("cannot write `{}`", path.display()))?;
    if arguments.json {
        print_json(&serde_json::json!({ "html": path }))?;
    } else {
        print(&format!("page     {}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The reports with these names; of an experiment without a report of its own the plain one that `run` draws.
async fn named(store: &Store, names: &[String], arguments: &cli::Report) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in names {
        let error = match shipped::report(name) {
            Ok(source) => {
                sources.push(source);
                continue;
            }
            Err(error) => error,
        };
        let experiment = super::stem(name);
        let size = match &arguments.size {
            Some(size) => Some(size.as_str()),
            None => size_in(store, &experiment).await?,
        };
        let recorded = sized(&experiment, size);
        let outcomes = store.outcomes_with(&recorded, Rows::Last).await?;
        if outcomes.is_empty() && arguments.size.is_none() {
            return Err(error);
        }
        let experiments = store.experiments().await?;
        let title = experiments.iter().find(|known| known.name == recorded).and_then(|known| known.title.as_deref());
        sources.push(shipped::plain_report(&experiment, title.unwrap_or(&experiment), &outcomes));
    }
    Ok(sources)
}

/// Every report of an experiment in the store, and plain ones of experiments without.
async fn all(store: &Store) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for experiment in store.experiments().await? {
        let stem = without_size(&experiment.name);
        let mut own = shipped::reports_of(stem);
        if own.is_empty() {
            let outcomes = store.outcomes_with(&experiment.name, Rows::Last).await?;
            own.push(shipped::plain_report(stem, experiment.title.as_deref().unwrap_or(stem), &outcomes));
        }
        sources.extend(own);
    }
    // The paper's figures in their order, then its tables, then the rest; `fig9` before `fig10`.
    let key = |source: &Source| {
        let stem = super::stem(&source.name);
        let number: String =
            stem.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        let kind = ["fig", "table"].iter().position(|kind| stem.starts_with(kind)).unwrap_or(2);
        (!source.name.starts_with("reports"), kind, if kind < 2 { number.parse().unwrap_or(0) } else { 0_u32 }, stem)
    };
    sources.sort_by_key(key);
    sources.dedup_by(|a, b| a.name == b.name);
    Ok(sources)
}

/// Of an experiment that was run in several sizes, the one that was recorded last; none where it has none.
pub async fn size_in(store: &Store, experiment: &str) -> Result<Option<&'static str>> {
    let all = store.experiments().await?;
    let recorded = |size: Option<&str>| {
        let name = sized(experiment, size);
        all.iter().find(|known| known.name == name).map(|known| known.recorded_ms)
    };
    if recorded(None).is_some() {
        return Ok(None);
    }
    Ok(SIZES.into_iter().filter(|size| recorded(Some(size)).is_some()).max_by_key(|size| recorded(Some(size))))
}

/// The size that most of a report's experiments were run in.
async fn size_of(store: &Store, report: &Report) -> Result<Option<&'static str>> {
    let mut sizes: Vec<Option<&str>> = Vec::new();
    for experiment in &report.experiments.0 {
        sizes.push(size_in(store, experiment).await?);
    }
    let count = |size: &Option<&str>| sizes.iter().filter(|known| *known == size).count();
    let given: Vec<&Option<&'static str>> = sizes.iter().filter(|size| size.is_some()).collect();
    Ok(given.into_iter().max_by_key(|size| count(size)).copied().flatten())
}

/// A report with everything the store has for it.
pub struct Gathered {
    pub report: Report,
    pub outcomes: Vec<Outcome>,
    /// Its experiments in the store.
    pub recorded: Vec<Recorded>,
    /// What computed them.
    pub spent: Vec<Spent>,
    pub size: Option<String>,
}

/// Fetches what a report shows at one size. Jobs of a report of several experiments stand on an axis of that name.
pub async fn gathered(store: &Store, mut report: Report, size: Option<&str>) -> Result<Gathered> {
    let rows = report.rows();
    let several = report.experiments.0.len() > 1;
    let known = store.experiments().await?;
    let (mut outcomes, mut recorded, mut registered, mut spent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for experiment in &report.experiments.0 {
        // In one size only, where it has no sizes.
        let name = [sized(experiment, size), experiment.clone()]
            .into_iter()
            .find(|name| known.iter().any(|known| known.name == *name));
        let Some(name) = name else {
            report.known.absent.push(experiment.clone());
            continue;
        };
        let mut own = store.outcomes_with(&name, rows.clone()).await?;
        for outcome in own.iter_mut().filter(|_| several) {
            outcome.axes.insert("experiment".to_owned(), experiment.clone());
        }
        outcomes.extend(own);
        let hash = known.iter().find(|known| known.name == name).map_or(String::new(), |known| known.hash.clone());
        if !report.claims.is_empty() {
            let hash = report.claims_hash(&hash);
            registered.push(store.registered(&name, &super::stem(&report.name), &hash).await?);
        }
        spent.extend(store.spent(&name).await?);
        recorded.push(Recorded { name, hash });
    }
    // Of several experiments the last counts, and all jobs that had begun; one that is not written down, and none is.
    let together = |one: Registered, other: Registered| Registered {
        recorded_ms: one.recorded_ms.max(other.recorded_ms),
        begun: one.begun + other.begun,
        jobs: one.jobs + other.jobs,
    };
    report.known.written_in = spent.iter().any(|spent: &Spent| spent.device == PUBLISHED);
    let all: Option<Vec<Registered>> = registered.into_iter().collect();
    report.known.registered = all.and_then(|all| all.into_iter().reduce(together));
    let first = report.experiments.first();
    if outcomes.is_empty() {
        let (recorded, with) = (sized(first, size), size.map_or(String::new(), |size| format!(" size={size}")));
        // There may be no such experiment at all.
        shipped::experiment(first)?;
        return Err(report::Error::NotRun {
            experiment: recorded,
            hint: format!("`distillery run {first}{with}` fills it"),
        }
        .into());
    }
    // What the files are called, and what the Markdown links to.
    report.name = sized(&super::stem(&report.name), size);
    Ok(Gathered { report, outcomes, recorded, spent, size: size.map(str::to_owned) })
}

/// Whether a report could not be drawn only because nothing of it has run.
pub fn is_empty(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(report::Error::Empty(_) | report::Error::NotRun { .. }))
}

/// The files of a report that was drawn.
#[derive(Debug, Serialize)]
pub struct Drawn {
    pub svg: PathBuf,
    pub png: PathBuf,
    pub csv: PathBuf,
    pub markdown: PathBuf,
    pub latex: PathBuf,
    /// What it came to, for machines.
    pub summary_file: PathBuf,
    pub missing: Vec<String>,
    /// A small table for the terminal, and what became of the claims.
    #[serde(skip)]
    pub results: String,
    pub summary: Summary,
    #[serde(skip)]
    pub report: Report,
}

impl Drawn {
    pub fn files(&self) -> [&PathBuf; 6] {
        [&self.svg, &self.png, &self.csv, &self.markdown, &self.latex, &self.summary_file]
    }

    /// Where the files are, one a line.
    pub fn places(&self) -> String {
        let [svg, png, csv, markdown, latex, summary] = self.files().map(|path| path.display());
        format!(
            "figure   {svg}\n         {png}\nnumbers  {csv}\n         {summary}\ntables   {markdown}\n         {latex}"
        )
    }
}

pub fn draw(told: &Gathered, out: &Path, theme: Theme) -> Result<Drawn> {
    let Gathered { report, outcomes, spent, recorded, .. } = told;
    let rendered = report::render_with(report, outcomes, theme, recorded.clone(), spent)?;
    let report::Rendered { results, summary, .. } = &rendered;
    let header: Vec<&str> = results.header.iter().map(String::as_str).collect();
    let mut results = format!("{}\n\n{}", results.title, table::table(&header, &results.rows));
    if !rendered.verdicts.is_empty() {
        let line = |verdict: &report::Verdict| {
            vec![verdict.claim.clone(), verdict.numbers().unwrap_or_default(), verdict.outcome()]
        };
        let rows: Vec<Vec<String>> = rendered.verdicts.iter().map(line).collect();
        results.push_str(&format!("\n{}", table::table(&["claim", "found", "verdict"], &rows)));
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make `{}`", out.display()))?;
    let write = |extension: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = out.join(format!("{}.{extension}", report.name));
        fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    };
    Ok(Drawn {
        svg: write("svg", rendered.svg.as_bytes())?,
        png: write("png", &rendered.png)?,
        csv: write("csv", rendered.csv.as_bytes())?,
        markdown: write("md", rendered.markdown.as_bytes())?,
        latex: write("tex", rendered.latex.as_bytes())?,
        summary_file: write("json", format!("{}\n", serde_json::to_string_pretty(summary)?).as_bytes())?,
        results,
        summary: rendered.summary,
        missing: rendered.missing,
        report: report.clone(),
    })
}
