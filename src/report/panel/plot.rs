//! Lines, bands and marks on two axes, and the labels beside them.

use crate::report::axis::{self, Axis, Tick};
use crate::report::canvas::{Align, Canvas, Lettering, Place, Stroke};
use crate::report::font::{self, Weight};
use crate::report::label::{self, Wish};
use crate::report::numbers::{Across, Drawn, Mean, Run, Series};
use crate::report::spec::{Amount, Horizontal, Scale};
use crate::report::theme::{Colour, Inks, Look, Mark, PAPER_DASH, TEACHER_DASH, Theme};

use super::ruler::{self, Ruler};
use super::{Frame, look};

pub const TICK_SIZE: f64 = 13.0;
const LABEL_SIZE: f64 = 13.0;
const LABEL_LINE: f64 = 16.0;
/// A label that is wider becomes two lines.
const LABEL_LIMIT: f64 = 150.0;
/// From the plot to its labels: room for leaders.
const LABEL_GAP: f64 = 13.0;
const TICK_GAP: f64 = 9.0;
/// From the plot's sides to the first and last duration, and from the end of curves: room for marks and leaders.
pub const SIDE: f64 = 11.0;
/// From half an x-height and a bit to the baseline: centres letters on a line.
pub const HALF_CAPITAL: f64 = 0.36;
const LINE: f64 = 2.2;
const MARK: f64 = 3.7;
const RUN: f64 = 2.8;
/// How far a faint curve may be from its points: less than anybody sees, and a tenth of the points.
const TOLERANCE: f64 = 0.2;

pub struct Plot<'a> {
    panel: &'a Drawn,
    inks: Inks,
    looks: Vec<Look>,
    domain: [f64; 2],
    ticks: Vec<Tick>,
    labels: Vec<Label>,
}

struct Label {
    lines: Vec<String>,
    colour: Colour,
    weight: Weight,
    /// Where what it names ends, from left to right; a reference ends at the plot's side.
    x: Option<f64>,
    value: f64,
}

