//! Experiments and reports by name: of the working folder's `experiments/` and `reports/` first, then those that are in
//! the binary, so that an installed `distillery` can run them without a checkout.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Usage;
use crate::store::Outcome;
use crate::{diagnostic, grid, report};

macro_rules! shipped {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Of a plain report; more do not fit a page.
const MOST_PANELS: usize = 12;

/// Name and text.
type Shipped = &'static [(&'static str, &'static str)];

pub const EXPERIMENTS: Shipped = shipped!("experiments":
    "cnn-vit"
    "crops"
    "fig1-duration"
    "fig3-consistency"
    "fig4-patience"
    "fig5-init"
    "fig5-shampoo"
    "fig6-out-of-domain"
    "fig7-labels"
    "figs9-12-consistency"
    "mixup-strength"
    "other-sets"
    "precision"
    "quickstart"
    "replayed-views"
    "separate-mixup"
    "stored-answers"
    "table1-resolutions"
    "table3-ensemble"
    "table3-mobilenet"
);
pub const REPORTS: Shipped = shipped!("reports":
    "cnn-vit"
    "crops"
    "fig1-duration"
    "fig10-pet37"
    "fig11-food101"
    "fig12-sun397"
    "fig3-consistency"
    "fig4-patience"
    "fig5"
    "fig6-out-of-domain"
    "fig7-labels"
    "fig9-flowers102"
    "figs9-12-consistency"
    "mixup-strength"
    "other-sets"
    "precision"
    "quickstart"
    "replayed-views"
    "separate-mixup"
    "stored-answers"
    "table1-resolutions"
    "table2-literature"
    "table3-ensemble"
    "table3-imagenet"
    "table3-mobilenet"
    "table4-small-sets"
);

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

/// The reports that show an experiment, by name; none where it has none of its own.
///
/// Reports that cannot be read are passed over: one that is broken may well be another experiment's.
pub fn reports_of(experiment: &str) -> Vec<report::Source> {
    let mut names: Vec<String> = REPORTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.extend(stems(Path::new("reports")));
    names.sort();
    names.dedup();
    let mut sources: Vec<report::Source> = names.iter().filter_map(|name| report(name).ok()).collect();
    sources.retain(|source| report::read(source).is_ok_and(|report| report.experiments.contains(experiment)));
    sources
}

/// One line a teaching mode, or a value of the first axis if the mode is none; one panel for each combination of what
/// else varies, or, where those do not fit a page, a table of all.
pub fn plain_report(experiment: &str, title: &str, outcomes: &[Outcome]) -> report::Source {
    let mut axes: Vec<&String> = outcomes.iter().flat_map(|outcome| outcome.axes.keys()).collect();
    axes.sort();
    axes.dedup();
    axes.retain(|axis| !["epochs", "seed"].contains(&axis.as_str()));
    let modes: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.job.teaching_name()).collect();
    let series = match axes.iter().position(|axis| *axis == "teaching") {
        Some(place) => axes.remove(place).as_str(),
        None if axes.is_empty() || modes.len() > 1 => "teaching",
        None => axes.remove(0),
    };
    let mut combinations: Vec<Vec<(&String, &String)>> = Vec::new();
    for outcome in outcomes {
        let combination = axes.iter().filter_map(|axis| Some((*axis, outcome.axes.get(*axis)?))).collect();
        if !combinations.contains(&combination) {
            combinations.push(combination);
        }
    }
    // What lacks an axis is in all panels along it.
    let all = combinations.clone();
    let within = |small: &[(&String, &String)], large: &[(&String, &String)]| {
        small.len() < large.len() && small.iter().all(|place| large.contains(place))
    };
    combinations.retain(|one| !all.iter().any(|other| within(one, other)));
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("experiment = {}\ntitle = {}\n", quoted(experiment), quoted(title));
    if combinations.len() > MOST_PANELS || combinations.iter().any(|places| is_mixed(outcomes, places, series)) {
        let all = std::iter::once(series).chain(axes.iter().map(|axis| axis.as_str()));
        let all = all.map(quoted).collect::<Vec<_>>().join(", ");
        text +=
            &format!("\n[[panel]]\ntitle = \"Test accuracy\"\ntable = {{ value = \"test.top1\", series = [{all}] }}\n");
        return report::Source { name: format!("{experiment}.toml"), text };
    }
    for combination in if combinations.is_empty() { vec![Vec::new()] } else { combinations } {
        let name = combination.iter().map(|(axis, value)| format!("{axis} = {value}")).collect::<Vec<_>>().join(", ");
        let filter = combination.iter().map(|(axis, value)| format!("{} = {}", quoted(axis), quoted(value)));
        text += &format!(
            "\n[[panel]]\ntitle = {}\nduration = {{ value = \"test.top1\", series = {}, where = {{ {} }} }}\n",
            quoted(if name.is_empty() { "Test accuracy" } else { &name }),
            quoted(series),
            filter.collect::<Vec<_>>().join(", "),
        );
    }
    report::Source { name: format!("{experiment}.toml"), text }
}

/// Whether two jobs of one line, length and seed stand at these places; what stands on no such axis stands everywhere on it.
fn is_mixed(outcomes: &[Outcome], places: &[(&String, &String)], series: &str) -> bool {
    let mut seen = BTreeSet::new();
    let here = outcomes
        .iter()
        .filter(|outcome| places.iter().all(|(axis, place)| outcome.axes.get(*axis).is_none_or(|at| at == *place)));
    here.map(|outcome| {
        let line = if series == "teaching" { Some(outcome.job.teaching_name()) } else { None };
        let line = line.or(outcome.axes.get(series).map(String::as_str));
        (line, outcome.job.epochs, outcome.job.seed)
    })
    .any(|run| !seen.insert(run))
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
