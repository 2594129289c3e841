//! Which numbers a report shows. Nothing here knows how they are drawn.
//!
//! A dot is one job. A mean is over jobs that differ in nothing but their seed; jobs that differ in more are refused, for
//! a mean over learning rates with an interval around it would be a lie, unless the report says among which axes one
//! setting is to be chosen by validation images ([`choice`]).

mod choice;
mod facet;
mod place;
mod published;
mod runs;

use std::collections::{BTreeMap, BTreeSet};

use crate::job::JobId;
use crate::store::{Outcome, State};

pub use choice::{choose, row_of};
pub use place::{Ground, place_on, places_of, stands_at};

use super::numbers::{Across, Drawn, Figure, Run, Series};
use super::spec::{AtEpochs, Epoch, Kind, Panel, Report, Scale};
use super::{Error, footer, theme, verdict, words};
use facet::faceted;
use place::{EPOCHS, EXPERIMENT, TEACHING};
use published::Beside;
use runs::{means, numbers_of, references};

/// Between the places of a line on several axes.
const BETWEEN: &str = " · ";

/// A line before its numbers: what it is called, and whose numbers it has.
struct Line<'a> {
    name: String,
    shown: String,
    look: Option<String>,
    place: usize,
    members: Vec<&'a Outcome>,
}

pub fn figure(report: &Report, outcomes: &[Outcome]) -> Result<Figure, Error> {
    let ground = Ground::new(outcomes);
    let points = &ground.points;
    let mut panels = Vec::new();
    let (mut asked, mut lacking): (BTreeSet<&JobId>, BTreeSet<&JobId>) = Default::default();
    let wanted: Vec<Panel> = report.panels.iter().flat_map(|panel| faceted(report, panel, &ground)).collect();
    let places = series_places(&wanted, &ground);
    let mut shown = BTreeSet::new();
    for panel in &wanted {
        let chosen = chosen(report, panel, &ground)?;
        let lines = lines(report, panel, &chosen, &places, &ground);
        for outcome in lines.iter().flat_map(|line| &line.members) {
            asked.insert(&outcome.id);
            if row_of(report, outcome).and_then(|row| panel.value.of(row)).is_none() {
                lacking.insert(&outcome.id);
            }
        }
        let ours = drawn(report, panel, lines)?;
        let Beside { ours, others } = published::beside(report, panel, ours, &chosen);
        panels.push(ours);
        // Numbers that several panels stand beside are shown once.
        panels.extend(others.into_iter().filter(|other| shown.insert((other.title.clone(), other.caption.clone()))));
    }
    // A panel without anything is no news where others have something.
    let has_something = |panel: &Drawn| {
        panel
            .series
            .iter()
            .any(|series| !(series.runs.is_empty() && series.others.is_empty() && series.published.is_empty()))
    };
    if panels.iter().any(has_something) {
        panels.retain(has_something);
    }
    let asked: Vec<&Outcome> = points.iter().copied().filter(|outcome| asked.contains(&outcome.id)).collect();
    let mut missing: Vec<String> =
        asked.iter().filter(|outcome| lacking.contains(&outcome.id)).map(|job| missing(report, job)).collect();
    let jobs = missing.len();
    missing.extend(report.known.absent.iter().map(|experiment| format!("experiment `{experiment}` was not run")));
    let sentences = [
        footer::sentences(report, &panels, asked.len(), jobs),
        footer::flagged(&asked),
        footer::of_others(report, &panels),
    ];
    Ok(Figure {
        title: report.title.clone(),
        columns: report.columns,
        subtitle: report.subtitle.clone().unwrap_or_else(|| footer::subtitle(&asked)),
        footer: sentences.concat(),
        verdicts: verdict::verdicts(report, points),
        panels,
        missing,
        jobs: asked.len(),
    })
}

/// What stands on no such axis, as a student of a teacher on that of labels' mixup, is nowhere else on it.
fn stands_in(panel: &Panel, outcome: &Outcome, ground: &Ground) -> bool {
    panel.filter.iter().all(|(axis, place)| ground.place_on(outcome, axis).is_none_or(|text| place.is(&text)))
}

