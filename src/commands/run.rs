//! `run`: does what is missing of an experiment, then draws its reports.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{Usage, complain, place, print, print_json, read_experiment, report, shipped};
use crate::alive::Presence;
use crate::cli::{self, Engine};
use crate::folder::Folder;
use crate::grid::Experiment;
use crate::job::{Job, JobId};
use crate::plan::{Device, Devices, Halvings, Plan};
use crate::progress::{Mode, Progress};
use crate::report::Source;
use crate::schedule::{self, LocalEngine, Lock, STOPPED, Settings, Stop, Summary, ingest_spools, provenance};
use crate::store::{Outcome, Rows, State, Store};
use crate::train::cuda;

pub async fn run(arguments: cli::Run) -> Result<ExitCode> {
    let experiment = read_experiment(&arguments.experiment)?;
    let (folder, location) = (place::folder(&arguments.place), place::location(&arguments.place)?);
    let site = match arguments.engine {
        Engine::Local => None,
        Engine::Slurm | Engine::Manifest => Some(super::slurm::site(&arguments, &experiment, &location)?),
    };
    // From here on a Ctrl-C is heeded in order.
    let stop = schedule::listen()?;
    let lock = Lock::take(&folder).await?;
    let store = Store::open(&location).await?;
    place::settle(&folder, &store, true).await?;
    place::remember(&arguments.place, &location)?;
    if arguments.engine == Engine::Slurm {
        super::slurm::refuse_second(&experiment.name, &folder, &store).await?;
    }
    record(&experiment, &store).await?;
    // What workers wrote down while no scheduler listened; with a store that was lost, everything.
    ingest_spools(&folder, &store).await?;
    let done = store.done().await?;
    let gone: Vec<JobId> = done.iter().filter(|job| !folder.student(job).is_file()).cloned().collect();
    store.reopen(&gone).await?;
    let plan = plan_of(&experiment, &folder, done);
    let summary = if plan.cohorts.is_empty() {
        if arguments.engine == Engine::Slurm {
            super::slurm::left_over(&experiment.name, &store).await?;
        }
        Summary::default()
    } else if let Some(site) = &site {
        let ground =
            Ground { arguments: &arguments, experiment: &experiment, plan: &plan, folder: &folder, store: &store };
        super::slurm::run(ground, site, lock, stop).await?
    } else {
        local(
            Ground { arguments: &arguments, experiment: &experiment, plan: &plan, folder: &folder, store: &store },
            lock,
            stop,
        )
        .await?
    };
    if arguments.engine == Engine::Manifest && !plan.cohorts.is_empty() {
        store.close().await?;
        return Ok(ExitCode::from(STOPPED as u8));
    }
    let outcomes = store.outcomes_with(&experiment.name, Rows::Last).await?;
    let figures = if arguments.no_report { Vec::new() } else { draw(&experiment, &outcomes, &store, &folder).await };
    store.close().await?;
    tell(&experiment, &outcomes, &figures, arguments.json)?;
    if summary.unwanted > 0 {
        eprintln!(
            "{} are held, cancelled or ended early: `distillery release` or `retry` lets them go on",
            if summary.unwanted == 1 { "1 job".to_owned() } else { format!("{} jobs", summary.unwanted) }
        );
    }
    let failed = summary.failed + summary.blocked > 0
        || outcomes.iter().any(|outcome| matches!(outcome.state, State::Failed | State::Blocked));
    Ok(match summary.interrupted + summary.open + summary.unwanted {
        0 if failed => ExitCode::FAILURE,
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(STOPPED as u8),
    })
}

/// What a run works with.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub arguments: &'a cli::Run,
    pub experiment: &'a Experiment,
    pub plan: &'a Plan,
    pub folder: &'a Folder,
    pub store: &'a Store,
}

