//! `evaluate` through the program: weights of others, students of one's own, the hub, and what is wrong with what was typed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::data::large;
use crate::hub::server::Server;

fn distillery(place: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
    command.current_dir(place).args(arguments);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Published ResNets for CIFAR on the first 1,000 test images: 91.5 and 92.6 % by torch.
#[test]
fn published_weights_have_their_published_accuracy() {
    let (Some(weights), Some(data)) = (large("weights"), large("cifar10")) else { return };
    let place = tempfile::tempdir().unwrap();
    for (depth, expected) in [(20, 0.915), (56, 0.926)] {
        let file = weights.join(format!("cifar10-resnet{depth}.safetensors"));
        let model = format!("{{ cifar-resnet = {{ depth = {depth} }} }}");
        let mut arguments =
            vec!["evaluate", file.to_str().unwrap(), "--data", data.to_str().unwrap(), "--model", &model];
        arguments.extend(["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--json", "--device", "cpu"]);
        let found = json(&distillery(place.path(), &arguments, &[]));
        assert_eq!(found["images"], 1000);
        assert_eq!(found["by-class"][3]["name"], "cat");
        let top1 = found["top1"].as_f64().unwrap();
        assert!((top1 - expected).abs() <= 0.002, "ResNet-{depth}: {top1}");
        assert!(found["top5"].as_f64().unwrap() > 0.99);
    }
}

const EXPERIMENT: &str = r#"
    [teachers.t]
    train = { epochs = 4, learning-rate = 1e-2 }
    [base]
    data = "fashion-mnist-8k2k"
    split = { train = "train[:400]", validation = "train[7000:7100]", test = "test[:200]" }
    student = { bit-resnet-small = { depth = 8, width = 4 } }
    resolution = 14
    teachers = ["t"]
    teaching = "consistent/ic"
    learning-rate = 1e-2
    batch = 20
    epochs = 3
"#;

/// Runs the experiment; the folder, and id and file of teacher and student.
fn trained() -> (tempfile::TempDir, [(String, PathBuf); 2]) {
    trained_with("")
}

/// With further keys of the base.
fn trained_with(more: &str) -> (tempfile::TempDir, [(String, PathBuf); 2]) {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("experiments")).unwrap();
    fs::write(place.path().join("experiments/small.toml"), format!("{EXPERIMENT}{more}\n")).unwrap();
    let run = ["run", "small", "--quiet", "--no-report", "run.teacher-at-chance=allow", "--device", "cpu"];
    let output = distillery(place.path(), &run, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan = json(&distillery(place.path(), &["plan", "small", "--json"], &[]));
    let jobs = ["teachers", "student"].map(|_| ());
    let mut ids: Vec<String> = Vec::new();
    for job in plan["jobs"].as_array().unwrap() {
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), jobs.len());
    let file = |id: &String| place.path().join("runs/jobs").join(id).join("student.safetensors");
    let found = [(ids[0].clone(), file(&ids[0])), (ids[1].clone(), file(&ids[1]))];
    (place, found)
}

/// However images are resized in training, a card tells, and so does what is measured by it.
#[test]
fn a_job_is_measured_by_its_way_to_resize() {
    for (resize, interpolation) in [("bilinear-antialias", "plain-antialias"), ("bicubic", "plain-bicubic")] {
        let (place, [_, (student, _)]) = trained_with(&format!("    resize = \"{resize}\""));
        let found = json(&distillery(place.path(), &["evaluate", &student, "--split", "test[:200]", "--json"], &[]));
        let sql =
            format!("SELECT loss FROM evaluations WHERE job = '{student}' AND split = 'test' ORDER BY epoch DESC");
        let stored = json(&distillery(place.path(), &["query", &sql, "--json"], &[]));
        let loss = |value: &Value| value["loss"].as_f64().unwrap();
        assert!((loss(&found) - loss(&stored[0])).abs() < 1e-9, "{resize}: {found} {stored}");
        assert_eq!(found["interpolation"], interpolation);
    }
}

