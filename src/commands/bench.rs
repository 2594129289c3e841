//! `bench`: times whole training steps.

mod loader;

use std::io::{self, BufRead, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{print, print_json, table};
use crate::cli;
use crate::job::Precision;
use crate::train::bench::{Bench, workloads};
use crate::train::network::Machine;
use crate::train::{cuda, memory};

/// The workloads that are timed when none is named: a machine without a GPU does them in a minute.
const SMALL: [&str; 3] = ["w1", "w2", "w3"];

/// Students of the cohort that is timed when no workload is named.
const COHORT: u16 = 8;

/// One workload's row.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    workload: String,
    about: String,
    device: String,
    batch: u32,
    students: u16,
    precision: String,
    threads: usize,
    /// Of one step of all students.
    milliseconds_min: f64,
    milliseconds_median: f64,
    milliseconds_max: f64,
    images_per_second: f64,
    /// Of matrix products and convolutions, as a direct convolution counts.
    gflops_per_second: f64,
    peak_gflops_per_second: f64,
    /// Can be above one: 3x3 convolutions need fewer multiplications than they count for.
    share_of_peak: f64,
    peak_mib: Option<f64>,
    loss: f64,
}

pub fn bench(arguments: &cli::Bench) -> Result<ExitCode> {
    let Some(name) = &arguments.workload else { return all(arguments) };
    if name == "check" {
        return check(arguments);
    }
    memory::keep_freed_pages();
    let threads = match arguments.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism()?.get(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    if name == "loader" {
        return pool.install(|| loader::loader(arguments, threads));
    }
    let workload = workloads().into_iter().find(|workload| workload.name == name).context("a known workload")?;
    pool.install(|| {
        let precision = match arguments.precision {
            cli::Precision::F32 => Precision::F32,
            cli::Precision::Bf16 => Precision::Bf16,
        };
        let students = usize::from(arguments.students);
        let workload = workload.clone().with_batch(arguments.batch);
        let device = arguments.device.with_determinism(arguments.deterministic);
        let bench = Bench::new(workload, students, precision, arguments.inputs.as_deref(), device)?;
        if arguments.serve {
            serve(bench)?;
            return Ok(ExitCode::SUCCESS);
        }
        let row = time(bench, arguments, precision, threads)?;
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
    let alone = SMALL.map(|name| (name, 1));
    for (name, students) in alone.into_iter().chain([(SMALL[0], COHORT)]) {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", name, "--json", "--students", &students.to_string()]);
        let device = arguments.device.to_string();
        command.args(["--steps", &arguments.steps.to_string(), "--device", &device, "--precision"]);
        command.arg(if arguments.precision == cli::Precision::Bf16 { "bf16" } else { "f32" });
        if arguments.deterministic {
            command.arg("--deterministic");
        }
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

fn time(mut bench: Bench, arguments: &cli::Bench, precision: Precision, threads: usize) -> Result<Row> {
    bench.step()?;
    let loss = bench.finish()?;
    if arguments.device.is_cuda() {
        // The one in which what is enqueued is recorded.
        bench.step()?;
        bench.finish()?;
    }
    let mut milliseconds = Vec::new();
    for _ in 0..arguments.steps {
        let started = Instant::now();
        bench.step()?;
        bench.finish()?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds[milliseconds.len() / 2];
    let rate = bench.workload.flops(usize::from(arguments.students)) / (median * 1e6);
    let peak_mib = bench.peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20));
    let peak = bench.peak(precision)? / 1e9;
    Ok(Row {
        workload: bench.workload.name.to_owned(),
        about: bench.workload.about.to_owned(),
        device: bench.device(),
        batch: bench.workload.batch,
        students: arguments.students,
        precision: format!("{:?}", arguments.precision).to_lowercase(),
        threads,
        milliseconds_min: milliseconds[0],
        milliseconds_median: median,
        milliseconds_max: milliseconds[milliseconds.len() - 1],
        images_per_second: f64::from(bench.workload.batch) * 1e3 / median,
        gflops_per_second: rate,
        peak_gflops_per_second: peak,
        share_of_peak: rate / peak,
        peak_mib,
        loss,
    })
}

/// Every operation of a GPU against the CPU's.
fn check(arguments: &cli::Bench) -> Result<ExitCode> {
    if arguments.serve || arguments.inputs.is_some() || arguments.batch.is_some() || arguments.students > 1 {
        bail!("`check` takes no `--serve`, `--inputs`, `--batch` or `--students`\nhint: they belong to a workload")
    }
    let device = arguments.device.with_determinism(arguments.deterministic);
    let Machine::Cuda(machine) = Machine::open(device)? else {
        bail!("the CPU's operations are what is compared with\nhint: say `--device cuda`")
    };
    let rows = cuda::check::check(&machine)?;
    if arguments.json {
        print_json(&rows)?;
    } else {
        let cells = rows.iter().map(|row| {
            let verdict = if row.ok { "ok" } else { "WRONG" };
            let (error, bound) = (format!("{:.1e}", row.error), format!("{:.0e}", row.bound));
            vec![row.op.clone(), row.precision.to_owned(), error, bound, verdict.to_owned()]
        });
        let cells: Vec<Vec<String>> = cells.collect();
        print(&table::table(&["operation", "precision", "relative error", "bound", ""], &cells))?;
    }
    let wrong = rows.iter().filter(|row| !row.ok).count();
    eprintln!("{} operations compared on `{}`, {wrong} beyond their bounds", rows.len(), machine.name());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        vec![
            format!("{} / {}", row.workload, row.batch),
            row.students.to_string(),
            row.precision.clone(),
            format!("{:.0} / {:.0} / {:.0}", row.milliseconds_min, row.milliseconds_median, row.milliseconds_max),
            format!("{:.0}", row.gflops_per_second),
            format!("{:.0} %", row.share_of_peak * 100.0),
            row.peak_mib.map_or("?".to_owned(), |mib| format!("{mib:.0}")),
        ]
    });
    let cells: Vec<Vec<String>> = cells.collect();
    let header = [
        "workload / batch",
        "students",
        "precision",
        "ms a step (min / median / max)",
        "GFLOP/s",
        "of the peak",
        "peak MiB",
    ];
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
                for _ in 0..steps {
                    bench.step()?;
                }
                let loss = bench.finish()?;
                let (wall, after) = (started.elapsed().as_secs_f64(), memory::processor_seconds());
                writeln!(stdout, "{wall} {} {} {loss}", after.0 - before.0, after.1 - before.1)?;
            }
            Some("peak") => {
                writeln!(stdout, "{}", bench.peak_bytes().unwrap_or(0) as f64 / f64::from(1 << 20))?;
            }
            _ => break,
        }
        stdout.flush()?;
    }
    Ok(())
}
