//! The whole page: title, panels in rows and columns, footer. Every size follows from measured text, so nothing is cut:
//! long labels make the page wider, many labels make the panels taller.

use super::canvas::{self, Align, Canvas, Lettering, Page};
use super::font::{self, Weight};
use super::numbers::Figure;
use super::panel::{self, Frame, Plan};
use super::theme::{Colour, Theme};

const MARGIN: f64 = 30.0;
const COLUMN_GAP: f64 = 34.0;
const ROW_GAP: f64 = 30.0;
const TITLE: Paragraph = Paragraph { size: 23.0, line: 30.0, weight: Weight::Semibold };
const SUBTITLE: Paragraph = Paragraph { size: 14.0, line: 20.0, weight: Weight::Regular };
const PANEL_TITLE: Paragraph = Paragraph { size: 16.0, line: 22.0, weight: Weight::Semibold };
const CAPTION: Paragraph = Paragraph { size: 13.0, line: 17.0, weight: Weight::Regular };
const FOOTER: Paragraph = Paragraph { size: 13.0, line: 18.0, weight: Weight::Regular };
/// From a panel's caption to its plot, and from the plot to the end of the words below it.
const ABOVE_PLOT: f64 = 14.0;
const BELOW_PLOT: f64 = 24.0;
const ACROSS_TITLE: f64 = 18.0;
/// A table that takes the room of two plots.
const WIDE: f64 = 330.0;
/// A page narrower than this would break its title into too many lines.
const LEAST_WIDTH: f64 = 560.0;

/// A block of text and how it is set.
#[derive(Clone, Copy)]
struct Paragraph {
    size: f64,
    line: f64,
    weight: Weight,
}

struct Cell<'a> {
    plan: Plan<'a>,
    row: usize,
    column: usize,
    alone: bool,
    /// No panel below it says the same of its horizontal axis.
    titled: bool,
    title: Vec<String>,
    caption: Vec<String>,
}

/// Where a panel stands.
#[derive(Clone, Copy, Debug)]
struct Seat {
    row: usize,
    column: usize,
    /// It has its row for itself, and its width is nobody else's.
    alone: bool,
}

/// Widths left of, of, and right of the plots of a column.
#[derive(Clone, Copy, Default)]
struct Column {
    left: f64,
    plot: f64,
    right: f64,
}

pub fn draw(figure: &Figure, theme: Theme) -> Page {
    let inks = theme.inks();
    let count = figure.panels.len();
    let plans: Vec<Plan> = figure.panels.iter().map(|panel| panel::plan(panel, theme)).collect();
    // Tables are wide; more than two side by side would be a page that nobody can read.
    let wide = plans.iter().any(|plan| plan.width().is_some_and(|width| width > WIDE));
    let fitting = match count {
        0 | 1 => 1,
        2 | 4 => 2,
        3 | 5..=9 => 3,
        _ => 4,
    };
    let sheets = plans.iter().all(|plan| plan.width().is_some());
    let usual = if wide && sheets { fitting.min(2) } else { fitting };
    let columns = figure.columns.map_or(usual, usize::from).min(count.max(1));
    let seats = seats(&plans, columns, wide && !sheets && count > 2);
    let (plot_width, plot_height) = match (columns, count) {
        (1, _) => (470.0, 290.0),
        (2, 2) => (310.0, 260.0),
        (2, _) => (310.0, 240.0),
        (3, _) => (232.0, 250.0),
        _ => (212.0, 210.0),
    };
    let rows = seats.last().map_or(0, |seat| seat.row + 1);
    let heights: Vec<f64> = (0..rows).map(|row| row_height(row, plot_height, &plans, &seats)).collect();

    let mut sides = vec![Column::default(); columns];
    for (plan, seat) in plans.iter().zip(&seats).filter(|(_, seat)| !seat.alone) {
        let side = &mut sides[seat.column];
        side.left = side.left.max(plan.left());
        side.right = side.right.max(plan.right());
        side.plot = side.plot.max(plan.width().unwrap_or(plot_width));
    }
    let column_width = |side: &Column| side.left + side.plot + side.right;
    let gaps = COLUMN_GAP * (columns as f64 - 1.0);
    let alone = plans.iter().zip(&seats).filter(|(_, seat)| seat.alone).map(|(plan, _)| plan.width().unwrap_or(0.0));
    let side_by_side = sides.iter().map(column_width).sum::<f64>() + gaps;
    let inner = alone.fold(side_by_side, f64::max).max(LEAST_WIDTH).ceil();

    let below: Vec<bool> = plans
        .iter()
        .zip(&seats)
        .map(|(plan, seat)| {
            let title = plan.across_title();
            let next = seats.iter().position(|other| (other.row, other.column) == (seat.row + 1, seat.column));
            title.is_some() && next.is_none_or(|next| plans[next].across_title() != title)
        })
        .collect();
    let cells: Vec<Cell> = plans
        .into_iter()
        .zip(&figure.panels)
        .enumerate()
        .map(|(index, (plan, panel))| {
            let Seat { row, column, alone } = seats[index];
            let width = if alone { inner } else { column_width(&sides[column]) };
            let by = match &panel.axis {
                Some(axis) if axis != "teaching" => format!(", by {axis}"),
                _ => String::new(),
            };
            Cell {
                plan,
                row,
                column,
                alone,
                titled: below[index],
                title: PANEL_TITLE.lines(&panel.title, width),
                caption: CAPTION.lines(&format!("{}{by}", panel.caption), width),
            }
        })
        .collect();

    let title = TITLE.lines(&figure.title, inner);
    let subtitle = SUBTITLE.lines(&figure.subtitle, inner);
    let footer = FOOTER.lines(&figure.footer.join(" "), inner);
    let head = MARGIN + TITLE.height(&title) + SUBTITLE.height(&subtitle) + 22.0;
    let tops = row_tops(&cells, head, &heights);
    let foot = tops[rows] - ROW_GAP + 24.0;
    let height = (foot + FOOTER.height(&footer) + MARGIN - 6.0).ceil();

    canvas::page(inner + 2.0 * MARGIN, height, inks.paper, &figure.title, |canvas| {
        let under = TITLE.set(canvas, &title, (MARGIN, MARGIN), inks.ink);
        SUBTITLE.set(canvas, &subtitle, (MARGIN, under), inks.quiet);
        for cell in &cells {
            let before: f64 = sides[..cell.column].iter().map(|side| column_width(side) + COLUMN_GAP).sum();
            let left = MARGIN + before;
            let under = PANEL_TITLE.set(canvas, &cell.title, (left, tops[cell.row]), inks.ink);
            CAPTION.set(canvas, &cell.caption, (left, under), inks.quiet);
            let top = tops[cell.row] + words(&cells, cell.row) + ABOVE_PLOT;
            let plot_left = if cell.alone { left } else { left + sides[cell.column].left };
            let (right, bottom) = (plot_left + cell.plan.width().unwrap_or(plot_width), top + heights[cell.row]);
            let frame = Frame { left: plot_left, top, right, bottom };
            cell.plan.draw(canvas, frame, cell.titled);
        }
        FOOTER.set(canvas, &footer, (MARGIN, foot), inks.quiet);
    })
}

