//! `run --engine slurm`: what is asked of Slurm, and the controller. `run --engine manifest`: the same without Slurm.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::run::{Ground, watch};
use super::{Usage, place};
use crate::alive::{Presence, here, is_gone};
use crate::cli::{self, Engine};
use crate::folder::Folder;
use crate::grid::Experiment;
use crate::job::{Job, JobId, short_hash};
use crate::plan::{CohortId, Plan, Site};
use crate::progress::{Mode, Progress};
use crate::schedule::cluster::{Cluster, Count, Header, Slurm, control, program, write};
use crate::schedule::{self, Lock, Stop, Summary, provenance};
use crate::store::{Location, Store};
use crate::words::counted;

/// Between two looks at Slurm; `DISTILLERY_RECONCILE_MS` sets others.
const EVERY_MS: u64 = 15_000;

/// What the experiment and the site's profile say; refuses what several machines cannot do.
///
/// # Errors
/// When the store is a file, Slurm is not there, or the run is asked for what needs one machine.
pub fn site(arguments: &cli::Run, experiment: &Experiment, location: &Location) -> Result<Site> {
    if let Location::Sqlite(path) = location
        && std::env::var_os("DISTILLERY_SLURM_SQLITE").is_none()
    {
        return Err(Usage(format!(
            "`{}` is a file of SQLite, which several machines cannot share: its locks and its log need one machine's memory, and break without a word on a network's file system\n\
             hint: `--store postgres://USER@HOST/DATABASE`; docs/cluster.md says how to have one",
            path.display()
        ))
        .into());
    }
    if arguments.engine == Engine::Slurm && Slurm::find().is_none() {
        return Err(Usage(
            "there is no `sbatch` on the PATH\nhint: run this on a login node of the cluster; elsewhere `--engine manifest` writes what to run".to_owned(),
        )
        .into());
    }
    if experiment.run.halving.is_some() {
        return Err(Usage("`halving` compares jobs while they run, which tasks of a cluster do not yet\nhint: leave `halving` out of `[run]`, or run it on one machine".to_owned()).into());
    }
    if arguments.budget.is_some() || arguments.slots.is_some() {
        return Err(Usage("`--budget` and `--slots` are for this machine's devices\nhint: under `[slurm]`, `time` limits a task and `throttle` how many run at once".to_owned()).into());
    }
    let profile = match &arguments.profile {
        Some(name) => profile(name)?,
        None => Site::default(),
    };
    let site = experiment.site.clone().over(profile);
    let wants_cuda = device(arguments, &site).iter().any(|name| name.starts_with("cuda"));
    // A manifest may be for another build.
    if cfg!(not(feature = "cuda")) && arguments.engine == Engine::Slurm && wants_cuda {
        return Err(Usage(
            "this `distillery` was built without CUDA, so its tasks could not use a GPU\nhint: `cargo install --path . --locked --features cuda,cudnn`; for the CPU, `slurm.gpus=0`, or `--device cpu`".to_owned(),
        )
        .into());
    }
    Ok(site)
}

/// A file, or the name of one in the user's configuration.
fn profile(name: &str) -> Result<Site> {
    let mut path = PathBuf::from(name);
    if !path.is_file() && path.components().count() == 1 {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        if let Some(folder) = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or(home) {
            path = folder.join("distillery").join(name).with_extension("toml");
        }
    }
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Usage(format!(
            "cannot read the profile `{}`: {error}\nhint: a TOML file with keys as under `[slurm]`",
            path.display()
        ))
    })?;
    toml::from_str(&text).map_err(|error| Usage(format!("the profile `{}` is wrong: {error}", path.display())).into())
}

pub async fn run(ground: Ground<'_>, site: &Site, lock: Lock, stop: Stop) -> Result<Summary> {
    let Ground { arguments, experiment, plan, folder, store } = ground;
    let header = Header {
        experiment: experiment.name.clone(),
        tag: String::new(),
        tasks: 0,
        device: device(arguments, site),
        deterministic: arguments.deterministic,
        run: experiment.run.clone(),
        places: experiment.places.clone(),
        requeue: true,
    };
    if arguments.engine == Engine::Manifest {
        return manifest(ground, site, &header).await;
    }
    let mut provenance = provenance("slurm", 0);
    provenance.owner = provenance.owner.replacen("local:", "slurm-controller:", 1);
    let presence = Presence::take(folder, &provenance.owner)
        .map_err(|source| schedule::Error::Io { path: folder.schedulers(), source })?;
    store.register(&provenance, &experiment.name, 0).await?;
    drop(lock);
    let mut environment = Vec::new();
    if let Location::Postgres(server) = store.location() {
        environment.push(("DISTILLERY_STORE".to_owned(), server.secret().to_owned()));
    }
    let progress = Progress::new(plan, Mode::of_stderr(arguments.quiet));
    let cluster = Cluster {
        plan,
        folder,
        store,
        slurm: Slurm::default(),
        site,
        header,
        program: program()?,
        retries: &experiment.run.retries,
        owner: &provenance.owner,
        lease: watch()?.lease,
        every: every()?,
        flops_per_second: store.flops_per_second().await?.map(|one| one * f64::from(site.cpus.unwrap_or(1))),
        environment,
    };
    let summary = control(cluster, |notice| progress.notice(notice), stop).await;
    // The store may be what failed.
    let _ = store.unregister(&provenance.owner).await;
    drop(presence);
    Ok(summary?)
}

