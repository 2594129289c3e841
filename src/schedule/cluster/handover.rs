//! What is handed over: an array's manifest, its script, and what `sbatch` is told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};

use super::manifest::{Header, Line};
use super::resources::Resources;
use super::slurm::comment;
use crate::folder::{Folder, replace};
use crate::job::Job;
use crate::plan::{CohortId, Site};

/// Variables of the environment that tasks get where they are set. Everything else of the login node stays there.
const HANDED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LD_LIBRARY_PATH",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
];
const PREFIXES: [&str; 2] = ["DISTILLERY_", "PG"];
const WARNING_SECONDS: u32 = 180;

/// Files of an array that are written.
#[derive(Clone, Debug)]
pub struct Array {
    pub manifest: PathBuf,
    pub script: PathBuf,
}

/// Writes the files of an array: a line of the manifest for each cohort, in order.
///
/// # Errors
/// When they cannot be written.
pub fn write(
    folder: &Folder,
    header: &Header,
    cohorts: &[(CohortId, Vec<Job>)],
    site: &Site,
    program: &Path,
) -> io::Result<Array> {
    let place = absolute(folder.array(&header.tag))?;
    fs::create_dir_all(&place)?;
    let mut text = serde_json::to_string(header)? + "\n";
    for (index, (cohort, jobs)) in (0..).zip(cohorts) {
        text += &serde_json::to_string(&Line { index, cohort: cohort.clone(), jobs: jobs.clone() })?;
        text.push('\n');
    }
    let array = Array { manifest: place.join("manifest.jsonl"), script: place.join("job.sh") };
    replace(&array.manifest, text.as_bytes())?;
    replace(&array.script, script(program, &array.manifest, &absolute(folder.root())?, site).as_bytes())?;
    Ok(array)
}

/// This program, by the name it was started under: a new one may take its place while a controller lives.
///
/// # Errors
/// When the system does not say.
pub fn program() -> io::Result<PathBuf> {
    std::env::current_exe().map(as_started)
}

/// Linux adds a word to the name of a file that is not there any more.
fn as_started(path: PathBuf) -> PathBuf {
    match path.to_string_lossy().strip_suffix(" (deleted)") {
        Some(before) => PathBuf::from(before),
        None => path,
    }
}

/// `exec`, so that signals for the script are the worker's.
fn script(program: &Path, manifest: &Path, folder: &Path, site: &Site) -> String {
    // A login shell knows `module`; one that is not needed costs a second of every task.
    let shell = if site.prologue.is_some() { "#!/bin/bash -l" } else { "#!/bin/sh" };
    let quoted = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        shlex::try_quote(&text).map_or_else(|_| text.clone(), Into::into)
    };
    let prologue = site.prologue.as_deref().map(|lines| lines.trim_end().to_owned() + "\n").unwrap_or_default();
    let launcher = site.launcher.as_deref().map(|words| words.trim().to_owned() + " ").unwrap_or_default();
    format!(
        "{shell}\n{prologue}exec {launcher}{} worker --manifest {} --index \"$SLURM_ARRAY_TASK_ID\" --folder {}\n",
        quoted(program),
        quoted(manifest),
        quoted(folder)
    )
}

/// What `sbatch` is told of an array of `tasks`.
pub(super) fn options(
    header: &Header,
    resources: &Resources,
    site: &Site,
    logs: &Path,
    exported: &[String],
) -> Vec<String> {
    let throttle = site.throttle.map(|most| format!("%{most}")).unwrap_or_default();
    let mut options = vec![
        "--parsable".to_owned(),
        format!("--job-name=distillery-{}", header.experiment),
        comment(&header.tag),
        format!("--array=0-{}{throttle}", header.tasks.saturating_sub(1)),
        // A share sign in a name is not one of Slurm's own.
        format!("--output={}/%A_%a.log", logs.to_string_lossy().replace('%', "%%")),
        "--open-mode=append".to_owned(),
        if header.requeue { "--requeue" } else { "--no-requeue" }.to_owned(),
        format!("--signal=B:USR1@{}", site.warning.unwrap_or(WARNING_SECONDS)),
        format!("--export={}", exported.join(",")),
    ];
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
    options.extend(named("partition", &site.partition));
    options.extend(named("account", &site.account));
    options.extend(named("qos", &site.qos));
    options.extend(resources.options.iter().cloned());
    options.extend(site.extra.iter().cloned());
    options
}

/// Names of the variables that tasks get.
pub(super) fn exported(site: &Site, also: &[(String, String)]) -> Vec<String> {
    let is_handed_on = |name: &str| {
        HANDED_ON.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || site.environment.iter().any(|one| one == name)
    };
    let mut names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_handed_on(name)).collect();
    names.extend(also.iter().map(|(name, _)| name.clone()));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_keeps_its_name_when_a_new_one_takes_its_place() {
        for name in ["/opt/distillery", "/opt/distillery (deleted)"] {
            assert_eq!(as_started(name.into()), Path::new("/opt/distillery"));
        }
    }

    #[test]
    fn a_script_ends_in_the_worker() {
        let site = Site {
            prologue: Some("module load cuda/13\n".to_owned()),
            launcher: Some("srun".to_owned()),
            ..Site::default()
        };
        let text = script(Path::new("/opt/my tools/distillery"), Path::new("/w/m.jsonl"), Path::new("/w"), &site);
        assert_eq!(
            text,
            "#!/bin/bash -l\nmodule load cuda/13\nexec srun '/opt/my tools/distillery' worker --manifest /w/m.jsonl --index \"$SLURM_ARRAY_TASK_ID\" --folder /w\n"
        );
        assert!(
            script(Path::new("/d"), Path::new("/m"), Path::new("/w"), &Site::default())
                .starts_with("#!/bin/sh\nexec /d worker ")
        );
    }
}
