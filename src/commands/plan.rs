//! `plan`: what `run` would do, and its price. Runs nothing and writes nothing.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::price::{Known, Price};
use super::run::plan_of;
use super::{place, print, print_json, read_priced, table};
use crate::cli;
use crate::grid::Experiment;
use crate::job::{Job, JobId};
use crate::plan::{Plan, cohort_cost, job_cost};
use crate::store::{self, Store};

pub async fn plan(arguments: cli::Plan) -> Result<ExitCode> {
    let (experiment, absent) = read_priced(&arguments.experiment)?;
    let folder = place::folder(&arguments.place);
    let (done, known) = match Store::open_read_only(&place::location(&arguments.place)?).await {
        Ok(store) => (store.done().await?, Known::of(&store).await?),
        Err(store::Error::Missing { .. } | store::Error::Empty { .. }) => (BTreeSet::new(), Known::default()),
        Err(error) => return Err(error.into()),
    };
    let plan = plan_of(&experiment, &folder, done);
    // What could not be run here need not be known for how long.
    let price = if absent.is_empty() { Price::of(&plan, &known)? } else { None };
    let tflops = f64::from(arguments.gpu_tflops);
    if arguments.json {
        print_json(&Listing { not_here: &absent, ..Listing::new(&experiment, &plan, price, tflops) })?;
    } else {
        let rows = if plan.jobs.len() > MOST_ROWS && !arguments.all { groups(&plan) } else { rows(&experiment, &plan) };
        print(&format!("{rows}{}", text(&plan, price.as_ref(), tflops)))?;
    }
    // The program ends here, and taking a hundred thousand jobs apart first is a tenth of its time.
    std::mem::forget((plan, experiment));
    Ok(ExitCode::SUCCESS)
}

/// More jobs are told by their kinds.
const MOST_ROWS: usize = 100;

/// GPU-hours at so many TFLOP/s.
fn gpu_hours(plan: &Plan, tflops: f64) -> f64 {
    plan.cost().total() / tflops / 1e12 / 3600.0
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
    /// On this machine.
    price: Option<Price>,
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
    fn new(experiment: &'a Experiment, plan: &'a Plan, price: Option<Price>, tflops: f64) -> Listing<'a> {
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
            price,
            gpu_hours: gpu_hours(plan, tflops),
            gpu_tflops: tflops,
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

fn text(plan: &Plan, price: Option<&Price>, tflops: f64) -> String {
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
        if let Some(price) = price {
            text += &here(price);
        }
        text += &format!(
            "{} GPU-hours at {} TFLOP/s; {} on disk\n",
            grouped(gpu_hours(plan, tflops)),
            tflops,
            table::bytes(plan.bytes()),
        );
    }
    text
}

/// How long it takes on this machine, and how that is known.
fn here(price: &Price) -> String {
    let [least, middle, most] = [price.least_seconds, price.seconds, price.most_seconds]
        .map(|seconds| table::duration(Duration::from_secs_f64(seconds.min(1e12))));
    let span = if least == most { String::new() } else { format!(" ({least} to {most})") };
    let of = |count: usize| if count == 1 { "1 kind".to_owned() } else { format!("{count} kinds") };
    let sources = match (price.from_store, price.from_trials) {
        (kinds, 0) => format!("the store's epochs of {} of student", of(kinds)),
        (0, kinds) => format!("short trials of {} of student", of(kinds)),
        (stored, tried) => format!("the store's epochs of {} of student and short trials of {}", of(stored), of(tried)),
    };
    let mut text = format!(
        "about {middle}{span} on {} cores, evaluations not counted, at {}/s a core by {sources}\n",
        price.cores,
        table::flops(price.flops_per_second),
    );
    if price.share != 1.0 {
        let came =
            format!("{} cohorts took {:.2} times what was expected, in the middle", price.expectations, price.share);
        text += &format!("{came}: that is in it\n");
    }
    if let Some(bytes) = price.bytes {
        text += &format!("about {} of memory for the students of the largest cohort\n", table::bytes(bytes as f64));
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
