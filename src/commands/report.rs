//! `report`: draws a report from what the store holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{print, print_json, shipped, table};
use crate::cli;
use crate::folder::Folder;
use crate::grid::{SIZES, sized};
use crate::report::{self, Source, Theme};
use crate::store::{Outcome, Rows, Store};

pub async fn report(arguments: cli::Report) -> Result<ExitCode> {
    let folder = Folder::new(&arguments.place.folder);
    let named = shipped::report(&arguments.name);
    let experiment = match &named {
        Ok(source) => report::read(source)?.experiment,
        // An experiment without a report of its own has the plain one that `run` draws.
        Err(_) => super::stem(&arguments.name),
    };
    let named = match named {
        Err(error) if !folder.store().exists() => return Err(error),
        named => named,
    };
    let store = Store::open_read_only(&folder.store()).await?;
    let size = match &arguments.size {
        Some(size) => Some(size.as_str()),
        None => size_in(&store, &experiment).await?,
    };
    let recorded = sized(&experiment, size);
    let has_curves = named.as_ref().is_ok_and(|source| report::read(source).is_ok_and(|report| report.has_curves()));
    let outcomes = store.outcomes_with(&recorded, if has_curves { Rows::All } else { Rows::Last }).await?;
    let source = match named {
        Err(error) if outcomes.is_empty() && arguments.size.is_none() => return Err(error),
        _ if outcomes.is_empty() => anyhow::bail!(
            "the store holds nothing of experiment `{recorded}`\nhint: `distillery run {experiment}{}` fills it",
            arguments.size.as_ref().map_or(String::new(), |size| format!(" size={size}")),
        ),
        Err(_) => {
            let experiments = store.experiments().await?;
            let title =
                experiments.iter().find(|known| known.name == recorded).and_then(|known| known.title.as_deref());
            shipped::plain_report(&experiment, title.unwrap_or(&experiment), &outcomes)
        }
        Ok(source) => source,
    };
    let theme = match arguments.theme {
        cli::Theme::Light => Theme::Light,
        cli::Theme::Dark => Theme::Dark,
    };
    let drawn = draw(&source, size, &outcomes, &arguments.out.unwrap_or_else(|| folder.reports()), theme)?;
    if arguments.json {
        print_json(&drawn)?;
    } else {
        print(&format!("{}\n{}\n", drawn.results, drawn.places()))?;
        for missing in &drawn.missing {
            eprintln!("missing: {missing}");
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// The files of a report that was drawn.
#[derive(Debug, Serialize)]
pub struct Drawn {
    pub svg: PathBuf,
    pub png: PathBuf,
    pub csv: PathBuf,
    pub markdown: PathBuf,
    pub missing: Vec<String>,
    /// A small table for the terminal.
    #[serde(skip)]
    pub results: String,
}

impl Drawn {
    pub fn files(&self) -> [&PathBuf; 4] {
        [&self.svg, &self.png, &self.csv, &self.markdown]
    }

    /// Where the files are, one a line.
    pub fn places(&self) -> String {
        let [svg, png, csv, markdown] = self.files().map(|path| path.display());
        format!("figure   {svg}\n         {png}\nnumbers  {csv}\ntable    {markdown}")
    }
}

pub fn draw(source: &Source, size: Option<&str>, outcomes: &[Outcome], out: &Path, theme: Theme) -> Result<Drawn> {
    let mut report = report::read(source)?;
    // What the files are called, and what the Markdown links to.
    report.name = sized(&super::stem(&source.name), size);
    let rendered = report::render(&report, outcomes, theme)?;
    let results = report::results_table(&report, outcomes)?;
    let header: Vec<&str> = results.header.iter().map(String::as_str).collect();
    let results = format!("{}\n\n{}", results.title, table::table(&header, &results.rows));
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
        missing: rendered.missing,
        results,
    })
}
