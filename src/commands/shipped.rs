//! Experiments and reports by name: of the working folder's `experiments/` and `reports/` first, then those that are in
//! the binary, so that an installed `distillery` can run them without a checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Usage;
use crate::{diagnostic, grid, report};

macro_rules! shipped {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Name and text.
type Shipped = &'static [(&'static str, &'static str)];

pub const EXPERIMENTS: Shipped = shipped!("experiments": "quickstart");
pub const REPORTS: Shipped = shipped!("reports": "quickstart");

/// # Errors
/// When there is no such file, with the names there are.
pub fn experiment(wanted: &str) -> Result<grid::Source> {
    let Found { name, text, folder } = find(wanted, "experiments", "experiment", EXPERIMENTS)?;
    Ok(grid::Source { name, text, folder })
}

/// # Errors
/// When there is no such file, with the names there are.
pub fn report(wanted: &str) -> Result<report::Source> {
    let Found { name, text, .. } = find(wanted, "reports", "report", REPORTS)?;
    Ok(report::Source { name, text })
}

/// The reports of one experiment: those that name it, or, where none does, a plain one of accuracy by teaching mode.
pub fn reports_of(experiment: &str) -> Result<Vec<report::Source>> {
    let mut names: Vec<String> = REPORTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(stems(Path::new("reports")));
    names.sort();
    names.dedup();
    let mut sources = Vec::new();
    for name in names {
        let source = report(&name)?;
        // A broken report of another experiment is no reason to fail this one.
        if report::read(&source).is_ok_and(|report| report.experiment == experiment) {
            sources.push(source);
        }
    }
    if sources.is_empty() {
        let text = format!(
            "experiment = {experiment:?}\ntitle = {experiment:?}\n\n[[panel]]\ntitle = \"Test accuracy\"\n\
             duration = {{ value = \"test.top1\", series = \"teaching\" }}\n"
        );
        sources.push(report::Source { name: format!("{experiment}.toml"), text });
    }
    Ok(sources)
}

struct Found {
    name: String,
    text: String,
    folder: Option<PathBuf>,
}

fn find(wanted: &str, folder: &str, kind: &str, shipped: Shipped) -> Result<Found> {
    let is_path = wanted.contains(['/', '\\']) || wanted.ends_with(".toml");
    let path = if is_path { PathBuf::from(wanted) } else { Path::new(folder).join(format!("{wanted}.toml")) };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let folder = path.parent().map(Path::to_owned);
            return Ok(Found { name: path.display().to_string(), text, folder });
        }
        Err(error) if is_path || error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Usage(format!("cannot read `{}`: {error}", path.display())).into());
        }
        Err(_) => {}
    }
    if let Some((name, text)) = shipped.iter().find(|(name, _)| *name == wanted) {
        return Ok(Found { name: format!("{folder}/{name}.toml"), text: (*text).to_owned(), folder: None });
    }
    let mut known: Vec<String> = shipped.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.extend(stems(Path::new(folder)));
    known.sort();
    known.dedup();
    let near = diagnostic::nearest(wanted, known.iter().map(String::as_str));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}; or name a path that ends in `.toml`", list(&known)),
    };
    Err(Usage(format!("there is no {kind} `{wanted}`\nhint: {hint}")).into())
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Stems of the TOML files in a folder; none where it cannot be read.
fn stems(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let toml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    toml.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}