/// On this machine.
async fn local(ground: Ground<'_>, lock: Lock, stop: Stop) -> Result<Summary> {
    let Ground { arguments, experiment, plan, folder, store } = ground;
    let devices = devices(&arguments.device, arguments.deterministic)?;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = arguments.threads.map_or(cores, usize::from);
    // A GPU is filled by one cohort; several would only share its memory.
    let usual = if devices[0].0.is_cuda() { 1 } else { threads };
    let slots = arguments.slots.map_or(usual, usize::from);
    let threads = u32::try_from(threads)?;
    let names: Vec<String> = devices.iter().map(|(device, _)| device.to_string()).collect();
    let settings = Settings {
        devices,
        slots,
        threads,
        run: experiment.run.clone(),
        places: experiment.places.clone(),
        folder: folder.clone(),
        provenance: provenance(&names.join(","), threads),
        halving: halving(experiment),
        flops_per_second: store.flops_per_second().await?,
        budget: arguments.budget,
        watch: watch()?,
    };
    let engine = LocalEngine::new(folder.clone())?;
    let owner = &settings.provenance.owner;
    let presence =
        Presence::take(folder, owner).map_err(|source| schedule::Error::Io { path: folder.schedulers(), source })?;
    store.register(&settings.provenance, &experiment.name, slots * settings.devices.len()).await?;
    // What comes now others may do beside this one.
    drop(lock);
    let progress = Progress::new(plan, Mode::of_stderr(arguments.quiet));
    let summary = schedule::schedule(plan, &settings, store, &engine, |notice| progress.notice(notice), stop).await?;
    // What cannot be written down now, of a locked store or a full disk, others see by the lock that is let go.
    if let Err(error) = store.unregister(owner).await {
        complain(&error.into());
    }
    drop(presence);
    Ok(summary)
}

/// Who is compared with whom, where jobs are ended early.
fn halving(experiment: &Experiment) -> Option<Halvings> {
    let rule = experiment.run.halving.clone()?;
    let groups = rule.groups(experiment.jobs.iter().map(|cell| (&cell.id, &cell.axes)));
    Some(Halvings::new(rule, groups))
}

/// What to train on, each with its memory where that is known: what was asked for, if it is there; else all GPUs, or the CPU.
pub fn devices(wanted: &[Devices], deterministic: bool) -> Result<Vec<(Device, Option<u64>)>> {
    let gpu = |ordinal, memory| (Device::Cuda { ordinal, deterministic }, memory);
    let gpus =
        || -> Result<Vec<_>> { Ok(cuda::all()?.into_iter().map(|(ordinal, memory)| gpu(ordinal, memory)).collect()) };
    if wanted.is_empty() {
        return Ok(match device(None)? {
            Device::Cpu => vec![(Device::Cpu, None)],
            Device::Cuda { .. } => gpus()?,
        });
    }
    let mut devices: Vec<(Device, Option<u64>)> = Vec::new();
    for one in wanted {
        let more = match one {
            Devices::Gpus => gpus()?,
            Devices::One(Device::Cpu) => vec![(Device::Cpu, None)],
            Devices::One(Device::Cuda { ordinal, .. }) => {
                cuda::find(*ordinal)?;
                gpus()?.into_iter().filter(|(device, _)| *device == gpu(*ordinal, None).0).collect()
            }
        };
        devices.extend(more);
    }
    devices.sort_by_key(|(device, _)| device.to_string());
    devices.dedup_by_key(|(device, _)| *device);
    if devices.len() > 1 && devices.iter().any(|(device, _)| *device == Device::Cpu) {
        return Err(Usage(
            "a run is on GPUs or on the CPU, not on both: their numbers differ in the last bits\n\
             hint: two runs, one with `--device cpu`, share the work of one folder"
                .to_owned(),
        )
        .into());
    }
    Ok(devices)
}

/// How closely to look, by variables of the environment that tests shorten.
pub fn watch() -> Result<schedule::Watch> {
    let milliseconds = |name: &str| -> Result<Option<Duration>> {
        let Ok(text) = std::env::var(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| Usage(format!("{name} is a number of milliseconds, not `{text}`")))?;
        Ok(Some(Duration::from_millis(number)))
    };
    let usual = schedule::Watch::default();
    Ok(schedule::Watch {
        lease: milliseconds("DISTILLERY_LEASE_MS")?.unwrap_or(usual.lease),
        look: milliseconds("DISTILLERY_LOOK_MS")?.unwrap_or(usual.look),
        ..usual
    })
}

/// What to train on: what was asked for, if it is there; else the first GPU, or the CPU.
pub fn device(wanted: Option<Device>) -> Result<Device> {
    match wanted {
        Some(Device::Cuda { ordinal, .. }) => {
            cuda::find(ordinal)?;
            Ok(Device::Cuda { ordinal, deterministic: false })
        }
        Some(Device::Cpu) => Ok(Device::Cpu),
        None => match cuda::find(0) {
            Ok(()) => Ok(Device::Cuda { ordinal: 0, deterministic: false }),
            Err(error) => {
                if cuda::library::has_driver() {
                    eprintln!("note: computing on the CPU: {error:#}");
                }
                Ok(Device::Cpu)
            }
        },
    }
}

