//! The screen, from the top: what is in view and how far it is, what runs or is listed, what happened, the keys.
//!
//! Text is in the terminal's own colour, so that it is read on light and dark; the few colours are of the sixteen that
//! every terminal has, and none is the only sign of anything.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Screen};
use super::curves::curves;
use super::list::{list, window};
use super::popup::show_popup;
use super::snapshot::Snapshot;
use super::table::{cut, width};
use crate::progress::{Tone, duration};

/// Smaller ones are told so.
const LEAST: (u16, u16) = (56, 12);
/// What happened has so many lines before there are large curves.
const HAPPENED: u16 = 9;
pub(super) const DIM: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} x {} is too small: {} x {} is needed", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(cut(&text, usize::from(area.width))), area);
        return;
    }
    // A column of blanks on both sides.
    let area = Rect { x: area.x + 1, width: area.width - 2, ..area };
    let room = usize::from(area.width);
    let (list, selected) = list(app, room);
    // The list has what it needs, but what happened keeps a few lines.
    let wanted = u16::try_from(list.len()).unwrap_or(u16::MAX);
    let most = area.height - 5 - 4.min(area.height / 4);
    let wanted = wanted.min(most);
    let curves = curves(app, room, usize::from((area.height - 5 - wanted).saturating_sub(HAPPENED)));
    let [head, _, middle, large, _, foot, keys] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Length(wanted),
        Constraint::Length(curves.len() as u16),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(curves), large);
    frame.render_widget(Paragraph::new(header(app, room)), head);
    frame.render_widget(Paragraph::new(window(list, selected, usize::from(middle.height))), middle);
    frame.render_widget(Paragraph::new(happened(&app.snapshot, room, usize::from(foot.height))), foot);
    frame.render_widget(Paragraph::new(footer(app, room)), keys);
    if let Some(popup) = &app.popup {
        show_popup(frame, app, popup);
    }
}

/// Names and times, the bar, counts and the machine.
fn header(app: &App, room: usize) -> Vec<Line<'static>> {
    let snapshot = &app.snapshot;
    let mut times = Vec::new();
    if let Some(elapsed) = snapshot.elapsed_seconds {
        times.push(format!("{} so far", duration(elapsed)));
    }
    if let Some(left) = snapshot.left_seconds {
        times.push(format!("{} left", duration(left)));
    }
    let mut times = times.join(" · ");
    if snapshot.schedulers.is_empty() {
        "nobody is at work".clone_into(&mut times);
    } else if let Some(wish) = snapshot.schedulers.iter().find_map(|scheduler| scheduler.wish.as_deref()) {
        times = format!(
            "{}{}{times}",
            if wish == "drain" { "draining" } else { "stopping" },
            if times.is_empty() { "" } else { " · " }
        );
    }
    let names = match snapshot.experiments.as_slice() {
        [] => "nothing was run yet".to_owned(),
        names => names.join(", "),
    };
    let name = cut(&names, room.saturating_sub(width(&times) + 2 + "distillery  ".len()));
    let first = apart(
        vec![Span::styled("distillery", DIM), Span::raw("  "), Span::styled(name, BOLD)],
        vec![Span::raw(times)],
        room,
    );
    vec![first, bar(snapshot, room), apart(counts(snapshot), vec![Span::styled(app.machine.clone(), DIM)], room)]
}

pub(super) fn count(snapshot: &Snapshot, states: &[&str]) -> usize {
    states.iter().filter_map(|state| snapshot.counts.get(state)).sum()
}

/// A line as wide as the screen: done, running, failed, the rest.
fn bar(snapshot: &Snapshot, room: usize) -> Line<'static> {
    let total = snapshot.counts.values().sum::<usize>();
    if total == 0 {
        return Line::from(Span::styled("─".repeat(room), DIM));
    }
    let percent = format!(" {:>3} %", 100 * count(snapshot, &["done"]) / total);
    let room = room - width(&percent);
    let parts = [
        (count(snapshot, &["done"]), "━", Style::new().fg(Color::Green)),
        (count(snapshot, &["running"]), "━", Style::new().fg(Color::Cyan)),
        (count(snapshot, &["failed", "blocked"]), "━", Style::new().fg(Color::Red)),
    ];
    let (mut spans, mut before, mut used) = (Vec::new(), 0, 0);
    for (jobs, sign, style) in parts {
        before += jobs;
        // What there is at all is seen, if there is room for it.
        let end = (before * room / total).max(used + usize::from(jobs > 0)).min(room);
        spans.push(Span::styled(sign.repeat(end - used), style));
        used = end;
    }
    spans.push(Span::styled("─".repeat(room - used), DIM));
    spans.push(Span::raw(percent));
    Line::from(spans)
}

