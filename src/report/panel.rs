//! One panel: axes, bands, lines, marks, and the labels beside them.
//!
//! [`plan`] decides everything that has a size before there is a page (ticks, wrapped labels), so that the figure can
//! give each panel the room it needs; [`Plan::draw`] then puts it into that room.

use super::Scale;
use super::axis::{self, Axis, Tick};
use super::canvas::{Align, Canvas, Lettering, Place, Stroke};
use super::font::{self, Weight};
use super::label::{self, Wish};
use super::select::{Across, Drawn, Mean, Series};
use super::theme::{Colour, Inks, Look, Mark, TEACHER_DASH, Theme};

pub const TICK_SIZE: f64 = 13.0;
const LABEL_SIZE: f64 = 13.0;
const LABEL_LINE: f64 = 16.0;
/// A label that is wider becomes two lines.
const LABEL_LIMIT: f64 = 150.0;
/// From the plot to its labels: room for leaders.
const LABEL_GAP: f64 = 13.0;
const TICK_GAP: f64 = 9.0;
/// From the plot's sides to the first and last duration, and from the end of curves: room for marks and leaders.
const SIDE: f64 = 11.0;
/// From half an x-height and a bit to the baseline: centres letters on a line.
const HALF_CAPITAL: f64 = 0.36;
const LINE: f64 = 2.2;
const MARK: f64 = 3.7;
const RUN: f64 = 2.8;

/// What a panel will draw, and the room it needs beside its plot.
pub struct Plan<'a> {
    panel: &'a Drawn,
    inks: Inks,
    looks: Vec<Look>,
    domain: [f64; 2],
    ticks: Vec<Tick>,
    labels: Vec<Label>,
}

/// The plot itself, in points.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

struct Label {
    lines: Vec<String>,
    colour: Colour,
    weight: Weight,
    /// Where what it names ends; a reference ends at the plot's side.
    epochs: Option<u32>,
    value: f64,
}

pub fn plan(panel: &Drawn, theme: Theme) -> Plan<'_> {
    let inks = theme.inks();
    let logarithmic = panel.scale == Scale::Log;
    let looks: Vec<Look> =
        panel.series.iter().map(|series| theme.look(&panel.axis, &series.name, series.place)).collect();
    let runs = panel.series.iter().flat_map(|series| &series.runs).map(|run| run.value);
    let intervals = panel.series.iter().flat_map(|series| &series.means).filter_map(|mean| mean.interval);
    let ends =
        intervals.flat_map(|interval| [interval.low, interval.high]).filter(|_| panel.across == Across::Durations);
    let levels = panel.references.iter().map(|reference| reference.value);
    let domain = axis::domain(runs.chain(ends).chain(levels), logarithmic);

    let wrapped = |text: &str, weight| font::wrap(text, LABEL_SIZE, weight, LABEL_LIMIT);
    let mut labels = Vec::new();
    for (series, look) in panel.series.iter().zip(&looks) {
        let Some((epochs, value)) = end(series) else { continue };
        let lines = wrapped(&shown(&panel.axis, &series.name), Weight::Semibold);
        labels.push(Label { lines, colour: look.text, weight: Weight::Semibold, epochs: Some(epochs), value });
    }
    for reference in &panel.references {
        let level = panel.value.table_text(reference.value);
        let unit = if panel.value.is_share() { "\u{a0}%" } else { "" };
        let lines = wrapped(&format!("{} {level}{unit}", reference.name), Weight::Regular);
        labels.push(Label { lines, colour: inks.ink, weight: Weight::Regular, epochs: None, value: reference.value });
    }
    let ticks = axis::value_ticks(domain, logarithmic, panel.value.is_share(), 5);
    Plan { panel, inks, looks, domain, ticks, labels }
}

