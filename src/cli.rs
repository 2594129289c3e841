//! What can be typed, and its help. What it means is in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::grid::SIZES;
use crate::plan::{Device, Devices, Span};

/// An experiment-ablation harness for knowledge distillation.
///
/// A TOML grid becomes trained students, rows in SQLite, and figures. Start with `distillery run quickstart`.
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
    /// How experiments and jobs stand.
    Status(Status),
    /// Draw a report from what the store holds.
    Report(Report),
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
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub experiment: Experiment,
    #[command(flatten)]
    pub place: Place,
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
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Stem of a file in `reports/`, of a shipped report, or a path to a TOML file.
    pub name: String,
    #[command(flatten)]
    pub place: Place,
    /// Of an experiment in several sizes [default: the one that was run last]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(SIZES))]
    pub size: Option<String>,
    /// Where the files go [default: `reports` in the folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Theme::Light)]
    pub theme: Theme,
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
    /// One SELECT statement; `SELECT sql FROM sqlite_master` lists the tables.
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
pub struct Evaluate {
    /// A weights file, `hf:owner/name[/file][@revision]` of the hub, or the id of a finished job or its beginning.
    pub weights: String,
    /// A data set, as `data inspect` takes it [default: fashion-mnist-8k2k, the built-in one]
    #[arg(long, value_name = "DATA", default_value = "fashion-mnist-8k2k", hide_default_value = true)]
    pub data: String,
    /// Which images: `test`, `test[:1000]`, `train[90%:]`
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Weights of a teacher to compare with; several are an ensemble.
    #[arg(long, value_name = "WEIGHTS", num_args = 1..)]
    pub against: Vec<String>,
    /// How several teachers become one answer.
    #[arg(long, value_enum, default_value_t = Ensemble::MeanLogits)]
    pub ensemble: Ensemble,
    #[command(flatten)]
    pub own: Shown,
    #[command(flatten)]
    pub teachers: AgainstShown,
    /// Write a row for every class to this file.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a row for every image, with its logits, to this file.
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// `cpu`, or `cuda` or `cuda:N` for an NVIDIA GPU [default: the first GPU, or the CPU where there is none]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// What matrix products are computed in.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub place: Place,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What weights are and how images are shown to them.
#[derive(Debug, Args)]
pub struct Shown {
    /// The network: as an experiment writes it, or timm's name [default: the card's]
    #[arg(long, value_name = "TOML|NAME")]
    pub model: Option<String>,
    /// What pixels in [0, 1] are made to [default: the card's; 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Option<Vec<f64>>,
    /// [default: the card's; 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    pub std: Option<Vec<f64>>,
    /// Side in pixels of what the network sees [default: the card's; the images']
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub resolution: Option<u32>,
    /// Share of the shorter side that is seen: 0.875 of ImageNet's 224 px, 0.8 of the paper's 128 px [default: the card's; 1]
    #[arg(long, value_name = "SHARE")]
    pub crop: Option<f64>,
    /// How images come to that size [default: the card's; plain]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interpolation>,
}

/// The same of every teacher that is compared with.
#[derive(Debug, Args)]
pub struct AgainstShown {
    /// A teacher's network: as an experiment writes it, or timm's name [default: the card's]
    #[arg(long, value_name = "TOML|NAME", help_heading = "The teachers")]
    pub against_model: Option<String>,
    /// What pixels in [0, 1] are made to [default: the card's; 0.5,0.5,0.5]
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "The teachers"
    )]
    pub against_mean: Option<Vec<f64>>,
    /// [default: the card's; 0.5,0.5,0.5]
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', help_heading = "The teachers")]
    pub against_std: Option<Vec<f64>>,
    /// Side in pixels of what the network sees [default: the card's; the images']
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(4..=1024), help_heading = "The teachers")]
    pub against_resolution: Option<u32>,
    /// Share of the shorter side that is seen: 0.875 of ImageNet's 224 px, 0.8 of the paper's 128 px [default: the card's; 1]
    #[arg(long, value_name = "SHARE", help_heading = "The teachers")]
    pub against_crop: Option<f64>,
    /// How images come to that size [default: the card's; plain]
    #[arg(long, value_enum, help_heading = "The teachers")]
    pub against_interpolation: Option<Interpolation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ensemble {
    MeanLogits,
    MeanProbabilities,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Interpolation {
    /// As in training: between the four nearest pixels.
    Plain,
    /// As in training with `resize = "bilinear-antialias"`.
    PlainAntialias,
    /// As in training with `resize = "bicubic"`.
    PlainBicubic,
    /// The mean of what is covered.
    Area,
    /// As timm's, by PIL.
    Bilinear,
    /// As timm's, by PIL.
    Bicubic,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// w1, w2, w3, r50 or r152-r50; `check`: compare every operation of a GPU with the CPU's; or `loader`: make views of
    /// the images of a data set [default: w1, w2 and w3, and w1 as a cohort of 8 students]
    #[arg(value_name = "WORKLOAD", value_parser = ["w1", "w2", "w3", "r50", "r152-r50", "check", "loader"])]
    pub workload: Option<String>,
    /// Of `loader`: the data set.
    #[arg(value_name = "DATA", requires = "workload")]
    pub data: Option<String>,
    /// Of `loader`: views a pass [default: one of each image]
    #[arg(long, requires = "data", value_parser = clap::value_parser!(u32).range(1..))]
    pub images: Option<u32>,
    /// Of `loader`: pixels a side.
    #[arg(long, default_value_t = 224, requires = "data", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub resolution: u32,
    /// Of `loader`: what is decoded of an image.
    #[arg(long, value_enum, default_value_t = Decode::Reduced, requires = "data")]
    pub decode: Decode,
    /// `cpu`, or `cuda` or `cuda:N` for an NVIDIA GPU.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
    /// On a GPU, use only algorithms that give the same bits every time.
    #[arg(long)]
    pub deterministic: bool,
    /// Images of a step [default: the workload's]
    #[arg(long, requires = "workload", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Students that share a teacher forward.
    #[arg(long, default_value_t = 1, requires = "workload", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub students: u16,
    /// What matrix products are computed in.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Steps that are timed, after one that is not.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Threads [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// Weights, images and labels that a twin wrote [default: made up]
    #[arg(long, value_name = "FILE", requires = "workload")]
    pub inputs: Option<PathBuf>,
    /// Answer `run N` lines on standard input with wall, user and system seconds and the loss, `peak` with MiB: for a
    /// comparison that alternates with another program.
    #[arg(long, requires = "workload", conflicts_with = "json")]
    pub serve: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is decoded for a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decode {
    /// Every pixel of the window.
    Full,
    /// The window, at a reduced scale where it is large enough.
    Reduced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    Bf16,
}

#[derive(Debug, Args)]
pub struct Worker {
    #[arg(long)]
    pub manifest: PathBuf,
    #[arg(long)]
    pub folder: PathBuf,
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
