//! A report as Markdown: figure, verdicts, a table a panel, what was chosen, what is missing.

use super::footer::grouped;
use super::numbers::{Drawn, Figure};
use super::spec::Report;
use super::table;
use super::verdict::Verdict;

/// Lines of missing jobs; a sweep that has just begun lacks thousands.
const MOST_MISSING: usize = 60;

pub fn markdown(report: &Report, figure: &Figure) -> String {
    let mut text = format!("# {}\n\n", plain(&figure.title));
    if let Some(question) = &report.question {
        let of = report.reproduces.as_ref().map_or(String::new(), |what| format!(" ({what} of arXiv 2106.05237)"));
        text.push_str(&format!("{question}{of}\n\n"));
    }
    if !figure.subtitle.is_empty() {
        text.push_str(&format!("{}\n\n", figure.subtitle));
    }
    text.push_str(&format!("![{}]({}.svg)\n\n{}\n", figure.title, report.name, figure.footer.join(" ")));
    if !figure.verdicts.is_empty() {
        text.push_str("\n## Claims\n\n");
        let header = ["claim", "by", "expected", "found", "verdict", "image by image"].map(str::to_owned);
        let rows = figure.verdicts.iter().map(|verdict| {
            let images = verdict.by_image().unwrap_or_else(|| "–".to_owned());
            row(verdict).into_iter().chain([images]).collect()
        });
        let rows: Vec<Vec<String>> = rows.collect();
        text.push_str(&set(&header, &rows, false));
        text.push_str(&format!("\n{}\n", rule(report, figure.verdicts.len())));
    }
    for panel in &figure.panels {
        let table = table::of_panel(panel);
        text.push_str(&format!("\n## {}\n\n{}", table.title, set(&table.header, &table.rows, true)));
        text.push_str(&choices(panel));
    }
    if !figure.missing.is_empty() {
        text.push_str("\n## Missing\n\n");
        missing(figure).iter().for_each(|job| text.push_str(&format!("- {job}\n")));
    }
    text
}

/// What is missing, or of very much the beginning.
pub fn missing(figure: &Figure) -> Vec<String> {
    let mut lines: Vec<String> = figure.missing.iter().take(MOST_MISSING).cloned().collect();
    let more = figure.missing.len() - lines.len();
    if more > 0 {
        lines.push(format!("and {} more", grouped(more as u64)));
    }
    lines
}

/// A claim as cells: what, whose, what is expected, what was found, and what follows.
pub fn row(verdict: &Verdict) -> [String; 5] {
    [
        verdict.claim.clone(),
        verdict.source.clone().unwrap_or_else(|| "us".to_owned()),
        verdict.expectation(),
        verdict.numbers().unwrap_or_else(|| "–".to_owned()),
        verdict.outcome(),
    ]
}

/// How verdicts come about, in a sentence.
pub fn rule(report: &Report, claims: usize) -> String {
    let correction = match report.correction {
        super::spec::Correction::Holm if claims > 1 => {
            format!(", corrected for {claims} claims (Holm)")
        }
        _ => String::new(),
    };
    format!(
        "Left minus right, mean over seeds with its 95 % interval{}; decided at 5 %{correction}. {}",
        if report.epoch() == super::spec::Epoch::Best { ", of the best epoch" } else { ", of the last epoch" },
        registered(report),
    )
}

/// Whether the claims are older than the numbers.
pub fn registered(report: &Report) -> String {
    let Some(known) = report.known.registered else {
        return "The store does not say when these claims were written down.".to_owned();
    };
    let day = known.day();
    let jobs = known.jobs;
    match known.begun {
        0 => format!("Written down on {day}, before any of the {jobs} jobs began."),
        begun => format!("Written down on {day}, when {begun} of {jobs} jobs had begun."),
    }
}

fn choices(panel: &Drawn) -> String {
    let all = panel.series.iter().flat_map(|series| series.choices.iter().map(move |choice| (series, choice)));
    let lines: Vec<String> = all
        .map(|(series, choice)| {
            format!("- {}, {} epochs: {}\n", plain(&series.shown), choice.epochs, plain(&choice.told()))
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("\nChosen on validation images:\n\n{}", lines.concat()) }
}

/// Names may look like tags.
fn plain(text: &str) -> String {
    text.replace('<', "&lt;")
}

fn set(header: &[String], rows: &[Vec<String>], numbers: bool) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell).replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let align = if numbers { "|---:" } else { "|---" };
    let mut text = line(header);
    text.push_str(&format!("|---{}|\n", align.repeat(header.len().saturating_sub(1))));
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}
