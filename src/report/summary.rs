//! What a report came to, for machines: beside its figure as JSON, and from many of them the table of a README.

use serde::{Deserialize, Serialize};

use super::numbers::{Drawn, Figure};
use super::spec::Report;
use super::table;
use crate::store::Spent;

/// Of one report at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Summary {
    pub title: String,
    /// Its experiments as the store names them, with their hashes.
    pub experiments: Vec<Recorded>,
    /// Jobs that are shown, and those of them without their final value.
    pub jobs: usize,
    pub missing: usize,
    /// Devices that computed them, and how long, all together.
    pub devices: Vec<String>,
    /// Of one thread, or of one GPU.
    pub seconds: f64,
    /// The number a reader asks for first.
    pub headline: Option<Headline>,
    pub verdicts: Vec<Said>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recorded {
    pub name: String,
    pub hash: String,
}

/// Of one line of the first panel its longest runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Headline {
    pub panel: String,
    pub value: String,
    pub series: String,
    pub epochs: u32,
    pub n: usize,
    pub mean: f64,
    /// As a table has it: `86.1 ± 0.8 (n=3)`.
    pub text: String,
    /// The paper's, of the same line, at its longest.
    pub paper: Option<f64>,
    pub paper_epochs: Option<u32>,
}

/// A claim and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Said {
    pub claim: String,
    pub found: Option<String>,
    pub verdict: String,
    pub by_image: Option<String>,
}

pub fn summary(report: &Report, figure: &Figure, experiments: Vec<Recorded>, spent: &[Spent]) -> Summary {
    let mut devices: Vec<String> = spent.iter().map(|spent| spent.device.clone()).collect();
    devices.sort();
    devices.dedup();
    let said = figure.verdicts.iter().map(|verdict| Said {
        claim: verdict.claim.clone(),
        found: verdict.numbers(),
        verdict: verdict.outcome(),
        by_image: verdict.by_image(),
    });
    Summary {
        title: figure.title.clone(),
        experiments,
        jobs: figure.jobs,
        missing: figure.missing.len(),
        devices,
        seconds: device_seconds(spent).round(),
        headline: headline(report, figure),
        verdicts: said.collect(),
    }
}

/// Of one thread, or of one GPU.
pub fn device_seconds(spent: &[Spent]) -> f64 {
    let threads = |spent: &Spent| if spent.device == "cpu" { f64::from(spent.threads.unwrap_or(1)) } else { 1.0 };
    spent.iter().map(|spent| spent.seconds * threads(spent)).sum()
}

fn headline(report: &Report, figure: &Figure) -> Option<Headline> {
    // Accuracy where it is shown at all, whatever stands before it.
    let own = || figure.panels.iter().filter(|panel| !panel.published);
    let ours = own().find(|panel| panel.value.to_string() == "test.top1").or_else(|| own().next())?;
    let named = |panel: &Drawn| match &report.headline {
        Some(name) => panel.series.iter().position(|series| series.name == *name || series.shown == *name),
        None => panel.series.iter().rposition(|series| !series.means.is_empty()),
    };
    let series = &ours.series[named(ours)?];
    let mean = series.means.last()?;
    let same = |panel: &&Drawn| panel.published || std::ptr::eq(*panel, ours);
    let published = figure.panels.iter().filter(same).find_map(|panel| {
        let other = report.headline_paper.as_deref();
        let is_it = |line: &&super::numbers::Series| match other {
            Some(other) => line.name == other || line.shown == other,
            None => line.name == series.name || line.shown == series.shown,
        };
        panel.series.iter().find(is_it)?.published.last()
    });
    Some(Headline {
        panel: ours.title.clone(),
        value: ours.value.to_string(),
        series: series.shown.clone(),
        epochs: mean.epochs,
        n: mean.n,
        mean: mean.value,
        text: table::cell(ours.value, series, mean.epochs),
        paper: published.map(|number| number.value),
        paper_epochs: published.and_then(|number| number.epochs),
    })
}

/// A Markdown table of reports: what each reproduces, its question, what to type, how long it took, our number and the
/// paper's.
pub fn index(all: &[(Report, Summary)]) -> String {
    let mut text =
        String::from("| in the paper | question | run | took | ours | the paper's |\n|---|---|---|---|---|---|\n");
    for (report, summary) in all {
        let what = report.reproduces.as_deref().unwrap_or("beyond");
        let question = report.question.as_deref().unwrap_or(&report.title);
        let command = report.experiments.0.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (ours, paper) = match &summary.headline {
            None => ("–".to_owned(), "–".to_owned()),
            Some(headline) => {
                let at = |epochs: u32| format!("{} epochs", super::grouped(u64::from(epochs)));
                // `Test accuracy, CIFAR-10`: which of several it is.
                let place = headline.panel.split_once(", ").map_or(String::new(), |(_, place)| format!("{place}: "));
                let ours = format!("{} ({place}{}, {})", headline.text, headline.series, at(headline.epochs));
                let paper = headline.paper.map(|paper| {
                    let at = headline.paper_epochs.map_or(String::new(), |epochs| format!(" ({})", at(epochs)));
                    format!("{:.2}{at}", 100.0 * paper)
                });
                (ours, paper.unwrap_or_else(|| "–".to_owned()))
            }
        };
        text += &format!(
            "| [{what}](reports/{0}.md) | {question} | {command} | {1} | {ours} | {paper} |\n",
            report.name,
            took(summary),
        );
    }
    text
}

/// `16 core-minutes`, `3.1 GPU-hours`
fn took(summary: &Summary) -> String {
    let unit = if summary.devices.iter().any(|device| device.starts_with("cuda")) { "GPU" } else { "core" };
    match summary.seconds {
        seconds if seconds <= 60.0 => format!("1 {unit}-minute"),
        seconds if seconds < 7200.0 => format!("{:.0} {unit}-minutes", (seconds / 60.0).ceil()),
        seconds => format!("{:.1} {unit}-hours", seconds / 3600.0),
    }
}
