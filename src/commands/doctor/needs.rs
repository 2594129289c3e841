//! What experiments need: data sets, teachers, room on the disk.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::super::run::plan_of;
use super::super::{read_priced, table};
use super::Check;
use super::disk::{existing, free_bytes};
use crate::cli;
use crate::diagnostic::Report;
use crate::folder::Folder;
use crate::known::KNOWN;
use crate::store::{self, Location, Store};
use crate::train::data::DATA_FOLDER;

/// Where the paper's data sets are looked for, and which are there.
pub fn data_folder() -> Check {
    let Some(place) = std::env::var_os(DATA_FOLDER) else {
        let hint =
            format!("to use {} by name, lay them in folders of their names into one that {DATA_FOLDER} names", names());
        return Check { hint: Some(hint), ..Check::ok("data", format!("{DATA_FOLDER} is not set")) };
    };
    let place = Path::new(&place);
    if !place.is_dir() {
        let found = format!("{DATA_FOLDER} is `{}`, where no folder is", place.display());
        return Check::problem("data", found, "name one that is there, or unset it");
    }
    let there: Vec<&str> = KNOWN.iter().map(|known| known.name).filter(|name| place.join(name).is_dir()).collect();
    let found =
        format!("`{}` has {}", place.display(), if there.is_empty() { "none".to_owned() } else { there.join(", ") });
    if there.is_empty() {
        return Check::note("data", found, format!("known there are {}", names()));
    }
    Check::ok("data", found)
}

fn names() -> String {
    KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}

/// Of one experiment. What `plan` and `run` say about it on standard error is said here, too.
pub async fn checks(wanted: &cli::Experiment, folder: &Folder, location: &Location) -> Vec<Check> {
    look(wanted, folder, location).await.unwrap_or_else(|error| {
        vec![match error.downcast_ref::<Report>() {
            Some(report) => {
                let hint = report.advice().unwrap_or("mend the file").to_owned();
                Check::problem("experiment", report.message().to_owned(), hint)
            }
            None => Check::error("experiment", &format!("{error:#}")),
        }]
    })
}

async fn look(wanted: &cli::Experiment, folder: &Folder, location: &Location) -> Result<Vec<Check>> {
    let (experiment, absent) = read_priced(wanted)?;
    let done = match Store::open_read_only(location).await {
        Ok(store) => store.done().await?,
        Err(store::Error::Missing { .. } | store::Error::Empty { .. }) => BTreeSet::new(),
        Err(error) => return Err(error.into()),
    };
    let plan = plan_of(&experiment, folder, done);
    let open = plan.open().count();
    let mut checks =
        vec![Check::ok("experiment", format!("`{}`: {} jobs, {open} of them open", experiment.name, plan.jobs.len()))];
    checks.push(if absent.is_empty() {
        let (data, weights) = (experiment.places.data.len(), experiment.places.weights.len());
        Check::ok("its needs", format!("{data} data sets and {weights} files of weights are there, and fit"))
    } else {
        let names: Vec<String> = absent.iter().map(|name| format!("`{name}`")).collect();
        let hint = format!(
            "data sets lie in folders of their names in {DATA_FOLDER}; weights of the hub are fetched by `run`"
        );
        Check::problem("its needs", format!("not on this machine: {}", names.join(", ")), hint)
    });
    // Checkpoints of what runs are in turns two, each of weights and two moments; not all jobs run at once.
    let bytes = plan.bytes();
    let free = free_bytes(&existing(folder.root())).unwrap_or(f64::INFINITY);
    let found = format!("{} will be left on disk, {} are free", table::bytes(bytes), table::bytes(free));
    checks.push(if bytes > free {
        Check::problem("its size", found, "`distillery gc` frees what nothing needs; `--folder` names another place")
    } else if bytes > 0.8 * free {
        Check::note("its size", found, "checkpoints of what runs come on top")
    } else {
        Check::ok("its size", found)
    });
    Ok(checks)
}
