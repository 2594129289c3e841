//! Which files of a repository are a data set: parquet, or tar shards where there is none.
//!
//! The description (`README.md`) says it in the YAML at its head, by configuration and split, with patterns. Where it does
//! not, the hub's conventions hold: `data/train-00000-of-00002.parquet`, `train-0000.tar`, `CONFIG/train-*.parquet`,
//! `CONFIG/train/0000.parquet`. Names in, names out; nothing is asked or read here.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use serde::Deserialize;
use serde_saphyr::DuplicateKeyPolicy;

use super::Files;

/// What a folder is called that is no configuration, and the configuration where nothing names one.
const DATA: &str = "data";
const DEFAULT: &str = "default";
/// Before the split, where the hub converted only what comes first.
const PARTIAL: &str = "partial-";

/// The files of one configuration.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub config: String,
    /// By `train`, `validation` and `test`, in the order of their names.
    pub parts: BTreeMap<&'static str, Vec<String>>,
    /// Splits of other names.
    pub others: Vec<String>,
    /// What the description calls the one that is meant where none is named.
    default: bool,
}

/// Why there is no choice.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// The description cannot be read.
    Card(String),
    /// These configurations are there, and either none was named or another.
    Configuration(Vec<String>),
    /// Fewer files than the name of this one says: how many are there, and of how many.
    Incomplete { file: String, have: usize, of: usize },
    /// The hub gave up converting it.
    Partial,
}

/// None where no file is one of a data set that can be read.
pub(super) fn choose(files: &Files, card: Option<&str>, config: Option<&str>) -> Result<Option<Choice>, Refusal> {
    let of = |suffix: &str| files.keys().map(String::as_str).filter(|file| file.ends_with(suffix)).collect::<Vec<_>>();
    let parquet = of(".parquet");
    let files = if parquet.is_empty() { of(".tar") } else { parquet };
    if files.is_empty() {
        return Ok(None);
    }
    let described = described(&files, card)?;
    let choices = if described.is_empty() { conventional(&files) } else { described };
    let names = || choices.iter().map(|choice| choice.config.clone()).collect();
    let called = |name: &str| choices.iter().position(|choice| choice.config == name);
    let chosen = match config {
        Some(config) => called(config),
        None if choices.len() == 1 => Some(0),
        None => choices.iter().position(|choice| choice.default).or_else(|| called(DEFAULT)),
    };
    let refusal = Refusal::Configuration(names());
    let Some(choice) = chosen.and_then(|chosen| choices.into_iter().nth(chosen)) else { return Err(refusal) };
    complete(&choice)?;
    Ok((!choice.parts.is_empty() || !choice.others.is_empty()).then_some(choice))
}

/// The head of a description.
#[derive(Deserialize)]
struct Card {
    configs: Option<Vec<Config>>,
}

#[derive(Deserialize)]
struct Config {
    config_name: Option<String>,
    data_files: Option<DataFiles>,
    data_dir: Option<String>,
    default: Option<bool>,
}

/// As the library `datasets` reads them: all for training, or by split.
#[derive(Deserialize)]
#[serde(untagged)]
enum DataFiles {
    Train(Paths),
    Splits(Vec<OfSplit>),
    BySplit(BTreeMap<String, Paths>),
}