/// What is measured again is what the store says, for the student and against its teacher.
#[test]
fn a_job_is_measured_as_it_was_in_training() {
    let (place, [(teacher, teacher_file), (student, student_file)]) = trained();
    let arguments = ["evaluate", &student, "--split", "test[:200]", "--against", &teacher, "--json", "--device", "cpu"];
    let more = ["--csv", "classes.csv", "--predictions", "images.csv"];
    let found = json(&distillery(place.path(), &[&arguments[..], &more[..]].concat(), &[]));
    let sql = format!(
        "SELECT top1, top5, loss, kl, agreement FROM evaluations WHERE job = '{student}' AND split = 'test' ORDER BY epoch DESC LIMIT 1"
    );
    let stored = json(&distillery(place.path(), &["query", &sql, "--json"], &[]));
    let stored = &stored[0];
    let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9;
    for (own, name) in [(&found, "top1"), (&found, "top5"), (&found, "loss")] {
        assert!(near(&own[name], &stored[name]), "{name}: {} and {}", own[name], stored[name]);
    }
    for name in ["kl", "agreement"] {
        assert!(near(&found["against"][name], &stored[name]), "{name}: {found} and {stored}");
    }
    assert!(found["against"]["agreement5"].as_f64() >= found["against"]["agreement"].as_f64());
    let (low, high) = (&found["top1-interval"][0], &found["top1-interval"][1]);
    assert!(low.as_f64() < found["top1"].as_f64() && found["top1"].as_f64() < high.as_f64());

    let classes = fs::read_to_string(place.path().join("classes.csv")).unwrap();
    let rows: Vec<Vec<&str>> = classes.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows[0].as_slice(), rows.len()), (&["class", "name", "images", "right", "top1"][..], 11));
    let right: u64 = rows[1..].iter().map(|row| row[3].parse::<u64>().unwrap()).sum();
    let images = fs::read_to_string(place.path().join("images.csv")).unwrap();
    let right_images = images.lines().skip(1).filter(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), 14);
        cells[1] == cells[2]
    });
    let right_images = right_images.count() as u64;
    assert_eq!(right, right_images);
    assert!((found["top1"].as_f64().unwrap() * 200.0 - right as f64).abs() < 1e-9);

    // The same by its file; and a network is its own ensemble, by either rule.
    let (teacher_file, student_file) = (teacher_file.to_str().unwrap(), student_file.to_str().unwrap());
    let by_file = ["evaluate", student_file, "--split", "test[:200]", "--json", "--device", "cpu", "--against"];
    let rules = ["--ensemble", "mean-probabilities"];
    let twice = json(&distillery(place.path(), &[&by_file[..], &[student_file, student_file], &rules].concat(), &[]));
    assert!(near(&twice["top1"], &found["top1"]));
    assert_eq!(twice["against"]["agreement"], 1.0);
    assert!(twice["against"]["kl"].as_f64().unwrap().abs() < 1e-6);
    let both = json(&distillery(place.path(), &[&by_file[..], &[student_file, teacher_file]].concat(), &[]));
    assert!(both["against"]["kl"].as_f64().unwrap() > 1e-6);

    // Another view of the images, another answer.
    let whole = ["evaluate", &student, "--split", "test[:200]", "--json", "--device", "cpu", "--crop", "1"];
    for interpolation in ["plain", "area", "bilinear", "bicubic"] {
        let found = json(&distillery(place.path(), &[&whole[..], &["--interpolation", interpolation]].concat(), &[]));
        assert_eq!((found["crop"].as_f64(), found["interpolation"].as_str()), (Some(1.0), Some(interpolation)));
        assert!(!near(&found["loss"], &stored["loss"]), "{interpolation}");
    }
    let told = distillery(place.path(), &["evaluate", &student[..6], "--against", &teacher], &[]);
    let told = String::from_utf8(told.stdout).unwrap();
    for part in ["bit-resnet-small 8x4", "80.0 % of the shorter side", "agreement@5", "top-1", "95 %"] {
        assert!(told.contains(part), "{told}");
    }
}

