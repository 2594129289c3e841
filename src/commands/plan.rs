//! `plan`: what `run` would do, and its price. Runs nothing and writes nothing.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::run::plan_of;
use super::{print, print_json, read_experiment, table};
use crate::cli;
use crate::folder::Folder;
use crate::grid::Experiment;
use crate::job::{Job, JobId};
use crate::plan::{Cohort, Plan, cohort_cost, job_cost};
use crate::store::{self, Store};
use crate::train;

pub async fn plan(arguments: cli::Plan) -> Result<ExitCode> {
    let experiment = read_experiment(&arguments.experiment)?;
    let folder = Folder::new(&arguments.place.folder);
    let (done, rate) = match Store::open_read_only(&folder.store()).await {
        Ok(store) => (store.done().await?, store.flops_per_second().await?),
        Err(store::Error::Missing { .. }) => (BTreeSet::new(), None),
        Err(error) => return Err(error.into()),
    };
    let plan = plan_of(&experiment, &folder, done);
    let rate = Rate::new(&plan, rate)?;
    if arguments.json {
        print_json(&Listing::new(&experiment, &plan, &rate))?;
    } else {
        print(&text(&experiment, &plan, &rate))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What one core computes in a second, and who says so.
struct Rate {
    flops_per_second: f64,
    source: &'static str,
    cores: usize,
}

impl Rate {
    fn new(plan: &Plan, stored: Option<f64>) -> Result<Rate> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (flops_per_second, source) = match (stored, plan.open().next()) {
            (Some(rate), _) => (rate, "the store's epochs"),
            // Nothing is open, so nothing is asked of the rate.
            (None, None) => (f64::INFINITY, "nothing"),
            (None, Some(planned)) => (train::probe(&planned.job)?, "a probe of half a second"),
        };
        Ok(Rate { flops_per_second, source, cores })
    }

    fn seconds(&self, plan: &Plan) -> f64 {
        plan.cost().total() / self.flops_per_second / self.cores.min(plan.cohorts.len()).max(1) as f64
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
    seconds: f64,
    rate_from: &'a str,
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
        }
    }
}

fn text(experiment: &Experiment, plan: &Plan, rate: &Rate) -> String {
    let mut text = String::new();
    let axes = |id: &JobId| experiment.jobs.iter().find(|cell| cell.job.id() == *id).map(|cell| &cell.axes);
    let rows: Vec<Vec<String>> = plan
        .jobs
        .iter()
        .map(|planned| {
            let place = match axes(&planned.id) {
                Some(axes) if !axes.is_empty() => {
                    axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(" ")
                }
                _ if planned.only_needed => "teacher".to_owned(),
                _ => String::new(),
            };
            let cohort = plan.cohorts.iter().position(|cohort| holds(cohort, &planned.id));
            vec![
                planned.id.to_string(),
                if planned.done { "done" } else { "open" }.to_owned(),
                cohort.map_or(String::new(), |place| (place + 1).to_string()),
                planned.job.student.label(),
                table::flops(job_cost(&planned.job).total()),
                place,
            ]
        })
        .collect();
    text += &table::table(&["job", "state", "cohort", "student", "alone", "grid"], &rows);
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
        let seconds = rate.seconds(plan).min(1e12);
        text += &format!(
            "about {} on {} cores, evaluations not counted, at {}/s a core by {}\n",
            table::duration(Duration::from_secs_f64(seconds)),
            rate.cores,
            table::flops(rate.flops_per_second),
            rate.source,
        );
    }
    text
}

fn holds(cohort: &Cohort, id: &JobId) -> bool {
    cohort.jobs.iter().any(|(member, _)| member == id)
}