/// The jobs of a panel.
fn chosen<'a>(report: &Report, panel: &Panel, ground: &Ground<'a>) -> Result<Vec<&'a Outcome>, Error> {
    let points = &ground.points;
    let stands = |axis: &str| points.iter().any(|outcome| ground.place_on(outcome, axis).is_some());
    // Of several axes that are the lines together, one size may lack some.
    let some = panel.series.len() > 1 && panel.series.iter().any(|axis| stands(axis));
    let lines = panel.series.iter().filter(|_| !some);
    for axis in panel.filter.keys().chain(lines).map(String::as_str) {
        let known = stands(axis);
        if !points.is_empty() && axis != EXPERIMENT && !known {
            let known = ground.known().iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownAxis {
                panel: panel.title.clone(),
                axis: axis.to_owned(),
                experiment: report.experiments.0.join("`, `"),
                known: format!("it has {known}"),
            });
        }
    }
    let mut chosen: Vec<&Outcome> = points
        .iter()
        .copied()
        .filter(|outcome| {
            stands_in(panel, outcome, ground)
                && (panel.series.is_empty() || !panel.omit.contains(&series_of(outcome, &panel.series, ground)))
                && !(panel.value.needs_teacher() && outcome.job.teachers().is_empty())
        })
        .collect();
    let longest = || chosen.iter().map(|outcome| outcome.job.epochs).max().unwrap_or(0);
    let only = match panel.kind {
        Kind::Curves { at: AtEpochs::Longest, .. } | Kind::Bars { at: AtEpochs::Longest, .. } => Some(longest()),
        Kind::Curves { at: AtEpochs::Epochs(epochs), .. } | Kind::Bars { at: AtEpochs::Epochs(epochs), .. } => {
            Some(epochs)
        }
        Kind::Scatter { at, .. } => at,
        Kind::Duration { .. } | Kind::Table { .. } => None,
    };
    chosen.retain(|outcome| only.is_none_or(|epochs| outcome.job.epochs == epochs));
    Ok(chosen)
}

fn lines<'a>(
    report: &Report,
    panel: &Panel,
    chosen: &[&'a Outcome],
    places: &BTreeMap<&[String], Vec<String>>,
    ground: &Ground,
) -> Vec<Line<'a>> {
    // A job that several experiments share is one job.
    let once = |mut members: Vec<&'a Outcome>| {
        let mut seen = BTreeSet::new();
        members.retain(|outcome| seen.insert(&outcome.id));
        members
    };
    if panel.series.is_empty() {
        let listed = report.series.iter().enumerate().filter(|(_, listed)| !panel.omit.contains(&listed.name));
        return listed
            .map(|(place, listed)| {
                let members = once(chosen.iter().copied().filter(|outcome| listed.has(outcome)).collect());
                let (name, look) = (listed.name.clone(), listed.look.clone());
                Line { shown: name.clone(), name, look, place, members }
            })
            .collect();
    }
    let line = |(place, name): (usize, &String)| {
        let members =
            once(chosen.iter().copied().filter(|outcome| series_of(outcome, &panel.series, ground) == *name).collect());
        let shown = shown(report, &panel.series, name);
        let look = (panel.series == [TEACHING]).then(|| name.clone());
        Line { name: name.clone(), shown, look, place, members }
    };
    // A place where this panel has no job at all is no line of it.
    places[panel.series.as_slice()].iter().enumerate().map(line).filter(|line| !line.members.is_empty()).collect()
}

/// A place on one axis or several, as a reader says it.
pub(super) fn shown(report: &Report, axes: &[String], name: &str) -> String {
    let parts = name.split(BETWEEN).zip(axes);
    let said = parts.map(|(place, axis)| report.shown(axis, place));
    said.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(BETWEEN)
}

fn drawn(report: &Report, panel: &Panel, lines: Vec<Line>) -> Result<Drawn, Error> {
    let showable = |number: f64| number.is_finite() && (panel.scale == Scale::Linear || number > 0.0);
    let (mut left_out, mut series, mut all) = (0, Vec::new(), Vec::new());
    for line in lines {
        all.extend(&line.members);
        let choice = choose(report, &line.members);
        refuse_mixtures(report, panel, &line.shown, &choice.chosen)?;
        let mut numbers = |outcomes: &[&Outcome]| {
            let mut runs = Vec::new();
            for outcome in outcomes {
                for (row, x, number) in numbers_of(report, panel, outcome) {
                    if showable(number) && x.is_finite() {
                        let (seed, job) = (outcome.job.seed, outcome.id.clone());
                        runs.push(Run { epochs: row.epoch, x, seed, job, value: number });
                    } else {
                        left_out += 1;
                    }
                }
            }
            runs
        };
        let mut runs = numbers(&choice.chosen);
        let others = numbers(&choice.others);
        if report.epoch() == Epoch::Best && !matches!(panel.kind, Kind::Curves { .. }) {
            // Runs of one duration stand together, whatever their best epoch was.
            let lengths: BTreeMap<&JobId, u32> =
                choice.chosen.iter().map(|outcome| (&outcome.id, outcome.job.epochs)).collect();
            runs.iter_mut().for_each(|run| run.epochs = lengths[&run.job]);
        }
        runs.sort_by_key(|run| (run.epochs, run.seed));
        let mut means = means(report, panel, &runs);
        let finals = !matches!(panel.kind, Kind::Curves { .. });
        for mean in means.iter_mut().filter(|_| finals) {
            if mean.interval.is_some_and(|interval| !showable(interval.low)) {
                mean.interval = None;
                left_out += 1;
            }
        }
        let Line { name, shown, look, place, .. } = line;
        let choices = choice.choices;
        series.push(Series { name, shown, look, place, runs, others, means, choices, published: Vec::new() });
    }
    Ok(Drawn {
        title: panel.title.clone(),
        caption: caption(report, panel, &all),
        value: panel.value,
        scale: panel.scale,
        across: match panel.kind {
            Kind::Duration { x } => Across::Durations(x),
            Kind::Curves { x, .. } => Across::Within(x),
            Kind::Scatter { x, .. } => Across::Other(x),
            Kind::Bars { from_zero, .. } => Across::Bars { from_zero },
            Kind::Table { columns } => Across::Table(columns),
        },
        axis: (!panel.series.is_empty()).then(|| panel.series.join(", ")),
        series,
        references: references(panel.value, &all),
        left_out,
        published: false,
    })
}

