//! TensorBoard: a folder for each job with one event file, a point of a curve for each number (`test/top1`,
//! `training/loss`), and the job's columns as hyper-parameters and as a table of text.
//!
//! ```text
//! OUT/<experiment>/<job in words>-<beginning of its id>/events.out.tfevents.<id>
//! ```
//!
//! Its curves are of f32; the step is the epoch, the time that at which it was over. Files are written again with the same
//! bytes under the same names.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};

use super::long::{self, Cell};
use super::proto::Message;
use super::{Entries, Entry, Form, file_name};

pub struct TensorBoard(pub PathBuf);

impl Form for TensorBoard {
    fn write(&mut self, axes: &[String], entries: Entries<'_>) -> Result<()> {
        for entry in entries {
            let entry = entry?;
            let Entry { experiment, outcome, .. } = &entry;
            let job = &outcome.job;
            let words = format!("{} {} epochs seed {}", job.teaching_name(), job.epochs, job.seed);
            let id = outcome.id.as_str();
            let name = format!("{}-{}", file_name(&words), id.get(..8).unwrap_or(id));
            let folder = self.0.join(file_name(experiment)).join(name);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
            let path = folder.join(format!("events.out.tfevents.{id}"));
            fs::write(&path, events(&entry, axes)).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }
}

/// The bytes of a job's event file.
fn events(entry: &Entry, axes: &[String]) -> Vec<u8> {
    let rows: Vec<long::Row> = long::rows(&entry.outcome).collect();
    let start = start_ms(entry).unwrap_or(0);
    let mut file = Vec::new();
    record(&mut file, &Message::new().double(1, seconds(start)).text(3, "brain.Event:2"));
    let about = Message::new().message(1, &session(entry, axes)).message(1, &table(entry, axes));
    record(&mut file, &event(start, 0, &about));
    for epoch in rows.chunk_by(|one, next| one.epoch == next.epoch) {
        let number = epoch[0].epoch;
        let summary = epoch.iter().fold(Message::new(), |summary, row| {
            summary.message(1, &Message::new().text(1, &long::tag(row)).float(2, row.value as f32))
        });
        let at = entry.times.get(&number).copied().unwrap_or(start);
        record(&mut file, &event(at, number, &summary));
    }
    file
}

/// When the first epoch began, in milliseconds since 1970; none before it is over.
pub(super) fn start_ms(entry: &Entry) -> Option<i64> {
    let first = entry.outcome.epochs.first()?;
    Some(entry.times.get(&first.epoch)? - (1000.0 * first.seconds) as i64)
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// `tensorflow.Event`.
fn event(at_ms: i64, step: u32, summary: &Message) -> Message {
    Message::new().double(1, seconds(at_ms)).whole(2, step.into()).message(5, summary)
}

/// `tensorflow.Summary.Value` of a plugin.
fn plugin(tag: &str, plugin: &str, content: &Message, tensor: &Message) -> Message {
    let data = Message::new().text(1, plugin).message(2, content);
    // 2 is `DATA_CLASS_TENSOR`.
    let metadata = Message::new().message(1, &data).whole(4, 2);
    Message::new().text(1, tag).message(8, tensor).message(9, &metadata)
}

/// The columns of a job and its axes, without what is empty.
pub(super) fn columns(entry: &Entry, axes: &[String]) -> Vec<(String, Cell)> {
    let own = long::JOB.iter().map(|(name, _)| (*name).to_owned()).zip(long::job_cells(entry));
    let place = |axis: &String| {
        let place = entry.outcome.axes.get(axis)?;
        Some((format!("{}{axis}", long::AXIS), Cell::text(place.clone())))
    };
    own.filter(|(_, cell)| !cell.is_none()).chain(axes.iter().filter_map(place)).collect()
}

/// What the page of hyper-parameters reads: `HParamsPluginData` with a `SessionStartInfo`.
fn session(entry: &Entry, axes: &[String]) -> Message {
    let mut start = Message::new();
    for (name, cell) in columns(entry, axes) {
        // `google.protobuf.Value`.
        let value = match cell {
            Cell::Text(text) => Message::new().text(3, &text),
            Cell::Whole(number) => Message::new().double(2, number as f64),
            Cell::Number(number) => Message::new().double(2, number),
            Cell::None => continue,
        };
        start = start.message(1, &Message::new().text(1, &name).message(2, &value));
    }
    let start = start.text(4, &entry.experiment).double(5, seconds(start_ms(entry).unwrap_or(0)));
    // `DT_FLOAT` without a shape: nobody reads it, and everybody wants it there.
    let tensor = Message::new().whole(1, 1).message(2, &Message::new()).bytes(5, &0f32.to_le_bytes());
    plugin("_hparams_/session_start_info", "hparams", &Message::new().message(3, &start), &tensor)
}

/// The same as a table in Markdown.
fn table(entry: &Entry, axes: &[String]) -> Message {
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (name, cell) in columns(entry, axes) {
        text += &format!("| {name} | {} |\n", cell.to_string().replace('|', "\\|").replace('\n', " "));
    }
    // `DT_STRING` without a shape.
    let tensor = Message::new().whole(1, 7).message(2, &Message::new()).text(8, &text);
    plugin("job", "text", &Message::new(), &tensor)
}

/// A record of TensorFlow's files: length, its checksum, the bytes, theirs.
fn record(file: &mut Vec<u8>, message: &Message) {
    let bytes = message.as_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(bytes);
    file.extend(masked(bytes).to_le_bytes());
}

/// CRC-32C, turned and moved on, so that the checksum of what holds checksums is another one.
fn masked(bytes: &[u8]) -> u32 {
    const CRC_32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CRC_32C.checksum(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn checksums_are_of_castagnoli() {
        // The check value of CRC-32C is e3069283.
        assert_eq!(masked(b"123456789"), 0xE306_9283_u32.rotate_right(15).wrapping_add(0xA282_EAD8));
    }
}
