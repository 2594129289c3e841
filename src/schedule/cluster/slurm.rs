//! Slurm by its command line: `sbatch`, `squeue`, `scontrol`, `scancel`. Its JSON changes shape between versions.
//!
//! Every call has a limit of time. That a call failed says nothing about what it did: a controller of theirs that is away for a
//! moment may have taken a job and not said so.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::store::Task;

/// Begins the comment of all arrays that are ours.
const COMMENT: &str = "distillery:";
const PATIENCE: Duration = Duration::from_secs(30);
const HASTE: Duration = Duration::from_secs(5);
/// Variables of Slurm that say where it is, and nothing of a job.
const OF_THE_SITE: [&str; 4] = ["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"];
/// Where `scontrol` does not say.
const LARGEST: u32 = 1001;

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Unknown is whether it did anything.
    #[error("Slurm does not answer: {0}")]
    Away(String),
    #[error("Slurm refuses: {0}")]
    Refused(String),
    #[error("`{0}` cannot be started: {1}")]
    Missing(String, std::io::Error),
}

/// A task of ours, as Slurm shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub tag: String,
    /// Of the array.
    pub number: String,
    pub index: u32,
    /// `PENDING`, `RUNNING`, `NODE_FAIL`.
    pub state: String,
    pub reason: Option<String>,
    pub node: Option<String>,
}

/// The commands on the path.
#[derive(Clone, Copy, Debug)]
pub struct Slurm {
    /// For one command.
    patience: Duration,
}

impl Default for Slurm {
    fn default() -> Slurm {
        Slurm { patience: PATIENCE }
    }
}

