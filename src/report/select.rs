//! Which numbers a report shows, each with the jobs it comes from. Nothing here knows how they are drawn.
//!
//! A dot is one job. A mean is over jobs that differ in nothing but their seed; jobs that differ in more are refused, for
//! a mean over learning rates with an interval around it would be a lie. Choosing among them is not this module's either.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::{Job, JobId};
use crate::store::{Outcome, State};

use super::statistics::{self, Interval};
use super::{AtEpochs, Error, Kind, Panel, Report, Scale, Value, footer, theme};

/// The axis that every job has, grid or not.
const TEACHING: &str = "teaching";
const EPOCHS: &str = "epochs";

/// A report with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub title: String,
    pub subtitle: String,
    pub panels: Vec<Drawn>,
    /// What the marks mean, how many seeds, what is missing: one sentence each.
    pub footer: Vec<String>,
    pub missing: Vec<String>,
}

/// A panel with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    pub title: String,
    pub caption: String,
    pub value: Value,
    pub scale: Scale,
    pub across: Across,
    /// The axis whose places are the series.
    pub axis: String,
    pub series: Vec<Series>,
    pub references: Vec<Reference>,
    /// Numbers and intervals that the value axis cannot show: not finite, or not positive on a logarithmic one.
    pub left_out: usize,
}

/// What runs from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// Epochs a job was trained for, logarithmic.
    Durations,
    /// Epochs within one job, linear.
    Epochs,
}

/// The place of one line on its axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As in the experiment file.
    pub name: String,
    /// Its place among all series of this axis in the report, so that all panels give it one colour.
    pub place: usize,
    /// Ascending in epochs, then in seed.
    pub runs: Vec<Run>,
    /// Ascending in epochs.
    pub means: Vec<Mean>,
}

/// A number of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub epochs: u32,
    pub seed: u64,
    pub job: JobId,
    pub value: f64,
}

/// Over the runs at the same epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Mean {
    pub epochs: u32,
    pub n: usize,
    pub value: f64,
    /// From three runs on, where the value axis can show both its ends.
    pub interval: Option<Interval>,
}

/// A level that is not trained for: a teacher's own accuracy.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub name: String,
    pub value: f64,
    /// Images it was measured on.
    pub images: u64,
    /// The jobs that measured it.
    pub jobs: Vec<JobId>,
}

impl Figure {
    pub fn is_empty(&self) -> bool {
        self.panels.iter().all(|panel| panel.series.is_empty())
    }
}

impl Drawn {
    /// Every number of epochs at which something is drawn, ascending.
    pub fn epochs(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = self.series.iter().flat_map(|series| &series.runs).map(|run| run.epochs).collect();
        all.into_iter().collect()
    }
}

impl Series {
    pub fn runs_at(&self, epochs: u32) -> impl Iterator<Item = &Run> {
        let from = self.runs.partition_point(|run| run.epochs < epochs);
        self.runs[from..].iter().take_while(move |run| run.epochs == epochs)
    }
}

pub fn figure(report: &Report, outcomes: &[Outcome]) -> Result<Figure, Error> {
    let is_needed = |job: &Job| outcomes.iter().any(|outcome| outcome.job.needs().any(|needed| **needed == *job));
    // A teacher that is trained only because students need it stands on no axis and is no point of the grid.
    let points: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| !(outcome.axes.is_empty() && is_needed(&outcome.job))).collect();
    let places = series_places(report, &points);

    let mut panels = Vec::new();
    let (mut asked, mut lacking): (BTreeSet<&JobId>, BTreeSet<&JobId>) = Default::default();
    for panel in &report.panels {
        let chosen = chosen(report, panel, &points)?;
        asked.extend(chosen.iter().map(|outcome| &outcome.id));
        let lacks = |outcome: &&&Outcome| outcome.last().and_then(|row| panel.value().of(row)).is_none();
        lacking.extend(chosen.iter().filter(lacks).map(|outcome| &outcome.id));
        panels.push(drawn(report, panel, &chosen, &places)?);
    }
    let asked: Vec<&Outcome> = points.into_iter().filter(|outcome| asked.contains(&outcome.id)).collect();
    let missing: Vec<String> =
        asked.iter().filter(|outcome| lacking.contains(&outcome.id)).map(|job| missing(job)).collect();
    Ok(Figure {
        title: report.title.clone(),
        subtitle: report.subtitle.clone().unwrap_or_else(|| footer::subtitle(&asked)),
        footer: [footer::sentences(&panels, asked.len(), missing.len()), footer::flagged(&asked)].concat(),
        panels,
        missing,
    })
}

