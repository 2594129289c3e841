//! The words around a figure that follow from its numbers: the line under the title, and what the marks mean.

use std::collections::BTreeSet;

use crate::event::Which;
use crate::job::Teacher;
use crate::store::Outcome;

use super::numbers::{Across, Drawn, Mean};
use super::spec::{Epoch, Interval, Report};
use super::words::counted;

/// Data, student and teacher, each only where all jobs have the same.
pub fn subtitle(outcomes: &[&Outcome]) -> String {
    let same = |texts: BTreeSet<String>, many: &str| match texts.len() {
        0 => None,
        1 => texts.into_iter().next(),
        count => Some(format!("{count} {many}")),
    };
    let named = |texts: BTreeSet<String>, one: &str| match texts.len() {
        0 => None,
        1 => Some(format!("{one} {}", texts.into_iter().next().unwrap_or_default())),
        count => Some(format!("{count} {one}s")),
    };
    let of = |text: &dyn Fn(&Outcome) -> String| outcomes.iter().map(|outcome| text(outcome)).collect();
    let teachers: BTreeSet<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.job.teachers().is_empty())
        .map(|outcome| {
            let label = |teacher: &Teacher| teacher.source.model().label();
            outcome.job.teachers().iter().map(label).collect::<Vec<_>>().join(" + ")
        })
        .collect();
    [
        same(of(&|outcome| outcome.job.data.name.clone()), "data sets"),
        same(
            of(&|outcome| format!("{} training images", grouped(outcome.job.train_images()))),
            "sizes of training set",
        ),
        named(of(&|outcome| outcome.job.student.label()), "student"),
        named(teachers, "teacher"),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(" · ")
}

/// What is drawn, over how many seeds, of which epoch, on which images, and what is missing.
pub fn sentences(report: &Report, panels: &[Drawn], asked: usize, missing: usize) -> Vec<String> {
    let mut sentences = Vec::new();
    let means = |curves: bool| -> Vec<&Mean> {
        let of_kind = panels.iter().filter(move |panel| matches!(panel.across, Across::Within(_)) == curves);
        of_kind.flat_map(|panel| &panel.series).flat_map(|series| &series.means).collect()
    };
    let (finals, curves) = (means(false), means(true));
    let epoch = match report.epoch() {
        Epoch::Last => "Last epoch",
        Epoch::Best => "Best epoch on validation images",
    };
    let kind = match report.interval {
        Interval::T => "95\u{a0}% t intervals of the mean",
        Interval::Bootstrap => "95\u{a0}% bootstrap intervals of the mean",
    };
    // Nothing is drawn where all is text.
    let tables = panels.iter().all(|panel| matches!(panel.across, Across::Table(_)));
    if let Some((fewest, most)) = extremes(&finals) {
        let seeds = seeds(fewest, most);
        sentences.push(match (fewest, most) {
            (1, 1) => format!("{epoch}, {seeds}: no interval can be given."),
            (2, 2) if tables => format!("{epoch}, mean of {seeds}, with the two runs."),
            (2, 2) => format!("{epoch}, mean of {seeds}; dots are the two runs."),
            (_, 3..) if tables => format!(
                "{epoch}, mean of {seeds}; ± is half of a {}, from 3 seeds on.",
                kind.replace("intervals", "interval")
            ),
            (3.., _) => format!("{epoch}, mean of {seeds}; bands and bars are {kind}."),
            (_, 3..) => {
                let kind = kind.replace(" of the mean", "");
                format!(
                    "{epoch}, mean of {seeds}; bands and bars are {kind} from 3 seeds on, small dots the runs of 2."
                )
            }
            _ => format!("{epoch}, mean of {seeds}; dots are runs."),
        });
    }
    if let Some((fewest, most)) = extremes(&curves) {
        let seeds = seeds(fewest, most);
        sentences.push(match most {
            1 => format!("Curves: {seeds}."),
            _ => format!("Curves: each run faint, mean of {seeds} strong."),
        });
    }
    sentences.extend(chosen(report, panels));
    let splits: BTreeSet<&str> = panels.iter().filter_map(|panel| panel.value.split()).map(Which::name).collect();
    if splits.contains("test") {
        sentences.push("Test images are only reported; the report selects nothing by them.".to_owned());
    }
    let left_out: usize = panels.iter().map(|panel| panel.left_out).sum();
    if left_out > 0 {
        let values = if left_out == 1 { "value is" } else { "values are" };
        sentences
            .push(format!("{left_out} {values} not finite, or not positive on a logarithmic axis, and not drawn."));
    }
    if missing > 0 {
        let have = if missing == 1 { "has" } else { "have" };
        sentences.push(format!("{missing} of {asked} jobs {have} no final result yet."));
    }
    if report.known.written_in {
        sentences.insert(0, "These are published numbers that were written into the store, not runs.".to_owned());
    }
    if let [first, rest @ ..] = report.known.absent.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        sentences.push(format!("Experiment {first}{more} was not run."));
    }
    sentences
}