impl Slurm {
    /// Where its commands are on the path.
    pub fn find() -> Option<Slurm> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).any(|folder| folder.join("sbatch").is_file()).then(Slurm::default)
    }

    /// For somebody who waits at a terminal.
    pub fn hasty(self) -> Slurm {
        Slurm { patience: HASTE }
    }

    /// Tasks that an array may have.
    ///
    /// # Errors
    /// When Slurm does not answer.
    pub async fn largest_array(self) -> Result<u32, Trouble> {
        let text = self.ask("scontrol", ["show", "config"]).await?;
        let line = text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "MaxArraySize"));
        Ok(line.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(LARGEST))
    }

    /// Hands an array over. Returns its number.
    ///
    /// # Errors
    /// When it is refused; [`Trouble::Away`] when nobody knows.
    pub async fn submit(
        self,
        options: &[String],
        script: &Path,
        environment: &[(String, String)],
    ) -> Result<String, Trouble> {
        let mut command = Command::new("sbatch");
        // Where the controller is a job itself, what was given to it would go on to tasks, whatever else they get.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("SLURM_") && !OF_THE_SITE.contains(&name)) {
                command.env_remove(name);
            }
        }
        command.args(options).arg(script).envs(environment.iter().cloned());
        let text = self.run("sbatch", command).await?;
        // `--parsable`: the number, and behind a semicolon the cluster.
        let number = text.trim().lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Trouble::Away(format!("`sbatch` said `{}`", text.trim())));
        }
        Ok(number.to_owned())
    }

    /// All tasks of ours that Slurm knows, for some minutes those that have ended, too.
    ///
    /// # Errors
    /// When Slurm does not answer.
    pub async fn tasks(self) -> Result<Vec<Seen>, Trouble> {
        let format = "%F|%K|%T|%r|%N|%k";
        let text = self.ask("squeue", ["-h", "-r", "--me", "-t", "all", "-o", format]).await?;
        Ok(text.lines().filter_map(seen).collect())
    }

    /// Takes tasks back, or ends them.
    ///
    /// # Errors
    /// When Slurm does not answer. Tasks that have ended are no error.
    pub async fn cancel(self, tasks: &[(String, u32)]) -> Result<(), Trouble> {
        self.scancel(&[], tasks).await
    }

    /// Signals the scripts of tasks that run.
    ///
    /// # Errors
    /// As [`Slurm::cancel`].
    pub async fn signal(self, signal: &str, tasks: &[(String, u32)]) -> Result<(), Trouble> {
        self.scancel(&["-b", "-s", signal], tasks).await
    }

    async fn scancel(self, options: &[&str], tasks: &[(String, u32)]) -> Result<(), Trouble> {
        for part in tasks.chunks(200) {
            let names = part.iter().map(|(number, index)| format!("{number}_{index}"));
            match self.ask("scancel", options.iter().map(ToString::to_string).chain(names)).await {
                Ok(_) | Err(Trouble::Refused(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// How a task ended that is over: `exit code 3`, `signal 9`. None where Slurm does not know.
    ///
    /// # Errors
    /// When Slurm does not answer.
    pub async fn ending(self, task: &str) -> Result<Option<String>, Trouble> {
        match self.ask("scontrol", ["-o", "show", "job", task]).await {
            Ok(text) => Ok(ending(&text)),
            Err(Trouble::Refused(_)) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// From inside a task: ends it and starts it again later, under the same number.
    ///
    /// # Errors
    /// When Slurm does not answer, or the site does not allow it.
    pub async fn requeue(self, job: &str) -> Result<(), Trouble> {
        self.ask("scontrol", ["requeue", job]).await.map(drop)
    }

    async fn ask(self, program: &str, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, Trouble> {
        let mut command = Command::new(program);
        command.args(words);
        self.run(program, command).await
    }

    async fn run(self, program: &str, mut command: Command) -> Result<String, Trouble> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let Ok(output) = timeout(self.patience, command.output()).await else {
            return Err(Trouble::Away(format!("`{program}` took longer than {} s", self.patience.as_secs())));
        };
        let output = output.map_err(|error| Trouble::Missing(program.to_owned(), error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches(&format!("{program}: ")).trim_start_matches("error: ").to_owned();
        Err(if is_away(&said) { Trouble::Away(said) } else { Trouble::Refused(said) })
    }
}

/// Whether nobody was there, and not somebody who refused.
fn is_away(said: &str) -> bool {
    const SIGNS: [&str; 7] = [
        "Unable to contact slurm controller",
        "connect failure",
        "Socket timed out",
        "Zero Bytes were transmitted",
        "Connection refused",
        "Could not establish a configuration source",
        "Transport endpoint",
    ];
    said.is_empty() || SIGNS.iter().any(|sign| said.contains(sign))
}

/// A line of `squeue`; none for what is not ours.
fn seen(line: &str) -> Option<Seen> {
    let mut parts = line.splitn(6, '|');
    let mut next = || parts.next().map(str::trim);
    let (number, index, state, reason, node) = (next()?, next()?, next()?, next()?, next()?);
    let tag = next()?.strip_prefix(COMMENT)?;
    let some = |text: &str| (!matches!(text, "" | "None" | "(null)" | "N/A")).then(|| text.to_owned());
    Some(Seen {
        tag: tag.to_owned(),
        number: number.to_owned(),
        index: index.parse().ok()?,
        state: state.to_owned(),
        reason: some(reason),
        node: some(node),
    })
}

/// How an end with it is said.
pub(super) fn exit_code(code: i32) -> String {
    format!("exit code {code}")
}

fn ending(shown: &str) -> Option<String> {
    let (code, signal) = shown.split_whitespace().find_map(|word| word.strip_prefix("ExitCode="))?.split_once(':')?;
    match (code.parse::<i32>().ok()?, signal.parse::<u32>().ok()?) {
        (0, 0) => None,
        (code, 0) => Some(exit_code(code)),
        (_, signal) => Some(format!("signal {signal}")),
    }
}

/// What all arrays of ours are asked for with.
pub(super) fn comment(tag: &str) -> String {
    format!("--comment={COMMENT}{tag}")
}

/// The file that a task writes to, for whom it is shown.
pub fn log(folder: &Path, task: &Task) -> PathBuf {
    folder.join(format!("{}.log", task.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_left_out() {
        let task = seen("12|3|PENDING|Resources||distillery:ab12").unwrap();
        assert_eq!((task.tag.as_str(), task.number.as_str(), task.index), ("ab12", "12", 3));
        assert_eq!((task.state.as_str(), task.reason.as_deref(), task.node), ("PENDING", Some("Resources"), None));
        let task = seen("12|4|RUNNING|None|n1|distillery:ab12").unwrap();
        assert_eq!((task.reason, task.node.as_deref()), (None, Some("n1")));
        for other in [
            "14|N/A|PENDING|Priority||(null)",
            "14|N/A|RUNNING|None|n1|distillery:x",
            "1|2|3",
            "",
            "5|1|RUNNING|None|n1|mine|distillery:x",
        ] {
            assert_eq!(seen(other), None, "{other}");
        }
    }

    #[test]
    fn a_code_is_kept() {
        let shown = "JobId=7 ArrayTaskId=3 JobState=FAILED Reason=NonZeroExitCode Requeue=1 ExitCode=3:0 RunTime=1";
        assert_eq!(ending(shown).as_deref(), Some("exit code 3"));
        assert_eq!(ending("ExitCode=0:9").as_deref(), Some("signal 9"));
        assert_eq!((ending("ExitCode=0:0"), ending("")), (None, None));
    }

    #[test]
    fn who_is_away_has_not_refused() {
        assert!(is_away("Unable to contact slurm controller (connect failure)"));
        assert!(is_away("Batch job submission failed: Socket timed out on send/recv operation"));
        assert!(!is_away("Batch job submission failed: Requested node configuration is not available"));
    }
}