/// The jobs of a panel.
fn chosen<'a>(report: &Report, panel: &Panel, points: &[&'a Outcome]) -> Result<Vec<&'a Outcome>, Error> {
    for axis in panel.filter().keys().map(String::as_str).chain([panel.series()]) {
        if !points.is_empty() && !points.iter().any(|outcome| place_on(outcome, axis).is_some()) {
            let axes: BTreeSet<&str> = points.iter().flat_map(|job| job.axes.keys().map(String::as_str)).collect();
            let axes: BTreeSet<&str> = axes.into_iter().chain([TEACHING, EPOCHS]).collect();
            let known = axes.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownAxis {
                panel: panel.title.clone(),
                axis: axis.to_owned(),
                experiment: report.experiment.clone(),
                known: format!("it has {known}"),
            });
        }
    }
    let mut chosen: Vec<&Outcome> = points
        .iter()
        .copied()
        .filter(|outcome| {
            // What stands on no such axis, as a student of a teacher on that of labels' mixup, is nowhere else on it.
            panel.filter().iter().all(|(axis, place)| place_on(outcome, axis).is_none_or(|text| place.is(&text)))
                && !panel.omit().contains(&series_of(outcome, panel.series()))
                && !(panel.value().needs_teacher() && outcome.job.teachers().is_empty())
        })
        .collect();
    if let Kind::Curves(curves) = &panel.kind {
        let epochs = match curves.at_epochs {
            AtEpochs::Epochs(epochs) => epochs,
            AtEpochs::Longest => chosen.iter().map(|outcome| outcome.job.epochs).max().unwrap_or(0),
        };
        chosen.retain(|outcome| outcome.job.epochs == epochs);
    }
    Ok(chosen)
}

fn drawn(
    report: &Report,
    panel: &Panel,
    chosen: &[&Outcome],
    places: &BTreeMap<String, Vec<String>>,
) -> Result<Drawn, Error> {
    let value = panel.value();
    let showable = |number: f64| number.is_finite() && (panel.scale() == Scale::Linear || number > 0.0);
    let mut left_out = 0;
    let mut series = Vec::new();
    for (place, name) in places[panel.series()].iter().enumerate() {
        let members: Vec<&Outcome> =
            chosen.iter().copied().filter(|outcome| series_of(outcome, panel.series()) == *name).collect();
        refuse_mixtures(report, panel, name, &members)?;
        let mut runs = Vec::new();
        for outcome in &members {
            let rows = match panel.kind {
                Kind::Duration(_) => outcome.last().map(std::slice::from_ref).unwrap_or_default(),
                Kind::Curves(_) => &outcome.epochs,
            };
            for row in rows {
                let Some(number) = value.of(row) else { continue };
                if showable(number) {
                    let (seed, job) = (outcome.job.seed, outcome.id.clone());
                    runs.push(Run { epochs: row.epoch, seed, job, value: number });
                } else {
                    left_out += 1;
                }
            }
        }
        runs.sort_by_key(|run| (run.epochs, run.seed));
        if !runs.is_empty() {
            let mut means = means(panel, &runs);
            // Curves draw none.
            let drawn = means.iter_mut().filter(|_| matches!(panel.kind, Kind::Duration(_)));
            for mean in drawn {
                if mean.interval.is_some_and(|interval| !showable(interval.low)) {
                    mean.interval = None;
                    left_out += 1;
                }
            }
            series.push(Series { name: name.clone(), place, runs, means });
        }
    }
    let mut caption = value.caption();
    let across = match &panel.kind {
        Kind::Duration(_) => Across::Durations,
        Kind::Curves(_) => Across::Epochs,
    };
    if let (Across::Epochs, Some(outcome)) = (across, chosen.first()) {
        caption.push_str(&format!(" · runs of {} epochs", outcome.job.epochs));
    }
    // A figure says which part of the grid it shows.
    panel.filter().iter().for_each(|(axis, place)| caption.push_str(&format!(" · {axis} {}", place.0)));
    Ok(Drawn {
        title: panel.title.clone(),
        caption,
        value,
        scale: panel.scale(),
        across,
        axis: panel.series().to_owned(),
        series,
        references: references(value, chosen),
        left_out,
    })
}

