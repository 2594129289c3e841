//! The paper's numbers beside ours: on the same axis where they are of the same data, else in a panel of their own.

use crate::report::numbers::{Across, Drawn, Reference, Series};
use crate::report::spec::{Amount, Kind, Numbers, Panel, Report};
use crate::report::theme;
use crate::store::Outcome;

use super::place::TEACHING;

/// Adds the paper's numbers to a panel, or gives a second panel that has them.
pub fn beside(report: &Report, panel: &Panel, mut ours: Drawn, jobs: &[&Outcome]) -> (Drawn, Option<Drawn>) {
    let Some(paper) = report.paper_of(panel) else { return (ours, None) };
    // Bars, scatters and curves have no place for a number with nothing but a length.
    let fits = matches!(panel.kind, Kind::Duration { x: Amount::Epochs } | Kind::Table { .. });
    if !fits {
        return (ours, None);
    }
    let numbers = |name: &str| {
        let listed = report.series.iter().find(|listed| panel.series.is_none() && listed.name == name);
        let own = listed.map(|listed| &listed.paper).filter(|numbers| !numbers.0.is_empty());
        own.or_else(|| paper.series.get(name)).cloned().unwrap_or_default()
    };
    let same_data = !jobs.is_empty() && jobs.iter().all(|outcome| outcome.job.data.name == paper.data);
    let table = matches!(panel.kind, Kind::Table { .. });
    if table || same_data {
        for series in &mut ours.series {
            series.published = numbers(&series.name).0;
        }
        // Lines that only the paper has.
        let known: Vec<&String> = ours.series.iter().map(|series| &series.name).collect();
        let more: Vec<(String, Numbers)> = match panel.series {
            Some(_) => paper
                .series
                .iter()
                .filter(|(name, _)| !known.contains(name))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect(),
            None => Vec::new(),
        };
        let first = ours.series.len();
        let more = more.into_iter().enumerate();
        ours.series.extend(more.map(|(index, (name, numbers))| line(report, panel, first + index, name, numbers)));
        let levels = paper.levels.iter().map(|(name, level)| (format!("{name} (paper)"), *level));
        let teacher = paper.teacher.map(|level| ("teacher (paper)".to_owned(), level));
        ours.references.extend(levels.chain(teacher).map(|(name, level)| reference(name, level)));
        return (ours, None);
    }
    let mut names: Vec<String> = match &panel.series {
        None => report.series.iter().map(|listed| listed.name.clone()).collect(),
        Some(_) => paper.series.keys().cloned().collect(),
    };
    if panel.series.as_deref() == Some(TEACHING) {
        names.sort_by_key(|name| theme::teaching_rank(name));
    }
    let place = |name: &String| ours.series.iter().find(|series| series.name == *name).map(|series| series.place);
    let lines: Vec<Series> = names
        .into_iter()
        .filter(|name| !panel.omit.contains(name))
        .map(|name| (place(&name), numbers(&name), name))
        .filter(|(_, numbers, _)| !numbers.0.is_empty())
        .enumerate()
        .map(|(index, (place, numbers, name))| {
            line(report, panel, place.unwrap_or(ours.series.len() + index), name, numbers)
        })
        .collect();
    if lines.is_empty() {
        return (ours, None);
    }
    let levels = paper.levels.iter().map(|(name, level)| (name.clone(), *level));
    let teacher = paper.teacher.map(|level| ("teacher".to_owned(), level));
    let beside = Drawn {
        title: format!("{} in the paper", panel.title),
        caption: format!("top-1, {} · {}", paper.about, paper.source),
        value: panel.value,
        scale: panel.scale,
        across: Across::Durations(Amount::Epochs),
        axis: ours.axis.clone(),
        series: lines,
        references: levels.chain(teacher).map(|(name, level)| reference(name, level)).collect(),
        left_out: 0,
        published: true,
    };
    (ours, Some(beside))
}

fn line(report: &Report, panel: &Panel, place: usize, name: String, numbers: Numbers) -> Series {
    let axis = panel.series.as_deref().unwrap_or("series");
    let shown = report.name_of(axis, &name).map_or_else(|| crate::report::words::shown(axis, &name), str::to_owned);
    let listed = report.series.iter().find(|listed| panel.series.is_none() && listed.name == name);
    let look = if axis == TEACHING { Some(name.clone()) } else { listed.and_then(|listed| listed.look.clone()) };
    Series {
        name,
        shown,
        look,
        place,
        runs: Vec::new(),
        others: Vec::new(),
        means: Vec::new(),
        choices: Vec::new(),
        published: numbers.0,
    }
}

fn reference(name: String, percent: f64) -> Reference {
    Reference { name, value: percent / 100.0, images: 0, jobs: Vec::new() }
}
