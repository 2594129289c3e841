//! What is between head and foot: the running cohorts, the jobs of one, or what is kept back.

use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::app::{App, Screen};
use super::snapshot::{Cohort, Member, Snapshot, short_id};
use super::table::{Cell, Column, lines};
use super::view::{DIM, count};
use crate::progress::{duration, jobs, loss, short};

/// The lines between head and foot, the first of them a header, and which of those after it is selected.
pub(super) fn list(app: &App, room: usize) -> (Vec<Line<'static>>, usize) {
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
    match (&snapshot.command, waiting) {
        (Some(command), 1..) => format!("nothing runs; `{command}` goes on with {}", jobs(waiting)),
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

pub(super) fn percent(share: f64) -> String {
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
            [column("job", false, false), column("state", false, false), column("why, and what", false, false)];
        let row = |member: &Member| {
            let why = member.message.as_deref().and_then(|message| message.lines().next());
            let what = why.map_or(member.label.clone(), |why| format!("{why} · {}", member.label));
            vec![Cell::text(short_id(&member.id)), state(member), Cell::name(what, "")]
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
pub(super) fn window(mut lines: Vec<Line<'static>>, selected: usize, height: usize) -> Vec<Line<'static>> {
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
