//! What runs, at one moment: read from the store, ready to be shown.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::alive::{self, Alive};
use crate::event::now_ms;
use crate::folder::Folder;
use crate::grid::SIZES;
use crate::job::JobId;
use crate::plan::{job_cost, stream_key};
use crate::progress::{Tone, clock, noted};
use crate::store::{Attempt, Error, Progress, Standing, State, Store, Wish};

/// Points of a curve.
const POINTS: u32 = 120;
/// Events that are kept for the foot of the screen.
const RECENT: u32 = 60;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub now_ms: i64,
    /// In view.
    pub experiments: Vec<String>,
    /// Jobs in view by what a person calls their state.
    pub counts: BTreeMap<&'static str, usize>,
    pub schedulers: Vec<Alive>,
    /// Where nobody is at work: what goes on.
    pub command: Option<String>,
    /// Since the oldest scheduler at work began.
    pub elapsed_seconds: Option<f64>,
    pub left_seconds: Option<f64>,
    pub cohorts: Vec<Cohort>,
    /// Jobs that are neither done, running nor simply waiting: what a person may want to act on.
    pub kept_back: Vec<Member>,
    /// Newest first.
    pub recent: Vec<Happened>,
}

/// Jobs that one worker trains now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cohort {
    pub id: String,
    pub teaching: String,
    pub members: Vec<Member>,
    /// Of the member that has most before it.
    pub epoch: u32,
    pub epochs: u32,
    pub images_per_second: Option<f64>,
    /// Of that member.
    #[serde(skip)]
    pub loss: Vec<f64>,
    /// Of that member, 0 to 1.
    #[serde(skip)]
    pub validation: Vec<f64>,
    pub left_seconds: Option<f64>,
    pub device: String,
    pub memory_bytes: Option<u64>,
    /// Who started it, in words.
    pub by: String,
    pub started_ms: i64,
}

/// A job of a cohort, or by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Member {
    pub id: String,
    /// Its place in the grid, else what it is.
    pub label: String,
    /// As a person calls it.
    pub state: &'static str,
    /// What is asked of it, in words.
    pub wish: Option<&'static str>,
    pub epoch: u32,
    pub epochs: u32,
    pub images_per_second: Option<f64>,
    pub loss: Option<f64>,
    pub validation: Option<f64>,
    pub message: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub at: String,
    pub tone: Tone,
    /// The beginning of the job's id.
    pub job: String,
    pub text: String,
}

/// Takes snapshots, and keeps what does not change between two.
#[derive(Debug)]
pub struct Camera {
    folder: Folder,
    /// None: what runs, else what was recorded last.
    experiment: Option<String>,
    work: HashMap<JobId, Work>,
}

/// What a job costs.
#[derive(Clone, Debug)]
struct Work {
    student_flops: f64,
    teacher_flops: f64,
    /// Those with the same one ask together.
    stream: String,
}

impl Camera {
    /// Of this experiment, or of whatever runs.
    pub fn new(folder: &Folder, experiment: Option<String>) -> Camera {
        Camera { folder: folder.clone(), experiment, work: HashMap::new() }
    }

    /// # Errors
    /// When the store fails.
    pub async fn take(&mut self, store: &Store) -> Result<Snapshot, Error> {
        let standings = store.standings().await?;
        self.look(store, &standings).await
    }

