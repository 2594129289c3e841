//! JSON lines: an object a number, with the job's axes as an object of its own.

use std::io::Write;

use anyhow::Result;

use super::{Entries, Form, long};

pub struct JsonLines<W: Write>(pub W);

impl<W: Write> Form for JsonLines<W> {
    fn write(&mut self, _: &[String], entries: Entries<'_>) -> Result<()> {
        let out = &mut self.0;
        for entry in entries {
            let entry = entry?;
            let mut job = "{".to_owned();
            for ((name, _), cell) in long::JOB.iter().zip(long::job_cells(&entry)) {
                job += &format!("\"{name}\":{},", serde_json::to_string(&cell)?);
            }
            job += &format!("\"axes\":{}", serde_json::to_string(&entry.outcome.axes)?);
            for row in long::rows(&entry.outcome) {
                out.write_all(job.as_bytes())?;
                for ((name, _), cell) in long::ROW.iter().zip(row.cells()) {
                    write!(out, ",\"{name}\":")?;
                    // Its own error hides that a reader went away.
                    out.write_all(serde_json::to_string(&cell)?.as_bytes())?;
                }
                out.write_all(b"}\n")?;
            }
        }
        Ok(out.flush()?)
    }
}
