//! What `compare` and `leaderboard` take.

use std::str::FromStr;

use clap::Args;

use super::Place;
use crate::grid::SIZES;
use crate::report::Value;

#[derive(Debug, Args)]
pub struct Compare {
    /// Jobs that differ in nothing but their seed: an id or an expression in quotes, such as 'experiment=fig1-duration-small
    /// and mode=function-matching and epochs=300'.
    pub left: String,
    /// The others.
    pub right: String,
    #[command(flatten)]
    pub place: Place,
    /// What is compared, of the last epoch.
    #[arg(long, default_value = "test.top1", value_parser = Value::from_str)]
    pub value: Value,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Leaderboard {
    /// An experiment.
    pub name: String,
    #[command(flatten)]
    pub place: Place,
    /// Of an experiment in several sizes [default: the one that was run last]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(SIZES))]
    pub size: Option<String>,
    /// What settings are ranked by.
    #[arg(long, default_value = "validation.top1", value_parser = Value::from_str)]
    pub by: Value,
    /// What is shown beside it.
    #[arg(long, default_value = "test.top1", value_parser = Value::from_str)]
    pub value: Value,
    /// Only these jobs: ids, a state, or an expression in quotes.
    #[arg(long, value_name = "SELECTOR")]
    pub jobs: Option<String>,
    /// So many settings, the best first.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub lines: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
