//! Which images a student is shown: parts of a set, other sets than it is measured on, mixtures, a stream again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use distillery::folder::Folder;
use distillery::job::*;
use distillery::plan::{Manifest, Plan, stream_key};
use distillery::source::{Kind, Origin, Source};
use distillery::train::data::{self, DataSet};
use distillery::train::views::{Views, student_look};

use crate::data::large;
use crate::small::{distil, labels, manifest, rows, train};

fn built_in() -> DataSet {
    data::open(&Source::of(Origin::BuiltIn)).unwrap()
}

fn set(slice: (u32, u32), weight: f64) -> TrainingSet {
    let (start, end) = slice;
    TrainingSet { data: crate::small::data(), slice: Slice { part: Part::Train, start, end }, weight }
}

/// 60 images of which 30 places are for 20, 30 for 40: in an epoch some of the first come twice, and all come equally
/// often over four.
#[test]
fn a_mixture_goes_through_every_set() {
    let (data, sets) = (built_in(), [built_in(), built_in()]);
    let job = Job { train_on: vec![set((0, 20), 1.0), set((100, 140), 1.0)], batch: 15, ..labels(8) };
    assert_eq!((job.train_images(), job.steps_at(1)), (60, 4));
    assert_eq!(shares(&job.train_on), [30, 30]);
    let views = Views::new(&job, &data, &sets);
    let epoch = |views: &Views, epoch: u64| -> Vec<u32> {
        (4 * epoch..4 * epoch + 4).flat_map(|step| views.batch(step).images).collect()
    };
    let mut counts = BTreeMap::new();
    for number in 0..4 {
        let images = epoch(&views, number);
        assert_eq!(images.iter().filter(|image| **image < 20).count(), 30);
        images.iter().for_each(|image| *counts.entry(*image).or_insert(0) += 1);
        // Nothing comes again before all came: of 40 images, the first and the last 30 of 120 places are 30.
        let second: BTreeSet<u32> = images.iter().copied().filter(|image| *image >= 20).collect();
        assert!(second.len() == 30 || [1, 2].contains(&number), "epoch {number}: {}", second.len());
    }
    // 120 places for 20 images, 120 for 40.
    assert!((0..20).all(|image| counts[&image] == 6) && (20..60).all(|image| counts[&image] == 3), "{counts:?}");
    // Directly or in order, it is the same.
    let directly = Views::new(&job, &data, &sets);
    let (last, look) = (directly.batch(31), student_look(&job));
    let slowly = Views::new(&job, &data, &sets);
    let in_order = (0..32).map(|step| slowly.batch(step)).last().unwrap();
    assert_eq!(last, in_order);
    let pixels =
        |views: &Views, batch| views.show(batch, look).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(pixels(&directly, &last), pixels(&slowly, &in_order));
    // Labels are those of the images.
    let image_of = |image: u32| if image < 20 { image } else { image + 80 };
    let expected: Vec<u32> = last.images.iter().map(|image| data.train.labels[image_of(*image) as usize]).collect();
    assert_eq!(last.labels, expected);
    // Without weights an epoch is every image once.
    let all = Job { train_on: vec![set((0, 20), 20.0), set((100, 140), 40.0)], ..job };
    let views = Views::new(&all, &data, &sets);
    assert!(epoch(&views, 2).into_iter().collect::<BTreeSet<_>>().into_iter().eq(0..60));
}

/// A mixture of one is that set as if it were the job's own: the same images in the same order.
#[test]
fn one_other_set_is_shown_as_ones_own() {
    let (data, sets) = (built_in(), [built_in()]);
    let own = labels(2);
    let other = Job { train_on: vec![set((0, 100), 3.0)], ..own.clone() };
    let (a, b) = (Views::new(&own, &data, &[]), Views::new(&other, &data, &sets));
    for step in [0, 5, 11] {
        assert_eq!(a.batch(step), b.batch(step));
    }
}

