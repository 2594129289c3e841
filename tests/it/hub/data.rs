//! Data sets of the hub, from the server to the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use distillery::hub::{DataReference, Error, FetchedData, fetch_data};

use super::server::{COMMIT, CONVERTED};
use super::{Case, case, names, nowhere};

const ALL: [&str; 3] = ["train", "validation", "test"];

/// A server whose data set has these files; each holds its name.
fn with(files: &[&str]) -> Case {
    let case = case();
    case.server.behave(|manners| manners.data = contents(files));
    case
}

fn contents(files: &[&str]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|file| ((*file).to_owned(), format!("this is {file}").into_bytes())).collect()
}

fn reference(text: &str) -> DataReference {
    DataReference::parse(text).unwrap().unwrap()
}

fn fetch(case: &Case, text: &str, wanted: &[&str]) -> Result<FetchedData, Error> {
    fetch_data(&reference(text), wanted, &case.settings, &mut |_, _| {})
}

fn complaint(case: &Case, text: &str) -> String {
    fetch(case, text, &ALL).unwrap_err().to_string()
}

/// The names inside the repository, by part; each file holds what it should.
fn told(data: &FetchedData) -> String {
    let own = |path: &Path| {
        let path = path.to_str().unwrap();
        let name = &path[path.find(&data.commit).unwrap() + 41..];
        assert_eq!(fs::read_to_string(path).unwrap(), format!("this is {name}"));
        name.to_owned()
    };
    let part = |(part, files): (&String, &Vec<_>)| {
        let files: Vec<_> = files.iter().map(|path: &std::path::PathBuf| own(path)).collect();
        format!("{part}={}", files.join(" "))
    };
    data.parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

const PLAIN: [&str; 4] = [
    "data/train-00000-of-00002.parquet",
    "data/train-00001-of-00002.parquet",
    "data/validation-00000-of-00001.parquet",
    "notes.txt",
];

#[test]
fn references_are_read_and_written_back() {
    assert!(DataReference::parse("folder/data").is_none());
    for (text, config, revision) in [
        ("hf:ethz/food101", None, "main"),
        ("hf:o/n:plain_text@v1", Some("plain_text"), "v1"),
        ("hf:o/n@refs/convert/parquet", None, "refs/convert/parquet"),
    ] {
        let reference = reference(text);
        assert_eq!(
            (reference.config(), reference.revision(), reference.to_string().as_str()),
            (config, revision, text)
        );
    }
    assert_eq!(reference("hf:ethz/food101").repository(), "datasets/ethz/food101");
    assert_eq!(reference("hf:o/n:c@v1").at(COMMIT).to_string(), format!("hf:o/n:c@{COMMIT}"));
    for (text, why) in [
        ("hf:o/n/data.parquet", "it has a path, but all of a data set is meant"),
        ("hf:o/n:", "`` is no configuration"),
        ("hf:o/n:../x", "`../x` is no configuration"),
        ("hf:o", "the repository's name is missing"),
        ("hf:o/n:c@", "the revision after `@` is missing"),
    ] {
        let error = DataReference::parse(text).unwrap().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{text}` names no data set on the hub: {why}\nhint: write ")), "{error}");
    }
}

#[test]
fn wanted_parts_are_fetched_once() {
    let case = with(&PLAIN);
    let mut heard = Vec::new();
    let progress = &mut |have, total| heard.push((have, total));
    let train = fetch_data(&reference("hf:owner/name"), &["train", "test"], &case.settings, progress).unwrap();
    assert_eq!(told(&train), "train=data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet");
    assert_eq!((train.commit.as_str(), train.config.as_str()), (COMMIT, "default"));
    let total = 2 * "this is data/train-00000-of-00002.parquet".len() as u64;
    assert_eq!(heard.last(), Some(&(total, Some(total))));
    assert!(heard.is_sorted() && heard.iter().all(|(_, of)| *of == Some(total)), "{heard:?}");
    let repository = case.settings.cache.join("datasets--owner--name");
    assert!(train.parts["train"][0].starts_with(repository.join("snapshots").join(COMMIT)));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&repository.join("blobs")).len(), 2);
    case.server.requests();

    let all = fetch(&case, "hf:owner/name", &ALL).unwrap();
    assert_eq!(told(&all), format!("{}, validation=data/validation-00000-of-00001.parquet", told(&train)));
    let paths: Vec<_> = case.server.requests().into_iter().map(|request| request.path).collect();
    assert!(paths[1..].iter().all(|path| path.contains("validation")), "{paths:?}");

    assert_eq!(fetch(&case, "hf:owner/name", &ALL).unwrap(), all);
    let paths: Vec<_> = case.server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/api/datasets/owner/name/revision/main?blobs=true"]);
    assert_eq!(fetch(&case, &format!("hf:owner/name@{COMMIT}"), &ALL).unwrap(), all);
    assert_eq!(case.server.requests(), []);
}

#[test]
fn without_a_network_the_cache_is_enough_or_named() {
    let mut case = with(&PLAIN);
    case.settings.offline = true;
    assert!(complaint(&case, "hf:owner/name").contains("is not in the cache `"));
    case.settings.offline = false;
    let train = fetch(&case, "hf:owner/name", &["train"]).unwrap();
    case.server.requests();
    for offline in [true, false] {
        case.settings.offline = offline;
        case.settings.endpoint = nowhere();
        assert_eq!(fetch(&case, "hf:owner/name", &["train"]).unwrap(), train);
        let error = complaint(&case, "hf:owner/name");
        assert!(error.contains("`hf:datasets/owner/name/data/validation-00000-of-00001.parquet@"), "{error}");
    }
    assert_eq!(case.server.requests(), []);
    // As another program leaves it, without a list of what there is: only what is whole is taken.
    fs::remove_dir_all(case.settings.cache.join("datasets--owner--name/.files")).unwrap();
    assert_eq!(fetch(&case, "hf:owner/name", &ALL).unwrap(), train);
    fs::remove_file(&train.parts["train"][1]).unwrap();
    let error = complaint(&case, "hf:owner/name");
    assert!(error.starts_with("`datasets/owner/name` has 1 of 2 files of the kind of `data/train-00000-of"), "{error}");
}

#[test]
fn a_description_chooses_and_configurations_are_told() {
    let case = with(&["one/a.parquet", "two/b.parquet"]);
    let error = complaint(&case, "hf:owner/name");
    assert_eq!(
        error,
        "`datasets/owner/name` has several configurations: `one`, `two`\nhint: write one behind a colon: `hf:owner/name:one`"
    );
    assert_eq!(told(&fetch(&case, "hf:owner/name:two", &ALL).unwrap()), "train=two/b.parquet");
    let error = complaint(&case, "hf:owner/name:three@v1");
    assert_eq!(
        error,
        "`datasets/owner/name` has no configuration `three`: there is `one`, `two`\nhint: write one behind a colon: \
         `hf:owner/name:one@v1`"
    );
    let card = "---\nconfigs:\n- config_name: both\n  data_files:\n  - split: test\n    path: one/*\n  - split: odd\n    \
                path: two/*\n---\n";
    case.server.behave(|manners| _ = manners.data.insert("README.md".into(), card.into()));
    // A commit never changes; here it did.
    fs::remove_dir_all(&case.settings.cache).unwrap();
    let both = fetch(&case, "hf:owner/name", &ALL).unwrap();
    assert_eq!((told(&both).as_str(), both.config.as_str()), ("test=one/a.parquet", "both"));
    let error = fetch(&case, "hf:owner/name", &["train"]).unwrap_err().to_string();
    assert!(error.starts_with("`datasets/owner/name` has no train: there is `test`, `odd`\nhint: "), "{error}");
}

#[test]
fn shards_and_what_the_hub_converted() {
    let case = with(&["train-0.tar", "train-1.tar", "test-0.tar"]);
    let shards = fetch(&case, "hf:owner/name", &ALL).unwrap();
    assert_eq!(told(&shards), "test=test-0.tar, train=train-0.tar train-1.tar");

    let mut case = with(&["images.zip", "labels.csv"]);
    let error = complaint(&case, "hf:owner/name");
    assert!(
        error.starts_with("`datasets/owner/name` has neither parquet nor tar files at revision `main`\n"),
        "{error}"
    );
    case.server.behave(|manners| manners.converted = contents(&["default/train/0000.parquet"]));
    let converted = fetch(&case, "hf:owner/name", &ALL).unwrap();
    assert_eq!((told(&converted).as_str(), converted.commit.as_str()), ("train=default/train/0000.parquet", CONVERTED));
    // A revision that was named is not exchanged for another.
    assert!(complaint(&case, "hf:owner/name@v1").contains("files at revision `v1`\nhint: "));
    assert_eq!(fetch(&case, "hf:owner/name@refs/convert/parquet", &ALL).unwrap(), converted);
    case.settings.offline = true;
    assert_eq!(fetch(&case, "hf:owner/name", &ALL).unwrap(), converted);
    case.settings.offline = false;
    case.server.behave(|manners| manners.converted = contents(&["default/partial-train/0000.parquet"]));
    fs::remove_dir_all(&case.settings.cache).unwrap();
    assert!(
        complaint(&case, "hf:owner/name").starts_with("the hub converted `datasets/owner/name` only in part\nhint: ")
    );
}

#[test]
fn who_may_not_read_or_names_nothing_is_told() {
    let case = with(&PLAIN);
    for codes in [true, false] {
        case.server.behave(|manners| manners.codes = codes);
        let error = complaint(&case, "hf:owner/other");
        assert!(error.starts_with("there is no repository `datasets/owner/other` at `http://"), "{error}");
        let error = complaint(&case, "hf:owner/name@v2");
        assert!(error.starts_with("`datasets/owner/name` has no revision `v2`\nhint: "), "{error}");
    }
    case.server.behave(|manners| manners.gated = true);
    let page = format!("{}/datasets/owner/name", case.settings.endpoint);
    assert_eq!(
        complaint(&case, "hf:owner/name"),
        format!(
            "`datasets/owner/name` is gated\nhint: agree to its terms at {page}, then set `HF_TOKEN` to a token that may \
             read it"
        )
    );
    case.server.behave(|manners| (manners.gated, manners.token) = (false, Some("hf_right")));
    assert!(complaint(&case, "hf:owner/name").contains("is private, gated, or does not exist (HTTP 401)\nhint: "));
    case.server.behave(|manners| (manners.token, manners.status) = (None, Some(503)));
    assert!(complaint(&case, "hf:owner/name").contains("with HTTP 503\nhint: "));
}
