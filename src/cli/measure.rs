//! What `evaluate` and `bench` take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Place;
use crate::plan::Device;

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
