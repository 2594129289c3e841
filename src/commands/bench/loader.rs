//! `bench loader`: how fast encoded images become training's views.
//!
//! Of every image a window is drawn, decoded and resized into a batch of bytes, on all threads.
//! `benches/torch/loader.py` times the same in PyTorch.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::Serialize;

use super::super::catalogue::on_this_machine;
use super::super::data::named;
use super::super::{print, print_json, table};
use crate::cli;
use crate::job::{Crop, Decode, Resize, View};
use crate::train::data::{self, Shape};
use crate::train::memory;
use crate::train::random::{Purpose, Stream};
use crate::train::window::Window;

/// As torchvision's `RandomResizedCrop` is used for this paper's students.
const CROP: Crop = Crop { area: [0.05, 1.0], aspect: [3.0 / 4.0, 4.0 / 3.0], tries: 100, margin: 1.0 };
const BATCH: u32 = 64;

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
    let data = arguments.data.as_deref().context("no data set\nhint: `distillery bench loader DIR`")?;
    let set = data::open(&on_this_machine(&named(data)?)?)?;
    let images = &set.train;
    ensure!(!images.is_empty(), "`{data}` has no image for training");
    let count = arguments.images.map_or(images.len(), |images| images as usize);
    let (resolution, batch) = (arguments.resolution as usize, arguments.batch.unwrap_or(BATCH) as usize);
    let size = resolution * resolution * images.channels;
    let mut pixels = vec![0; batch * size];
    let decode = match arguments.decode {
        cli::Decode::Full => Decode::Full,
        cli::Decode::Reduced => Decode::Reduced,
    };
    let mut rates = Vec::new();
    for pass in 0..=arguments.steps {
        let started = Instant::now();
        for start in (0..count).step_by(batch) {
            let some = batch.min(count - start);
            pixels[..some * size].par_chunks_exact_mut(size).enumerate().try_for_each(|(place, to)| {
                let index = (start + place) % images.len();
                let position = u64::from(pass) * count as u64 + (start + place) as u64;
                let mut stream = Stream::new(0, Purpose::TeacherView, position);
                let flip = stream.coin();
                let window = Window::draw(View::InceptionCrop, &CROP, images.size_of(index), &mut stream);
                let shape = Shape { side: resolution, flip, resize: Resize::BilinearAntialias, decode };
                images.view(index, window, shape, to)
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
