//! What can be typed, and its help. What it means is in [`crate::commands`].

mod export;
mod jobs;
mod measure;
mod results;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::grid::SIZES;
use crate::plan::{Devices, Span};

pub use export::{Export, Format};
pub use jobs::{Change, Doctor, Gc, How, Logs, Prioritize, Retry, Why};
pub use measure::{AgainstShown, Bench, Decode, Ensemble, Evaluate, Interpolation, Precision, Shown};
pub use results::{Compare, Leaderboard};

/// An experiment-ablation harness for knowledge distillation.
///
/// A TOML grid becomes trained students, rows in a database, and figures. Start with `distillery run quickstart`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 all done, 1 something failed, 2 wrong usage or experiment file, 75 stopped and resumable."
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Do what is missing of an experiment, then draw its reports.
    ///
    /// Finished jobs are kept, whichever experiment they were run for; stopped ones go on where they were. Ctrl-C
    /// finishes the step, saves and exits with 75; the same command goes on. A second Ctrl-C ends at once.
    Run(Run),
    /// List jobs, cohorts, what is done, and the price of the rest, without running anything.
    Plan(Plan),
    /// How experiments and jobs stand, and what runs; `--watch` opens a dashboard.
    Status(Status),
    /// What a job is, where it stands, and why it waits or failed.
    Why(Why),
    /// What happened to a job, and what its worker wrote.
    Logs(Logs),
    /// Have jobs saved and left, and not started again.
    ///
    /// What runs is left within seconds, with a checkpoint; `retry` takes it up again there. Results stay.
    Cancel(Change),
    /// Keep jobs from being started, until `release`. What runs goes on.
    Hold(Change),
    /// Let jobs that are held be started.
    Release(Change),
    /// Open jobs again that failed, are blocked or were cancelled.
    Retry(Retry),
    /// Have jobs started before others: those with higher numbers go first, 0 is usual.
    Priority(Prioritize),
    /// Look at this machine, the folder, data and teachers, and say what is wrong.
    Doctor(Doctor),
    /// Remove what nothing needs any more. Results of recorded jobs always stay.
    Gc(Gc),
    /// Draw a report from what the store holds.
    Report(Report),
    /// Compare two groups of jobs, seed by seed and image by image.
    Compare(Compare),
    /// The settings of an experiment, best first: ranked by validation images, with their test accuracy beside it.
    Leaderboard(Leaderboard),
    /// Write what was measured for other programs: CSV, JSON lines, Parquet, TensorBoard, MLflow.
    Export(Export),
    /// Ask the store in SQL, read-only.
    Query(Query),
    /// What an experiment can vary: every job key, its meaning, where the paper has it, and who varies it.
    Axes(Axes),
    /// The networks there are: parameters, multiply-adds, published weights.
    ///
    /// GMACs are of convolutions, linear layers and attention; timm counts more: 4.23 of BiT-R50x1.
    Models(Models),
    /// Look at data sets.
    #[command(subcommand)]
    Data(Data),
    /// Measure trained weights on a data set: accuracy, by class, and against a teacher.
    ///
    /// The card beside the weights (`NAME.json`, the `config.json` of a `model.safetensors`, or that of the repository on the
    /// hub) tells what they hold and how images are shown to them. What is typed here overrules it.
    Evaluate(Box<Evaluate>),
    /// Time whole training steps on this machine, workloads that have twins in PyTorch; or compare a GPU with the CPU.
    Bench(Bench),
    /// Train one cohort: what `run` starts.
    #[command(hide = true)]
    Worker(Worker),
}