impl Plan<'_> {
    /// Room for the ticks' text.
    pub fn left(&self) -> f64 {
        let widths = self.ticks.iter().map(|tick| font::width(&tick.text, TICK_SIZE, Weight::Regular));
        widths.fold(0.0, f64::max) + TICK_GAP
    }

    /// Room for the labels.
    pub fn right(&self) -> f64 {
        let widths = self
            .labels
            .iter()
            .flat_map(|label| label.lines.iter().map(|line| font::width(line, LABEL_SIZE, label.weight)));
        LABEL_GAP + widths.fold(0.0, f64::max)
    }

    /// The least height of the plot in which no label meets another.
    pub fn least_height(&self) -> f64 {
        self.labels.iter().map(Label::height).sum()
    }

    /// The words under the ticks of the horizontal axis.
    pub fn across_title(&self) -> &'static str {
        match self.panel.across {
            Across::Durations => "epochs of training",
            Across::Epochs => "epoch",
        }
    }

    pub fn draw(&self, canvas: &mut Canvas, frame: Frame, titled: bool) {
        let x = self.across(frame);
        let y = Axis::new(self.panel.scale == Scale::Log, self.domain, [frame.bottom, frame.top]);
        self.draw_axes(canvas, frame, x, y, titled);
        for reference in &self.panel.references {
            let level = y.place(reference.value);
            let stroke = Stroke { colour: self.inks.ink, opacity: 1.0, width: 1.2, dash: TEACHER_DASH };
            canvas.line((frame.left, level), (frame.right, level), stroke);
        }
        let place = |epochs: u32, value: f64| (x.place(f64::from(epochs)), y.place(value));
        for (series, look) in self.panel.series.iter().zip(&self.looks) {
            self.draw_spread(canvas, series, look, &place);
        }
        for (series, look) in self.panel.series.iter().zip(&self.looks) {
            self.draw_means(canvas, series, look, &place);
        }
        self.draw_labels(canvas, frame, x, y);
    }

    fn across(&self, frame: Frame) -> Axis {
        let epochs = self.panel.epochs();
        let (first, last) = (epochs.first().copied().unwrap_or(1), epochs.last().copied().unwrap_or(1));
        match self.panel.across {
            Across::Epochs => Axis::new(false, [0.0, f64::from(last)], [frame.left, frame.right - SIDE]),
            // A single duration stands in the middle.
            Across::Durations if first == last => {
                let only = f64::from(first);
                Axis::new(true, [only / 2.0, only * 2.0], [frame.left, frame.right])
            }
            Across::Durations => {
                Axis::new(true, [f64::from(first), f64::from(last)], [frame.left + SIDE, frame.right - SIDE])
            }
        }
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: Frame, x: Axis, y: Axis, titled: bool) {
        let quiet = Lettering { size: TICK_SIZE, weight: Weight::Regular, colour: self.inks.quiet };
        let hairline = Stroke { colour: self.inks.hairline, opacity: 1.0, width: 1.0, dash: &[] };
        let axis = Stroke { colour: self.inks.axis, ..hairline };
        for tick in &self.ticks {
            let level = y.place(tick.value);
            canvas.line((frame.left, level), (frame.right, level), hairline);
            let baseline = level + HALF_CAPITAL * TICK_SIZE;
            canvas.text((frame.left - TICK_GAP, baseline), Align::Right, quiet, &tick.text);
        }
        canvas.line((frame.left, frame.bottom), (frame.right, frame.bottom), axis);
        let ticks = match self.panel.across {
            Across::Durations => axis::epoch_ticks(&self.panel.epochs()),
            Across::Epochs => {
                let steps = axis::linear_steps(x.domain, 4, true);
                axis::epoch_ticks(&steps.into_iter().map(|step| step as u32).collect::<Vec<_>>())
            }
        };
        for tick in &ticks {
            let at = x.place(tick.value);
            canvas.line((at, frame.bottom), (at, frame.bottom + 4.0), axis);
        }
        for (at, text) in readable(&ticks, x) {
            canvas.text((at, frame.bottom + 19.0), Align::Middle, quiet, text);
        }
        if titled {
            let middle = (frame.left + frame.right) / 2.0;
            canvas.text((middle, frame.bottom + 38.0), Align::Middle, quiet, self.across_title());
        }
    }

    /// What lies behind the means: a band, bars, or the runs themselves.
    fn draw_spread(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(u32, f64) -> Place) {
        if self.panel.across == Across::Epochs {
            let mut seeds: Vec<u64> = series.runs.iter().map(|run| run.seed).collect();
            seeds.sort_unstable();
            seeds.dedup();
            for seed in seeds.iter().filter(|_| seeds.len() > 1) {
                let of_seed = series.runs.iter().filter(|run| run.seed == *seed);
                let path: Vec<Place> = of_seed.map(|run| place(run.epochs, run.value)).collect();
                canvas.path(&path, Stroke { colour: look.line, opacity: 0.35, width: 1.0, dash: &[] });
            }
            return;
        }
        let intervals: Vec<_> = series.means.iter().filter_map(|mean| Some((mean.epochs, mean.interval?))).collect();
        if intervals.len() == series.means.len() && intervals.len() > 1 {
            let highs = intervals.iter().map(|(epochs, interval)| place(*epochs, interval.high));
            let lows = intervals.iter().rev().map(|(epochs, interval)| place(*epochs, interval.low));
            canvas.area(&highs.chain(lows).collect::<Vec<_>>(), look.line, 0.16);
            return;
        }
        for (epochs, interval) in &intervals {
            let stroke = Stroke { colour: look.line, opacity: 0.6, width: 1.6, dash: &[] };
            canvas.line(place(*epochs, interval.low), place(*epochs, interval.high), stroke);
        }
        for mean in series.means.iter().filter(|mean| shows_runs(mean)) {
            let runs: Vec<Place> = series.runs_at(mean.epochs).map(|run| place(run.epochs, run.value)).collect();
            canvas.path(&runs, Stroke { colour: look.line, opacity: 0.5, width: 1.4, dash: &[] });
            runs.iter().for_each(|&at| canvas.mark(at, Mark::Disc, RUN, look.line));
        }
    }

    fn draw_means(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(u32, f64) -> Place) {
        let path: Vec<Place> = series.means.iter().map(|mean| place(mean.epochs, mean.value)).collect();
        let stroke = Stroke { colour: look.line, opacity: 1.0, width: LINE, dash: look.dash };
        if path.len() > 1 {
            canvas.path(&path, stroke);
        }
        for (mean, &(at, level)) in series.means.iter().zip(&path) {
            if self.panel.across == Across::Epochs && path.len() > 1 {
                continue;
            }
            if !shows_runs(mean) {
                canvas.mark((at, level), look.mark, MARK, look.line);
            } else if path.len() == 1 {
                canvas.line((at - 1.6 * MARK, level), (at + 1.6 * MARK, level), Stroke { dash: &[], ..stroke });
            }
        }
    }

    fn draw_labels(&self, canvas: &mut Canvas, frame: Frame, x: Axis, y: Axis) {
        let wishes: Vec<Wish> =
            self.labels.iter().map(|label| Wish { centre: y.place(label.value), height: label.height() }).collect();
        let centres = label::apart(&wishes, frame.top, frame.bottom);
        let from_left = frame.right + LABEL_GAP;
        for ((label, wish), centre) in self.labels.iter().zip(&wishes).zip(centres) {
            let end = label.epochs.map_or(frame.right - MARK, |epochs| x.place(f64::from(epochs)));
            let stroke = Stroke { colour: label.colour, opacity: 0.7, width: 0.8, dash: &[] };
            let ends_early = end + 2.0 * SIDE < frame.right;
            let start = if ends_early { frame.right } else { end + 2.0 * MARK };
            if ends_early {
                let dotted = Stroke { dash: &[1.0, 2.6], opacity: 0.8, ..stroke };
                canvas.line((end + 2.0 * MARK, wish.centre), (start, wish.centre), dotted);
            }
            if ends_early || (centre - wish.centre).abs() > 1.5 {
                canvas.line((start, wish.centre), (from_left - 4.0, centre), stroke);
            }
            let lettering = Lettering { size: LABEL_SIZE, weight: label.weight, colour: label.colour };
            let first = centre - LABEL_LINE * (label.lines.len() as f64 - 1.0) / 2.0 + HALF_CAPITAL * LABEL_SIZE;
            for (index, line) in label.lines.iter().enumerate() {
                canvas.text((from_left, first + LABEL_LINE * index as f64), Align::Left, lettering, line);
            }
        }
    }
}