/// Writes the experiment down: its text, its jobs, and those they need.
async fn record(experiment: &Experiment, store: &Store) -> Result<()> {
    let plan = Plan::of(&jobs(experiment), &BTreeSet::new());
    let listed: Vec<_> = experiment.jobs.iter().map(|cell| (cell.id.clone(), &*cell.job, &cell.axes)).collect();
    let needed: Vec<(JobId, &Job)> =
        plan.jobs.iter().filter(|job| job.only_needed).map(|job| (job.id.clone(), &*job.job)).collect();
    let title = experiment.title.as_deref();
    store.record_experiment(&experiment.name, &experiment.hash, title, &experiment.text, &listed, &needed).await?;
    // Before anything of it runs, what is claimed of it.
    for source in shipped::reports_of(&experiment.stem) {
        let report = crate::report::read(&source)?;
        if !report.claims.is_empty() {
            let hash = report.claims_hash(&experiment.hash);
            store.record_claims(&experiment.name, &super::stem(&source.name), &hash, &report.claims_text()).await?;
        }
    }
    Ok(())
}

/// What is left to do. A job whose student's file is gone is not done.
pub fn plan_of(experiment: &Experiment, folder: &Folder, done: BTreeSet<JobId>) -> Plan {
    let done = done.into_iter().filter(|job| folder.student(job).is_file()).collect();
    Plan::of(&jobs(experiment), &done)
}

fn jobs(experiment: &Experiment) -> Vec<(JobId, Arc<Job>)> {
    experiment.jobs.iter().map(|cell| (cell.id.clone(), Arc::clone(&cell.job))).collect()
}

/// Draws every report of the experiment. A report that cannot be drawn is told and does not hide the results.
async fn draw(experiment: &Experiment, outcomes: &[Outcome], store: &Store, folder: &Folder) -> Vec<report::Drawn> {
    let mut sources = shipped::reports_of(&experiment.stem);
    if sources.is_empty() {
        let title = experiment.title.as_deref().unwrap_or(&experiment.stem);
        sources.push(shipped::plain_report(&experiment.stem, title, outcomes));
    }
    let mut drawn = Vec::new();
    for source in &sources {
        match draw_one(experiment, source, store, folder).await {
            Ok(one) => drawn.push(one),
            // Nothing to draw yet.
            Err(error) if report::is_empty(&error) => {}
            Err(error) => complain(&error.context(format!("report `{}` is not drawn", source.name))),
        }
    }
    drawn
}

async fn draw_one(experiment: &Experiment, source: &Source, store: &Store, folder: &Folder) -> Result<report::Drawn> {
    let read = crate::report::read(source)?;
    let told = report::gathered(store, read, experiment.size.as_deref()).await?;
    report::draw(&told, &folder.reports(), crate::report::Theme::Light)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Results<'a> {
    experiment: &'a str,
    jobs: Vec<Line<'a>>,
    figures: Vec<&'a PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    id: &'a JobId,
    state: State,
    axes: &'a std::collections::BTreeMap<String, String>,
    message: Option<&'a str>,
    last: Option<&'a crate::event::Epoch>,
}

fn tell(experiment: &Experiment, outcomes: &[Outcome], figures: &[report::Drawn], json: bool) -> Result<()> {
    if json {
        let jobs = outcomes.iter().map(|outcome| Line {
            id: &outcome.id,
            state: outcome.state,
            axes: &outcome.axes,
            message: outcome.message.as_deref(),
            last: outcome.last(),
        });
        let figures = figures.iter().flat_map(report::Drawn::files).collect();
        return print_json(&Results { experiment: &experiment.name, jobs: jobs.collect(), figures });
    }
    // Reports that show other experiments, too, are drawn, and told in a line.
    let (own, wider): (Vec<_>, Vec<_>) = figures.iter().partition(|figure| figure.report.experiments.0.len() == 1);
    for figure in &own {
        print(&figure.results)?;
    }
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for outcome in outcomes {
        let (State::Failed | State::Blocked, Some(message)) = (outcome.state, &outcome.message) else { continue };
        match reasons.iter_mut().find(|(reason, _)| reason == message) {
            Some((_, count)) => *count += 1,
            None => reasons.push((message, 1)),
        }
    }
    for (reason, count) in reasons {
        let jobs = if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") };
        eprintln!("{jobs}: {reason}");
    }
    for figure in &own {
        print(&format!("\n{}\n", figure.places()))?;
    }
    for figure in &wider {
        print(&format!("also     {}\n", figure.svg.display()))?;
    }
    if outcomes.iter().all(|outcome| outcome.state == State::Done) {
        eprintln!("all {} jobs in the grid of `{}` are done", outcomes.len(), experiment.name);
    } else {
        let counts = State::ALL.iter().filter_map(|state| {
            let count = outcomes.iter().filter(|outcome| outcome.state == *state).count();
            (count > 0).then(|| format!("{count} {}", state.name()))
        });
        eprintln!("{}", counts.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