/// Says what is still in Slurm of an experiment that is done as it is now.
pub async fn left_over(experiment: &str, store: &Store) -> Result<()> {
    let tasks = store.tasks(Some(experiment)).await?;
    let Count { running, waiting, .. } = Count::of(tasks.iter());
    if running + waiting > 0 {
        eprintln!(
            "note: of `{experiment}` as it was run before, {} in Slurm; `scancel --name=distillery-{experiment}` takes them back",
            counted(running + waiting, "task")
        );
    }
    Ok(())
}

/// Nobody else may look after an experiment's tasks while its jobs are written down anew. Of another host's nobody knows whether
/// he lives: he is waited for later.
pub async fn refuse_second(experiment: &str, folder: &Folder, store: &Store) -> Result<()> {
    match store.controller(experiment).await? {
        Some(other) if other.host == here() && !is_gone(folder, &other.owner, Some(&other.host)) => {
            Err(schedule::Error::Controlled(other).into())
        }
        _ => Ok(()),
    }
}

/// What tasks train on: as typed; else what they asked Slurm for.
fn device(arguments: &cli::Run, site: &Site) -> Vec<String> {
    match (arguments.device.is_empty(), site.gpus()) {
        (false, _) => arguments.device.iter().map(ToString::to_string).collect(),
        (true, 0) => vec!["cpu".to_owned()],
        (true, _) => vec!["cuda".to_owned()],
    }
}

fn every() -> Result<Duration> {
    let milliseconds = match std::env::var("DISTILLERY_RECONCILE_MS") {
        Ok(text) => text
            .parse()
            .map_err(|_| Usage(format!("DISTILLERY_RECONCILE_MS is a number of milliseconds, not `{text}`")))?,
        Err(_) => EVERY_MS,
    };
    Ok(Duration::from_millis(milliseconds))
}

/// Cohorts whose needs are done, in a file for whoever starts a worker for each of its lines.
async fn manifest(ground: Ground<'_>, site: &Site, header: &Header) -> Result<Summary> {
    let Ground { arguments, experiment, plan, folder, store } = ground;
    let unusual = store.unusual().await?;
    let unwanted: HashSet<JobId> = unusual.into_iter().filter(|one| one.wish.is_some()).map(|one| one.job).collect();
    let ready = ready(plan, &unwanted);
    let ids: String = ready.iter().map(|(cohort, _)| cohort.as_str()).collect();
    let header = Header {
        tag: short_hash("distillery array 1\n", &format!("{}\n{ids}", experiment.name)),
        tasks: u32::try_from(ready.len())?,
        requeue: false,
        ..header.clone()
    };
    let array = write(folder, &header, &ready, site, &program()?)
        .with_context(|| format!("cannot write to `{}`", folder.root().display()))?;
    let behind = plan.cohorts.len() - ready.len();
    super::print(&format!("{}\n", array.manifest.display()))?;
    eprintln!(
        "{} tasks, of index 0 to {}; {behind} more cohorts wait for teachers, or are held or cancelled: the same command writes those later\n\
         each: distillery worker --manifest {} --index N --folder {}{}",
        ready.len(),
        ready.len().saturating_sub(1),
        array.manifest.display(),
        std::path::absolute(folder.root())?.display(),
        if place::location(&arguments.place)?.file().is_none() { " --store postgres://..." } else { "" },
    );
    let open = plan.open().count();
    if ready.is_empty() && open > 0 {
        bail!("nothing is ready, though {open} jobs are open: they, or what they need, are held or cancelled");
    }
    Ok(Summary { open: open as u64, ..Summary::default() })
}

/// Cohorts whose needs are done, without the jobs that a person does not want.
fn ready(plan: &Plan, unwanted: &HashSet<JobId>) -> Vec<(CohortId, Vec<Job>)> {
    let done: HashSet<&JobId> = plan.jobs.iter().filter(|planned| planned.done).map(|planned| &planned.id).collect();
    let ready = plan.cohorts.iter().filter(|cohort| cohort.needs.iter().all(|need| done.contains(need)));
    let wanted = ready.map(|cohort| {
        let jobs = cohort.jobs.iter().filter(|(id, _)| !unwanted.contains(id));
        (cohort.id.clone(), jobs.map(|(_, job)| Job::clone(job)).collect::<Vec<_>>())
    });
    wanted.filter(|(_, jobs)| !jobs.is_empty()).collect()
}
