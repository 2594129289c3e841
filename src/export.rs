//! Stored numbers for other programs: notebooks, TensorBoard, MLflow.
//!
//! Input: jobs one after the other, as the store tells them. Output: a tidy long table, a row for each number, with the
//! columns of its job (`long.rs`) as CSV, JSON lines or Parquet; or the folders that TensorBoard and MLflow read. There
//! is one file a form, each a [`Form`].
//!
//! This module only reads [`Outcome`]s and writes where it is told: no database, no clock, no network. It holds one
//! job at a time (Parquet: the rows of one row group), and the same jobs give the same bytes. What is no finite number is an
//! empty cell or a null, and NaN where a form has that. Which images an evaluation has right is not exported.

mod csv;
mod jsonl;
mod long;
mod mlflow;
mod parquet;
mod proto;
mod tensorboard;

use anyhow::Result;

use crate::store::{Outcome, Times};

pub use self::csv::Csv;
pub use self::jsonl::JsonLines;
pub use self::mlflow::Mlflow;
pub use self::parquet::Parquet;
pub use self::tensorboard::TensorBoard;

/// A job of an experiment, with all that was measured of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub experiment: String,
    pub outcome: Outcome,
    pub times: Times,
}

/// What is exported, job by job.
pub type Entries<'a> = &'a mut dyn Iterator<Item = Result<Entry>>;

/// How numbers are written down.
pub trait Form {
    /// Writes all of it. `axes` are those of all entries together, sorted.
    ///
    /// # Errors
    /// When something cannot be written, and those of `entries`.
    fn write(&mut self, axes: &[String], entries: Entries<'_>) -> Result<()>;
}

/// A name as a file's or folder's: `fixed/cc, seed 0` becomes `fixed-cc-seed-0`. Never empty, hidden or a way upwards.
fn file_name(text: &str) -> String {
    let keeps = |c: char| c.is_alphanumeric() || "._+=@".contains(c);
    let words: Vec<&str> = text.split(|c| !keeps(c)).filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_are_names_of_files() {
        for (text, expected) in [
            ("fig1-duration-small", "fig1-duration-small"),
            ("fixed/cc, 30 epochs, learning rate 0.003", "fixed-cc-30-epochs-learning-rate-0.003"),
            ("../../etc", "_..-..-etc"),
            ("..", "_.."),
            ("", "_"),
            ("größe \"x\"\n", "größe-x"),
        ] {
            assert_eq!(file_name(text), expected);
        }
    }
}