#[derive(Debug, Args)]
pub struct Experiment {
    /// Stem of a file in `experiments/`, of a shipped experiment, or a path to a TOML file.
    pub name: String,
    /// Keys of the experiment file, set for every job: `epochs=100`, `distance.kl.temperature=2`, `run.evaluate-every=5`;
    /// or `size=box`, of an experiment in several sizes.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Place {
    /// Where the store, checkpoints and figures are kept.
    #[arg(long, value_name = "DIR", env = "DISTILLERY_FOLDER", default_value = "runs")]
    pub folder: PathBuf,
    /// Where jobs and numbers are kept instead: a PostgreSQL server, for sweeps on several machines. Once run, the folder
    /// remembers it [default: store.sqlite in the folder]
    #[arg(long, value_name = "postgres://...", env = "DISTILLERY_STORE", hide_env_values = true)]
    pub store: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Workers are processes of this machine
    #[default]
    Local,
    /// Cohorts are tasks of Slurm's arrays
    Slurm,
    /// Cohorts that are ready are written to a manifest, for `worker --manifest FILE --index N`
    Manifest,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub experiment: Experiment,
    #[command(flatten)]
    pub place: Place,
    /// Who runs the cohorts: this machine; Slurm, with a store on PostgreSQL; or whoever is given the manifest that is written
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
    /// What a site's Slurm is to be asked for, beside the experiment's `[slurm]`: a TOML file, or the name of one in
    /// `~/.config/distillery`
    #[arg(long, value_name = "FILE", env = "DISTILLERY_PROFILE")]
    pub profile: Option<String>,
    /// `cpu`; `cuda` for all NVIDIA GPUs that are visible, or some of them: `cuda:0,cuda:2` [default: all GPUs, or the CPU
    /// where there is none]
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub device: Vec<Devices>,
    /// On a GPU, use only algorithms that give the same bits every time; slower. The CPU always does.
    #[arg(long)]
    pub deterministic: bool,
    /// Cohorts trained at once on each device, on a GPU if its memory is enough [default: as many as threads; 1 on a GPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub slots: Option<u16>,
    /// Threads shared by the slots [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// What devices may work: `40gpuh`, or `90min` of them together. Then everything is saved and left, with exit code 75.
    #[arg(long, value_name = "HOURS", value_parser = budget)]
    pub budget: Option<f64>,
    /// Show failures only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Train, but draw nothing.
    #[arg(long)]
    pub no_report: bool,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub experiment: Experiment,
    #[command(flatten)]
    pub place: Place,
    /// What a GPU computes in a second, for the price in GPU-hours: 60 is a ResNet-50 trained on 2,440 images a second.
    #[arg(long, value_name = "TFLOPS", default_value_t = 60.0, value_parser = rate)]
    pub gpu_tflops: f32,
    /// A line for every job, also of more than a hundred.
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object with every job's resolved text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Show this experiment's jobs instead of all experiments.
    pub name: Option<String>,
    #[command(flatten)]
    pub place: Place,
    /// A dashboard of what runs, until `q`.
    #[arg(short, long, conflicts_with = "json")]
    pub watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Stems of files in `reports/`, of shipped reports, or paths to TOML files; or experiments without a report of their own.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// Every report of an experiment that the store holds.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Of an experiment in several sizes [default: the one that was run last]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(SIZES))]
    pub size: Option<String>,
    /// Where the files go [default: `reports` in the folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Theme::Light, conflicts_with = "html")]
    pub theme: Theme,
    /// One page of HTML for all of them instead: figures that answer to the pointer, verdicts, where the numbers come from.
    /// It needs no server and no other file.
    #[arg(long)]
    pub html: bool,
    /// Print a table of them in Markdown: what each reproduces, what to run, how long it took, our number and the paper's.
    #[arg(long, conflicts_with_all = ["html", "json"])]
    pub index: bool,
    /// Print the paths of the files and what is missing as JSON.
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|rate: &f32| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "a number above 0 is needed, such as 60".to_owned())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Theme {
    Light,
    Dark,
}

#[derive(Debug, Args)]
pub struct Query {
    /// One SELECT statement; `SELECT sql FROM sqlite_master` lists the tables, on PostgreSQL `SELECT * FROM
    /// information_schema.columns`.
    pub sql: String,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Axes {
    /// Print JSON instead of a Markdown table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Models {
    /// Side in pixels of what they see [default: what each is usually fed]
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub resolution: Option<u32>,
    /// Classes they tell apart [default: 1000, of the small ones 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub classes: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Data {
    /// Classes, counts, sizes, images that occur twice, and a sheet of images; files that cannot be decoded are all named.
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A folder of images, parquet, tar, CIFAR or IDX files, a CSV, `hf:owner/name[:config][@revision]`, or a name:
    /// fashion-mnist-8k2k, and, in $DISTILLERY_DATA, flowers102, pet37, food101, sun397, imagenet, cifar10, imagenette and
    /// flowers17; or as in an experiment: '{ folder = "DIR", orientation = "exif" }'.
    #[arg(value_name = "DATA")]
    pub data: String,
    /// Write a PNG of the first training images of every class, a class a row.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// What to train.
    #[arg(long)]
    pub manifest: PathBuf,
    /// Of an array's manifest, the task to do: `$SLURM_ARRAY_TASK_ID`, `$JOB_COMPLETION_INDEX`. It takes its jobs from the store and
    /// writes what comes of them there. Exit code 75: it was saved, and is to be started again.
    #[arg(long)]
    pub index: Option<u32>,
    #[command(flatten)]
    pub place: Place,
}

/// Hours of devices: `40gpuh`, `40h`, `90min`.
fn budget(text: &str) -> Result<f64, String> {
    let plain = ["gpuh", "gpu-h", "cpuh"].into_iter().find_map(|unit| text.strip_suffix(unit));
    let hours = match plain {
        Some(number) => number.trim().parse::<f64>().map_err(|error| error.to_string())?,
        None => text.parse::<Span>()?.0.as_secs_f64() / 3600.0,
    };
    if hours > 0.0 && hours.is_finite() { Ok(hours) } else { Err("a budget is more than nothing".to_owned()) }
}