/// Weights come from the hub to `evaluate` and to an experiment; the second time nothing is fetched.
#[test]
fn the_hub_serves_whoever_names_it() {
    let (place, [_, (_, student)]) = trained();
    let server = Server::start(&fs::read(&student).unwrap());
    let home = place.path().join("hub");
    let environment = [("HF_ENDPOINT", server.endpoint.as_str()), ("HF_HOME", home.to_str().unwrap())];
    let model = "{ bit-resnet-small = { depth = 8, width = 4 } }";
    let arguments = ["evaluate", "hf:owner/name@v1", "--model", model, "--resolution", "14", "--crop", "0.8", "--json"];
    let from_hub = json(&distillery(place.path(), &arguments, &environment));
    let from_file = json(&distillery(place.path(), &["evaluate", student.to_str().unwrap(), "--json"], &[]));
    assert_eq!(from_hub["top1"], from_file["top1"]);
    assert_eq!(from_hub["sha256"], from_file["sha256"]);

    let taught = EXPERIMENT.replace(
        "train = { epochs = 4, learning-rate = 1e-2 }",
        &format!("weights = \"hf:owner/name@v1\"\nmodel = {model}"),
    );
    fs::write(place.path().join("experiments/hub.toml"), taught).unwrap();
    let offline = [&environment[..], &[("HF_HUB_OFFLINE", "1")]].concat();
    let plan = json(&distillery(place.path(), &["plan", "hub", "--json"], &offline));
    let job = plan["jobs"][0].to_string();
    assert!(job.contains(from_hub["sha256"].as_str().unwrap()), "{job}");
    let run = ["run", "hub", "--quiet", "--no-report", "run.teacher-at-chance=allow", "--device", "cpu"];
    let output = distillery(place.path(), &run, &offline);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        server
            .requests()
            .iter()
            .filter(|request| request.method == "GET" && request.path.contains("model.safetensors"))
            .count(),
        1
    );

    // That the repository has no card is known of this commit; of what was never asked it is not.
    let lacks = home.join("hub/models--owner--name/.no_exist");
    assert!(lacks.is_dir());
    fs::remove_dir_all(lacks).unwrap();
    let output = distillery(place.path(), &["plan", "hub"], &offline);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("config.json") && said.contains("hint:"), "{said}");

    let output = distillery(place.path(), &["evaluate", "hf:owner/other"], &offline);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("hint:") && said.contains("HF_HUB_OFFLINE"), "{said}");
}

#[test]
fn what_cannot_be_measured_is_explained() {
    let (place, [_, (student, file)]) = trained();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = distillery(place.path(), &[&["evaluate"], arguments].concat(), &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} went well");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        assert!(output.stdout.is_empty() && !said.contains("panicked"), "{said}");
        for part in parts.iter().chain(&["hint: "]) {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
    };
    refused(&["nothing.safetensors"], &["is no file", "`hf:owner/name`"]);
    refused(&["hf:broken"], &["hf:broken"]);
    refused(&[&student, "--data", "nowhere"], &["there is no data set `nowhere`"]);
    refused(&[&student, "--split", "tset"], &["tset"]);
    refused(&[&student, "--split", "test[:9999]"], &["9999"]);
    refused(&[&student, "--crop", "1.5"], &["`--crop` is 1.5"]);
    refused(&[&student, "--mean", "1,2"], &["one number or three"]);
    refused(&[&student, "--std", "0"], &["`std` is 0, but must be from 0.001"]);
    refused(&[&student, "--mean", "nan"], &["`mean` is not a finite number"]);
    refused(&[&student, "--against", "nobody"], &["`nobody` is no file"]);
    // Without its card.
    let bare = place.path().join("bare.safetensors");
    fs::copy(&file, &bare).unwrap();
    refused(&["bare.safetensors"], &["no card beside `bare.safetensors`", "--model"]);
    refused(&["bare.safetensors", "--model", "{ cifar-resnet = { depth = 21 } }"], &["no such network has 21 layers"]);
    refused(&["bare.safetensors", "--model", "{ resnet = { depth = 20 } }"], &["resnet"]);
    refused(
        &[
            "bare.safetensors",
            "--model",
            "{ vit = { width = 48, depth = 2, heads = 3, patch = 5 } }",
            "--resolution",
            "28",
        ],
        &["do not fill"],
    );
    refused(
        &["bare.safetensors", "--model", "{ cifar-resnet = { depth = 20 } }"],
        &["does not fit the network", "missing: `conv1.weight`", "unexpected: "],
    );
    // A card may be wrong in every way in which an experiment may.
    let settings =
        |settings: &str| format!("{{\"architecture\": \"resnetv2_50x1_bit\", \"pretrained_cfg\": {{{settings}}}}}");
    let network = |network: &str| format!("{{\"distillery\": {{\"model\": {{{network}}}}}, \"num_classes\": 10}}");
    for (card, part) in [
        ("{ \"architecture\": 3 }".to_owned(), "no card of weights"),
        (settings("\"input_size\": [3, 0, 0]"), "`input_size` is [3, 0, 0]"),
        (settings("\"input_size\": [3, 32, 48]"), "`input_size` is [3, 32, 48]"),
        (settings("\"input_size\": [3, 1000000000, 1000000000]"), "`input_size`"),
        (settings("\"std\": [0, 0, 0]"), "`std` is 0"),
        (settings("\"std\": [0.2, 0.2]"), "`std` has 2 numbers"),
        (settings("\"interpolation\": \"random\""), "`interpolation` is `random`"),
        (settings("\"crop_pct\": 7"), "`crop_pct` is 7"),
        (network("\"cifar-resnet\": {\"depth\": 0}"), "no such network has 0 layers"),
        (network("\"cifar-resnet\": {\"depth\": 4294967295}"), "no such network"),
        (network("\"bit-resnet-small\": {\"depth\": 1, \"width\": 3}"), "no such network has 1 layers"),
        (network("\"bit-resnet\": {\"depth\": 50, \"width\": 4000000}"), "`width` is 4000000"),
    ] {
        fs::write(place.path().join("bare.json"), card).unwrap();
        refused(&["bare.safetensors"], &["bare.json", part]);
    }
    let card = fs::read_to_string(file.with_extension("json")).unwrap();
    fs::write(place.path().join("bare.json"), card.replace("\"num_classes\": 10", "\"num_classes\": 1000")).unwrap();
    refused(&["bare.safetensors"], &["has 1000 classes, the data 10"]);
}

