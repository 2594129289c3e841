//! The program as a person meets it: messages, exit codes, what goes to which stream.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

pub fn distillery(place: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_distillery")).current_dir(place).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The message on standard error, after asserting that nothing else was said and nothing was done.
fn refused(arguments: &[&str], code: i32) -> String {
    let place = tempfile::tempdir().unwrap();
    let output = distillery(place.path(), arguments);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "something was written");
    text(&output.stderr)
}

#[test]
fn wrong_words_get_one_message_and_a_hint() {
    insta::assert_snapshot!(refused(&["run", "quickstrat"], 2), @r"
    error: there is no experiment `quickstrat`
    hint: did you mean `quickstart`?
    ");
    insta::assert_snapshot!(refused(&["plan", "nowhere/x.toml"], 2), @"error: cannot read `nowhere/x.toml`: No such file or directory (os error 2)");
    insta::assert_snapshot!(refused(&["status"], 1), @r"
    error: there is no store at `runs/store.sqlite`
    hint: `distillery run NAME` makes one; `--folder` names another place
    ");
    let message = refused(&["run", "quickstart", "epoch=3"], 2);
    assert!(message.contains("unknown key `epoch`") && message.contains("hint: did you mean `epochs`?"), "{message}");
    let message = refused(&["run", "quickstart", "data.idx=nowhere"], 2);
    assert!(message.contains("nowhere") && message.contains("train-images-idx3-ubyte"), "{message}");
    assert_eq!(
        refused(&["run", "quickstart", "--slots", "0"], 2).lines().next().unwrap_or_default().split(':').next(),
        Some("error")
    );
}

/// A small experiment of one's own, from a file, through every verb.
#[test]
fn a_new_user_finds_the_way() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("experiments")).unwrap();
    let experiment = r#"
        title = "Mine"
        [teachers.t]
        train = { epochs = 1, learning-rate = 1e-2 }
        [base]
        data = "fashion-mnist-8k2k"
        split = { train = "train[:200]", validation = "train[7000:7100]", test = "test[:100]" }
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 10
        teachers = ["t"]
        batch = 32
        learning-rate = 1e-2
        [run]
        teacher-at-chance = "allow"
        [[grid]]
        product = { teaching = ["fixed/rs", "function-matching"], epochs = [1, 2], seed = [0, 1] }
    "#;
    fs::write(place.path().join("experiments/mine.toml"), experiment).unwrap();
    let ok = |arguments: &[&str]| {
        let output = distillery(place.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let json = |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&ok(arguments)).unwrap() };

    let plan = json(&["plan", "mine", "--json"]);
    assert_eq!((plan["open"].as_u64(), plan["done"].as_u64()), (Some(9), Some(0)));
    assert!(plan["price"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(!place.path().join("runs").exists(), "plan wrote something");

    let table = ok(&["run", "mine", "--quiet"]);
    assert!(table.contains("function matching") && table.contains("mine.svg"), "{table}");
    for extension in ["svg", "png", "csv", "md"] {
        assert!(place.path().join("runs/reports/mine").with_extension(extension).is_file());
    }
    let plan = ok(&["plan", "mine"]);
    assert!(plan.contains("9 jobs, 9 done, 0 open"), "{plan}");
    let again = json(&["run", "mine", "--json", "--no-report"]);
    assert!(again["jobs"].as_array().unwrap().iter().all(|job| job["state"] == "done"));
    let attempts = json(&["query", "SELECT count(*) AS n FROM attempts", "--json"]);
    assert_eq!(attempts[0]["n"], 9, "the second run trained nothing");

    let status = json(&["status", "--json"]);
    assert_eq!(status[0]["jobs"]["done"], 8);
    assert_eq!(json(&["status", "mine", "--json"]).as_array().unwrap().len(), 8);
    assert!(ok(&["status", "mine"]).lines().count() == 9);
    assert!(ok(&["query", "SELECT teaching, count(*) AS jobs FROM jobs GROUP BY teaching"]).contains("fixed/rs"));
    let output = distillery(place.path(), &["query", "DELETE FROM epochs"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("hint: "), "{}", text(&output.stderr));

    // The same jobs under another name, as a path: nothing is trained again.
    fs::copy(place.path().join("experiments/mine.toml"), place.path().join("other.toml")).unwrap();
    ok(&["run", "other.toml", "--quiet"]);
    assert_eq!(json(&["query", "SELECT count(*) AS n FROM attempts", "--json"])[0]["n"], 9);
    // A result that is gone is made again, and the rest is left alone.
    let id = json(&["query", "SELECT id FROM jobs WHERE teaching = 'fixed/rs' LIMIT 1", "--json"])[0]["id"].clone();
    fs::remove_file(place.path().join("runs/jobs").join(id.as_str().unwrap()).join("student.safetensors")).unwrap();
    assert!(ok(&["plan", "mine"]).contains("1 open"));
    ok(&["run", "mine", "--quiet"]);
    assert_eq!(json(&["query", "SELECT count(*) AS n FROM attempts", "--json"])[0]["n"], 10);
    // Without a report of its own an experiment can be drawn again all the same.
    assert!(ok(&["report", "mine", "--theme", "dark"]).contains("mine.png"));
    // A store that is lost comes back from what the workers wrote down.
    for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(place.path().join("runs").join(file));
    }
    ok(&["run", "mine", "--quiet"]);
    assert_eq!(json(&["query", "SELECT count(*) AS n FROM epochs", "--json"])[0]["n"], 1 + 2 * 2 * 3);
}

/// A teacher that fails blocks its students, which are not called failed; exit code 1.
#[test]
fn students_of_a_failed_teacher_are_blocked() {
    let place = tempfile::tempdir().unwrap();
    let experiment = r#"
        [teachers.broken]
        train = { epochs = 1, learning-rate = 1e30, clip = "off" }
        [base]
        data = "fashion-mnist-8k2k"
        split = { train = "train[:200]", validation = "train[7000:7100]", test = "test[:100]" }
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 10
        teachers = ["broken"]
        batch = 20
        learning-rate = 1e-2
        teaching = "consistent/ic"
        epochs = 1
    "#;
    fs::write(place.path().join("broken.toml"), experiment).unwrap();
    let output = distillery(place.path(), &["run", "broken.toml", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["jobs"][0]["state"], "blocked");
    let message = result["jobs"][0]["message"].as_str().unwrap();
    assert!(message.contains("which failed") && message.contains("learning rate"), "{message}");
}

/// What varies beside mode and length does not keep the results back: each combination has a panel.
#[test]
fn a_sweep_without_a_report_is_drawn() {
    let place = tempfile::tempdir().unwrap();
    let experiment = r#"
        [base]
        objective = "labels"
        data = "fashion-mnist-8k2k"
        split = { train = "train[:100]", validation = "train[7000:7060]", test = "test[:50]" }
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 8
        batch = 20
        epochs = 1
        [[grid]]
        product = { learning-rate = [1e-3, 1e-2], mixup = [0.0, 1.0], batch = [10, 20] }
    "#;
    fs::write(place.path().join("a.sweep.toml"), experiment).unwrap();
    fs::create_dir(place.path().join("reports")).unwrap();
    fs::write(place.path().join("reports/broken.toml"), "nonsense").unwrap();
    let output = distillery(place.path(), &["run", "a.sweep.toml", "--quiet"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("a.sweep.svg"), "{}", text(&output.stdout));
    let markdown = fs::read_to_string(place.path().join("runs/reports/a.sweep.md")).unwrap();
    assert!(markdown.contains("(a.sweep.svg)"), "{markdown}");
}

/// A report that names this experiment but cannot be drawn is told; the results are printed and the exit code is theirs.
#[test]
fn a_broken_report_hides_nothing() {
    let place = tempfile::tempdir().unwrap();
    let experiment = r#"
        [base]
        objective = "labels"
        data = "fashion-mnist-8k2k"
        split = { train = "train[:100]", validation = "train[7000:7060]", test = "test[:50]" }
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 8
        batch = 20
        epochs = 1
        learning-rate = 1e-2
    "#;
    fs::write(place.path().join("one.toml"), experiment).unwrap();
    fs::create_dir(place.path().join("reports")).unwrap();
    let report = "experiment = \"one\"\ntitle = \"One\"\n[[panel]]\ntitle = \"T\"\n\
                  duration = { value = \"test.top1\", series = \"nonsense\" }\n";
    fs::write(place.path().join("reports/mine.toml"), report).unwrap();
    let output = distillery(place.path(), &["run", "one.toml", "--quiet", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nonsense"), "{}", text(&output.stderr));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["jobs"][0]["state"], "done");
}

/// `bench` measures every workload, answers a twin's questions, and refuses what it does not know.
#[test]
fn bench_measures_steps() {
    use std::io::Write;

    use base64::Engine;
    let place = tempfile::tempdir().unwrap();
    let output = distillery(place.path(), &["bench", "w1", "--steps", "1", "--threads", "1", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((row["workload"].as_str(), row["threads"].as_u64()), (Some("w1"), Some(1)));
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("no `{key}` in {row}"));
    // Teacher and student differ, by little: their heads are made up.
    assert!(number("loss") > 1e-3 && number("loss") < 1.0, "{row}");
    let rate = number("gflops_per_second") * number("milliseconds_median") / 1e3;
    assert!((rate - 72.8).abs() < 0.5, "a step of W1 has 72.8 GFLOP, not {rate}");
    assert!(number("share_of_peak") > 0.0 && number("peak_mib") > 1.0);

    let mut child = Command::new(env!("CARGO_BIN_EXE_distillery"))
        .args(["bench", "w1", "--serve", "--students", "2"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"run 1\npeak\n").unwrap();
    let said = text(&child.wait_with_output().unwrap().stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[1].split(' ').count()), (3, "ready", 4), "{said}");

    // Encoded images become views; a folder of none is refused.
    let recorded: serde_json::Value = serde_json::from_str(include_str!("../golden/jpegs.json")).unwrap();
    let pictures = place.path().join("pictures/class");
    std::fs::create_dir_all(&pictures).unwrap();
    for (number, picture) in recorded.as_array().unwrap().iter().enumerate() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture["jpeg"].as_str().unwrap()).unwrap();
        std::fs::write(pictures.join(format!("{number}.jpg")), bytes).unwrap();
    }
    for decode in ["full", "reduced"] {
        let arguments = ["--resolution", "16", "--decode", decode, "--images", "20", "--steps", "1", "--json"];
        let output = distillery(place.path(), &[&["bench", "loader", "pictures"], &arguments[..]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((row["decode"].as_str(), row["images"].as_u64()), (Some(decode), Some(20)));
        assert!(row["images_per_second_median"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(refused(&["bench", "loader"], 1).contains("distillery bench loader DIR"));
    assert!(refused(&["bench", "loader", "nowhere"], 2).contains("there is no data set `nowhere`"));

    let message = refused(&["bench", "w4"], 2);
    assert!(message.contains("w4") && message.contains("w1, w2, w3"), "{message}");
    let message = refused(&["bench", "w1", "--inputs", "nowhere.safetensors"], 1);
    assert!(message.contains("cannot read `nowhere.safetensors`"), "{message}");
    assert!(refused(&["bench", "--students", "8"], 2).contains("WORKLOAD"));
}

/// The names of the experiments in `experiments/`, all of which are in the binary.
fn shipped() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Data sets and teachers need not be there to be priced; what is priced are all sizes that there are.
#[test]
fn every_shipped_experiment_has_a_price() {
    let place = tempfile::tempdir().unwrap();
    let price = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_distillery"))
            .current_dir(place.path())
            .env_remove("DISTILLERY_DATA")
            .env("HF_HOME", place.path())
            .args(["plan"])
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    for name in shipped() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("experiments/{name}.toml"));
        let file: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let sizes: Vec<String> = match file.get("sizes").and_then(toml::Value::as_table) {
            Some(sizes) => sizes.keys().map(|size| format!("size={size}")).collect(),
            None => Vec::new(),
        };
        assert!([0, 3].contains(&sizes.len()), "{name} has {sizes:?}");
        let all: Vec<Vec<&str>> = match sizes.len() {
            0 => vec![vec![&name]],
            _ => sizes.iter().map(|size| vec![name.as_str(), size]).collect(),
        };
        for arguments in all {
            let plan = price(&arguments);
            assert!(plan["open"].as_u64().unwrap() > 0 && plan["gpu-hours"].as_f64().unwrap() > 0.0, "{arguments:?}");
            assert!(plan["disk-bytes"].as_f64().unwrap() > 0.0);
            // Three seeds at least, but for the paper's own grids, of one each.
            let seeds: std::collections::BTreeSet<u64> = plan["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|job| job["only-needed"] == false)
                .map(|job| job["job"]["seed"].as_u64().unwrap())
                .collect();
            assert!(seeds.len() >= 3 || arguments.last() == Some(&"size=paper") || sizes.is_empty(), "{arguments:?}");
        }
    }
    // paper.md 5: eight modes, 80 settings, 13 pairs of data set and length. The teachers are there already.
    let study = price(&["figs9-12-consistency", "size=paper"]);
    assert_eq!(study["jobs"].as_array().unwrap().len(), 8320);
    assert_eq!(study["not-here"].as_array().unwrap().len(), 8);
}

#[test]
fn the_table_of_axes_is_the_codes() {
    let place = tempfile::tempdir().unwrap();
    let table = text(&distillery(place.path(), &["axes"]).stdout);
    assert!(table.lines().count() > 30);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/README.md");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(&table), "experiments/README.md has an old table: put in what `distillery axes` prints");
    for name in shipped() {
        assert!(page.contains(&format!("`{name}`")), "experiments/README.md does not speak of `{name}`");
    }
}
