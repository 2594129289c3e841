//! Lines one below the other, the value from left to right: bars from zero, or dots on an axis that is cut.

use crate::report::axis::{self, Axis, Tick};
use crate::report::canvas::{Align, Canvas, Lettering, Stroke};
use crate::report::font::{self, Weight};
use crate::report::numbers::Drawn;
use crate::report::table;
use crate::report::theme::{Inks, Look, TEACHER_DASH, Theme};

use super::plot::HALF_CAPITAL;
use super::ruler::readable;
use super::{Frame, TICK_SIZE, look};

const NAME_SIZE: f64 = 13.0;
const NAME_LINE: f64 = 16.0;
const NAME_LIMIT: f64 = 170.0;
const GAP: f64 = 12.0;
const ROW_PADDING: f64 = 10.0;
const BAR: f64 = 14.0;
/// A line of words for each level, above the bars.
const LEVEL_LINE: f64 = 18.0;

pub struct Bars<'a> {
    panel: &'a Drawn,
    inks: Inks,
    rows: Vec<Row>,
    domain: [f64; 2],
    ticks: Vec<Tick>,
    from_zero: bool,
}

struct Row {
    name: Vec<String>,
    look: Look,
    /// None where there is nothing yet.
    mean: Option<f64>,
    interval: Option<[f64; 2]>,
    runs: Vec<f64>,
    text: String,
    told: String,
}

impl<'a> Bars<'a> {
    pub fn plan(panel: &'a Drawn, theme: Theme, from_zero: bool) -> Bars<'a> {
        let rows: Vec<Row> = panel
            .series
            .iter()
            .map(|series| {
                let mean = series.means.last();
                let text = mean.map_or("–".to_owned(), |mean| table::cell(panel.value, series, mean.epochs));
                Row {
                    name: font::wrap(&series.shown, NAME_SIZE, Weight::Semibold, NAME_LIMIT),
                    look: look(theme, series),
                    mean: mean.map(|mean| mean.value),
                    interval: mean.and_then(|mean| mean.interval).map(|interval| [interval.low, interval.high]),
                    runs: series.runs.iter().chain(&series.others).map(|run| run.value).collect(),
                    told: format!("{}\n{text}", series.shown),
                    text,
                }
            })
            .collect();
        let levels = panel.references.iter().map(|reference| reference.value);
        let of_rows = |row: &Row| [row.runs.clone(), row.interval.map(Vec::from).unwrap_or_default()].concat();
        let values: Vec<f64> = rows.iter().flat_map(of_rows).chain(levels).collect();
        let mut domain = axis::domain(values.iter().copied(), false);
        if from_zero {
            domain[0] = values.iter().copied().fold(0.0, f64::min);
        }
        let ticks = axis::value_ticks(domain, false, panel.value.is_share(), 4);
        Bars { panel, inks: theme.inks(), rows, domain, ticks, from_zero }
    }

    pub fn left(&self) -> f64 {
        let names = self.rows.iter().flat_map(|row| &row.name);
        names.map(|line| font::width(line, NAME_SIZE, Weight::Semibold)).fold(0.0, f64::max) + GAP
    }

    pub fn right(&self) -> f64 {
        self.rows.iter().map(|row| font::width(&row.text, NAME_SIZE, Weight::Regular)).fold(0.0, f64::max) + GAP
    }

    pub fn height(&self) -> f64 {
        self.rows.iter().map(Row::height).sum::<f64>() + self.above()
    }

    fn above(&self) -> f64 {
        LEVEL_LINE * self.panel.references.len() as f64
    }

    pub fn draw(&self, canvas: &mut Canvas, frame: Frame) {
        let bottom = frame.top + self.height();
        let x = Axis::new(false, self.domain, [frame.left, frame.right]);
        let quiet = Lettering { size: TICK_SIZE, weight: Weight::Regular, colour: self.inks.quiet };
        let hairline = Stroke { colour: self.inks.hairline, opacity: 1.0, width: 1.0, dash: &[] };
        let first = frame.top + self.above();
        for tick in &self.ticks {
            let at = x.place(tick.value);
            canvas.line((at, first), (at, bottom), hairline);
        }
        for (at, text) in readable(&self.ticks, x) {
            canvas.text((at, bottom + 19.0), Align::Middle, quiet, text);
        }
        let dashed = Stroke { colour: self.inks.ink, opacity: 1.0, width: 1.2, dash: TEACHER_DASH };
        for (index, reference) in self.panel.references.iter().enumerate() {
            let at = x.place(reference.value);
            let text = format!("{} {}", reference.name, self.panel.value.full_text(reference.value));
            let baseline = frame.top + LEVEL_LINE * index as f64 + TICK_SIZE;
            canvas.line((at, baseline + 4.0), (at, bottom), dashed);
            // Away from the side it is near to.
            let right = at > (frame.left + frame.right) / 2.0;
            let align = if right { Align::Right } else { Align::Left };
            let ink = Lettering { colour: self.inks.ink, ..quiet };
            canvas.text((at + if right { 3.0 } else { -3.0 }, baseline), align, ink, &text);
        }
        let mut top = first;
        for row in &self.rows {
            let middle = top + row.height() / 2.0;
            self.draw_row(canvas, frame, x, row, middle);
            top += row.height();
        }
        if self.from_zero {
            let zero = x.place(0.0);
            canvas.line((zero, first), (zero, bottom), Stroke { colour: self.inks.axis, ..hairline });
        }
    }

    fn draw_row(&self, canvas: &mut Canvas, frame: Frame, x: Axis, row: &Row, middle: f64) {
        let name = Lettering { size: NAME_SIZE, weight: Weight::Semibold, colour: row.look.text };
        let first = middle - NAME_LINE * (row.name.len() as f64 - 1.0) / 2.0 + HALF_CAPITAL * NAME_SIZE;
        for (index, line) in row.name.iter().enumerate() {
            canvas.text((frame.left - GAP, first + NAME_LINE * index as f64), Align::Right, name, line);
        }
        if let Some(mean) = row.mean {
            let end = x.place(mean);
            if self.from_zero {
                canvas.rectangle((x.place(0.0), middle - BAR / 2.0), (end, middle + BAR / 2.0), row.look.line);
            }
            if let Some([low, high]) = row.interval {
                let colour = if self.from_zero { self.inks.ink } else { row.look.line };
                let stroke = Stroke { colour, opacity: 0.8, width: 1.6, dash: &[] };
                canvas.line((x.place(low), middle), (x.place(high), middle), stroke);
            }
            if !self.from_zero {
                if row.interval.is_none() {
                    row.runs.iter().for_each(|&run| canvas.disc((x.place(run), middle), 2.2, row.look.line, 0.5));
                }
                canvas.mark((end, middle), row.look.mark, 4.0, row.look.line);
            }
            canvas.spot((end, middle), || row.told.clone());
        }
        let text = Lettering { size: NAME_SIZE, weight: Weight::Regular, colour: self.inks.ink };
        canvas.text((frame.right + GAP, middle + HALF_CAPITAL * NAME_SIZE), Align::Left, text, &row.text);
    }
}

impl Row {
    fn height(&self) -> f64 {
        (NAME_LINE * self.name.len() as f64).max(BAR) + ROW_PADDING
    }
}
