//! One file a verb. The only place that knows every module.

mod axes;
mod bench;
mod catalogue;
mod choice;
mod compare;
mod data;
mod doctor;
mod evaluate;
mod export;
mod gc;
mod logs;
mod models;
mod nominal;
mod place;
mod plan;
mod price;
mod query;
mod report;
mod run;
mod shared;
mod shipped;
mod slurm;
mod status;
mod table;
mod tasks;
mod why;
mod wish;
mod worker;

pub use nominal::Nominal;

use std::fmt;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::Verb;
use crate::diagnostic;
use crate::grid;

/// Runs a verb to its end.
pub fn call(verb: Verb) -> ExitCode {
    let result = match verb {
        Verb::Run(arguments) => block_on(run::run(arguments)),
        Verb::Plan(arguments) => block_on(plan::plan(arguments)),
        Verb::Status(arguments) => block_on(status::status(arguments)),
        Verb::Why(arguments) => block_on(why::why(arguments)),
        Verb::Logs(arguments) => block_on(logs::logs(arguments)),
        Verb::Cancel(arguments) => block_on(wish::cancel(arguments)),
        Verb::Hold(arguments) => block_on(wish::hold(arguments)),
        Verb::Release(arguments) => block_on(wish::release(arguments)),
        Verb::Retry(arguments) => block_on(wish::retry(arguments)),
        Verb::Priority(arguments) => block_on(wish::priority(arguments)),
        Verb::Doctor(arguments) => block_on(doctor::doctor(arguments)),
        Verb::Gc(arguments) => block_on(gc::gc(arguments)),
        Verb::Report(arguments) => block_on(report::report(arguments)),
        Verb::Compare(arguments) => block_on(compare::compare(arguments)),
        Verb::Leaderboard(arguments) => block_on(compare::leaderboard(arguments)),
        Verb::Export(arguments) => block_on(export::export(arguments)),
        Verb::Query(arguments) => block_on(query::query(arguments)),
        Verb::Axes(arguments) => axes::axes(&arguments),
        Verb::Models(arguments) => models::models(&arguments),
        Verb::Data(verb) => data::data(&verb),
        Verb::Evaluate(arguments) => evaluate::evaluate(&arguments),
        Verb::Bench(arguments) => bench::bench(&arguments),
        Verb::Worker(arguments) if arguments.index.is_some() => block_on(worker::task(arguments)),
        Verb::Worker(arguments) => worker::worker(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            let usage = error.is::<diagnostic::Report>() || error.is::<Usage>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Something the user typed that cannot be done.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// One thread: workers die with the thread that started them (see `schedule/local.rs`).
fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// The chain of causes on one line, hints on lines of their own.
fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A closed standard error leaves nobody to tell.
    let _ = match error.downcast_ref::<diagnostic::Report>() {
        Some(report) if colour => writeln!(stderr, "{}", report.coloured().trim_end()),
        Some(report) => writeln!(stderr, "{}", report.to_string().trim_end()),
        None => {
            let mut causes = Vec::new();
            let mut hints = Vec::new();
            for cause in error.chain() {
                let text = cause.to_string();
                let (message, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
                // An error that only passes its source on says the same twice.
                if causes.last().is_none_or(|last| last != message) {
                    causes.push(message.to_owned());
                }
                if !hint.is_empty() && !hints.contains(&hint.to_owned()) {
                    hints.push(hint.to_owned());
                }
            }
            let hints: String = hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
            writeln!(stderr, "error: {}{hints}", causes.join(": "))
        }
    };
}

/// Prints data. A reader that went away, as `head` does, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// What a file is called: `a.1` of `experiments/a.1.toml`; a name stays as it is.
fn stem(name: &str) -> String {
    let file = std::path::Path::new(name).file_name().map_or(name.into(), |file| file.to_string_lossy());
    file.strip_suffix(".toml").unwrap_or(&file).to_owned()
}

/// Finds, reads and expands an experiment that is to be run.
fn read_experiment(wanted: &crate::cli::Experiment) -> anyhow::Result<grid::Experiment> {
    let source = shipped::experiment(&wanted.name)?;
    let shelf = catalogue::Shelf::default();
    let experiment = grid::read(&source, &wanted.overrides, &shelf)?;
    catalogue::check_weights(&experiment)?;
    shelf.note_shared(&experiment);
    note_warmup(&experiment);
    Ok(experiment)
}

/// As [`read_experiment`], of one that is only to be priced; and the names of what is not on this machine.
fn read_priced(wanted: &crate::cli::Experiment) -> anyhow::Result<(grid::Experiment, Vec<String>)> {
    let source = shipped::experiment(&wanted.name)?;
    let nominal = nominal::Nominal::default();
    let experiment = grid::read(&source, &wanted.overrides, &nominal)?;
    let absent = nominal.absent();
    if absent.is_empty() {
        catalogue::check_weights(&experiment)?;
    } else {
        let names = absent.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        eprintln!(
            "note: not on this machine: {names}; prices are those of what it is known to be, jobs will have other ids"
        );
    }
    nominal.shelf().note_shared(&experiment);
    note_warmup(&experiment);
    Ok((experiment, absent))
}

/// Says where a run is over before it has well begun, as the paper's 1,500 steps make of its shortest (paper.md 1.5).
fn note_warmup(experiment: &grid::Experiment) {
    let mut short: Vec<_> =
        experiment.jobs.iter().map(|cell| &cell.job).filter(|job| job.warmup_share() > 0.5).collect();
    short.sort_by(|a, b| b.warmup_share().total_cmp(&a.warmup_share()));
    if let Some(worst) = short.first() {
        eprintln!(
            "warning: warm-up is more than half of the run in {} of {} jobs, {:.0} % of {} epochs at most\nhint: \
             `warmup = {{ share = 0.1 }}` suits runs of every length",
            short.len(),
            experiment.jobs.len(),
            100.0 * worst.warmup_share(),
            worst.epochs,
        );
    }
}
