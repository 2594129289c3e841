//! Large curves, where the terminal has room for them.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::app::{App, Screen};
use super::list::percent;
use super::snapshot::short_id;
use super::spark::area;
use super::table::{cut, width};
use super::view::DIM;
use crate::progress::loss;

/// Lines of a large curve, at least and at most.
const LARGE: (usize, usize) = (5, 10);

/// Loss and accuracy of the selected cohort, side by side; nothing where there are fewer than `height` lines or two points.
pub(super) fn curves(app: &App, room: usize, height: usize) -> Vec<Line<'static>> {
    let Some(cohort) = app.cohort().filter(|_| app.screen != Screen::KeptBack) else { return Vec::new() };
    // A blank line, a title, and the axis' labels.
    let high = height.saturating_sub(2).min(LARGE.1);
    if high < LARGE.0 || cohort.loss.len() < 2 {
        return Vec::new();
    }
    let half = (room - 4) / 2;
    let one = |values: &[f64], name: &str, text: fn(f64) -> String, colour: Color| {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let labels = if values.is_empty() { [String::new(), String::new()] } else { [text(most), text(least)] };
        let wide = labels.iter().map(|label| width(label)).max().unwrap_or(0);
        let title = cut(&format!("{name} of {}", short_id(&cohort.id)), half);
        let mut lines = vec![vec![Span::styled(format!("{title:<half$}"), DIM)]];
        for (place, line) in area(values, half - wide - 1, high).into_iter().enumerate() {
            let label = match place {
                0 => labels[0].as_str(),
                _ if place + 1 == high => labels[1].as_str(),
                _ => "",
            };
            lines.push(vec![
                Span::styled(format!("{label:>wide$} "), DIM),
                Span::styled(format!("{line:<0$}", half - wide - 1), Style::new().fg(colour)),
            ]);
        }
        lines
    };
    let left = one(&cohort.loss, "loss", loss, Color::Cyan);
    let right = one(&cohort.validation, "validation", percent, Color::Green);
    let both = left
        .into_iter()
        .zip(right)
        .map(|(left, right)| Line::from(left.into_iter().chain([Span::raw("    ")]).chain(right).collect::<Vec<_>>()));
    std::iter::once(Line::default()).chain(both).collect()
}
