//! What the verbs take that are about jobs while they run, and about the folder.

use std::time::Duration;

use clap::Args;

use super::Place;

/// Which jobs.
pub(super) const SELECTORS: &str = "Selectors:
  3fa2c1de      a job, by the beginning of its id; several are several jobs
  failed        all in this state: open, running, interrupted, done, failed, blocked, held or
                cancelled
  all           every job
  'mode=function-matching and epochs>=1000'
                all of which this is true

Signs are = != < <= > >= and ~ (contains); words `and`, `or`, `not`; brackets. Keys are mode, student, data, seed, \
epochs, resolution, batch, learning-rate, weight-decay, temperature, state, experiment, cohort, priority, and the axes \
of the experiments, as `optimizer` or `distance.kl.temperature`.";

#[derive(Debug, Args)]
pub struct Why {
    /// A job's id, or the beginning of it.
    pub job: String,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// A job's id, or the beginning of it.
    pub job: String,
    /// Go on until the job ends.
    #[arg(short, long)]
    pub follow: bool,
    /// Of the events and of the worker's log, the last so many lines.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 40)]
    pub lines: usize,
    #[command(flatten)]
    pub place: Place,
    /// Print events as one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = SELECTORS)]
pub struct Change {
    /// Which jobs: ids, states, or an expression in quotes.
    #[arg(required = true, value_name = "SELECTOR")]
    pub selector: Vec<String>,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct How {
    #[command(flatten)]
    pub place: Place,
    /// Say what would change, and change nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = SELECTORS)]
pub struct Retry {
    /// Which jobs: ids, states, or an expression in quotes.
    #[arg(value_name = "SELECTOR")]
    pub selector: Vec<String>,
    /// All that failed and all that are blocked by them; of those a selector names, if there is one.
    #[arg(long)]
    pub failed: bool,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
#[command(after_help = SELECTORS)]
pub struct Prioritize {
    /// Higher goes first.
    #[arg(value_name = "N", allow_negative_numbers = true)]
    pub priority: i64,
    /// Which jobs: ids, states, or an expression in quotes.
    #[arg(required = true, value_name = "SELECTOR")]
    pub selector: Vec<String>,
    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at what this experiment needs, too: its data sets, teachers and disk.
    #[arg(value_name = "EXPERIMENT")]
    pub name: Option<String>,
    /// Keys of the experiment file, as `run` takes them.
    #[arg(value_name = "KEY=VALUE", requires = "name")]
    pub overrides: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// Ask the hub whether it answers.
    #[arg(long)]
    pub online: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Say what would be removed, and remove nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Only what was last written so long ago: `90min`, `12h`, `7d`.
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Checkpoints of jobs that are not done, too: they begin anew.
    #[arg(long)]
    pub all_checkpoints: bool,
    /// Folders with a result whose job the store does not know, too. After a lost store, `run` takes them in again.
    #[arg(long)]
    pub unknown_results: bool,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "w" => 7.0 * 86_400.0,
        _ => return Err("a number with `min`, `h` or `d` behind it is needed, such as 7d".to_owned()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| "a number is needed, such as the 7 of 7d".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "a time from 0 on is needed".to_owned())
}
