//! `bench loader`: how fast JPEGs become training's views.
//!
//! Every image is read from its file, a window of it drawn, decoded and resized into a batch of bytes, on all threads.
//! `benches/torch/loader.py` times the same in PyTorch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::Serialize;

use super::super::{print, print_json, table};
use crate::cli;
use crate::job::{Crop, View};
use crate::train::data::{Image, decode, jpeg};
use crate::train::memory;
use crate::train::random::{Purpose, Stream};
use crate::train::resample::{Resize, view};
use crate::train::window::Window;

/// As torchvision's `RandomResizedCrop` is used for this paper's students.
const CROP: Crop = Crop { area: [0.05, 1.0], aspect: [3.0 / 4.0, 4.0 / 3.0], tries: 100, margin: 1.0 };
const BATCH: u32 = 64;
const CHANNELS: usize = 3;

#[derive(Debug, Serialize)]
struct Row {
    workload: &'static str,
    decode: String,
    images: usize,
    resolution: usize,
    batch: usize,
    threads: usize,
    images_per_second_min: f64,
    images_per_second_median: f64,
    images_per_second_max: f64,
    peak_mib: Option<f64>,
}

pub fn loader(arguments: &cli::Bench, threads: usize) -> Result<ExitCode> {
    let folder = arguments.folder.as_deref().context("no folder of JPEGs\nhint: `distillery bench loader FOLDER`")?;
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "no `.jpg` below `{}`", folder.display());
    let count = arguments.images.map_or(files.len(), |images| images as usize);
    let files: Vec<PathBuf> = files.into_iter().cycle().take(count).collect();
    let (resolution, batch) = (arguments.resolution as usize, arguments.batch.unwrap_or(BATCH) as usize);
    let mut pixels = vec![0; batch * resolution * resolution * CHANNELS];
    let mut rates = Vec::new();
    for pass in 0..=arguments.steps {
        let started = Instant::now();
        for (number, files) in files.chunks(batch).enumerate() {
            let first = u64::from(pass) * count as u64 + (number * batch) as u64;
            let views = pixels.par_chunks_exact_mut(resolution * resolution * CHANNELS).zip(files).enumerate();
            views.try_for_each(|(place, (to, file))| {
                one(file, first + place as u64, arguments.decode, resolution, to)
                    .with_context(|| format!("`{}`", file.display()))
            })?;
        }
        rates.push(count as f64 / started.elapsed().as_secs_f64());
    }
    // The first pass brings the files into memory.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    let row = Row {
        workload: "loader",
        decode: format!("{:?}", arguments.decode).to_lowercase(),
        images: count,
        resolution,
        batch,
        threads,
        images_per_second_min: rates[0],
        images_per_second_median: rates[rates.len() / 2],
        images_per_second_max: rates[rates.len() - 1],
        peak_mib: memory::peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20)),
    };
    if arguments.json {
        print_json(&row)?
    } else {
        print(&show(&row))?
    }
    Ok(ExitCode::SUCCESS)
}

fn one(file: &Path, position: u64, how: cli::Decode, resolution: usize, to: &mut [u8]) -> Result<()> {
    let bytes = fs::read(file)?;
    let mut stream = Stream::new(0, Purpose::TeacherView, position);
    let flip = stream.coin();
    let (height, width) = jpeg::size(&bytes)?;
    let window = Window::draw(View::InceptionCrop, &CROP, (width, height), &mut stream);
    let mut show = |image: Image<'_>, window| view(image, window, Resize::BilinearAntialias, resolution, flip, to);
    let least = match how {
        cli::Decode::Whole => {
            let (height, width, pixels) = decode::decode(&bytes, CHANNELS)?;
            show(Image { pixels: &pixels, height, width, channels: CHANNELS }, window);
            return Ok(());
        }
        cli::Decode::Full => None,
        cli::Decode::Reduced => Some(resolution),
    };
    let region = jpeg::decode_window(&bytes, CHANNELS, window, least)?;
    show(region.image(), region.window);
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            files.push(path);
        }
    }
    Ok(())
}

fn show(row: &Row) -> String {
    let rates = [row.images_per_second_min, row.images_per_second_median, row.images_per_second_max];
    let cells = vec![
        format!("{} / {}", row.workload, row.batch),
        row.decode.clone(),
        row.images.to_string(),
        row.threads.to_string(),
        rates.map(|rate| format!("{rate:.0}")).join(" / "),
        row.peak_mib.map_or("?".to_owned(), |mib| format!("{mib:.0}")),
    ];
    let header = ["workload / batch", "decode", "images", "threads", "images/s (min / median / max)", "peak MiB"];
    table::table(&header, &[cells])
}
