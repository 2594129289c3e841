//! From a job's rows to the numbers that a panel shows of it, and from those to means and levels.

use std::collections::BTreeSet;

use crate::event::Epoch as Row;
use crate::job::JobId;
use crate::report::numbers::{Mean, Reference, Run};
use crate::report::spec::{Amount, Horizontal, Kind, Panel, Report};
use crate::report::statistics;
use crate::report::value::Value;
use crate::store::Outcome;

use super::choice::row_of;

/// The rows of a job that a panel shows, each with where it stands from left to right.
pub fn numbers_of<'a>(report: &Report, panel: &Panel, outcome: &'a Outcome) -> Vec<(&'a Row, f64, f64)> {
    let value = |row: &'a Row, x: Option<f64>| Some((row, x?, panel.value.of(row)?));
    match panel.kind {
        Kind::Curves { x, .. } => {
            let mut seconds = 0.0;
            let rows = outcome.epochs.iter().filter_map(|row| {
                seconds += row.seconds;
                value(row, Some(amount(x, row, seconds)))
            });
            rows.collect()
        }
        kind => {
            let Some(row) = row_of(report, outcome) else { return Vec::new() };
            let x = match kind {
                Kind::Duration { x } | Kind::Scatter { x: Horizontal::Amount(x), .. } => {
                    Some(amount(x, row, outcome.seconds))
                }
                Kind::Scatter { x: Horizontal::Value(x), .. } => x.of(row),
                _ => Some(f64::from(outcome.job.epochs)),
            };
            value(row, x).into_iter().collect()
        }
    }
}

fn amount(amount: Amount, row: &Row, seconds: f64) -> f64 {
    match amount {
        Amount::Epochs => f64::from(row.epoch),
        Amount::Steps => row.step as f64,
        Amount::Images => row.images as f64,
        Amount::StudentFlops => row.student_flops,
        Amount::Flops => row.student_flops + row.teacher_flops,
        Amount::Seconds => seconds,
    }
}

/// A mean at each epoch; within curves only where every run of the series has a value, for a mean whose members change
/// along the line moves without anything having been learned.
pub fn means(report: &Report, panel: &Panel, runs: &[Run]) -> Vec<Mean> {
    let curves = matches!(panel.kind, Kind::Curves { .. });
    let all: BTreeSet<&JobId> = if curves { runs.iter().map(|run| &run.job).collect() } else { BTreeSet::new() };
    runs.chunk_by(|a, b| a.epochs == b.epochs)
        .filter(|at| !curves || at.len() == all.len())
        .filter_map(|at| {
            let values: Vec<f64> = at.iter().map(|run| run.value).collect();
            let value = statistics::mean(&values)?;
            let x = statistics::mean(&at.iter().map(|run| run.x).collect::<Vec<_>>())?;
            let interval = if curves { None } else { statistics::interval(&values, report.interval) };
            Some(Mean { epochs: at[0].epochs, x, n: at.len(), value, interval })
        })
        .collect()
}

/// The teachers' own levels. Where an ensemble was measured as a whole, its members do not stand beside it.
pub fn references(value: Value, chosen: &[&Outcome]) -> Vec<Reference> {
    let mut levels: Vec<Reference> = Vec::new();
    for outcome in chosen {
        let whole = outcome.teachers.iter().any(|check| check.teacher.is_none());
        for check in outcome.teachers.iter().filter(|check| !whole || check.teacher.is_none()) {
            let Some(level) = value.of_teacher(check).filter(|level| level.is_finite()) else { continue };
            match levels.iter_mut().find(|known| known.value == level) {
                Some(known) if known.jobs.contains(&outcome.id) => {}
                Some(known) => known.jobs.push(outcome.id.clone()),
                None => levels.push(Reference {
                    name: "teacher".to_owned(),
                    value: level,
                    images: check.images,
                    jobs: vec![outcome.id.clone()],
                }),
            }
        }
    }
    levels.sort_by(|a, b| a.value.total_cmp(&b.value));
    levels.iter_mut().for_each(|level| level.jobs.sort());
    if (2..=3).contains(&levels.len()) {
        let names = apart(&levels, chosen);
        levels.iter_mut().zip(names).for_each(|(level, name)| level.name = name);
    }
    if levels.len() > 3 {
        // A line each would be a second figure behind the first one; the span is what a reader compares with.
        let (mut lowest, mut highest) = (levels.remove(0), levels.remove(levels.len() - 1));
        lowest.name = "lowest teacher".to_owned();
        highest.name = "highest teacher".to_owned();
        levels = vec![lowest, highest];
    }
    levels
}

/// Names that tell a few teachers apart: by what they see, by what they are, or by number.
fn apart(levels: &[Reference], chosen: &[&Outcome]) -> Vec<String> {
    let of = |tell: &dyn Fn(&Outcome) -> String| -> Option<Vec<String>> {
        let names = levels.iter().map(|level| {
            let outcome = chosen.iter().find(|outcome| level.jobs.contains(&outcome.id))?;
            Some(tell(outcome))
        });
        let names: Vec<String> = names.collect::<Option<_>>()?;
        let different: BTreeSet<&String> = names.iter().collect();
        (different.len() == names.len()).then_some(names)
    };
    let joined = |parts: Vec<String>| parts.join(" + ");
    let resolutions = |outcome: &Outcome| {
        let sides = outcome.job.teachers().iter().map(|teacher| teacher.resolution.to_string());
        format!("teacher, {} px", joined(sides.collect()))
    };
    let models = |outcome: &Outcome| {
        let labels = outcome.job.teachers().iter().map(|teacher| teacher.source.model().label());
        format!("teacher {}", joined(labels.collect()))
    };
    let numbered = || (1..=levels.len()).map(|number| format!("teacher {number}")).collect();
    of(&resolutions).or_else(|| of(&models)).unwrap_or_else(numbered)
}
