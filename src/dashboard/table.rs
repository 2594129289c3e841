//! Rows of cells in a given width: what is fixed keeps its width, what is optional comes in where there is room, and what
//! is left goes to names and curves.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::spark::spark;

/// A cell before its width is known.
pub struct Cell {
    content: Content,
    style: Style,
}

enum Content {
    Text(String),
    /// A name and what stays when the name is cut.
    Name(String, String),
    /// A curve and the value at its end.
    Curve(Vec<f64>, String),
}

pub struct Column {
    pub title: &'static str,
    pub right: bool,
    /// Left out where there is no room.
    pub optional: bool,
}

/// A curve is at least and at most so wide.
const CURVE: (usize, usize) = (5, 24);
/// A name is at least so wide.
const NAME: usize = 10;
/// A name of this width is not cut for the sake of curves.
const SHORT_NAME: usize = 20;

impl Cell {
    pub fn text(text: impl Into<String>) -> Cell {
        Cell { content: Content::Text(text.into()), style: Style::new() }
    }

    /// `end` stays when `text` has to be cut.
    pub fn name(text: impl Into<String>, end: impl Into<String>) -> Cell {
        Cell { content: Content::Name(text.into(), end.into()), style: Style::new() }
    }

    pub fn curve(values: &[f64], last: impl Into<String>) -> Cell {
        Cell { content: Content::Curve(values.to_vec(), last.into()), style: Style::new() }
    }

    pub fn style(mut self, style: Style) -> Cell {
        self.style = style;
        self
    }

    /// Of what is fixed of it.
    fn fixed(&self) -> usize {
        match &self.content {
            Content::Text(text) | Content::Curve(_, text) => width(text),
            Content::Name(..) => 0,
        }
    }

    fn spans(&self, room: usize, fixed: usize, right: bool) -> Vec<Span<'static>> {
        match &self.content {
            Content::Text(text) => vec![Span::styled(pad(text, room, right), self.style)],
            Content::Name(text, end) => {
                let text = format!("{}{end}", cut(text, room.saturating_sub(width(end))));
                vec![Span::styled(pad(&text, room, false), self.style)]
            }
            Content::Curve(values, last) => {
                let curve = spark(values, room.saturating_sub(fixed + 1));
                let value = format!(" {}", pad(last, fixed, true));
                vec![Span::styled(pad(&curve, room.saturating_sub(fixed + 1), false), self.style), Span::raw(value)]
            }
        }
    }
}

/// A header and the rows, none wider than `room`; the selected one is marked.
pub fn lines(columns: &[Column], rows: &[Vec<Cell>], room: usize, selected: Option<usize>) -> Vec<Line<'static>> {
    let gap = if room >= 100 { 2 } else { 1 };
    let is = |column: usize, wanted: fn(&Content) -> bool| rows.iter().any(|row| wanted(&row[column].content));
    let is_name = |column| is(column, |content| matches!(content, Content::Name(..)));
    let is_curve = |column| is(column, |content| matches!(content, Content::Curve(..)));
    let fixed: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].fixed()).max().unwrap_or(0))
        .map(|widest| widest.min(room / 3))
        .collect();
    let wanted_name = |column: usize| {
        let names = rows.iter().filter_map(|row| match &row[column].content {
            Content::Name(text, end) => Some(width(text) + width(end)),
            _ => None,
        });
        names.max().unwrap_or(0).max(width(columns[column].title))
    };
    // Least widths, with optional columns for as long as they fit beside comfortable names and curves.
    let least = |column: usize| match () {
        () if is_name(column) => NAME,
        () if is_curve(column) => (fixed[column] + 1 + CURVE.0).max(width(columns[column].title)),
        () => fixed[column].max(width(columns[column].title)),
    };
    let comfort = |column: usize| match () {
        () if is_name(column) => wanted_name(column).min(40),
        () if is_curve(column) => fixed[column] + 1 + 2 * CURVE.0,
        () => least(column),
    };
    let mut shown: Vec<usize> = (0..columns.len()).filter(|&column| !columns[column].optional).collect();
    let total = |shown: &[usize], of: &dyn Fn(usize) -> usize| {
        2 + shown.iter().map(|&column| of(column)).sum::<usize>() + gap * shown.len().saturating_sub(1)
    };
    for column in (0..columns.len()).filter(|&column| columns[column].optional) {
        let mut more = shown.clone();
        more.push(column);
        more.sort_unstable();
        if total(&more, &comfort) <= room {
            shown = more;
        }
    }
    let mut widths: Vec<usize> = (0..columns.len()).map(least).collect();
    let mut rest = room.saturating_sub(total(&shown, &least));
    // Names and curves get a little in turn, then names all they want, then curves.
    let names: Vec<usize> = shown.iter().copied().filter(|&column| is_name(column)).collect();
    let curves: Vec<usize> = shown.iter().copied().filter(|&column| is_curve(column)).collect();
    let mut widen = |columns: &[usize], most: &dyn Fn(usize) -> usize| {
        while rest > 0 && columns.iter().any(|&column| widths[column] < most(column)) {
            for &column in columns {
                let more = usize::from(rest > 0 && widths[column] < most(column));
                widths[column] += more;
                rest -= more;
            }
        }
    };
    let curve = |column: usize, wide: usize| fixed[column] + 1 + wide;
    widen(&names, &|column| wanted_name(column).min(SHORT_NAME));
    widen(&curves, &|column| curve(column, 2 * CURVE.0));
    widen(&names, &wanted_name);
    widen(&curves, &|column| curve(column, CURVE.1));
    let line = |mark: &'static str, cells: Vec<Vec<Span<'static>>>| {
        let mut spans = vec![Span::raw(mark)];
        for (place, cell) in cells.into_iter().enumerate() {
            if place > 0 {
                spans.push(Span::raw(" ".repeat(gap)));
            }
            spans.extend(cell);
        }
        Line::from(spans)
    };
    let dim = Style::new().add_modifier(Modifier::DIM);
    let titles = shown.iter().map(|&column| {
        let Column { title, right, .. } = columns[column];
        vec![Span::styled(pad(title, widths[column], right), dim)]
    });
    let mut lines = vec![line("  ", titles.collect())];
    for (place, row) in rows.iter().enumerate() {
        let cells = shown
            .iter()
            .map(|&column| row[column].spans(widths[column], fixed[column], columns[column].right))
            .collect();
        let is_selected = selected == Some(place);
        let one = line(if is_selected { "▸ " } else { "  " }, cells);
        lines.push(if is_selected { one.patch_style(Modifier::BOLD) } else { one });
    }
    lines
}

/// Columns of the terminal.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// With `…` at its end where it is longer than `room`.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if width(&kept) + width(c.encode_utf8(&mut [0; 4])) + 1 > room {
            break;
        }
        kept.push(c);
    }
    if room > 0 { format!("{}…", kept.trim_end()) } else { kept }
}

fn pad(text: &str, room: usize, right: bool) -> String {
    let text = cut(text, room);
    let blanks = " ".repeat(room.saturating_sub(width(&text)));
    if right { blanks + &text } else { text + &blanks }
}