    /// The same, for whoever has all jobs already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn look(&mut self, store: &Store, standings: &[Standing]) -> Result<Snapshot, Error> {
        let now_ms = now_ms();
        let schedulers = alive::schedulers(&self.folder, store).await?;
        let running = store.running().await?;
        let experiments = self.in_view(store, standings, &schedulers).await?;
        let is_in_view =
            |standing: &Standing| standing.experiments.iter().any(|place| experiments.contains(&place.experiment));
        let view: Vec<&Standing> = standings.iter().filter(|standing| is_in_view(standing)).collect();
        let mut counts = BTreeMap::new();
        for standing in &view {
            *counts.entry(standing.shown()).or_insert(0) += 1;
        }
        let by_id: HashMap<&JobId, &Standing> = view.iter().map(|standing| (&standing.id, *standing)).collect();
        let mut progress = HashMap::new();
        for attempt in running.iter().filter(|attempt| by_id.contains_key(&attempt.job)) {
            if let Some(row) = store.progress(&attempt.job).await? {
                progress.insert(attempt.job.clone(), row);
            }
        }
        let cohorts = cohorts(store, &running, &by_id, &progress, now_ms).await?;
        let started = schedulers.iter().map(|scheduler| scheduler.started_ms).min();
        let left_seconds = match started {
            Some(started) if !cohorts.is_empty() => self.left(store, &view, &progress, started, now_ms).await?,
            _ => None,
        };
        let recent = store.recent(RECENT).await?;
        let recent = recent.iter().filter(|noted| by_id.contains_key(&noted.job)).map(|event| {
            let (tone, text) = noted(event);
            Happened { at: clock(event.at_ms), tone, job: short_id(event.job.as_str()), text }
        });
        let is_kept_back = |standing: &&&Standing| {
            !matches!(standing.state, State::Done | State::Running)
                && (standing.wish.is_some() || matches!(standing.state, State::Failed | State::Blocked))
        };
        Ok(Snapshot {
            now_ms,
            counts,
            elapsed_seconds: started.map(|started| (now_ms - started).max(0) as f64 / 1000.0),
            left_seconds,
            cohorts,
            kept_back: view.iter().filter(is_kept_back).map(|standing| Member::of(standing, None)).collect(),
            recent: recent.collect(),
            command: match experiments.as_slice() {
                [name] if schedulers.is_empty() => Some(command(store, Some(name)).await?),
                _ => None,
            },
            experiments,
            schedulers,
        })
    }

    async fn in_view(&self, store: &Store, standings: &[Standing], schedulers: &[Alive]) -> Result<Vec<String>, Error> {
        if let Some(name) = &self.experiment {
            return Ok(vec![name.clone()]);
        }
        let mut names: Vec<String> = schedulers.iter().filter_map(|scheduler| scheduler.experiment.clone()).collect();
        if names.is_empty() {
            // Of a job in several experiments, the one that was recorded last.
            let running = standings.iter().filter(|standing| standing.state == State::Running);
            names = running.filter_map(|one| one.experiments.last()).map(|place| place.experiment.clone()).collect();
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            let all = store.experiments().await?;
            names.extend(all.into_iter().max_by_key(|one| one.recorded_ms).map(|one| one.name));
        }
        Ok(names)
    }

    /// Work that is left over the rate of this run: in floating-point operations, since jobs differ in length by orders of
    /// magnitude, with a teacher counted once for those that ask together.
    async fn left(
        &mut self,
        store: &Store,
        view: &[&Standing],
        progress: &HashMap<JobId, Progress>,
        started_ms: i64,
        now_ms: i64,
    ) -> Result<Option<f64>, Error> {
        if view.iter().any(|standing| !self.work.contains_key(&standing.id)) {
            for job in store.jobs().await? {
                let cost = job_cost(&job);
                let (student_flops, teacher_flops) = (cost.student_flops, cost.teacher_flops);
                self.work.insert(job.id(), Work { student_flops, teacher_flops, stream: stream_key(&job) });
            }
        }
        let finished = store.finished_since(started_ms).await?;
        let (mut worked, mut left) = (Sum::default(), Sum::default());
        for standing in view {
            let Some(work) = self.work.get(&standing.id) else { continue };
            let share = |epochs: u32| f64::from(epochs) / f64::from(standing.epochs.max(1));
            let row = progress.get(&standing.id);
            match standing.state {
                State::Done if finished.contains(&standing.id) => worked.add(work, 1.0),
                State::Running => {
                    worked.add(work, row.map_or(0.0, |row| share(row.rows)));
                    left.add(work, 1.0 - row.map_or(0.0, |row| share(row.epoch)));
                }
                State::Open | State::Interrupted if standing.wish.is_none() => left.add(work, 1.0),
                _ => {}
            }
        }
        let (worked, left) = (worked.total(), left.total());
        let elapsed = (now_ms - started_ms).max(0) as f64 / 1000.0;
        Ok((worked > 0.0 && elapsed > 0.0).then(|| elapsed * left / worked))
    }
}

#[derive(Default)]
struct Sum<'a> {
    student_flops: f64,
    teacher_flops: HashMap<&'a str, f64>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, work: &'a Work, share: f64) {
        self.student_flops += work.student_flops * share;
        let most = self.teacher_flops.entry(&work.stream).or_insert(0.0);
        *most = most.max(work.teacher_flops * share);
    }

    fn total(&self) -> f64 {
        self.student_flops + self.teacher_flops.values().sum::<f64>()
    }
}

