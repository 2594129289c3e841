//! The screen, from the top: what is in view and how far it is, what runs or is listed, what happened, the keys.
//!
//! Text is in the terminal's own colour, so that it is read on light and dark; the few colours are of the sixteen that
//! every terminal has, and none is the only sign of anything.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::app::{App, Popup, Screen};
use super::snapshot::{Cohort, Member, Snapshot, short_id};
use super::spark::area;
use super::table::{Cell, Column, cut, lines, width};
use crate::progress::{Tone, duration, jobs, loss, short};

/// Smaller ones are told so.
const LEAST: (u16, u16) = (56, 12);
/// What happened has so many lines before there are large curves.
const HAPPENED: u16 = 9;
/// Lines of a large curve, at least and at most.
const LARGE: (usize, usize) = (5, 10);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

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

fn count(snapshot: &Snapshot, states: &[&str]) -> usize {
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

/// The lines between head and foot, the first of them a header, and which of those after it is selected.
fn list(app: &App, room: usize) -> (Vec<Line<'static>>, usize) {
    let snapshot = &app.snapshot;
    let selected = app.selected();
    let lines = match app.screen {
        Screen::Cohorts if snapshot.cohorts.is_empty() => vec![Line::from(Span::styled(idle(snapshot), DIM))],
        Screen::Cohorts => cohorts(&snapshot.cohorts, room, selected),
        Screen::Jobs => members(app.jobs(), room, selected, app.cohort()),
        Screen::KeptBack if app.jobs().is_empty() => {
            vec![Line::from(Span::styled("nothing is held, cancelled, failed or blocked", DIM))]
        }
        Screen::KeptBack => members(app.jobs(), room, selected, None),
    };
    (lines, selected)
}

fn idle(snapshot: &Snapshot) -> String {
    let waiting = count(snapshot, &["open", "interrupted"]);
    match (snapshot.experiments.as_slice(), waiting) {
        ([name], waiting) if snapshot.schedulers.is_empty() && waiting > 0 => {
            format!("nothing runs; `distillery run {name}` goes on with {}", jobs(waiting))
        }
        (_, 0) => "nothing runs, and nothing waits".to_owned(),
        _ => "nothing runs".to_owned(),
    }
}

const fn column(title: &'static str, right: bool, optional: bool) -> Column {
    Column { title, right, optional }
}

fn number(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or("–".to_owned(), text)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn cohorts(cohorts: &[Cohort], room: usize, selected: usize) -> Vec<Line<'static>> {
    let columns = [
        column("cohort", false, false),
        column("teaching", false, false),
        column("epoch", true, false),
        column("img/s", true, false),
        column("loss", false, false),
        column("validation", false, false),
        column("left", true, false),
        column("device", false, true),
        column("memory", true, true),
        column("by", false, true),
    ];
    let row = |cohort: &Cohort| {
        let students = if cohort.members.len() > 1 { format!(" x{}", cohort.members.len()) } else { String::new() };
        vec![
            Cell::text(short_id(&cohort.id)),
            Cell::name(&cohort.teaching, students),
            Cell::text(format!("{}/{}", cohort.epoch, cohort.epochs)),
            Cell::text(number(cohort.images_per_second, short)),
            Cell::curve(&cohort.loss, number(cohort.loss.last().copied(), loss)).style(Style::new().fg(Color::Cyan)),
            Cell::curve(&cohort.validation, number(cohort.validation.last().copied(), percent))
                .style(Style::new().fg(Color::Green)),
            Cell::text(number(cohort.left_seconds, duration)),
            Cell::text(cohort.device.trim_end_matches(" deterministic")),
            Cell::text(number(cohort.memory_bytes.map(|bytes| bytes as f64), memory)),
            Cell::text(&cohort.by),
        ]
    };
    lines(&columns, &cohorts.iter().map(row).collect::<Vec<_>>(), room, Some(selected))
}

/// Loss and accuracy of the selected cohort, side by side; nothing where there are fewer than `height` lines or two points.
fn curves(app: &App, room: usize, height: usize) -> Vec<Line<'static>> {
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

fn memory(bytes: f64) -> String {
    if bytes < 9.95e8 { format!("{:.0} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}

/// Of a cohort, or those that are kept back, with the reason.
fn members(members: &[Member], room: usize, selected: usize, cohort: Option<&Cohort>) -> Vec<Line<'static>> {
    let state = |member: &Member| {
        let style = match (member.state, member.wish) {
            ("failed" | "blocked", _) => Style::new().fg(Color::Red),
            (_, Some(_)) => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        Cell::text(member.wish.unwrap_or(member.state)).style(style)
    };
    if cohort.is_none() {
        let columns =
            [column("job", false, false), column("state", false, false), column("what, and why", false, false)];
        let row = |member: &Member| {
            let why = member.message.as_deref().and_then(|message| message.lines().next());
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            vec![Cell::text(short_id(&member.id)), state(member), Cell::name(format!("{}{why}", member.label), "")]
        };
        return lines(&columns, &members.iter().map(row).collect::<Vec<_>>(), room, Some(selected));
    }
    let columns = [
        column("job", false, false),
        column("what", false, false),
        column("epoch", true, false),
        column("img/s", true, false),
        column("loss", true, false),
        column("validation", true, false),
        column("state", false, false),
    ];
    let row = |member: &Member| {
        vec![
            Cell::text(short_id(&member.id)),
            Cell::name(&member.label, ""),
            Cell::text(format!("{}/{}", member.epoch, member.epochs)),
            Cell::text(number(member.images_per_second, short)),
            Cell::text(number(member.loss, loss)),
            Cell::text(number(member.validation, percent)),
            state(member),
        ]
    };
    lines(&columns, &members.iter().map(row).collect::<Vec<_>>(), room, Some(selected))
}

/// As many lines as there is room for, the header always and the selected one among them.
fn window(mut lines: Vec<Line<'static>>, selected: usize, height: usize) -> Vec<Line<'static>> {
    if lines.len() <= height || height < 3 {
        lines.truncate(height);
        return lines;
    }
    let rows = lines.len() - 1;
    // One line says how many are out of sight.
    let shown = height - 2;
    let first = selected.saturating_sub(shown / 2).min(rows - shown);
    let below = rows - shown - first;
    let more = match (first, below) {
        (0, below) => format!("  {below} more below"),
        (above, 0) => format!("  {above} more above"),
        (above, below) => format!("  {above} more above, {below} below"),
    };
    let mut window = vec![lines[0].clone()];
    window.extend(lines.drain(1 + first..1 + first + shown));
    window.push(Line::from(Span::styled(more, DIM)));
    window
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

fn show_popup(frame: &mut Frame<'_>, app: &App, popup: &Popup) {
    let key = |key: &'static str, what: &'static str| {
        Line::from(vec![Span::styled(format!("{key:>9}  "), BOLD), Span::raw(what)])
    };
    let (title, text) = match popup {
        Popup::Leave => {
            let mut text = vec![
                key("l", "leave the dashboard; what runs goes on"),
                key("d", "drain: start nothing more, finish what runs"),
                key("s", "stop: save and end; the same command goes on"),
                key("c", "cancel every job that runs"),
                key("esc", "stay"),
            ];
            if !app.snapshot.schedulers.iter().any(|scheduler| scheduler.is_registered) {
                let note = "drain and stop: no scheduler listens here now";
                text.push(Line::from(Span::styled(format!("           {note}"), DIM)));
            }
            (" Leave? ", text)
        }
        Popup::Help => (
            " Keys ",
            vec![
                key("up, down", "select; also k and j, g and G"),
                key("enter", "the jobs of a cohort"),
                key("tab", "what is held, cancelled, failed or blocked"),
                key("esc", "back"),
                key("h", "hold: not to be started"),
                key("r", "release, or try again"),
                key("c", "cancel: saved, left, not started again"),
                key("q", "leave, drain or stop"),
                Line::default(),
                Line::from("On a cohort, h, r and c are for all its jobs. Curves"),
                Line::from("and epochs are those of its longest job."),
            ],
        ),
        Popup::Sure { question, .. } => (" Sure? ", {
            let mut text = wrap(question, 50);
            text.push(Line::default());
            text.push(key("y", "yes"));
            text.push(key("esc", "no"));
            text
        }),
    };
    let area = frame.area();
    let wide = text.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let (wide, high) = (wide.min(area.width), (text.len() as u16 + 4).min(area.height));
    let place = Rect { x: (area.width - wide) / 2, y: (area.height - high) / 2, width: wide, height: high };
    let block = Block::bordered().border_type(BorderType::Rounded).title(Span::styled(title, BOLD));
    // Where it is low, without the blank lines around the text.
    let inner = block.inner(place);
    let blank = u16::from(inner.height > text.len() as u16);
    let inner =
        Rect { x: inner.x + 1, y: inner.y + blank, width: inner.width.saturating_sub(1), height: inner.height - blank };
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    frame.render_widget(Paragraph::new(text), inner);
}

fn wrap(text: &str, room: usize) -> Vec<Line<'static>> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always one");
        if !last.is_empty() && width(last) + 1 + width(word) > room {
            lines.push(word.to_owned());
        } else {
            *last += if last.is_empty() { "" } else { " " };
            *last += word;
        }
    }
    lines.into_iter().map(Line::from).collect()
}