fn counts(snapshot: &Snapshot) -> Vec<Span<'static>> {
    let total = snapshot.counts.values().sum::<usize>();
    let mut spans = vec![Span::raw(format!("{}/{total} done", count(snapshot, &["done"])))];
    for (states, name, style) in [
        (&["running"][..], "running", Style::new()),
        (&["open", "interrupted"], "waiting", Style::new()),
        (&["held"], "held", Style::new().fg(Color::Yellow)),
        (&["cancelled"], "cancelled", Style::new().fg(Color::Yellow)),
        (&["failed"], "failed", Style::new().fg(Color::Red)),
        (&["blocked"], "blocked", Style::new().fg(Color::Red)),
    ] {
        let count = count(snapshot, states);
        if count > 0 {
            spans.push(Span::styled(" · ", DIM));
            spans.push(Span::styled(format!("{count} {name}"), style));
        }
    }
    spans
}

/// One at the left, one at the right; where there is no room for both, the left one.
fn apart(left: Vec<Span<'static>>, right: Vec<Span<'static>>, room: usize) -> Line<'static> {
    let of = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    let (start, end) = (of(&left), of(&right));
    let mut spans = left;
    if start + 2 + end <= room {
        spans.push(Span::raw(" ".repeat(room - start - end)));
        spans.extend(right);
    }
    Line::from(spans)
}

fn happened(snapshot: &Snapshot, room: usize, height: usize) -> Vec<Line<'static>> {
    if height < 2 {
        return Vec::new();
    }
    let title = "what happened ";
    let mut lines = vec![Line::from(Span::styled(format!("{title}{}", "─".repeat(room - title.len())), DIM))];
    if snapshot.recent.is_empty() {
        lines.push(Line::from(Span::styled("nothing yet", DIM)));
    }
    for one in snapshot.recent.iter().take(height - 1) {
        let style = match one.tone {
            Tone::Good => Style::new().fg(Color::Green),
            Tone::Plain => Style::new(),
            Tone::Warning => Style::new().fg(Color::Yellow),
            Tone::Bad => Style::new().fg(Color::Red),
        };
        let text = one.text.lines().next().unwrap_or_default();
        let used = width(&one.at) + width(&one.job) + 4;
        lines.push(Line::from(vec![
            Span::styled(format!("{}  ", one.at), DIM),
            Span::raw(format!("{}  ", one.job)),
            Span::styled(cut(text, room.saturating_sub(used)), style),
        ]));
    }
    lines
}

fn footer(app: &App, room: usize) -> Line<'static> {
    if let Some(notice) = &app.notice {
        let text = notice.lines().next().unwrap_or_default();
        return Line::from(Span::styled(cut(text, room), BOLD));
    }
    let keys: &[(&str, &str)] = match app.screen {
        Screen::Cohorts => &[
            ("q", "leave, stop"),
            ("?", "help"),
            ("enter", "jobs"),
            ("tab", "others"),
            ("h", "hold"),
            ("r", "release"),
            ("c", "cancel"),
        ],
        Screen::Jobs => {
            &[("q", "leave, stop"), ("?", "help"), ("esc", "back"), ("h", "hold"), ("r", "release"), ("c", "cancel")]
        }
        Screen::KeptBack => {
            &[("q", "leave, stop"), ("?", "help"), ("tab", "what runs"), ("r", "release, retry"), ("c", "cancel")]
        }
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in keys {
        let blanks = if spans.is_empty() { "" } else { "  " };
        used += blanks.len() + width(key) + 1 + width(what);
        if used > room {
            break;
        }
        spans.push(Span::raw(blanks));
        spans.push(Span::styled((*key).to_owned(), BOLD));
        spans.push(Span::styled(format!(" {what}"), DIM));
    }
    Line::from(spans)
}
