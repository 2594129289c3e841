//! `worker --index`: a task of a batch system. A scheduler of one cohort, with everything that schedulers do: it takes the jobs
//! from the store, starts a worker for them, passes on what that says, renews their leases.
//!
//! - Who has the jobs already goes on, and this leaves with 0. An earlier start of the same task has them no more, nor has one whose
//!   lease is over by the store's clock.
//! - SIGUSR1, SIGTERM and the end of the time that Slurm gave: the worker saves, and this leaves with 75. Where an end was announced
//!   and the job came forward, it asks Slurm to start it again.
//! - A store that is away: what the worker says is in its spool and is passed on later; after a lease's length it saves and leaves, with 69.

use std::collections::HashMap;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::alive::Presence;
use crate::cli;
use crate::commands::run::{devices, watch};
use crate::commands::{Usage, complain, place};
use crate::event::{Event, now_ms};
use crate::folder::Folder;
use crate::job::{Job, JobId};
use crate::plan::{Devices, Plan};
use crate::schedule::cluster::{Header, Slurm, read};
use crate::schedule::{
    self, AWAY, LocalEngine, Notice, STOPPED, Settings, Stop, Summary, Watch, ingest_spool, listen_for_end, provenance,
};
use crate::store::{self, Location, Mark, State, Store};
use crate::words::counted;

/// Between two looks at what people wish; leases are renewed in between.
const LOOK: Duration = Duration::from_secs(10);

pub async fn task(arguments: cli::Worker) -> Result<ExitCode> {
    match work(&arguments).await {
        Err(error) if is_away(&error) => {
            complain(&error);
            Ok(ExitCode::from(AWAY as u8))
        }
        result => result,
    }
}

/// Whether the store does not answer: all is saved by then, and another start may find it.
fn is_away(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<schedule::Error>() {
        Some(schedule::Error::Store(error)) => error.is_away(),
        Some(_) => false,
        None => error.downcast_ref::<store::Error>().is_some_and(store::Error::is_away),
    }
}

