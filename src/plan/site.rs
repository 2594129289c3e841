//! What a batch system is asked for on behalf of each cohort: the `[slurm]` table of an experiment, and a site's profile. Decides
//! no number.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// All that may be said, nothing that must: what is not said is worked out, or left to the site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Site {
    #[serde(deserialize_with = "word")]
    pub partition: Option<String>,
    #[serde(deserialize_with = "word")]
    pub account: Option<String>,
    #[serde(deserialize_with = "word")]
    pub qos: Option<String>,
    /// Of each cohort: 1, or 0 for the CPU.
    pub gpus: Option<u32>,
    /// In Slurm's words, instead of `gpus`: `gpu:a100:1`.
    pub gres: Option<String>,
    /// Processors of each cohort.
    pub cpus: Option<u32>,
    /// In Slurm's words: `32G`.
    #[serde(deserialize_with = "word")]
    pub memory: Option<String>,
    /// Longest time of a task, in Slurm's words: `12:00:00`. A cohort that takes longer is saved and goes on in the next.
    #[serde(deserialize_with = "word")]
    pub time: Option<String>,
    /// Tasks of an array that run at once.
    pub throttle: Option<u32>,
    /// Seconds before the end of its time at which a task is told to save.
    pub warning: Option<u32>,
    /// More of `sbatch`'s options: `["--constraint=a100"]`.
    pub extra: Vec<String>,
    /// Lines of shell before the worker is started: modules, containers.
    pub prologue: Option<String>,
    /// What goes before the worker's command, and hands signals on: `apptainer exec --nv image.sif`.
    pub launcher: Option<String>,
    /// More of the environment that tasks get, by name.
    pub environment: Vec<String>,
}

/// A word that may look like a number or a time of day: `12345`, `12:00:00`.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    // What was read from JSON may be null.
    Ok(match Option::<toml::Value>::deserialize(deserializer)? {
        None => None,
        Some(toml::Value::String(text)) => Some(text),
        Some(value @ (toml::Value::Integer(_) | toml::Value::Datetime(_))) => Some(value.to_string()),
        Some(other) => return Err(D::Error::custom(format!("a word, not `{other}`"))),
    })
}

impl Site {
    /// What is said here, and of `below` what is not.
    pub fn over(self, below: Site) -> Site {
        let lines = |above: Vec<String>, below: Vec<String>| if above.is_empty() { below } else { above };
        Site {
            partition: self.partition.or(below.partition),
            account: self.account.or(below.account),
            qos: self.qos.or(below.qos),
            gpus: self.gpus.or(below.gpus),
            gres: self.gres.or(below.gres),
            cpus: self.cpus.or(below.cpus),
            memory: self.memory.or(below.memory),
            time: self.time.or(below.time),
            throttle: self.throttle.or(below.throttle),
            warning: self.warning.or(below.warning),
            extra: lines(self.extra, below.extra),
            prologue: self.prologue.or(below.prologue),
            launcher: self.launcher.or(below.launcher),
            environment: lines(self.environment, below.environment),
        }
    }

    /// GPUs that a cohort is given: one, unless something else is said.
    pub fn gpus(&self) -> u32 {
        self.gpus.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experiment_goes_before_a_profile() {
        let profile: Site = toml::from_str("partition = \"gpu\"\ncpus = 8\nextra = [\"--exclude=n7\"]").unwrap();
        let own: Site = toml::from_str("cpus = 4\ntime = \"1:00:00\"").unwrap();
        let both = own.over(profile);
        assert_eq!(
            (both.partition.as_deref(), both.cpus, both.time.as_deref()),
            (Some("gpu"), Some(4), Some("1:00:00"))
        );
        assert_eq!(both.extra, ["--exclude=n7"]);
        for (text, time) in [("time = 12:00:00", "12:00:00"), ("time = 60", "60"), ("time = \"1-0\"", "1-0")] {
            let site: Site = toml::from_str(text).unwrap();
            assert_eq!(site.time.as_deref(), Some(time));
            let again: Site = serde_json::from_str(&serde_json::to_string(&site).unwrap()).unwrap();
            assert_eq!(again, site);
        }
        assert!(toml::from_str::<Site>("memory = true").is_err());
        assert!(toml::from_str::<Site>("partitoin = \"gpu\"").is_err());
    }
}
