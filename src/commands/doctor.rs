//! `doctor`: looks at what a run depends on, and says what is wrong and what to do. Changes nothing.

mod disk;
mod machine;
mod needs;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{place, print, print_json};
use crate::alive;
use crate::cli;
use crate::event::now_ms;
use crate::folder::Folder;
use crate::hub::{self, Settings};
use crate::progress::{ago, date};
use crate::schedule::cluster::Slurm;
use crate::store::{self, Location, Store};

pub async fn doctor(arguments: cli::Doctor) -> Result<ExitCode> {
    let folder = place::folder(&arguments.place);
    let location = place::location(&arguments.place);
    let mut checks = vec![Check::ok("distillery", version())];
    checks.extend(machine::checks());
    checks.extend(disk::checks(&folder, location.as_ref().is_ok_and(|location| location.file().is_none())));
    checks.extend(match &location {
        Ok(location) => store_checks(&folder, location).await,
        Err(error) => vec![Check::error("store", &error.to_string()), clock(None)],
    });
    checks.extend(slurm().await);
    checks.push(needs::data_folder());
    // Where it is not known where the store is, that was said.
    if let (Some(name), Ok(location)) = (&arguments.name, &location) {
        let experiment = cli::Experiment { name: name.clone(), overrides: arguments.overrides.clone() };
        checks.extend(needs::checks(&experiment, &folder, location).await);
    }
    if arguments.online {
        checks.push(online());
    }
    if arguments.json {
        print_json(&checks)?;
    } else {
        print(&text(&checks))?;
    }
    let is_well = checks.iter().all(|check| check.verdict != Verdict::Problem);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where there is Slurm.
async fn slurm() -> Option<Check> {
    Some(match Slurm::find()?.hasty().largest_array().await {
        Ok(largest) => Check::ok("slurm", format!("answers; arrays of up to {largest} tasks")),
        Err(trouble) => Check::note(
            "slurm",
            trouble.to_string(),
            "`--engine slurm` waits until it answers; `scontrol ping` tells more",
        ),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    /// Worth knowing.
    Note,
    /// Something will not work.
    Problem,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do.
    hint: Option<String>,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Ok, found: found.into(), hint: None }
    }

    fn note(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Note, found: found.into(), hint: Some(hint.into()) }
    }

    fn problem(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Problem, found: found.into(), hint: Some(hint.into()) }
    }

    /// A problem by an error, whose hint may be in its text.
    fn error(what: &'static str, error: &str) -> Check {
        let (found, hint) = error.split_once("\nhint: ").map_or((error, None), |(found, hint)| (found, Some(hint)));
        Check { what, verdict: Verdict::Problem, found: found.to_owned(), hint: hint.map(str::to_owned) }
    }
}

fn text(checks: &[Check]) -> String {
    let widest = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Check { what, verdict, found, hint } in checks {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "problem",
        };
        let under = " ".repeat(11 + widest);
        text += &format!("{verdict:<7}  {what:<widest$}  {}\n", found.trim_end().replace('\n', &format!("\n{under}")));
        if let Some(hint) = hint {
            text += &format!("{under}hint: {}\n", hint.replace('\n', &format!("\n{under}")));
        }
    }
    let count = |wanted| checks.iter().filter(|check| check.verdict == wanted).count();
    match count(Verdict::Problem) {
        0 => text + "\nnothing is in the way\n",
        1 => text + "\n1 problem\n",
        several => text + &format!("\n{several} problems\n"),
    }
}

fn version() -> String {
    let build = if cfg!(debug_assertions) { ", built without `--release`: slow" } else { "" };
    let gpus = match (cfg!(feature = "cuda"), cfg!(feature = "cudnn")) {
        (_, true) => ", with `cuda` and `cudnn`",
        (true, false) => ", with `cuda`",
        (false, false) => "",
    };
    format!("{}{gpus}{build}", env!("CARGO_PKG_VERSION"))
}

/// The store, who is at work on it, and the clock by it.
async fn store_checks(folder: &Folder, location: &Location) -> Vec<Check> {
    let store = match Store::open_read_only(location).await {
        Ok(store) => store,
        Err(store::Error::Missing { location } | store::Error::Empty { location }) => {
            return vec![
                Check::ok("store", format!("none yet at `{location}`; `distillery run` makes it")),
                clock(None),
            ];
        }
        Err(error) => return vec![Check::error("store", &error.to_string()), clock(None)],
    };
    match look(folder, &store).await {
        Ok(checks) => checks,
        Err(error) => vec![Check::error("store", &error.to_string()), clock(None)],
    }
}

async fn look(folder: &Folder, store: &Store) -> Result<Vec<Check>, store::Error> {
    let verdict = store.check().await?;
    let whole = if store.location().file().is_some() { "whole" } else { "on a server" };
    let (jobs, experiments) = (store.standings().await?.len(), store.experiments().await?.len());
    let mut checks = vec![match verdict {
        None => Check::ok("store", format!("{whole}: {jobs} jobs of {experiments} experiments")),
        Some(why) => Check::problem(
            "store",
            format!("damaged: {why}"),
            "move it away; `distillery run NAME` makes it anew from what the workers wrote down",
        ),
    }];
    let alive = alive::schedulers(folder, store).await?;
    let dead: Vec<_> = store
        .schedulers()
        .await?
        .into_iter()
        .filter(|one| one.ended_ms.is_none() && !alive::is_alive(folder, one))
        .collect();
    checks.push(match (alive.as_slice(), dead.last()) {
        ([], None) => Check::ok("schedulers", "none is at work"),
        ([], Some(last)) => Check::note(
            "schedulers",
            format!("{} ended without a word; last seen {}", alive::process(&last.host, last.pid), ago(last.seen_ms)),
            "the same `distillery run` goes on where it was",
        ),
        (some, _) => Check::ok(
            "schedulers",
            some.iter()
                .map(|one| format!("{}, since {}", one.name(), date(one.started_ms)))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
    });
    let newest = store.query("SELECT max(at_ms) FROM events").await?;
    checks.push(clock(newest.rows.first().and_then(|row| row.first()).and_then(serde_json::Value::as_i64)));
    Ok(checks)
}

/// 2025: when this was not yet written.
const YEAR_2025_MS: i64 = 1_735_689_600_000;

/// Against what the store has last.
fn clock(newest_ms: Option<i64>) -> Check {
    let now = now_ms();
    match newest_ms {
        _ if now < YEAR_2025_MS => {
            Check::problem("clock", format!("it is {}, it says", date(now)), "set it; leases and times are by it")
        }
        Some(newest) if newest > now + 5000 => Check::problem(
            "clock",
            format!("it is {}, and the store's newest event is of {}", date(now), date(newest)),
            "clocks of machines that share a store must agree: set up NTP on each",
        ),
        _ => Check::ok("clock", date(now)),
    }
}

fn online() -> Check {
    let settings = Settings::from_environment();
    if settings.offline {
        return Check::note("hub", "the environment says not to ask it", "unset HF_HUB_OFFLINE");
    }
    match hub::answers(&settings) {
        Ok(status) if status < 500 => Check::ok("hub", format!("{} answers", settings.endpoint)),
        Ok(status) => Check::problem("hub", format!("{} answers with {status}", settings.endpoint), "try again later"),
        Err(error) => Check::error("hub", &error.to_string()),
    }
}
