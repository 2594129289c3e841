//! Events in a person's words, as the store and the spools have them.

use serde_json::Value;

use super::tally::short;
use crate::event::{Event, Which};
use crate::store::Noted;

/// How an event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Plain,
    Warning,
    Bad,
}

/// An event of the store: what it is, and how it is meant.
pub fn noted(noted: &Noted) -> (Tone, String) {
    if let Ok(event) = serde_json::from_str::<Event>(&noted.text) {
        return said(&event, None);
    }
    let value: Value = serde_json::from_str(&noted.text).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let message = field("message").unwrap_or_default();
    match noted.kind.as_str() {
        // `finished` is a word and no object.
        "finished" => (Tone::Good, "finished".to_owned()),
        "stopped" => (Tone::Plain, format!("stopped: {message}")),
        "failed" => (Tone::Bad, format!("failed: {}: {message}", field("class").unwrap_or("error"))),
        "blocked" => (Tone::Bad, format!("blocked: {message}")),
        "asked" => (Tone::Plain, asked(&value)),
        kind if message.is_empty() => (Tone::Plain, format!("{kind} {}", noted.text)),
        kind => (Tone::Plain, format!("{kind}: {message}")),
    }
}

fn asked(value: &Value) -> String {
    if let Some(priority) = value.get("priority") {
        return format!("you gave it priority {priority}");
    }
    match value.get("wish").and_then(Value::as_str) {
        Some("hold") => "you held it",
        Some("cancel") => "you cancelled it",
        _ if value.get("retry").is_some() => "you asked for another try",
        _ => "you released it",
    }
    .to_owned()
}

/// A worker's event; `epochs` are the job's, where they are known.
pub fn said(event: &Event, epochs: Option<u32>) -> (Tone, String) {
    match event {
        Event::Started { epoch: 0 } => (Tone::Plain, "started".to_owned()),
        Event::Started { epoch } => (Tone::Plain, format!("goes on after epoch {epoch}")),
        Event::Teacher(check) => {
            let who = check.teacher.map_or("the ensemble".to_owned(), |at| format!("teacher {at}"));
            let share = 100.0 * check.top1;
            (Tone::Plain, format!("{who} has {share:.1} % of the {} images right", check.split.name()))
        }
        Event::Epoch(row) => {
            let of = epochs.map_or(String::new(), |epochs| format!("/{epochs}"));
            let mut text = format!("epoch {}{of}: loss {:.4}", row.epoch, row.training_loss);
            for (which, name) in [(Which::Validation, "validation"), (Which::Test, "test")] {
                if let Some(found) = row.evaluations.iter().find(|evaluation| evaluation.split == which) {
                    text += &format!(", {name} {:.1} %", 100.0 * found.top1);
                }
            }
            (Tone::Plain, format!("{text}, {} images/s", short(row.images_per_second)))
        }
        Event::Step { step, loss, .. } => (Tone::Plain, format!("step {step}: loss {loss:.4}")),
        Event::Torn { file } => (Tone::Warning, format!("torn checkpoint `{file}`: the one before it is used")),
        Event::Flagged { message, .. } => (Tone::Warning, format!("warning: {message}")),
        Event::Finished => (Tone::Good, "finished".to_owned()),
        Event::Stopped { epoch, step } => (Tone::Plain, format!("stopped: saved after epoch {epoch}, step {step}")),
        Event::Failed { class, message } => (Tone::Bad, format!("failed: {}: {message}", class.name())),
    }
}

/// `1 job`, `3 jobs`.
pub fn jobs(count: usize) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}