/// What is measured, and which part of the grid is shown.
fn caption(report: &Report, panel: &Panel, all: &[&Outcome]) -> String {
    let mut caption = panel.value.caption();
    if matches!(panel.kind, Kind::Curves { .. } | Kind::Bars { .. } | Kind::Scatter { at: Some(_), .. })
        && let Some(outcome) = all.first()
    {
        let of = if matches!(panel.kind, Kind::Curves { .. }) { "runs of " } else { "after " };
        caption.push_str(&format!(" · {of}{} epochs", outcome.job.epochs));
    }
    for (axis, place) in
        panel.filter.iter().filter(|(axis, _)| *axis != EXPERIMENT && Some(*axis) != panel.facet.as_ref())
    {
        match report.name_of(axis, &place.0) {
            Some(name) => caption.push_str(&format!(" · {name}")),
            None => caption.push_str(&format!(" · {axis} {}", words::shown(axis, &place.0))),
        }
    }
    let finals = !matches!(panel.kind, Kind::Curves { .. });
    if let (Epoch::Best, Some(select), true) = (report.epoch(), &report.select, finals) {
        caption.push_str(&format!(" · BEST EPOCH by {}, not the last", select.by));
    }
    caption
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
            Some(axis) => format!(
                "choose one by `where = {{ {axis} = ... }}`, make it the series, or let validation images choose: `[select] \
                 over = [\"{axis}\"]`"
            ),
            None => format!("give `{}` an axis for what differs", report.experiments.first()),
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

/// The series of each axis, or several together, that panels name, in the order of tables and colours.
fn series_places<'a>(panels: &'a [Panel], ground: &Ground) -> BTreeMap<&'a [String], Vec<String>> {
    let mut places = BTreeMap::new();
    for axes in panels.iter().map(|panel| panel.series.as_slice()).filter(|axes| !axes.is_empty()) {
        if places.contains_key(axes) {
            continue;
        }
        let mut seen = BTreeSet::new();
        let names = ground.points.iter().map(|outcome| series_of(outcome, axes, ground));
        let mut names: Vec<String> = names.filter(|name| seen.insert(name.clone())).collect();
        if let [axis] = axes {
            sort_places(&mut names, axis);
        }
        places.insert(axes, names);
    }
    places
}

fn sort_places(names: &mut [String], axis: &str) {
    let number = |name: &String| name.parse::<f64>().ok();
    if axis == TEACHING {
        names.sort_by_key(|name| theme::teaching_rank(name));
    } else if names.iter().all(|name| number(name).is_some()) {
        names.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
    }
}

fn series_of(outcome: &Outcome, axes: &[String], ground: &Ground) -> String {
    let place = |axis: &String| ground.place_on(outcome, axis).unwrap_or_else(|| format!("no {axis}"));
    axes.iter().map(place).collect::<Vec<_>>().join(BETWEEN)
}

/// One line that says which job, and why it has no result.
fn missing(report: &Report, outcome: &Outcome) -> String {
    let mut axes: Vec<String> = outcome
        .axes
        .iter()
        .filter(|(axis, _)| !matches!(axis.as_str(), TEACHING | EPOCHS | "seed"))
        .map(|(axis, place)| match report.name_of(axis, place) {
            Some(name) => name.to_owned(),
            None => format!("{axis} {}", words::shown(axis, place)),
        })
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
    // Done, and yet nothing that could be chosen by.
    if let (Some(row), Some(select)) = (outcome.last(), report.select.as_ref().filter(|select| !select.over.is_empty()))
        && select.by.of(row).is_none()
    {
        let what = format!("done, but without `{}`, which chooses among settings", select.by);
        return format!("{} ({}): {what}", outcome.id, axes.join(", "));
    }
    let reason = outcome.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{} ({}): {state}{reason}", outcome.id, axes.join(", "))
}