/// Each network is shown what it is used to: what is typed for one is not for the other, and overrules its card.
#[test]
fn a_teacher_has_its_own_normalization_and_size() {
    let (place, [(teacher, teacher_file), (student, _)]) = trained();
    fs::copy(&teacher_file, place.path().join("bare.safetensors")).unwrap();
    let model = "{ bit-resnet-small = { depth = 8, width = 4 } }";
    let run = |more: &[&str]| {
        let base = ["evaluate", &student, "--split", "test[:200]", "--json", "--device", "cpu", "--against"];
        json(&distillery(place.path(), &[&base[..], more].concat(), &[]))
    };
    let by_card = run(&[&teacher]);
    let told = ["--against-model", model, "--against-resolution", "14", "--against-crop", "0.8"];
    let typed = run(&[&["bare.safetensors"], &told[..]].concat());
    assert_eq!(typed["against"]["top1"], by_card["against"]["top1"]);
    assert_eq!(typed["top1"], by_card["top1"]);
    let other = run(&[&["bare.safetensors"], &told[..], &["--against-mean", "0.2", "--against-std", "0.7"]].concat());
    assert_eq!(other["top1"], by_card["top1"], "the student's own card holds");
    assert_ne!(other["against"]["loss"], by_card["against"]["loss"]);
    let wrong = ["evaluate", &student, "--model", "{ cifar-resnet = { depth = 20 } }"];
    let output = distillery(place.path(), &wrong, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("does not fit the network"), "what is typed overrules: {said}");
}

/// Before anything is trained.
#[test]
fn a_plan_notices_weights_that_do_not_fit() {
    let (place, [_, (_, student)]) = trained();
    fs::copy(&student, place.path().join("bare.safetensors")).unwrap();
    let with = |teacher: &str, base: &str| {
        let text = EXPERIMENT.replace("train = { epochs = 4, learning-rate = 1e-2 }", teacher) + base;
        fs::write(place.path().join("experiments/mine.toml"), text).unwrap();
        distillery(place.path(), &["plan", "mine"], &[])
    };
    let file = "../bare.safetensors";
    let fits = with(&format!("weights = \"{file}\"\nmodel = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}"), "");
    assert!(fits.status.success(), "{}", String::from_utf8_lossy(&fits.stderr));
    let other = format!("weights = \"{file}\"\nmodel = {{ bit-resnet-small = {{ depth = 14, width = 4 }} }}");
    let init = format!("init = {{ weights = {{ file = \"{file}\", head = \"reset\" }} }}\n");
    let refused = with(&other, "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("does not fit the network: missing: ") && said.contains("hint: "), "{said}");
    // A start from it fits; from a cut file nothing does.
    let started = with("train = { epochs = 4, learning-rate = 1e-2 }", &init);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let whole = fs::read(place.path().join("bare.safetensors")).unwrap();
    fs::write(place.path().join("bare.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let cut = with("train = { epochs = 4, learning-rate = 1e-2 }", &init);
    let said = String::from_utf8_lossy(&cut.stderr).into_owned();
    assert!(cut.status.code() == Some(2) && said.contains("neither a whole safetensors file"), "{said}");
}
