//! The paper's numbers beside ours: on the same axis where they are of the same data, else in a panel of their own.

use crate::report::numbers::{Across, Drawn, Reference, Series};
use crate::report::spec::{Amount, Kind, Numbers, Panel, Paper, Report};
use crate::report::theme;
use crate::store::Outcome;

use super::place::TEACHING;

/// Ours, perhaps with the paper's numbers among them, and panels of the paper's alone.
pub struct Beside {
    pub ours: Drawn,
    pub others: Vec<Drawn>,
}

pub fn beside(report: &Report, panel: &Panel, mut ours: Drawn, jobs: &[&Outcome]) -> Beside {
    // Bars, scatters and curves have no place for a number with nothing but a length.
    let table = matches!(panel.kind, Kind::Table { .. });
    if !table && !matches!(panel.kind, Kind::Duration { x: Amount::Epochs }) {
        return Beside { ours, others: Vec::new() };
    }
    let papers = report.papers_of(panel);
    let same = |paper: &&&Paper| !jobs.is_empty() && jobs.iter().all(|outcome| outcome.job.data.name == paper.data);
    // One paper's numbers go into the table, of several only those of the same data.
    let only = papers.first().filter(|_| table && papers.len() == 1);
    if let Some(paper) = papers.iter().find(same).or(only) {
        among(report, panel, paper, &mut ours);
        return Beside { ours, others: Vec::new() };
    }
    let others = papers.iter().filter_map(|paper| alone(report, panel, paper, &ours)).collect();
    Beside { ours, others }
}

/// The paper's numbers of a line.
fn numbers(report: &Report, panel: &Panel, paper: &Paper, name: &str, shown: &str) -> Numbers {
    let listed = report.series.iter().find(|listed| panel.series.is_empty() && listed.name == name);
    let own = listed.map(|listed| &listed.paper).filter(|numbers| !numbers.0.is_empty());
    own.or_else(|| paper.series.get(name)).or_else(|| paper.series.get(shown)).cloned().unwrap_or_default()
}

fn among(report: &Report, panel: &Panel, paper: &Paper, ours: &mut Drawn) {
    for series in &mut ours.series {
        series.published = numbers(report, panel, paper, &series.name, &series.shown).0;
    }
    // Lines that only the paper has.
    let is_known = |name: &String| ours.series.iter().any(|series| series.name == *name || series.shown == *name);
    let more: Vec<(&String, &Numbers)> =
        paper.series.iter().filter(|(name, _)| !panel.series.is_empty() && !is_known(name)).collect();
    let first = ours.series.len();
    for (index, (name, numbers)) in more.into_iter().enumerate() {
        ours.series.push(line(report, panel, first + index, name.clone(), numbers.clone()));
    }
    let levels = paper.levels.iter().map(|(name, level)| (format!("{name} (paper)"), *level));
    let teacher = paper.teacher.map(|level| ("teacher (paper)".to_owned(), level));
    ours.references.extend(levels.chain(teacher).map(|(name, level)| reference(name, level)));
}

fn alone(report: &Report, panel: &Panel, paper: &Paper, ours: &Drawn) -> Option<Drawn> {
    let mut names: Vec<String> = match panel.series.as_slice() {
        [] => report.series.iter().map(|listed| listed.name.clone()).collect(),
        _ => paper.series.keys().cloned().collect(),
    };
    if panel.series == [TEACHING] {
        names.sort_by_key(|name| theme::teaching_rank(name));
    }
    let known = |name: &str| ours.series.iter().find(|series| series.name == name || series.shown == name);
    let lines: Vec<Series> = names
        .into_iter()
        .filter(|name| !panel.omit.contains(name))
        .map(|name| (numbers(report, panel, paper, &name, &name), name))
        .filter(|(numbers, _)| !numbers.0.is_empty())
        .enumerate()
        .map(|(index, (numbers, name))| {
            let place = known(&name).map_or(ours.series.len() + index, |series| series.place);
            line(report, panel, place, name, numbers)
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let levels = paper.levels.iter().map(|(name, level)| (name.clone(), *level));
    let teacher = paper.teacher.map(|level| ("teacher".to_owned(), level));
    Some(Drawn {
        title: format!("In the paper: {}", paper.about),
        caption: format!("top-1, {} of arXiv 2106.05237", paper.source),
        value: panel.value,
        scale: panel.scale,
        across: match panel.kind {
            Kind::Table { columns } => Across::Table(columns),
            _ => Across::Durations(Amount::Epochs),
        },
        axis: ours.axis.clone(),
        series: lines,
        references: levels.chain(teacher).map(|(name, level)| reference(name, level)).collect(),
        left_out: 0,
        published: true,
    })
}

fn line(report: &Report, panel: &Panel, place: usize, name: String, numbers: Numbers) -> Series {
    let shown = match panel.series.as_slice() {
        [] => name.clone(),
        axes => super::shown(report, axes, &name),
    };
    let listed = report.series.iter().find(|listed| panel.series.is_empty() && listed.name == name);
    let look =
        if panel.series == [TEACHING] { Some(name.clone()) } else { listed.and_then(|listed| listed.look.clone()) };
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