/// A mean at each epoch; within curves only where every run of the series has a value, for a mean whose members change
/// along the line moves without anything having been learned.
fn means(panel: &Panel, runs: &[Run]) -> Vec<Mean> {
    let all: BTreeSet<&JobId> = runs.iter().map(|run| &run.job).collect();
    runs.chunk_by(|a, b| a.epochs == b.epochs)
        .filter(|at| matches!(panel.kind, Kind::Duration(_)) || at.len() == all.len())
        .filter_map(|at| {
            let values: Vec<f64> = at.iter().map(|run| run.value).collect();
            let value = statistics::mean(&values)?;
            Some(Mean { epochs: at[0].epochs, n: at.len(), value, interval: statistics::t_interval(&values) })
        })
        .collect()
}

fn refuse_mixtures(report: &Report, panel: &Panel, series: &str, members: &[&Outcome]) -> Result<(), Error> {
    let mut known: BTreeMap<(u32, u64), &Outcome> = BTreeMap::new();
    for outcome in members {
        let Some(other) = known.insert((outcome.job.epochs, outcome.job.seed), outcome) else { continue };
        let axes: BTreeSet<&String> = other.axes.keys().chain(outcome.axes.keys()).collect();
        let differ: Vec<&str> = axes
            .into_iter()
            .filter(|axis| other.axes.get(*axis) != outcome.axes.get(*axis))
            .map(String::as_str)
            .collect();
        let hint = match differ.first() {
            Some(axis) => format!("choose one by `where = {{ {axis} = ... }}`, or make it the series"),
            None => format!("give `{}` an axis for what differs", report.experiment),
        };
        let quoted = differ.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ");
        let place = format!("(`{series}`, {} epochs, seed {})", outcome.job.epochs, outcome.job.seed);
        return Err(Error::Ambiguous {
            panel: panel.title.clone(),
            jobs: format!("{} and {} {place}", other.id, outcome.id),
            axes: if quoted.is_empty() { "no axis".to_owned() } else { quoted },
            hint,
        });
    }
    Ok(())
}

/// The teachers' own levels. Where an ensemble was measured as a whole, its members do not stand beside it.
fn references(value: Value, chosen: &[&Outcome]) -> Vec<Reference> {
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
    if levels.len() > 3 {
        // A line each would be a second figure behind the first one; the span is what a reader compares with.
        let (mut lowest, mut highest) = (levels.remove(0), levels.remove(levels.len() - 1));
        lowest.name = "lowest teacher".to_owned();
        highest.name = "highest teacher".to_owned();
        levels = vec![lowest, highest];
    }
    levels
}

/// The series of each axis that the report names, in the order of tables and colours.
fn series_places(report: &Report, points: &[&Outcome]) -> BTreeMap<String, Vec<String>> {
    let mut places = BTreeMap::new();
    for axis in report.panels.iter().map(Panel::series) {
        let mut names: Vec<String> = Vec::new();
        for name in points.iter().map(|outcome| series_of(outcome, axis)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let number = |name: &String| name.parse::<f64>().ok();
        if axis == TEACHING {
            names.sort_by_key(|name| theme::teaching_rank(name));
        } else if names.iter().all(|name| number(name).is_some()) {
            names.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
        }
        places.insert(axis.to_owned(), names);
    }
    places
}

fn series_of(outcome: &Outcome, axis: &str) -> String {
    place_on(outcome, axis).unwrap_or_else(|| format!("no {axis}"))
}

fn place_on(outcome: &Outcome, axis: &str) -> Option<String> {
    match (axis, outcome.axes.get(axis)) {
        (TEACHING, _) => Some(outcome.job.teaching_name().to_owned()),
        (_, Some(place)) => Some(place.clone()),
        (EPOCHS, None) => Some(outcome.job.epochs.to_string()),
        (_, None) => None,
    }
}

/// One line that says which job, and why it has no result.
fn missing(outcome: &Outcome) -> String {
    let mut axes: Vec<String> = outcome
        .axes
        .iter()
        .filter(|(axis, _)| !matches!(axis.as_str(), TEACHING | EPOCHS | "seed"))
        .map(|(axis, place)| format!("{axis} {place}"))
        .collect();
    axes.insert(0, outcome.job.teaching_name().to_owned());
    axes.insert(1, format!("{} epochs", outcome.job.epochs));
    axes.push(format!("seed {}", outcome.job.seed));
    let state = match outcome.state {
        State::Open => "not started",
        State::Running => "running",
        State::Interrupted => "interrupted",
        State::Done => "done, but without its final values",
        State::Failed => "failed",
        State::Blocked => "blocked",
    };
    let reason = outcome.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{} ({}): {state}{reason}", outcome.id, axes.join(", "))
}
