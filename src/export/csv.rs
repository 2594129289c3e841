//! CSV as RFC 4180 has it but for line ends, which are `\n`: a header, then a row for each number.

use std::fmt;
use std::io::{self, Write};

use anyhow::Result;
use csv::{ErrorKind, Writer};

use super::{Entries, Form, long};

pub struct Csv<W: Write>(pub W);

impl<W: Write> Form for Csv<W> {
    fn write(&mut self, axes: &[String], entries: Entries<'_>) -> Result<()> {
        let mut writer = Writer::from_writer(&mut self.0);
        let axis_columns = axes.iter().map(|axis| format!("{}{axis}", long::AXIS));
        let own = long::JOB.iter().map(|(name, _)| (*name).to_owned());
        let header = own.chain(axis_columns).chain(long::ROW.iter().map(|(name, _)| (*name).to_owned()));
        writer.write_record(header.collect::<Vec<_>>()).map_err(plain)?;
        for entry in entries {
            let entry = entry?;
            let mut job: Vec<String> = long::job_cells(&entry).iter().map(ToString::to_string).collect();
            job.extend(axes.iter().map(|axis| entry.outcome.axes.get(axis).cloned().unwrap_or_default()));
            let mut text = String::new();
            for row in long::rows(&entry.outcome) {
                for field in &job {
                    writer.write_field(field).map_err(plain)?;
                }
                for cell in row.cells() {
                    text.clear();
                    // Writing to a string does not fail.
                    let _ = fmt::Write::write_fmt(&mut text, format_args!("{cell}"));
                    writer.write_field(&text).map_err(plain)?;
                }
                writer.write_record(None::<&[u8]>).map_err(plain)?;
            }
        }
        Ok(writer.flush()?)
    }
}

/// So that a reader that went away is known as such.
fn plain(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
