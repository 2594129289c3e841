//! What lies over the screen: what `q` offers, the keys, a question.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::app::{App, Popup};
use super::table::width;
use super::view::{BOLD, DIM};

pub(super) fn show_popup(frame: &mut Frame<'_>, app: &App, popup: &Popup) {
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