impl<'a> Plot<'a> {
    pub fn plan(panel: &'a Drawn, theme: Theme) -> Plot<'a> {
        let inks = theme.inks();
        let logarithmic = panel.scale == Scale::Log;
        let looks: Vec<Look> = panel.series.iter().map(|series| look(theme, series)).collect();
        let runs = panel.series.iter().flat_map(|series| series.runs.iter().chain(&series.others));
        let published = panel.series.iter().flat_map(|series| &series.published).map(|number| number.value);
        let intervals = panel.series.iter().flat_map(|series| &series.means).filter_map(|mean| mean.interval);
        let ends = intervals.flat_map(|interval| [interval.low, interval.high]);
        let levels = panel.references.iter().map(|reference| reference.value);
        let domain = axis::domain(runs.map(|run| run.value).chain(published).chain(ends).chain(levels), logarithmic);

        let wrapped = |text: &str, weight| font::wrap(text, LABEL_SIZE, weight, LABEL_LIMIT);
        let mut labels = Vec::new();
        for (series, look) in panel.series.iter().zip(&looks) {
            let ours = end(series);
            if let Some((x, value)) = ours {
                let lines = wrapped(&series.shown, Weight::Semibold);
                labels.push(Label { lines, colour: look.text, weight: Weight::Semibold, x: Some(x), value });
            }
            if let Some(last) = series.published.last() {
                let text = if panel.published { series.shown.clone() } else { format!("{}, paper", series.shown) };
                let weight = if panel.published { Weight::Semibold } else { Weight::Regular };
                let x = last.epochs.map(f64::from);
                labels.push(Label { lines: wrapped(&text, weight), colour: look.text, weight, x, value: last.value });
            }
        }
        for reference in &panel.references {
            let level = panel.value.table_text(reference.value);
            let unit = if panel.value.is_share() { "\u{a0}%" } else { "" };
            let lines = wrapped(&format!("{} {level}{unit}", reference.name), Weight::Regular);
            labels.push(Label { lines, colour: inks.ink, weight: Weight::Regular, x: None, value: reference.value });
        }
        let ticks = axis::value_ticks(domain, logarithmic, panel.value.is_share(), 5);
        Plot { panel, inks, looks, domain, ticks, labels }
    }

    pub fn left(&self) -> f64 {
        let widths = self.ticks.iter().map(|tick| font::width(&tick.text, TICK_SIZE, Weight::Regular));
        widths.fold(0.0, f64::max) + TICK_GAP
    }

    pub fn right(&self) -> f64 {
        let widths = self
            .labels
            .iter()
            .flat_map(|label| label.lines.iter().map(|line| font::width(line, LABEL_SIZE, label.weight)));
        LABEL_GAP + widths.fold(0.0, f64::max)
    }

    pub fn least_height(&self) -> f64 {
        self.labels.iter().map(Label::height).sum()
    }

    pub fn across_title(&self) -> String {
        match self.panel.across {
            Across::Durations(amount) | Across::Other(Horizontal::Amount(amount)) => amount.title().to_owned(),
            Across::Within(Amount::Epochs) => "epoch".to_owned(),
            Across::Within(amount) => amount.title().to_owned(),
            Across::Other(Horizontal::Value(value)) => value.caption(),
            Across::Bars { .. } | Across::Table(_) => String::new(),
        }
    }

    pub fn draw(&self, canvas: &mut Canvas, frame: Frame, titled: bool) {
        let ruler = ruler::ruler(self.panel, frame);
        let x = ruler.axis;
        let y = Axis::new(self.panel.scale == Scale::Log, self.domain, [frame.bottom, frame.top]);
        self.draw_axes(canvas, frame, &ruler, y, titled);
        for reference in &self.panel.references {
            let level = y.place(reference.value);
            let stroke = Stroke { colour: self.inks.ink, opacity: 1.0, width: 1.2, dash: TEACHER_DASH };
            canvas.line((frame.left, level), (frame.right, level), stroke);
        }
        let place = |at: f64, value: f64| (x.place(at), y.place(value));
        for (series, look) in self.panel.series.iter().zip(&self.looks) {
            self.draw_others(canvas, series, look, &place);
        }
        for (series, look) in self.panel.series.iter().zip(&self.looks) {
            self.draw_spread(canvas, series, look, &place);
        }
        for (series, look) in self.panel.series.iter().zip(&self.looks) {
            self.draw_published(canvas, series, look, &place);
            self.draw_means(canvas, series, look, &place);
        }
        self.draw_labels(canvas, frame, x, y);
    }

    fn is_curves(&self) -> bool {
        matches!(self.panel.across, Across::Within(_))
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: Frame, ruler: &Ruler, y: Axis, titled: bool) {
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
        for tick in &ruler.ticks {
            let at = ruler.axis.place(tick.value);
            canvas.line((at, frame.bottom), (at, frame.bottom + 4.0), axis);
        }
        for (at, text) in ruler::readable(&ruler.ticks, ruler.axis) {
            canvas.text((at, frame.bottom + 19.0), Align::Middle, quiet, text);
        }
        if titled {
            let middle = (frame.left + frame.right) / 2.0;
            canvas.text((middle, frame.bottom + 38.0), Align::Middle, quiet, &self.across_title());
        }
    }

    /// Runs of settings that were not chosen.
    fn draw_others(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(f64, f64) -> Place) {
        if !self.is_curves() {
            for run in &series.others {
                canvas.disc(place(run.x, run.value), 1.5, look.line, 0.22);
            }
            return;
        }
        for rows in Series::jobs(&series.others) {
            let path: Vec<Place> = rows.iter().map(|run| place(run.x, run.value)).collect();
            let stroke = Stroke { colour: look.line, opacity: 0.2, width: 0.7, dash: &[] };
            canvas.path(&simplified(&path), stroke);
        }
    }

    /// What lies behind the means: a band, bars, or the runs themselves.
    fn draw_spread(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(f64, f64) -> Place) {
        if self.is_curves() {
            let jobs = Series::jobs(&series.runs);
            for rows in jobs.iter().filter(|_| jobs.len() > 1) {
                let path: Vec<Place> = rows.iter().map(|run| place(run.x, run.value)).collect();
                let stroke = Stroke { colour: look.line, opacity: 0.35, width: 1.0, dash: &[] };
                canvas.path(&simplified(&path), stroke);
            }
            return;
        }
        if let Across::Other(_) = self.panel.across {
            series.runs.iter().for_each(|run| canvas.disc(place(run.x, run.value), 2.2, look.line, 0.5));
            return;
        }
        let intervals: Vec<_> = series.means.iter().filter_map(|mean| Some((mean.x, mean.interval?))).collect();
        if intervals.len() == series.means.len() && intervals.len() > 1 {
            let highs = intervals.iter().map(|(x, interval)| place(*x, interval.high));
            let lows = intervals.iter().rev().map(|(x, interval)| place(*x, interval.low));
            canvas.area(&highs.chain(lows).collect::<Vec<_>>(), look.line, 0.16);
            return;
        }
        for (x, interval) in &intervals {
            let stroke = Stroke { colour: look.line, opacity: 0.6, width: 1.6, dash: &[] };
            canvas.line(place(*x, interval.low), place(*x, interval.high), stroke);
        }
        for mean in series.means.iter().filter(|mean| shows_runs(mean)) {
            let runs: Vec<Place> = series.runs_at(mean.epochs).map(|run| place(run.x, run.value)).collect();
            canvas.path(&runs, Stroke { colour: look.line, opacity: 0.5, width: 1.4, dash: &[] });
            runs.iter().for_each(|&at| canvas.mark(at, Mark::Disc, RUN, look.line));
        }
    }

    fn draw_published(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(f64, f64) -> Place) {
        let numbers = series.published.iter().filter_map(|number| Some((number.epochs?, number.value)));
        let numbers: Vec<(u32, f64)> = numbers.collect();
        let path: Vec<Place> = numbers.iter().map(|&(epochs, value)| place(f64::from(epochs), value)).collect();
        let (width, dash) = if self.panel.published { (LINE, look.dash) } else { (1.2, PAPER_DASH) };
        if path.len() > 1 {
            canvas.path(&path, Stroke { colour: look.line, opacity: 0.9, width, dash });
        }
        for (&(epochs, value), &at) in numbers.iter().zip(&path) {
            canvas.mark(at, Mark::Ring, MARK, look.line);
            canvas.spot(at, || {
                format!("{}, {epochs} epochs\n{} in the paper", series.shown, self.panel.value.full_text(value))
            });
        }
    }

    fn draw_means(&self, canvas: &mut Canvas, series: &Series, look: &Look, place: &impl Fn(f64, f64) -> Place) {
        let path: Vec<Place> = series.means.iter().map(|mean| place(mean.x, mean.value)).collect();
        let scatter = matches!(self.panel.across, Across::Other(_));
        let stroke = match scatter {
            true => Stroke { colour: look.line, opacity: 0.45, width: 1.2, dash: look.dash },
            false => Stroke { colour: look.line, opacity: 1.0, width: LINE, dash: look.dash },
        };
        if path.len() > 1 {
            canvas.path(&path, stroke);
        }
        for (mean, &(at, level)) in series.means.iter().zip(&path) {
            canvas.spot((at, level), || self.told(series, mean));
            if self.is_curves() && path.len() > 1 {
                continue;
            }
            if !shows_runs(mean) || scatter {
                canvas.mark((at, level), look.mark, MARK, look.line);
            } else if path.len() == 1 {
                canvas.line((at - 1.6 * MARK, level), (at + 1.6 * MARK, level), Stroke { dash: &[], ..stroke });
            }
        }
    }

    /// What a reader who points at a mean is told.
    fn told(&self, series: &Series, mean: &Mean) -> String {
        let value = self.panel.value;
        let mut text = format!("{}, {} epochs\n{}", series.shown, mean.epochs, value.full_text(mean.value));
        match mean.interval {
            Some(interval) => {
                text += &format!(", {} to {}", value.full_text(interval.low), value.full_text(interval.high));
            }
            None if mean.n == 2 && !self.is_curves() => {
                let runs: Vec<String> =
                    series.runs_at(mean.epochs).map(|run: &Run| value.full_text(run.value)).collect();
                text += &format!(" ({})", runs.join(", "));
            }
            None => {}
        }
        text += &format!(" · n = {}", mean.n);
        if let Some(choice) = series.choice_at(mean.epochs) {
            text += &format!("\n{}, of {} settings", choice.setting, choice.settings);
        }
        text
    }

    fn draw_labels(&self, canvas: &mut Canvas, frame: Frame, x: Axis, y: Axis) {
        let wishes: Vec<Wish> =
            self.labels.iter().map(|label| Wish { centre: y.place(label.value), height: label.height() }).collect();
        let centres = label::apart(&wishes, frame.top, frame.bottom);
        let from_left = frame.right + LABEL_GAP;
        for ((label, wish), centre) in self.labels.iter().zip(&wishes).zip(centres) {
            let end = label.x.map_or(frame.right - MARK, |at| x.place(at));
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
fn end(series: &Series) -> Option<(f64, f64)> {
    let mean = series.means.last().map(|mean| (mean.x, mean.value));
    mean.or_else(|| series.runs.last().map(|run| (run.x, run.value)))
}

/// The path without points that lie as good as on the line between the others (Douglas and Peucker).
fn simplified(path: &[Place]) -> Vec<Place> {
    if path.len() < 3 {
        return path.to_vec();
    }
    let mut keep = vec![false; path.len()];
    (keep[0], keep[path.len() - 1]) = (true, true);
    let mut pieces = vec![(0, path.len() - 1)];
    while let Some((from, to)) = pieces.pop() {
        let ((x, y), (to_x, to_y)) = (path[from], path[to]);
        let length = (to_x - x).hypot(to_y - y).max(1e-12);
        let off = |at: usize| ((to_x - x) * (path[at].1 - y) - (to_y - y) * (path[at].0 - x)).abs() / length;
        let farthest = (from + 1..to).max_by(|&a, &b| off(a).total_cmp(&off(b)));
        if let Some(at) = farthest.filter(|&at| off(at) > TOLERANCE) {
            keep[at] = true;
            pieces.extend([(from, at), (at, to)]);
        }
    }
    path.iter().zip(keep).filter_map(|(&place, keep)| keep.then_some(place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simpler_path_keeps_every_corner() {
        let path: Vec<Place> =
            (0..=100).map(|at| (f64::from(at), if at == 50 { 9.0 } else { 0.1 * f64::from(at % 2) })).collect();
        let simpler = simplified(&path);
        assert!(simpler.len() < 8 && simpler.contains(&(50.0, 9.0)), "{simpler:?}");
        assert_eq!((simpler[0], simpler[simpler.len() - 1]), (path[0], path[100]));
    }
}
