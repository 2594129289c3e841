//! `plan`: what `run` would do, and its price. Runs nothing and writes nothing.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::run::plan_of;
use super::{print, print_json, read_priced, table};
use crate::cli;
use crate::folder::Folder;
use crate::grid::Experiment;
use crate::job::{Job, JobId};
use crate::plan::{Plan, Planned, cohort_cost, job_cost};
use crate::store::{self, Store};
use crate::train;

pub async fn plan(arguments: cli::Plan) -> Result<ExitCode> {
    let (experiment, absent) = read_priced(&arguments.experiment)?;
    let folder = Folder::new(&arguments.place.folder);
    let (done, rate) = match Store::open_read_only(&folder.store()).await {
        Ok(store) => (store.done().await?, store.flops_per_second().await?),
        Err(store::Error::Missing { .. }) => (BTreeSet::new(), None),
        Err(error) => return Err(error.into()),
    };
    let plan = plan_of(&experiment, &folder, done);
    let rate = Rate::new(&plan, rate, absent.is_empty(), f64::from(arguments.gpu_tflops))?;
    if arguments.json {
        print_json(&Listing { not_here: &absent, ..Listing::new(&experiment, &plan, &rate) })?;
    } else {
        let rows = if plan.jobs.len() > MOST_ROWS && !arguments.all { groups(&plan) } else { rows(&experiment, &plan) };
        print(&format!("{rows}{}", text(&plan, &rate)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// More jobs are told by their kinds.
const MOST_ROWS: usize = 100;

/// What one core computes in a second, and who says so; and a GPU, as was told.
struct Rate {
    flops_per_second: Option<f64>,
    source: &'static str,
    cores: usize,
    gpu_tflops: f64,
}

impl Rate {
    /// `here` is whether it could be run here: else nobody needs to know for how long.
    fn new(plan: &Plan, stored: Option<f64>, here: bool, gpu_tflops: f64) -> Result<Rate> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        // The cheapest says what a small network reaches, and is soon asked.
        let cheapest = plan.open().min_by(|a, b| {
            let of = |planned: &Planned| planned.job.student.training_flops(planned.job.input());
            of(a).total_cmp(&of(b))
        });
        let (flops_per_second, source) = match (stored, cheapest) {
            (Some(rate), Some(_)) if here => (Some(rate), "the store's epochs"),
            (None, Some(planned)) if here => (Some(train::probe(&planned.job)?), "a probe of half a second"),
            // Nothing is open, or cannot be done.
            _ => (None, "nothing"),
        };
        Ok(Rate { flops_per_second, source, cores, gpu_tflops })
    }

    fn seconds(&self, plan: &Plan) -> Option<f64> {
        let cores = self.cores.min(plan.cohorts.len()).max(1) as f64;
        self.flops_per_second.map(|rate| plan.cost().total() / rate / cores)
    }

    fn gpu_hours(&self, plan: &Plan) -> f64 {
        plan.cost().total() / self.gpu_tflops / 1e12 / 3600.0
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listing<'a> {
    experiment: &'a str,
    title: Option<&'a str>,
    hash: &'a str,
    jobs: Vec<Line<'a>>,
    cohorts: Vec<Group<'a>>,
    done: usize,
    open: usize,
    student_flops: f64,
    teacher_flops: f64,
    seconds: Option<f64>,
    rate_from: &'a str,
    gpu_hours: f64,
    gpu_tflops: f64,
    disk_bytes: f64,
    /// Data sets and weights whose content is not known.
    not_here: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    id: &'a JobId,
    done: bool,
    only_needed: bool,
    student_flops: f64,
    teacher_flops: f64,
    job: &'a Job,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Group<'a> {
    id: &'a str,
    jobs: Vec<&'a JobId>,
    needs: &'a [JobId],
    student_flops: f64,
    teacher_flops: f64,
}

impl<'a> Listing<'a> {
    fn new(experiment: &'a Experiment, plan: &'a Plan, rate: &'a Rate) -> Listing<'a> {
        let cost = plan.cost();
        Listing {
            experiment: &experiment.name,
            title: experiment.title.as_deref(),
            hash: &experiment.hash,
            jobs: plan
                .jobs
                .iter()
                .map(|planned| {
                    let cost = job_cost(&planned.job);
                    Line {
                        id: &planned.id,
                        done: planned.done,
                        only_needed: planned.only_needed,
                        student_flops: cost.student_flops,
                        teacher_flops: cost.teacher_flops,
                        job: &planned.job,
                    }
                })
                .collect(),
            cohorts: plan
                .cohorts
                .iter()
                .map(|cohort| {
                    let cost = cohort_cost(cohort);
                    Group {
                        id: cohort.id.as_str(),
                        jobs: cohort.jobs.iter().map(|(id, _)| id).collect(),
                        needs: &cohort.needs,
                        student_flops: cost.student_flops,
                        teacher_flops: cost.teacher_flops,
                    }
                })
                .collect(),
            done: plan.jobs.len() - plan.open().count(),
            open: plan.open().count(),
            student_flops: cost.student_flops,
            teacher_flops: cost.teacher_flops,
            seconds: rate.seconds(plan),
            rate_from: rate.source,
            gpu_hours: rate.gpu_hours(plan),
            gpu_tflops: rate.gpu_tflops,
            disk_bytes: plan.bytes(),
            not_here: &[],
        }
    }
}

/// A job a line.
fn rows(experiment: &Experiment, plan: &Plan) -> String {
    let axes: HashMap<JobId, _> = experiment.jobs.iter().map(|cell| (cell.id.clone(), &cell.axes)).collect();
    let cohorts: HashMap<&JobId, usize> = plan
        .cohorts
        .iter()
        .enumerate()
        .flat_map(|(place, cohort)| cohort.jobs.iter().map(move |(id, _)| (id, place + 1)))
        .collect();
    let rows: Vec<Vec<String>> = plan
        .jobs
        .iter()
        .map(|planned| {
            let place = match axes.get(&planned.id) {
                Some(axes) if !axes.is_empty() => {
                    axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(" ")
                }
                _ if planned.only_needed => "teacher".to_owned(),
                _ => String::new(),
            };
            vec![
                planned.id.to_string(),
                if planned.done { "done" } else { "open" }.to_owned(),
                cohorts.get(&planned.id).map_or(String::new(), usize::to_string),
                planned.job.student.label(),
                table::flops(job_cost(&planned.job).total()),
                place,
            ]
        })
        .collect();
    table::table(&["job", "state", "cohort", "student", "alone", "grid"], &rows)
}

/// Data, mode, student and length.
type Alike<'a> = (&'a str, &'a str, String, u32);

/// A line for the jobs that are alike.
fn groups(plan: &Plan) -> String {
    #[derive(Default)]
    struct Group {
        jobs: usize,
        open: usize,
        flops: f64,
    }
    let mut groups: Vec<(Alike<'_>, Group)> = Vec::new();
    for planned in &plan.jobs {
        let job = &planned.job;
        let key = (job.data.name.as_str(), job.teaching_name(), job.student.label(), job.epochs);
        let place = groups.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            groups.push((key, Group::default()));
            groups.len() - 1
        });
        let group = &mut groups[place].1;
        group.jobs += 1;
        group.open += usize::from(!planned.done);
        group.flops += job_cost(job).total();
    }
    let rows: Vec<Vec<String>> = groups
        .into_iter()
        .map(|((data, teaching, student, epochs), group)| {
            let numbers = [epochs as usize, group.jobs, group.open].map(|number| number.to_string());
            let mut row = vec![data.to_owned(), teaching.to_owned(), student];
            row.extend(numbers);
            row.push(table::flops(group.flops));
            row
        })
        .collect();
    table::table(&["data", "teaching", "student", "epochs", "jobs", "open", "alone"], &rows)
}

fn text(plan: &Plan, rate: &Rate) -> String {
    let mut text = String::new();
    let (all, open) = (plan.jobs.len(), plan.open().count());
    text += &format!("\n{all} jobs, {} done, {open} open in {} cohorts\n", all - open, plan.cohorts.len());
    if open > 0 {
        let (shared, alone) =
            (plan.cost(), plan.open().map(|planned| job_cost(&planned.job)).sum::<crate::plan::Cost>());
        text += &format!(
            "{} for students, {} for teachers ({} if every job ran alone)\n",
            table::flops(shared.student_flops),
            table::flops(shared.teacher_flops),
            table::flops(alone.total()),
        );
        if let (Some(seconds), Some(rate_here)) = (rate.seconds(plan), rate.flops_per_second) {
            text += &format!(
                "about {} on {} cores, evaluations not counted, at {}/s a core by {}\n",
                table::duration(Duration::from_secs_f64(seconds.min(1e12))),
                rate.cores,
                table::flops(rate_here),
                rate.source,
            );
        }
        text += &format!(
            "{} GPU-hours at {} TFLOP/s; {} on disk\n",
            grouped(rate.gpu_hours(plan)),
            rate.gpu_tflops,
            table::bytes(plan.bytes()),
        );
    }
    text
}

/// `12,345`, with decimals below a hundred.
fn grouped(hours: f64) -> String {
    match hours {
        h if h < 0.1 => format!("{h:.4}"),
        h if h < 100.0 => format!("{h:.1}"),
        h => crate::report::grouped(h.round() as u64),
    }
}