/// Tops of the rows, and where a further row would begin.
fn row_tops(cells: &[Cell], head: f64, heights: &[f64]) -> Vec<f64> {
    let mut tops = vec![head];
    let mut top = head;
    for (row, plot_height) in heights.iter().enumerate() {
        let titled = cells.iter().any(|cell| cell.row == row && cell.titled);
        let title = if titled { ACROSS_TITLE } else { 0.0 };
        let ticks = cells.iter().any(|cell| cell.row == row && cell.plan.has_ticks());
        let below = if ticks { BELOW_PLOT } else { 0.0 };
        top += words(cells, row) + ABOVE_PLOT + plot_height + below + title + ROW_GAP;
        tops.push(top);
    }
    tops
}

/// Height of the plots of a row: as tall as its tallest; plots on two axes are equally tall in all rows.
fn row_height(row: usize, plot_height: f64, all: &[Plan], seats: &[Seat]) -> f64 {
    let plots = all.iter().map(Plan::least_height).fold(plot_height, f64::max);
    let here = all.iter().zip(seats).filter(|(_, seat)| seat.row == row);
    here.map(|(plan, _)| plan.height().unwrap_or(plots)).fold(0.0, f64::max)
}

/// Row by row from the left; a table that takes the room of two plots has a row of its own, if `apart`.
fn seats(plans: &[Plan], columns: usize, apart: bool) -> Vec<Seat> {
    let (mut row, mut column) = (0, 0);
    let mut seats = Vec::with_capacity(plans.len());
    for plan in plans {
        let alone = apart && plan.width().is_some_and(|width| width > WIDE);
        if column == columns || (alone && column > 0) {
            (row, column) = (row + 1, 0);
        }
        seats.push(Seat { row, column, alone });
        column = if alone { columns } else { column + 1 };
    }
    seats
}

/// Height of the titles and captions of a row: plots of a row begin at one height.
fn words(cells: &[Cell], row: usize) -> f64 {
    let of_row = cells.iter().filter(|cell| cell.row == row);
    of_row.map(|cell| PANEL_TITLE.height(&cell.title) + CAPTION.height(&cell.caption)).fold(0.0, f64::max)
}

impl Paragraph {
    fn lines(self, text: &str, width: f64) -> Vec<String> {
        font::wrap(text, self.size, self.weight, width)
    }

    fn height(self, lines: &[String]) -> f64 {
        self.line * lines.len() as f64
    }

    /// Sets the lines under `top` and says where they end.
    fn set(self, canvas: &mut Canvas, lines: &[String], (left, top): (f64, f64), colour: Colour) -> f64 {
        let lettering = Lettering { size: self.size, weight: self.weight, colour };
        for (index, line) in lines.iter().enumerate() {
            let baseline = top + self.line * index as f64 + self.size;
            canvas.text((left, baseline), Align::Left, lettering, line);
        }
        top + self.height(lines)
    }
}
