//! What `export` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Place;
use super::jobs::SELECTORS;
use crate::grid::SIZES;

#[derive(Debug, Args)]
#[command(after_help = SELECTORS)]
pub struct Export {
    /// Experiments, by the stem of their file.
    #[arg(value_name = "EXPERIMENT", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All experiments that the store holds.
    #[arg(long)]
    pub all: bool,
    /// Of experiments in several sizes [default: the one that was run last]
    #[arg(long, conflicts_with = "all", value_parser = clap::builder::PossibleValuesParser::new(SIZES))]
    pub size: Option<String>,
    /// Only jobs of this selector, in quotes: 'mode=function-matching and epochs>=1000'.
    #[arg(long, value_name = "SELECTOR")]
    pub jobs: Option<String>,
    /// What is written [default: what the file's name ends with, else csv]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// A file; of tensorboard and mlflow, a folder. `-` is standard output, for csv and jsonl [default: -]
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tidy long table: a row for each number, with the columns of its job, axes, epoch, split, metric and value.
    Csv,
    /// The same, one JSON object a line, with an object of axes.
    Jsonl,
    /// The same in typed columns.
    Parquet,
    /// A folder of event files, a run for each job: `tensorboard --logdir PATH`.
    Tensorboard,
    /// A folder of files: `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri PATH`.
    Mlflow,
}

impl Format {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
            Format::Tensorboard => "tensorboard",
            Format::Mlflow => "mlflow",
        }
    }
}