/// Runs without an interval stand for themselves: a mark at their mean would cover them.
fn shows_runs(mean: &Mean) -> bool {
    mean.n > 1 && mean.interval.is_none()
}

impl Label {
    fn height(&self) -> f64 {
        // A label of several lines must not run into the next one.
        let gap = if self.lines.len() > 1 { 5.0 } else { 1.0 };
        LABEL_LINE * self.lines.len() as f64 + gap
    }
}

/// Where a series ends: its last mean, or its last run where runs are too unlike in length for a mean.
fn end(series: &Series) -> Option<(u32, f64)> {
    let mean = series.means.last().map(|mean| (mean.epochs, mean.value));
    mean.or_else(|| series.runs.last().map(|run| (run.epochs, run.value)))
}

/// The name as a reader says it.
fn shown(axis: &str, name: &str) -> String {
    match (axis, name) {
        ("teaching", "labels") => "labels only".to_owned(),
        ("teaching", name) => name.replace('-', " ").replace("ic ens", "ic-ens"),
        // A choice with its settings, as `{ kl = { temperature = 4.0 } }`: kl, temperature 4.0.
        _ if name.starts_with('{') => {
            let words = name.replace("={", "= {").replace("= {", ", ").replace(['{', '}', '='], " ");
            words.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",")
        }
        _ => name.to_owned(),
    }
}

/// The ticks whose text fits: the ends, then from the left. Every tick keeps its line.
fn readable(ticks: &[Tick], axis: Axis) -> Vec<(f64, &str)> {
    let mut order: Vec<&Tick> = ticks.iter().collect();
    if order.len() > 2 {
        let last = order.remove(order.len() - 1);
        order.insert(1, last);
    }
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let mut shown = Vec::new();
    for tick in order {
        let (at, half) = (axis.place(tick.value), font::width(&tick.text, TICK_SIZE, Weight::Regular) / 2.0 + 4.0);
        if taken.iter().all(|&(from, to)| at + half <= from || at - half >= to) {
            taken.push((at - half, at + half));
            shown.push((at, tick.text.as_str()));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_said_without_its_braces() {
        let said = |name| shown("distance", name);
        assert_eq!(said("euclidean"), "euclidean");
        assert_eq!(said("{ kl = { temperature = 4.0 } }"), "kl, temperature 4.0");
        assert_eq!(said("{dkd={ alpha = 1, beta = 8, temperature=4}}"), "dkd, alpha 1, beta 8, temperature 4");
        assert_eq!(shown("schedule", "{ cooldown = 0.2 }"), "cooldown 0.2");
    }
}