/// How one of several settings came to be the one that is shown.
fn chosen(report: &Report, panels: &[Drawn]) -> Option<String> {
    let select = report.select.as_ref()?;
    let choices: Vec<_> = panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.choices).collect();
    let varied: Vec<&str> = select
        .over
        .iter()
        .map(String::as_str)
        .filter(|axis| choices.iter().any(|choice| choice.setting.contains(axis)))
        .collect();
    let most = choices.iter().map(|choice| choice.settings).max()?;
    let tables = panels.iter().all(|panel| matches!(panel.across, Across::Table(_)));
    let partial = choices.iter().any(|choice| choice.complete < choice.settings);
    Some(format!(
        "Of {} ({}) the best by {} is shown, for each line and length{}.{}",
        counted(most, "setting"),
        varied.join(", "),
        select.by,
        if tables { "" } else { "; the others are faint" },
        if partial { " Settings with fewer finished runs than others took no part." } else { "" },
    ))
}

/// Numbers that are not ours.
pub fn of_others(report: &Report, panels: &[Drawn]) -> Vec<String> {
    let shown =
        panels.iter().any(|panel| panel.published || panel.series.iter().any(|series| !series.published.is_empty()));
    let papers: Vec<&super::spec::Paper> =
        report.papers.iter().chain(report.panels.iter().flat_map(|panel| &panel.papers)).collect();
    if !shown || papers.is_empty() {
        return Vec::new();
    }
    let mut sources: Vec<String> = Vec::new();
    for paper in papers {
        // What stands beside ours says itself what it is.
        let among =
            panels.iter().any(|panel| !panel.published && panel.series.iter().any(|line| !line.published.is_empty()));
        let source = if among { format!("{}: {}", paper.source, paper.about) } else { paper.source.clone() };
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    vec![format!(
        "What is called the paper's is as published in arXiv\u{a0}2106.05237 ({}), not run here.",
        sources.join("; ")
    )]
}

/// What was noticed about the jobs' evaluations; no line of a figure shows it.
pub fn flagged(outcomes: &[&Outcome]) -> Vec<String> {
    let all: Vec<_> =
        outcomes.iter().flat_map(|outcome| outcome.flags.values().map(move |message| (&outcome.id, message))).collect();
    match &all[..] {
        [] => Vec::new(),
        [(job, message)] => vec![format!("Job {:.8} {message}.", job.as_str())],
        [(job, message), ..] => {
            vec![format!("{} flags on jobs, such as {:.8}, which {message}.", all.len(), job.as_str())]
        }
    }
}

fn extremes(means: &[&Mean]) -> Option<(usize, usize)> {
    let fewest = means.iter().map(|mean| mean.n).min()?;
    let most = means.iter().map(|mean| mean.n).max()?;
    Some((fewest, most))
}

fn seeds(fewest: usize, most: usize) -> String {
    match (fewest, most) {
        (1, 1) => "one seed (n = 1)".to_owned(),
        (fewest, most) if fewest == most => format!("{most} seeds (n = {most})"),
        _ => format!("{fewest} to {most} seeds (n in the table)"),
    }
}

/// `6,000`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