#[derive(Deserialize)]
struct OfSplit {
    split: String,
    path: Paths,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Paths {
    One(String),
    Several(Vec<String>),
}

/// The configurations of the description; none where it has none with files.
fn described(files: &[&str], card: Option<&str>) -> Result<Vec<Choice>, Refusal> {
    let text = card.unwrap_or_default().trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let head = text.strip_prefix("---\n").and_then(|rest| Some(&rest[..rest.find("\n---")? + 1]));
    let Some(head) = head else { return Ok(Vec::new()) };
    let broken = |why: String| Refusal::Card(why.lines().next().unwrap_or_default().to_owned());
    // As for the hub, the last of two equal keys counts.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let card: Card = serde_saphyr::from_str_with_options(head, options).map_err(|error| broken(error.to_string()))?;
    let mut choices = Vec::new();
    for config in card.configs.unwrap_or_default() {
        let Some(data_files) = config.data_files else { continue };
        let splits = match data_files {
            DataFiles::Train(paths) => vec![("train".to_owned(), paths)],
            DataFiles::Splits(splits) => splits.into_iter().map(|of| (of.split, of.path)).collect(),
            DataFiles::BySplit(splits) => splits.into_iter().collect(),
        };
        let name = config.config_name.unwrap_or_else(|| DEFAULT.to_owned());
        let mut choice = Choice { config: name, default: config.default == Some(true), ..Choice::default() };
        for (split, paths) in splits {
            let patterns = match paths {
                Paths::One(path) => vec![path],
                Paths::Several(paths) => paths,
            };
            let mut found = Vec::new();
            for pattern in patterns {
                let pattern = pattern.trim_start_matches("./");
                let pattern = match config.data_dir.as_deref().map(|folder| folder.trim_matches('/')) {
                    None | Some("" | ".") => pattern.to_owned(),
                    Some(folder) => format!("{folder}/{pattern}"),
                };
                let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
                let glob = glob.map_err(|error| broken(error.to_string()))?.compile_matcher();
                found.extend(files.iter().filter(|file| glob.is_match(file)).map(|file| (*file).to_owned()));
            }
            choice.add(&split, found);
        }
        choices.push(choice);
    }
    Ok(choices)
}

/// The configurations that the names of files tell.
fn conventional(files: &[&str]) -> Vec<Choice> {
    let mut configs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        let folder = file.split_once('/').map(|(folder, _)| folder);
        let config = folder.filter(|folder| *folder != DATA && part(folder).is_none());
        configs.entry(config.unwrap_or(DEFAULT)).or_default().push(file);
    }
    let choice = |(config, files): (&str, Vec<&str>)| {
        let mut choice = Choice { config: config.to_owned(), ..Choice::default() };
        let split = files.iter().any(|file| split_of(file).is_some());
        for file in files {
            match split_of(file) {
                Some(split) => choice.add(split, vec![file.to_owned()]),
                None if !split => choice.add("train", vec![file.to_owned()]),
                // Beside what belongs to a split, it belongs to none.
                None => {}
            }
        }
        choice
    };
    configs.into_iter().map(choice).collect()
}

/// The split that a file's name tells, or its folder's.
fn split_of(file: &str) -> Option<&str> {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    if let Some((split, _)) = numbered(name).filter(|_| folder == DATA) {
        // By convention all of it is the split: `train_extra` is another one than `train`.
        return Some(split);
    }
    let of_name = name.split(|c: char| !c.is_ascii_alphabetic()).find(|word| part(word).is_some());
    let own = folder.rsplit('/').next().filter(|own| part(own.trim_start_matches(PARTIAL)).is_some());
    of_name.or(own)
}