/// The first of every class in the slice, and as many steps as they make.
#[test]
fn so_many_of_every_class() {
    let data = built_in();
    let mut job = labels(2);
    job.split.train.end = 3000;
    job.split.per_class = Some(PerClass { each: 7, images: 70 });
    assert_eq!((job.train_images(), job.steps_at(1)), (70, 4));
    let views = Views::new(&job, &data, &[]);
    assert_eq!(views.count(), 70);
    let mut seen = BTreeMap::new();
    for step in 0..70 {
        let batch = views.batch(step);
        seen.extend(batch.images.iter().copied().zip(batch.labels.iter().copied()));
    }
    assert_eq!(seen.len(), 70);
    let mut counts = [0; 10];
    seen.values().for_each(|label| counts[*label as usize] += 1);
    assert_eq!(counts, [7; 10]);
}

/// A stream of two epochs again and again: the same views, the teacher asked for the first two epochs only, and what is
/// recorded of them is what a live teacher's stream begins with.
#[test]
fn a_stream_is_replayed() {
    let data = built_in();
    let teacher = Job { epochs: 2, ..labels(2) };
    let live = distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 5);
    let again = |epochs| {
        let mut job = live.clone();
        let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
        distil.answers = Answers::Replay(Replay { epochs });
        job
    };
    let job = again(2);
    // 200 images are 12 steps and a half, which round to 13.
    assert_eq!((job.cycle(), live.cycle()), (Some(13), None));
    assert_eq!(stream_key(&job), stream_key(&live));
    let (own, of_live) = (Views::new(&job, &data, &[]), Views::new(&live, &data, &[]));
    for step in 0..31 {
        assert_eq!(own.batch(step), of_live.batch(step % 13));
    }
    // Cohorts go round together.
    let jobs = [live.clone(), job.clone(), again(1), Job { learning_rate: 0.003, ..job.clone() }];
    let plan = Plan::new(&jobs, &[teacher.id()].into());
    let mut sizes: Vec<usize> = plan.cohorts.iter().map(|cohort| cohort.jobs.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2]);

    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path());
    train(&manifest(&[&teacher], 1), &folder);
    let first = rows(&train(&manifest(&[&job], 1), &folder), &job);
    let record = fs::read(folder.recording(&stream_key(&job))).unwrap();
    assert_eq!(record.len(), 13 * (16 + 4 * 16 * 10));
    let recorded = Manifest { record_teacher: true, ..manifest(&[&live], 1) };
    let of_live = rows(&train(&recorded, &folder), &live);
    let longer = fs::read(folder.recording(&stream_key(&live))).unwrap();
    assert!(longer.len() > record.len() && longer.starts_with(&record));
    // What is seen is the same for two epochs, and then no longer.
    assert_eq!(losses(&first)[..2], losses(&of_live)[..2]);
    assert_ne!(losses(&first)[2..], losses(&of_live)[2..]);
    let flops =
        |rows: &[String]| serde_json::from_str::<serde_json::Value>(&rows[4]).unwrap()["teacher-flops"].as_f64();
    assert!(flops(&first) < flops(&of_live));
}

fn losses(rows: &[String]) -> Vec<f64> {
    let loss =
        |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["training-loss"].as_f64().unwrap();
    rows.iter().map(loss).collect()
}