async fn work(arguments: &cli::Worker) -> Result<ExitCode> {
    let (stop, is_announced) = listen_for_end()?;
    let path = &arguments.manifest;
    let index = arguments.index.unwrap_or_default();
    let (header, line) = read(path, index).with_context(|| format!("cannot use the manifest `{}`", path.display()))?;
    let (folder, location) = (place::folder(&arguments.place), place::location(&arguments.place)?);
    let usual = watch()?;
    let own = std::env::var_os("DISTILLERY_LOOK_MS").is_some();
    let watch = Watch { is_task: true, look: if own { usual.look } else { LOOK.min(usual.lease / 4) }, ..usual };
    let Some(store) = reach(&location, watch.lease, &stop).await? else { return Ok(stopped()) };
    let jobs: Vec<(JobId, Arc<Job>)> = line.jobs.iter().map(|job| (job.id(), Arc::new(job.clone()))).collect();
    let ids: Vec<JobId> = jobs.iter().map(|(id, _)| id.clone()).collect();
    place::settle(&folder, &store, false).await?;
    for id in &ids {
        ingest_spool(&folder, &store, id).await?;
    }
    let me = Me::find(&header, index);
    store.take_over(&ids, me.again.as_deref()).await?;
    if !me.is_slurms {
        // Nobody else looks after it: whoever is silent for a lease's length is not waited for any longer.
        outwait(&store, &ids, &stop).await?;
    }
    let plan = Plan::of(&jobs, &store.done().await?);
    if let Some(need) = plan.cohorts.iter().flat_map(|cohort| &cohort.jobs).find(|(id, _)| !ids.contains(id)) {
        eprintln!("note: these jobs need {}, which is not done: another time", need.0);
        return Ok(stopped());
    }
    if plan.cohorts.is_empty() {
        eprintln!("note: nothing is left to do: {} done before", counted(ids.len(), "job"));
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let mut forward = false;
    let summary = train(&header, &plan, &folder, &store, &me, watch, stop, |notice| {
        forward |= is_forward(notice, began);
        tell(notice);
    })
    .await?;
    if summary.open > 0 && summary.done == 0 {
        eprintln!("note: others have {} of these jobs, which are left to them", summary.open);
    }
    // Slurm ends this process on behalf of what comes now: everything else is done.
    store.close().await?;
    let code = code(&summary);
    if code == STOPPED && is_announced.load(Ordering::Relaxed) && header.requeue && forward {
        again().await;
    }
    Ok(ExitCode::from(code as u8))
}

/// Waits until leases of silent owners are over; one that renews his has the jobs, and keeps them.
async fn outwait(store: &Store, ids: &[JobId], stop: &Stop) -> Result<()> {
    let held = async || -> Result<HashMap<JobId, Mark>> {
        let tenures = store.tenures(ids).await?;
        let running = tenures.into_iter().filter(|tenure| tenure.state == State::Running);
        Ok(running.map(|tenure| (tenure.job.clone(), tenure.mark())).collect())
    };
    let first = held().await?;
    if !first.is_empty() {
        eprintln!(
            "note: somebody has {} of these jobs: waiting for a sign of life, or the end of the lease",
            first.len()
        );
    }
    let mut left = first.clone();
    while !left.is_empty() && stop.level() == schedule::Level::Go {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let jobs: Vec<JobId> = left.keys().cloned().collect();
        store.take_over(&jobs, None).await?;
        let now = held().await?;
        left.retain(|job, mark| now.get(job) == Some(mark));
    }
    Ok(())
}

fn stopped() -> ExitCode {
    ExitCode::from(STOPPED as u8)
}

fn code(summary: &Summary) -> i32 {
    match summary {
        Summary { failed, blocked, .. } if failed + blocked > 0 => 1,
        Summary { interrupted, .. } if *interrupted > 0 => STOPPED,
        // What others have is theirs.
        _ => 0,
    }
}

/// Who this is: what its attempts are marked with.
struct Me {
    owner: String,
    /// Slurm's controller starts another where this finds nothing to do.
    is_slurms: bool,
    /// How the names of earlier starts of this task begin.
    again: Option<String>,
}

impl Me {
    fn find(header: &Header, index: u32) -> Me {
        let slurm = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let host = crate::alive::here();
        let tail = format!("@{host}/{}/{}", std::process::id(), now_ms());
        match (slurm("SLURM_ARRAY_JOB_ID"), slurm("SLURM_ARRAY_TASK_ID")) {
            (Some(array), Some(task)) => {
                let restart = slurm("SLURM_RESTART_COUNT").unwrap_or_else(|| "0".to_owned());
                // A number may be given out again; with the tag it is ours.
                let name = format!("slurm:{}/{array}_{task}/", header.tag);
                Me { owner: format!("{name}{restart}{tail}"), again: (restart != "0").then_some(name), is_slurms: true }
            }
            _ => Me { owner: format!("task:{}/{index}/{tail}", header.tag), again: None, is_slurms: false },
        }
    }
}

/// Opens the store. Waits for it as long as a lease, since a server is sometimes started anew; none when told to stop.
async fn reach(location: &Location, patience: Duration, stop: &Stop) -> Result<Option<Store>> {
    let began = Instant::now();
    loop {
        match Store::open_to_work(location.clone()).await {
            Ok(store) => return Ok(Some(store)),
            Err(error) if began.elapsed() < patience && error.is_away() => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
        if stop.level() > schedule::Level::Go {
            return Ok(None);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "all of a run")]
async fn train(
    header: &Header,
    plan: &Plan,
    folder: &Folder,
    store: &Store,
    me: &Me,
    watch: Watch,
    stop: Stop,
    observer: impl FnMut(&Notice),
) -> Result<Summary> {
    let wanted: Vec<Devices> = header
        .device
        .iter()
        .map(|name| name.parse().map_err(|why: String| Usage(format!("`{name}` is no device: {why}"))))
        .collect::<Result<_, _>>()?;
    // One cohort, one device: Slurm says which by CUDA_VISIBLE_DEVICES.
    let devices: Vec<_> = devices(&wanted, header.deterministic)?.into_iter().take(1).collect();
    if devices.is_empty() {
        let hint = "is `gpus` under `[slurm]` what the partition has, and was this built with `--features cuda,cudnn`?";
        return Err(Usage(format!("this task was to have a GPU and finds none\nhint: {hint}")).into());
    }
    // The second where nobody asked for a number of them.
    let given = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"];
    let given = given.iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    let cores = given.or_else(|| std::thread::available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    let threads = u32::try_from(cores)?;
    let device = devices.first().map(|(device, _)| device.to_string()).unwrap_or_default();
    let provenance = crate::store::Provenance { owner: me.owner.clone(), ..provenance(&device, threads) };
    let settings = Settings {
        devices,
        slots: 1,
        threads,
        run: header.run.clone(),
        places: header.places.clone(),
        folder: folder.clone(),
        provenance,
        halving: None,
        flops_per_second: None,
        budget: None,
        watch,
    };
    let presence = Presence::take(folder, &me.owner)
        .map_err(|source| schedule::Error::Io { path: folder.schedulers(), source })?;
    store.register(&settings.provenance, &header.experiment, 1).await?;
    let engine = LocalEngine::new(folder.clone())?;
    let summary = schedule::schedule(plan, &settings, store, &engine, observer, stop).await;
    // If the store is away, others see it by the lock that is let go, or by the lease.
    let _ = store.unregister(&me.owner).await;
    drop(presence);
    Ok(summary?)
}

/// Whether the job is further than it was: an epoch, or a step that took a while to come to.
fn is_forward(notice: &Notice, began: Instant) -> bool {
    let Notice::Message { message, .. } = notice else { return false };
    match &message.event {
        Event::Epoch(_) => true,
        Event::Stopped { step, .. } => *step > 0 && began.elapsed() > Duration::from_secs(60),
        _ => false,
    }
}

/// What a person finds in the task's log.
fn tell(notice: &Notice) {
    match notice {
        Notice::CohortStarted { cohort, jobs } => {
            eprintln!("cohort {cohort} begins, with {}", counted(jobs.len(), "job"))
        }
        Notice::Lost { jobs, why, again, .. } => {
            let then = if *again { "they are tried again" } else { "they are given up" };
            eprintln!("the worker of {} ended without a word: {why}; {then}", counted(jobs.len(), "job"));
        }
        Notice::Again { jobs, after, .. } => {
            eprintln!("tried again in {} s: {}", after.as_secs(), counted(jobs.len(), "job"))
        }
        Notice::Note(text) => eprintln!("{text}"),
        Notice::Stopping { .. } => eprintln!("asked to stop: saving"),
        Notice::Message { message, .. } => match &message.event {
            Event::Failed { message: why, .. } => eprintln!("job {} failed: {why}", message.job),
            Event::Finished => eprintln!("job {} is done", message.job),
            _ => {}
        },
        Notice::Blocked { .. } | Notice::CohortEnded { .. } => {}
    }
}

/// Asks Slurm to start this task again. Where that is not allowed, the controller submits the jobs again.
async fn again() {
    let Ok(job) = std::env::var("SLURM_JOB_ID") else { return };
    if let Err(trouble) = Slurm::default().requeue(&job).await {
        eprintln!("note: not queued again from here: {trouble}");
    }
}