/// What stands before `-00000-of-00002`, and the number of files.
fn numbered(name: &str) -> Option<(&str, &str)> {
    let at = name.find("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, index) = name.get(..at)?.rsplit_once('-')?;
    let count = name.get(at + 4..at + 9)?;
    (digits(index) && digits(count)).then_some((before, count))
}

/// That as many files are there as their names say.
fn complete(choice: &Choice) -> Result<(), Refusal> {
    let mut counts: BTreeMap<_, (usize, &String)> = BTreeMap::new();
    for file in choice.parts.values().flatten() {
        if file.split('/').any(|folder| folder.starts_with(PARTIAL)) {
            return Err(Refusal::Partial);
        }
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        if let Some((before, of)) = numbered(name) {
            counts.entry((folder, before, of)).or_insert((0, file)).0 += 1;
        }
    }
    for ((_, _, of), (have, file)) in counts {
        let of = of.parse().unwrap_or(have);
        if have != of {
            return Err(Refusal::Incomplete { file: file.clone(), have, of });
        }
    }
    Ok(())
}

impl Choice {
    fn add(&mut self, split: &str, files: Vec<String>) {
        if files.is_empty() {
            return;
        }
        match part(split.trim_start_matches(PARTIAL)) {
            Some(part) => {
                let all = self.parts.entry(part).or_default();
                all.extend(files);
                all.sort();
                all.dedup();
            }
            None if self.others.iter().all(|other| other != split) => self.others.push(split.to_owned()),
            None => {}
        }
    }
}

/// What the hub's libraries take a split's name for.
fn part(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "validation" | "valid" | "val" | "dev" => Some("validation"),
        "test" | "testing" | "eval" | "evaluation" => Some("test"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(files: &[&str], card: Option<&str>, config: Option<&str>) -> Result<Option<Choice>, Refusal> {
        choose(&files.iter().map(|file| ((*file).to_owned(), None)).collect(), card, config)
    }

    /// The configuration, and the files by part.
    fn told(files: &[&str], card: Option<&str>, config: Option<&str>) -> String {
        let choice = choice(files, card, config).unwrap().unwrap();
        let parts = choice.parts.iter().map(|(part, files)| format!("{part}={}", files.join(" ")));
        format!("{}: {}", choice.config, parts.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn names_tell_the_split() {
        for (files, expected) in [
            (
                &["README.md", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002-1f2e.parquet"][..],
                "default: train=data/train-00000-of-00002-1f2e.parquet data/train-00001-of-00002.parquet",
            ),
            (
                &["data/train_extra-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"],
                "default: train=data/train-00000-of-00001.parquet",
            ),
            (
                &["a/train/0000.parquet", "a/val/0000.parquet"],
                "a: train=a/train/0000.parquet, validation=a/val/0000.parquet",
            ),
            (&["test/0.parquet", "training/0.parquet"], "default: test=test/0.parquet, train=training/0.parquet"),
            (&["x.parquet", "y.parquet", "z.tar"], "default: train=x.parquet y.parquet"),
            (
                &["set-train-0000.tar", "set-validation-00.tar", "set-info.tar"],
                "default: train=set-train-0000.tar, validation=set-validation-00.tar",
            ),
        ] {
            assert_eq!(told(files, None, None), expected);
        }
        assert_eq!(choice(&["a.csv", "b.jpg"], None, None), Ok(None));
    }

    #[test]
    fn one_configuration_of_several_is_named() {
        let files = ["b/train-0.parquet", "a/train-0.parquet", "b/test-0.parquet"];
        assert_eq!(told(&files, None, Some("b")), "b: test=b/test-0.parquet, train=b/train-0.parquet");
        let there = || Err(Refusal::Configuration(vec!["a".into(), "b".into()]));
        assert_eq!(choice(&files, None, None), there());
        assert_eq!(choice(&files, None, Some("c")), there());
        // Unless one is the default.
        assert_eq!(told(&["a/train.parquet", "data/train.parquet"], None, None), "default: train=data/train.parquet");
    }

    #[test]
    fn the_description_goes_before_the_names() {
        let files = ["one/x-0.parquet", "one/x-1.parquet", "two/y.parquet", "two/deep/z.parquet"];
        let card = "---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\nconfigs:\n\
            - config_name: first\n  data_files:\n  - split: train\n    path: one/x-*\n  - split: dev\n    path:\n    - two/y.parquet\n\
            - config_name: second\n  default: true\n  data_files: \"two/**\"\n\
            - config_name: third\n  data_dir: two\n  data_files:\n    test: '*.parquet'\n    fold1: deep/*\n---\n# Title\n";
        for (config, expected) in [
            (Some("first"), "first: train=one/x-0.parquet one/x-1.parquet, validation=two/y.parquet"),
            (None, "second: train=two/deep/z.parquet two/y.parquet"),
            (Some("third"), "third: test=two/y.parquet"),
        ] {
            assert_eq!(told(&files, Some(card), config), expected);
            assert_eq!(told(&files, Some(&card.replace('\n', "\r\n")), config), expected);
        }
        assert_eq!(choice(&files, Some(card), Some("third")).unwrap().unwrap().others, ["fold1"]);
        let there = vec!["first".to_owned(), "second".to_owned(), "third".to_owned()];
        assert_eq!(choice(&files, Some(card), Some("one")), Err(Refusal::Configuration(there)));
        // A description that names no files leaves it to their names.
        for card in ["# Title\n", "---\nlicense: mit\nlicense: mit\n---\n", "---\nconfigs:\n- config_name: x\n---\n"] {
            assert_eq!(told(&["data/train-0.parquet"], Some(card), None), "default: train=data/train-0.parquet");
        }
        let broken = choice(&files, Some("---\nconfigs: [\n---\n"), None);
        assert!(matches!(&broken, Err(Refusal::Card(why)) if !why.is_empty()), "{broken:?}");
        // None of its files is there.
        let elsewhere = "---\nconfigs:\n- config_name: x\n  data_files: \"*.csv\"\n---\n";
        assert_eq!(choice(&files, Some(elsewhere), None), Ok(None));
    }

    #[test]
    fn half_a_data_set_is_none() {
        let file = "data/train-00001-of-00003.parquet";
        let incomplete =
            choice(&["data/test-00000-of-00001.parquet", file, "data/train-00002-of-00003.parquet"], None, None);
        assert_eq!(incomplete, Err(Refusal::Incomplete { file: file.to_owned(), have: 2, of: 3 }));
        assert_eq!(choice(&["default/partial-train/0000.parquet"], None, None), Err(Refusal::Partial));
    }
}