/// The running jobs by the worker that has them, oldest first.
async fn cohorts(
    store: &Store,
    running: &[Attempt],
    by_id: &HashMap<&JobId, &Standing>,
    progress: &HashMap<JobId, Progress>,
    now_ms: i64,
) -> Result<Vec<Cohort>, Error> {
    let mut groups: Vec<(&str, Vec<(&Attempt, &Standing)>)> = Vec::new();
    for attempt in running {
        let (Some(id), Some(standing)) = (attempt.cohort.as_deref(), by_id.get(&attempt.job)) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == id) {
            Some((_, members)) => members.push((attempt, standing)),
            None => groups.push((id, vec![(attempt, standing)])),
        }
    }
    let mut cohorts = Vec::with_capacity(groups.len());
    for (id, members) in groups {
        let left_of = |(attempt, standing): &(&Attempt, &Standing)| {
            standing.epochs - progress.get(&attempt.job).map_or(0, |row| row.epoch).min(standing.epochs)
        };
        // The first of those with most before them: it stays the same from one look to the next.
        let Some(most) = members.iter().map(left_of).max() else { continue };
        let Some((attempt, standing)) = members.iter().find(|one| left_of(one) == most) else { continue };
        let row = progress.get(&attempt.job);
        let curve = store.curve(&attempt.job, POINTS).await?;
        let mut modes: Vec<&str> = members.iter().map(|(_, standing)| standing.teaching.as_str()).collect();
        modes.sort_unstable();
        modes.dedup();
        cohorts.push(Cohort {
            id: id.to_owned(),
            teaching: modes.join(" + "),
            members: members.iter().map(|(one, standing)| Member::of(standing, progress.get(&one.job))).collect(),
            epoch: row.map_or(0, |row| row.epoch),
            epochs: standing.epochs,
            images_per_second: row.and_then(|row| row.images_per_second),
            loss: curve.training_loss,
            validation: curve.validation,
            left_seconds: row.and_then(|row| left_seconds(attempt, row, most, now_ms)),
            device: attempt.device.clone().unwrap_or_default(),
            memory_bytes: members.iter().filter_map(|(attempt, _)| attempt.memory_bytes).max(),
            by: alive::process(attempt.host.as_deref().unwrap_or_default(), attempt.pid.unwrap_or(0)),
            started_ms: attempt.started_ms,
        });
    }
    Ok(cohorts)
}

/// From the mean of the epochs of this attempt.
fn left_seconds(attempt: &Attempt, row: &Progress, epochs: u32, now_ms: i64) -> Option<f64> {
    // An older attempt's rows say nothing of this one's pace.
    if row.rows == 0 || row.at_ms < attempt.started_ms {
        return None;
    }
    let each = (row.at_ms - attempt.started_ms) as f64 / 1000.0 / f64::from(row.rows);
    let since = (now_ms - row.at_ms).max(0) as f64 / 1000.0;
    Some((each * f64::from(epochs) - since).max(0.0))
}

impl Member {
    pub(super) fn of(standing: &Standing, row: Option<&Progress>) -> Member {
        let axes = standing.experiments.iter().rev().map(|place| &place.axes).find(|axes| !axes.is_empty());
        let label = match axes {
            Some(axes) => axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(" "),
            None => standing.label(),
        };
        Member {
            id: standing.id.to_string(),
            label,
            state: standing.shown(),
            wish: standing.wish.map(|wish| match (wish, standing.state) {
                (Wish::Hold, _) => "held",
                (Wish::Cancel, State::Running) => "leaving",
                (Wish::Cancel, _) => "cancelled",
            }),
            epoch: row.map_or(0, |row| row.epoch),
            epochs: standing.epochs,
            images_per_second: row.and_then(|row| row.images_per_second),
            loss: row.and_then(|row| row.training_loss),
            validation: row.and_then(|row| row.validation),
            message: standing.message.clone(),
        }
    }
}

/// The command that ran an experiment last, else the one that is likely to.
///
/// # Errors
/// When the store fails.
pub async fn command(store: &Store, experiment: Option<&str>) -> Result<String, Error> {
    let Some(name) = experiment else { return Ok("distillery run NAME".to_owned()) };
    // The program may lie anywhere.
    if let Some(typed) = store.last_command(name).await?
        && let Some(at) = typed.find(" run ")
    {
        return Ok(format!("distillery{}", &typed[at..]));
    }
    // `run NAME size=box` is recorded as `NAME-box`.
    let size = SIZES.into_iter().find_map(|size| Some((name.strip_suffix(size)?.strip_suffix('-')?, size)));
    Ok(match size {
        Some((stem, size)) => format!("distillery run {stem} size={size}"),
        None => format!("distillery run {name}"),
    })
}

/// The first eight digits.
pub fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}
