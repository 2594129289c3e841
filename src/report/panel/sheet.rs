//! A table, set as text: lines down, durations across, the paper's numbers under ours.

use crate::report::canvas::{Align, Canvas, Lettering, Stroke};
use crate::report::font::{self, Weight};
use crate::report::numbers::Drawn;
use crate::report::spec::Columns;
use crate::report::table::{self, Cell};
use crate::report::theme::{Colour, Inks, Theme};

use super::{Frame, look};

const SIZE: f64 = 13.0;
const SMALL: f64 = 12.0;
const LINE: f64 = 17.0;
const NAME_LIMIT: f64 = 220.0;
const COLUMN_GAP: f64 = 22.0;
const ROW_PADDING: f64 = 10.0;

pub struct Sheet {
    inks: Inks,
    header: Vec<String>,
    rows: Vec<Row>,
    /// Of every column, the first of names.
    widths: Vec<f64>,
}

struct Row {
    name: Vec<String>,
    colour: Colour,
    weight: Weight,
    cells: Vec<Cell>,
}

impl Sheet {
    pub fn plan(panel: &Drawn, theme: Theme, columns: Columns) -> Sheet {
        let inks = theme.inks();
        let cells = table::cells(panel, columns);
        let rows: Vec<Row> = cells
            .rows
            .into_iter()
            .enumerate()
            .map(|(index, (name, cells))| {
                let series = panel.series.get(index);
                let (colour, weight) = match series {
                    Some(series) => (look(theme, series).text, Weight::Semibold),
                    None => (inks.ink, Weight::Regular),
                };
                Row { name: font::wrap(&name, SIZE, weight, NAME_LIMIT), colour, weight, cells }
            })
            .collect();
        let names = rows.iter().flat_map(|row| row.name.iter().map(|line| font::width(line, SIZE, row.weight)));
        let mut widths = vec![names.fold(0.0, f64::max)];
        for (column, title) in cells.header.iter().enumerate() {
            let cells = rows.iter().filter_map(|row| row.cells.get(column)).map(Cell::width);
            widths.push(cells.fold(font::width(title, SIZE, Weight::Regular), f64::max));
        }
        Sheet { inks, header: cells.header, rows, widths }
    }

    pub fn width(&self) -> f64 {
        self.widths.iter().sum::<f64>() + COLUMN_GAP * (self.widths.len() as f64 - 1.0)
    }

    pub fn height(&self) -> f64 {
        LINE + ROW_PADDING + self.rows.iter().map(Row::height).sum::<f64>()
    }

    pub fn draw(&self, canvas: &mut Canvas, frame: Frame) {
        let right_of = |column: usize| {
            let before = &self.widths[..=column + 1];
            frame.left + before.iter().sum::<f64>() + COLUMN_GAP * (column as f64 + 1.0)
        };
        let end = frame.left + self.width();
        let quiet = Lettering { size: SIZE, weight: Weight::Regular, colour: self.inks.quiet };
        let hairline = Stroke { colour: self.inks.hairline, opacity: 1.0, width: 1.0, dash: &[] };
        for (column, title) in self.header.iter().enumerate() {
            canvas.text((right_of(column), frame.top + SIZE), Align::Right, quiet, title);
        }
        let mut top = frame.top + LINE + ROW_PADDING / 2.0;
        canvas.line((frame.left, top), (end, top), Stroke { colour: self.inks.axis, ..hairline });
        for row in &self.rows {
            let baseline = top + ROW_PADDING / 2.0 + SIZE;
            let name = Lettering { size: SIZE, weight: row.weight, colour: row.colour };
            for (index, line) in row.name.iter().enumerate() {
                canvas.text((frame.left, baseline + LINE * index as f64), Align::Left, name, line);
            }
            for (column, cell) in row.cells.iter().enumerate() {
                let at = right_of(column);
                let ink = Lettering { size: SIZE, weight: Weight::Regular, colour: self.inks.ink };
                let mut line = baseline;
                for (text, lettering) in [(&cell.ours, ink), (&cell.paper, Lettering { size: SMALL, ..quiet })] {
                    let Some(text) = text else { continue };
                    canvas.text((at, line), Align::Right, lettering, text);
                    canvas.spot((at - 12.0, line - 4.0), || {
                        format!("{}, {}\n{text}", row.name.join(" "), self.header[column])
                    });
                    line += LINE;
                }
            }
            top += row.height();
            canvas.line((frame.left, top), (end, top), hairline);
        }
    }
}

impl Row {
    fn height(&self) -> f64 {
        let cells = self.cells.iter().map(Cell::lines).max().unwrap_or(1);
        LINE * self.name.len().max(cells).max(1) as f64 + ROW_PADDING
    }
}

impl Cell {
    fn lines(&self) -> usize {
        usize::from(self.ours.is_some()) + usize::from(self.paper.is_some())
    }

    fn width(&self) -> f64 {
        let ours = self.ours.as_ref().map_or(0.0, |text| font::width(text, SIZE, Weight::Regular));
        ours.max(self.paper.as_ref().map_or(0.0, |text| font::width(text, SMALL, Weight::Regular)))
    }
}