fn run(folder: &Path, name: &str, text: &str) -> std::process::Output {
    fs::create_dir_all(folder.join("experiments")).unwrap();
    fs::write(folder.join(format!("experiments/{name}.toml")), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
    command.current_dir(folder).args(["run", name, "--no-report", "--quiet", "--device", "cpu", "--json"]);
    command.output().unwrap()
}

fn succeeded(output: std::process::Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Jobs that are.
fn done(told: &serde_json::Value) -> usize {
    told["jobs"].as_array().unwrap().iter().filter(|job| job["state"] == "done").count()
}

fn shades(folder: &Path, classes: &[&str], each: u8) {
    for (place, class) in classes.iter().enumerate() {
        for index in 0..each {
            let path = folder.join(class).join(format!("{index}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let shade = |x, y| image::Luma([(90 * place as u32 + u32::from(5 * index) + 3 * x + y) as u8]);
            image::GrayImage::from_fn(9, 8, shade).save(path).unwrap();
        }
    }
}

/// Images without labels teach a student what a teacher knows; its own data only measure it. Through the program.
#[test]
fn images_without_labels_distil() {
    let place = tempfile::tempdir().unwrap();
    shades(&place.path().join("own"), &["dark", "light"], 20);
    shades(&place.path().join("other"), &[""], 30);
    assert_eq!(data::kind(&place.path().join("other")), Some(Kind::Folder));
    let experiment = |train_on: &str, more: &str| {
        format!(
            r#"
            [teachers.big.train]
            epochs = 2
            [base]
            data = {{ folder = "../own" }}
            split = {{ train = "train[:60%]", validation = "train[60%:80%]", test = "train[80%:]" }}
            train-on = {train_on}
            student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
            teaching = "function-matching"
            teachers = ["big"]
            resolution = 6
            learning-rate = 1e-2
            batch = 8
            epochs = 3
            {more}
            [run]
            teacher-at-chance = "allow"
            "#
        )
    };
    let text = experiment(r#"[{ data = { folder = "../other" } }]"#, "");
    let told = succeeded(run(place.path(), "unlabelled", &text));
    assert_eq!(done(&told), 1);
    let mixed = r#"[{ data = { folder = "../other" }, weight = 1 }, { data = { folder = "../own" }, split = "train[:60%]", weight = 3 }]"#;
    let told = succeeded(run(place.path(), "mixed", &experiment(mixed, r#"answers = { replay = { epochs = 2 } }"#)));
    // 30 and 24 images three times, in steps of 8.
    assert_eq!((done(&told), told["jobs"][0]["last"]["images"].as_u64()), (1, Some(160)), "{told}");
    for (name, train_on, more, expected) in [
        ("labels", r#"[{ data = { folder = "../other" } }]"#, "objective = \"labels\"", "has 0 classes"),
        (
            "some",
            r#"[{ data = { folder = "../other" }, weight = 1 }, { data = { folder = "../own" } }]"#,
            "",
            "have a weight",
        ),
        (
            "little",
            r#"[{ data = { folder = "../other" }, weight = 1e-9 }, { data = { folder = "../own" }, split = "train[:60%]", weight = 1 }]"#,
            "",
            "so little weight",
        ),
        ("beyond", r#"[{ data = { folder = "../other" }, split = "train[:99]" }]"#, "", "ends at image 99"),
        ("none", "[]", "", "nothing to train on"),
        ("name", r#""dta""#, "", "did you mean `data`"),
        ("own", r#""data""#, "data.folder = \"../other\"", "data"),
    ] {
        let output = run(place.path(), name, &experiment(train_on, more));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(expected) && said.contains("hint"), "{name}: {said}");
    }
}

/// A teacher at 24 px, students at 24 and 16: both are shown the same windows. On real photos, end to end.
#[test]
fn a_smaller_student_of_a_larger_teacher() {
    let Some(flowers) = large("flowers17-160") else { return };
    let place = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
        [teachers.big]
        resolution = 24
        [teachers.big.train]
        resolution = 24
        epochs = 2
        [base]
        data = {{ folder = {flowers:?} }}
        split = {{ train = "train", per-class = 4, validation = "train[90%:]", test = "test[:50]" }}
        student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
        teaching = "function-matching"
        teachers = ["big"]
        learning-rate = 1e-2
        resize = "bilinear-antialias"
        batch = 17
        epochs = 2
        [run]
        teacher-at-chance = "allow"
        [[grid]]
        product = {{ resolution = [24, 16] }}
        "#
    );
    let text = text.replace("train = \"train\", per", "train = \"train[:90%]\", per");
    let told = succeeded(run(place.path(), "flowers", &text));
    assert_eq!(done(&told), 2, "{told}");
}

/// Distilled on CIFAR-10, measured on another set of the same classes: its JPEGs.
#[test]
fn distilled_here_and_measured_there() {
    let (Some(lossless), Some(jpeg)) = (large("cifar10"), large("cifar10-jpeg")) else { return };
    let place = tempfile::tempdir().unwrap();
    let text = experiment_of_cifar(&lossless, &jpeg);
    let told = succeeded(run(place.path(), "elsewhere", &text));
    assert_eq!(done(&told), 1, "{told}");
}

fn experiment_of_cifar(lossless: &Path, jpeg: &Path) -> String {
    format!(
        r#"
        [teachers.big.train]
        data = {{ parquet = {lossless:?} }}
        split = {{ train = "train[:200]", validation = "train[90%:]", test = "test" }}
        epochs = 2
        [base]
        data = {{ parquet = {jpeg:?} }}
        split = {{ train = "train[:100]", validation = "train[49900:]", test = "test[:100]" }}
        train-on = [{{ data = {{ parquet = {lossless:?} }}, split = "train[:100]" }}]
        student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
        teaching = "consistent/ic"
        teachers = ["big"]
        resolution = 16
        learning-rate = 1e-2
        batch = 20
        epochs = 2
        [run]
        teacher-at-chance = "allow"
        "#
    )
}

/// 12 pictures of 2 classes as a CSV, as shards and from the hub's server: the same images, and each trains a student.
#[test]
fn tables_shards_and_the_hub_train_students() {
    let place = tempfile::tempdir().unwrap();
    let own = place.path().join("own");
    shades(&own, &["dark", "light"], 6);
    let names: Vec<String> =
        (0..12).map(|index| format!("{}/{}.png", ["dark", "light"][index % 2], index / 2)).collect();
    let part = |index: usize| if index < 8 { "train" } else { "test" };
    let mut table = String::from("file,class,split\n");
    let mut shards = ["train", "test"].map(|name| (name, tar::Builder::new(Vec::new())));
    for (index, name) in names.iter().enumerate() {
        table += &format!("{name},{},{}\n", name.split('/').next().unwrap(), part(index));
        let (_, shard) = &mut shards[usize::from(index >= 8)];
        for (suffix, bytes) in
            [("png", fs::read(own.join(name)).unwrap()), ("cls", (index % 2).to_string().into_bytes())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            shard.append_data(&mut header, format!("{index:04}.{suffix}"), &bytes[..]).unwrap();
        }
    }
    fs::write(own.join("all.csv"), table).unwrap();
    fs::create_dir(place.path().join("shards")).unwrap();
    let mut files = std::collections::BTreeMap::new();
    for (name, shard) in shards {
        let bytes = shard.into_inner().unwrap();
        fs::write(place.path().join(format!("shards/{name}.tar")), &bytes).unwrap();
        files.insert(format!("data/{name}.tar"), bytes);
    }
    let server = crate::hub::server::Server::start(b"");
    server.behave(|manners| manners.data = files);
    let home = place.path().join("hub");
    let experiment = |data: &str| {
        format!(
            r#"
            [base]
            data = {data}
            split = {{ train = "train[:6]", validation = "train[6:]", test = "test" }}
            objective = "labels"
            student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
            resolution = 6
            learning-rate = 1e-2
            batch = 3
            epochs = 2
            "#
        )
    };
    fs::create_dir(place.path().join("experiments")).unwrap();
    let mut ids = Vec::new();
    for (name, data) in [
        ("table", r#"{ csv = "../own/all.csv" }"#),
        ("shards", r#"{ tar = "../shards" }"#),
        ("hub", r#""hf:owner/name""#),
        ("choices", r#"{ set = "hf:owner/name", broken = "skip" }"#),
    ] {
        fs::write(place.path().join(format!("experiments/{name}.toml")), experiment(data)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", &home);
        command.current_dir(place.path()).args(["run", name, "--no-report", "--quiet", "--device", "cpu", "--json"]);
        let told = succeeded(command.output().unwrap());
        assert_eq!(done(&told), 1, "{name}: {told}");
        ids.push(told["jobs"][0]["last"]["training-loss"].as_f64().unwrap());
    }
    // The same images in the same order: the same student, bit for bit, whatever it is called.
    assert!(ids.windows(2).all(|two| two[0] == two[1]), "{ids:?}");
}

/// Decoded or encoded, views are the same bytes: of real photos, by every way to resize, whole and at an edge.
#[test]
fn views_do_not_depend_on_how_images_are_held() {
    let Some(flowers) = large("flowers17-160") else { return };
    let open = |keep| data::open(&Source::files(Kind::Folder, &flowers)).unwrap().hold(keep, Decode::Full).unwrap();
    let (decoded, encoded) = (open(distillery::source::Keep::Memory), open(distillery::source::Keep::Encoded));
    for resize in [Resize::Bilinear, Resize::BilinearAntialias, Resize::Bicubic] {
        for view in [View::InceptionCrop, View::MildCrop, View::Resize] {
            let job = Job {
                resize,
                augment: Augment::TrivialAugment,
                resolution: 48,
                objective: Objective::Labels(Labels { view, mixup: 0.0, label_smoothing: 0.0 }),
                ..labels(1)
            };
            let look = student_look(&job);
            let pixels = |set: &DataSet| {
                let views = Views::new(&job, set, &[]);
                (0..3)
                    .flat_map(|step| {
                        let batch = views.batch(step);
                        let mut pixels = vec![0; batch.images.len() * views.pixels_each(look)];
                        views.pixels(&batch, look, &mut pixels).unwrap();
                        pixels
                    })
                    .collect::<Vec<u8>>()
            };
            assert!(pixels(&decoded) == pixels(&encoded), "{resize:?} {view:?}");
        }
    }
}

/// One of the paper's sets by its name, as its makers hand it out: found where data sets are kept, divided as in the
/// paper, with a word about what differs.
#[test]
fn the_papers_sets_have_the_papers_splits() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("sets/pet37");
    shades(&root, &["images"], 24);
    fs::create_dir(root.join("annotations")).unwrap();
    let list = |range: std::ops::Range<usize>| -> String {
        range.map(|index| format!("{}_{index} {} 1 1\n", ["Abyssinian", "beagle"][index % 2], index % 2 + 1)).collect()
    };
    fs::write(root.join("annotations/trainval.txt"), list(0..20)).unwrap();
    fs::write(root.join("annotations/test.txt"), list(20..24)).unwrap();
    for index in 0..24 {
        let name = format!("images/{}_{index}.jpg", ["Abyssinian", "beagle"][index % 2]);
        fs::rename(root.join(format!("images/{index}.png")), root.join(name)).unwrap();
    }
    let text = r#"
        [base]
        data = "pet37"
        objective = "labels"
        student = { bit-resnet-small = { depth = 8, width = 4 } }
        resolution = 6
        learning-rate = 1e-2
        batch = 6
        epochs = 1
    "#;
    fs::create_dir(place.path().join("experiments")).unwrap();
    fs::write(place.path().join("experiments/pets.toml"), text).unwrap();
    let distillery = |arguments: &[&str], data: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        command.current_dir(place.path()).args(arguments).env_remove("DISTILLERY_DATA");
        command.envs(data.map(|folder| ("DISTILLERY_DATA", folder))).output().unwrap()
    };
    let run = ["run", "pets", "--no-report", "--quiet", "--device", "cpu", "--json"];
    let output = distillery(&run, Some("sets"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Oxford-IIIT Pet has 3680 images in `train`, here there are 20"), "{said}");
    let told = succeeded(output);
    let id = told["jobs"][0]["id"].as_str().unwrap();
    let job = fs::read_to_string(place.path().join(format!("runs/jobs/{id}/job.json"))).unwrap();
    let job: Job = serde_json::from_str(&job).unwrap();
    let slice = |part, start, end| Slice { part, start, end };
    assert_eq!(job.split.train, slice(Part::Train, 0, 18));
    assert_eq!(job.split.validation, slice(Part::Train, 18, 20));
    assert_eq!(job.split.test, slice(Part::Test, 0, 4));
    assert_eq!((job.data.name.as_str(), job.data.classes, job.data.train_images), ("pet37", 2, 20));

    let told = succeeded(distillery(&["data", "inspect", "pet37", "--json"], Some("sets")));
    assert_eq!((&told["paper"]["train"], &told["paper"]["resize-to"]), (&"train[:90%]".into(), &160.into()));
    for data in [None, Some("elsewhere")] {
        let output = distillery(&run, data);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("DISTILLERY_DATA") && said.contains("robots.ox.ac.uk"), "{said}");
    }
}

/// A set that changed while a run was stopped is noticed: its old job does not go on with other images.
#[test]
fn a_set_that_changes_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let own = place.path().join("own");
    shades(&own, &["dark", "light"], 12);
    let set = data::open(&Source::files(Kind::Folder, &own)).unwrap();
    let source = Source::files(Kind::Folder, &own);
    let mut job = labels(1);
    job.data = data::identify(&source, &set);
    job.split = Split {
        train: Slice { part: Part::Train, start: 0, end: 16 },
        per_class: None,
        validation: Slice { part: Part::Train, start: 16, end: 20 },
        test: Slice { part: Part::Train, start: 20, end: 24 },
    };
    let mut manifest = manifest(&[&job], 1);
    manifest.places.data.insert(job.data.sha256.clone(), source);
    let folder = Folder::new(place.path().join("runs"));
    assert_eq!(rows(&train(&manifest, &folder), &job).len(), 1);
    fs::remove_dir_all(folder.job(&job.id())).unwrap();
    fs::copy(own.join("dark/1.png"), own.join("dark/2.png")).unwrap();
    let stop = distillery::train::Control::default();
    let error = distillery::train::run(&manifest, &folder, &stop, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("`own` is no longer what it was"), "{error:#}");
}

/// Who saw what is measured is refused where it is the same set, and named where images are the same in another.
#[test]
fn nobody_is_measured_on_what_was_seen() {
    let place = tempfile::tempdir().unwrap();
    shades(&place.path().join("own/train"), &["dark", "light"], 12);
    shades(&place.path().join("own/test"), &["dark", "light"], 6);
    fs::create_dir(place.path().join("copy")).unwrap();
    for class in ["dark", "light"] {
        fs::create_dir(place.path().join("copy").join(class)).unwrap();
        for index in 0..4 {
            let name = format!("{class}/{index}.png");
            fs::copy(place.path().join("own/test").join(&name), place.path().join("copy").join(&name)).unwrap();
        }
    }
    let experiment = |teacher: &str, more: &str| {
        format!(
            r#"
            [teachers.big.train]
            epochs = 1
            {teacher}
            [base]
            data = {{ folder = "../own" }}
            student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
            teaching = "consistent/ic"
            teachers = ["big"]
            resolution = 6
            learning-rate = 1e-2
            batch = 4
            epochs = 1
            {more}
            [run]
            teacher-at-chance = "allow"
            "#
        )
    };
    let seen = r#"split = { train = "test", validation = "train[:12]", test = "train[12:]" }"#;
    for (name, text, expected) in [
        ("teacher", experiment(seen, ""), "this teacher was trained on images of `own` that are `test` here"),
        (
            "start",
            experiment(seen, "objective = \"labels\"\ninit = { teacher = { name = \"big\" } }"),
            "what it starts from was trained on images of `own`",
        ),
    ] {
        let output = run(place.path(), name, &text);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(expected) && said.contains("hint"), "{name}: {said}");
    }
    let output = run(place.path(), "copy", &experiment("", r#"train-on = [{ data = { folder = "../copy" } }]"#));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("8 test images of `own` are among those of `copy` that are trained on"), "{said}");
    assert_eq!(done(&succeeded(output)), 1);
}

/// What is only to be priced is told too.
#[test]
fn teachers_and_copies_are_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let folder = |name: &str| place.path().join(name);
    let classes = ["dark", "light"];
    shades(&folder("own/train"), &classes, 12);
    // Two of each class are copies of images to train on, the other way round in `other`, which shows the rest too.
    shades(&folder("own/test"), &classes, 6);
    for class in classes {
        for index in 0..6 {
            let path = folder("own/test").join(class).join(format!("{index}.png"));
            if index >= 2 {
                let shade =
                    |x, y| image::Luma([(3 + 5 * index + 7 * x + y) as u8 + if class == "dark" { 0 } else { 90 }]);
                image::GrayImage::from_fn(9, 8, shade).save(&path).unwrap();
            }
            let copy = folder("other/train").join(class).join(format!("{index}.png"));
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&path, copy).unwrap();
        }
    }
    shades(&folder("other/test"), &classes, 1);
    let said = |name: &str, teacher: &str, more: &str| {
        let text = format!(
            r#"
            [teachers.first.train]
            objective = "labels"
            {teacher}
            [teachers.big.train]
            init = {{ teacher = {{ name = "first" }} }}
            objective = "labels"
            [base]
            data = {{ folder = "../own" }}
            split = {{ train = "train", validation = "test[:1]", test = "test[1:]" }}
            student = {{ bit-resnet-small = {{ depth = 8, width = 4 }} }}
            teaching = "consistent/ic"
            teachers = ["big"]
            resolution = 6
            learning-rate = 1e-2
            batch = 4
            epochs = 1
            {more}
            "#
        );
        fs::create_dir_all(folder("experiments")).unwrap();
        fs::write(folder("experiments").join(format!("{name}.toml")), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
        let output = command.current_dir(place.path()).args(["plan", name]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let notes = said.lines().filter(|line| line.contains("images of `own`"));
        notes.filter(|line| line.contains(" test ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let other = r#"data = { folder = "../other" }
        split = { train = "train", validation = "test[:1]", test = "test[1:]" }"#;
    let few = "[[grid]]\n[grid.product]\nepochs = [1, 2]";
    // Of 11 or 12 test images; which one is cut off by `test[1:]` is a matter of the order of paths.
    let copies = said("copies", "", few);
    assert!(copies.len() == 1 && copies[0].ends_with("test images of `own` are copies of those that are trained on"));
    assert!(copies[0].contains(" 3 ") || copies[0].contains(" 4 "), "{copies:?}");
    let both = said("both", other, few);
    let of_start = "note: 11 test images of `own` are among those of `other` that its teacher or start is trained on";
    assert!(both.len() == 2 && both.contains(&copies[0]) && both.contains(&of_start.to_owned()), "{both:?}");
    // By what is shown, not by what could be.
    let train_on = r#"train-on = [{ data = { folder = "../other" } }]"#;
    let shown = said("shown", "", train_on);
    assert!(shown.iter().any(|line| line.contains("11 test images of `own` are among those of `other` that are")));
}

/// A test part without labels, as of contests, is left aside where validation has some.
#[test]
fn a_part_without_labels_measures_nobody() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("own");
    shades(&root.join("train"), &["dark", "light"], 6);
    shades(&root.join("val"), &["dark", "light"], 3);
    let mut table = String::from("filename,target,split\n");
    for (part, split, count) in [("train", "train", 6), ("val", "val", 3), ("val", "test", 3)] {
        for (label, class) in ["dark", "light"].iter().enumerate() {
            for index in 0..count {
                let label = if split == "test" { -1 } else { label as i32 };
                table += &format!("{part}/{class}/{index}.png,{label},{split}\n");
            }
        }
    }
    fs::write(root.join("all.csv"), table).unwrap();
    let set = data::open(&Source::files(Kind::Csv, &root.join("all.csv"))).unwrap();
    assert_eq!((set.train.len(), set.validation.len(), set.test.len(), set.classes), (12, 0, 6, 2));
    assert!(set.test.are_labelled());
}
