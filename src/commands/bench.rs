//! `bench`: times whole training steps.

use std::io::{self, BufRead, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{print, print_json, table};
use crate::cli;
use crate::job::Precision;
use crate::train::bench::{Bench, Workload, peak, workloads};
use crate::train::memory;

/// Students of the cohort that is timed when no workload is named.
const COHORT: u16 = 8;

/// One workload's row.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    workload: String,
    about: String,
    students: u16,
    precision: String,
    threads: usize,
    /// Of one step of all students.
    milliseconds_min: f64,
    milliseconds_median: f64,
    milliseconds_max: f64,
    /// As a direct convolution counts.
    gflops_per_second: f64,
    peak_gflops_per_second: f64,
    /// Can be above one: 3x3 convolutions need fewer multiplications than they count for.
    share_of_peak: f64,
    peak_mib: Option<f64>,
    loss: f64,
}

pub fn bench(arguments: &cli::Bench) -> Result<ExitCode> {
    let Some(name) = &arguments.workload else { return all(arguments) };
    let workload = workloads().into_iter().find(|workload| workload.name == name).context("a known workload")?;
    memory::keep_freed_pages();
    let threads = match arguments.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism()?.get(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| {
        let precision = match arguments.precision {
            cli::Precision::F32 => Precision::F32,
            cli::Precision::Bf16 => Precision::Bf16,
        };
        let students = usize::from(arguments.students);
        let bench = Bench::new(workload.clone(), students, precision, arguments.inputs.as_deref())?;
        if arguments.serve {
            serve(bench)?;
            return Ok(ExitCode::SUCCESS);
        }
        let row = time(&workload, bench, arguments, threads);
        if arguments.json {
            print_json(&row)?
        } else {
            print(&show(&[row]))?
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Every workload in a process of its own, so that each has its own peak of memory.
fn all(arguments: &cli::Bench) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let alone = workloads().map(|workload| (workload.name, 1));
    for (name, students) in alone.into_iter().chain([(workloads()[0].name, COHORT)]) {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", name, "--json", "--students", &students.to_string()]);
        command.args(["--steps", &arguments.steps.to_string(), "--precision"]);
        command.arg(if arguments.precision == cli::Precision::Bf16 { "bf16" } else { "f32" });
        if let Some(threads) = arguments.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let output = command.stderr(std::process::Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the benchmark `{name}` ended with {}", output.status);
        rows.push(serde_json::from_slice(&output.stdout).context("a benchmark's answer")?);
    }
    if arguments.json {
        print_json(&rows)?
    } else {
        print(&show(&rows))?
    }
    Ok(ExitCode::SUCCESS)
}

fn time(workload: &Workload, mut bench: Bench, arguments: &cli::Bench, threads: usize) -> Row {
    let loss = bench.step();
    let mut milliseconds: Vec<f64> = (0..arguments.steps)
        .map(|_| {
            let started = Instant::now();
            bench.step();
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds[milliseconds.len() / 2];
    let rate = workload.flops(usize::from(arguments.students)) / (median * 1e6);
    let peak_mib = memory::peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20));
    let peak = peak() / 1e9;
    Row {
        workload: workload.name.to_owned(),
        about: workload.about.to_owned(),
        students: arguments.students,
        precision: format!("{:?}", arguments.precision).to_lowercase(),
        threads,
        milliseconds_min: milliseconds[0],
        milliseconds_median: median,
        milliseconds_max: milliseconds[milliseconds.len() - 1],
        gflops_per_second: rate,
        peak_gflops_per_second: peak,
        share_of_peak: rate / peak,
        peak_mib,
        loss,
    }
}

fn show(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        vec![
            row.workload.clone(),
            row.students.to_string(),
            row.precision.clone(),
            format!("{:.0} / {:.0} / {:.0}", row.milliseconds_min, row.milliseconds_median, row.milliseconds_max),
            format!("{:.0}", row.gflops_per_second),
            format!("{:.0} %", row.share_of_peak * 100.0),
            row.peak_mib.map_or("?".to_owned(), |mib| format!("{mib:.0}")),
        ]
    });
    let cells: Vec<Vec<String>> = cells.collect();
    let header =
        ["workload", "students", "precision", "ms a step (min / median / max)", "GFLOP/s", "of f32 peak", "peak MiB"];
    let mut text = table::table(&header, &cells);
    let mut told: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.students == 1 || rows.len() == 1) {
        if !told.contains(&row.workload.as_str()) {
            told.push(&row.workload);
            text += &format!("{}: {}\n", row.workload, row.about);
        }
    }
    let cohort = rows.iter().find(|row| row.students > 1);
    let single = cohort.and_then(|of| rows.iter().find(|row| row.workload == of.workload && row.students == 1));
    if let (Some(cohort), Some(single)) = (cohort, single) {
        let gain = f64::from(cohort.students) * single.milliseconds_median / cohort.milliseconds_median;
        text +=
            &format!("{} students in a cohort: {gain:.2} times the students an hour of single runs\n", cohort.students);
    }
    text
}

/// The other side of `benches/torch/compare.py`.
fn serve(mut bench: Bench) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match words.next() {
            Some("run") => {
                let steps: u32 = words.next().unwrap_or("1").parse().context("a number of steps")?;
                let (before, started) = (memory::processor_seconds(), Instant::now());
                let mut loss = 0.0;
                for _ in 0..steps {
                    loss = bench.step();
                }
                let (wall, after) = (started.elapsed().as_secs_f64(), memory::processor_seconds());
                writeln!(stdout, "{wall} {} {} {loss}", after.0 - before.0, after.1 - before.1)?;
            }
            Some("peak") => {
                writeln!(stdout, "{}", memory::peak_bytes().unwrap_or(0) as f64 / f64::from(1 << 20))?;
            }
            _ => break,
        }
        stdout.flush()?;
    }
    Ok(())
}
