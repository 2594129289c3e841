//! Choosing one of several settings by validation images, and one epoch of a run.
//!
//! Within a line and a duration, runs that differ only along the axes of `[select] over` and in their seed compete. What
//! counts is the mean over seeds of the named validation value at the reported epoch; test images are never looked at.
//! Only settings with as many finished runs as any take part, for the best of one seed is better than the mean of three
//! by luck alone; a run whose value is no number makes its setting the last.

use std::collections::BTreeMap;

use crate::event::Epoch as Row;
use crate::report::numbers::Choice;
use crate::report::spec::{Epoch, Report, Selection};
use crate::report::statistics;
use crate::store::Outcome;

use super::place::place_on;

/// Means that differ by less are equal: the order in which they were added up decides nothing.
const TIE: f64 = 1e-12;

/// Jobs of one line, by whether they were chosen.
#[derive(Default)]
pub struct Chosen<'a> {
    pub chosen: Vec<&'a Outcome>,
    pub others: Vec<&'a Outcome>,
    /// Ascending in epochs, where there was something to choose.
    pub choices: Vec<Choice>,
}

pub fn choose<'a>(report: &Report, members: &[&'a Outcome]) -> Chosen<'a> {
    let Some(select) = report.select.as_ref().filter(|select| !select.over.is_empty()) else {
        return Chosen { chosen: members.to_vec(), ..Chosen::default() };
    };
    let mut lengths: BTreeMap<u32, Vec<&Outcome>> = BTreeMap::new();
    members.iter().for_each(|outcome| lengths.entry(outcome.job.epochs).or_default().push(outcome));
    let mut all = Chosen::default();
    for (epochs, outcomes) in lengths {
        choose_at(report, select, epochs, &outcomes, &mut all);
    }
    all
}

fn choose_at<'a>(report: &Report, select: &Selection, epochs: u32, outcomes: &[&'a Outcome], all: &mut Chosen<'a>) {
    let mut settings: Vec<(Vec<Option<String>>, Vec<&Outcome>)> = Vec::new();
    for outcome in outcomes {
        let setting: Vec<Option<String>> = select.over.iter().map(|axis| place_on(outcome, axis)).collect();
        match settings.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, runs)) => runs.push(outcome),
            None => settings.push((setting, vec![outcome])),
        }
    }
    if settings.len() < 2 {
        all.chosen.extend(outcomes);
        return;
    }
    let sign = if select.by.is_better_higher() { 1.0 } else { -1.0 };
    let scores: Vec<Vec<f64>> = settings
        .iter()
        .map(|(_, runs)| {
            let values = runs.iter().filter_map(|run| select.by.of(row_of(report, run)?));
            values.map(|value| if value.is_finite() { sign * value } else { f64::NEG_INFINITY }).collect()
        })
        .collect();
    let most = scores.iter().map(Vec::len).max().unwrap_or(0);
    let complete: Vec<usize> = (0..settings.len()).filter(|&index| most > 0 && scores[index].len() == most).collect();
    let mean = |index: usize| statistics::mean(&scores[index]).unwrap_or(f64::NEG_INFINITY);
    // The first of equals.
    let best = complete.iter().copied().reduce(|best, next| if mean(next) > mean(best) + TIE { next } else { best });
    let ties =
        complete.iter().filter(|&&other| best.is_some_and(|best| (mean(other) - mean(best)).abs() <= TIE)).count();
    for (index, (setting, runs)) in settings.iter().enumerate() {
        if Some(index) != best {
            all.others.extend(runs);
            continue;
        }
        let named = select.over.iter().zip(setting).filter_map(|(axis, place)| {
            let place = place.as_ref()?;
            let shown = report.shown(axis, place);
            Some(format!("{axis} {shown}"))
        });
        let setting = named.collect::<Vec<_>>().join(", ");
        let (settings, complete, score) = (settings.len(), complete.len(), sign * mean(index));
        all.chosen.extend(runs);
        all.choices.push(Choice { epochs, setting, settings, complete, ties: ties.saturating_sub(1), score });
    }
}

/// The row of a run that is reported: its last, or that of its best validation value; none where it is not finished.
pub fn row_of<'a>(report: &Report, outcome: &'a Outcome) -> Option<&'a Row> {
    let last = outcome.last()?;
    let Some(select) = report.select.as_ref().filter(|select| select.epoch == Epoch::Best) else { return Some(last) };
    let sign = if select.by.is_better_higher() { 1.0 } else { -1.0 };
    let values = outcome.epochs.iter().filter_map(|row| Some((row, sign * select.by.of(row)?)));
    let finite = values.filter(|(_, value)| value.is_finite());
    // The first of equals.
    finite.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(row, _)| row).or(Some(last))
}
