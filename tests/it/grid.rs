//! Experiment files: what they expand to, what makes a job the same job, and what is said about malformed ones.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use distillery::card::{Card, Interpolation};
use distillery::diagnostic::Report;
use distillery::grid::{self, Catalogue, DataSource, Experiment, FoundData, Source, WeightsFile};
use distillery::job::{
    Adagrad, Adam, Data, Graft, Head, Init, Job, Model, Muon, NetworkSource, Normalization, Objective, Optimizer,
    Rmsprop, Sgd, Shampoo, Teaching, Vit, Warmup,
};
use distillery::plan::Evaluations;
use distillery::source::{Kind, Origin};

/// Knows one data set and says so without reading anything.
#[derive(Default)]
struct FakeCatalogue {
    asked: Cell<usize>,
}

impl Catalogue for FakeCatalogue {
    fn data(&self, source: &DataSource) -> Result<FoundData, String> {
        self.asked.set(self.asked.get() + 1);
        let (name, sha256) = match &source.origin {
            Origin::BuiltIn => ("fashion-mnist-8k2k", "f".repeat(64)),
            Origin::Files { path, .. } if path.ends_with("nowhere") => {
                return Err("there is no folder `nowhere`\nhint: it should hold `train-images-idx3-ubyte`".to_owned());
            }
            _ => ("elsewhere", "e".repeat(64)),
        };
        let data = Data {
            name: name.to_owned(),
            sha256,
            classes: 10,
            channels: 1,
            train_images: 8000,
            validation_images: 0,
            test_images: 2000,
        };
        let train_labels = (0..8000).map(|image| image % 10).collect();
        Ok(FoundData { data, source: source.clone(), train_labels, labelled: [true; 3], split: None })
    }

    fn weights(&self, name: &str) -> Result<WeightsFile, String> {
        let card = |model, classes| {
            let normalization = Normalization { mean: [0.485; 3], std: [0.229; 3] };
            Some(Card {
                model,
                classes,
                channels: 1,
                resolution: 28,
                normalization,
                crop: 0.8,
                interpolation: Interpolation::Area,
                job: None,
                data: None,
            })
        };
        let vit = Model::Vit(Vit::new(48, 2, 3, 4));
        let (letter, card) = match name {
            name if name.ends_with("missing.safetensors") => {
                return Err(
                    "there is no file `missing.safetensors`\nhint: paths start at the experiment's folder".into()
                );
            }
            "hf:someone/vit" => ("b", card(vit, 10)),
            "imagenet.safetensors" => ("c", card(vit, 1000)),
            _ => ("a", None),
        };
        Ok(WeightsFile { sha256: letter.repeat(64), path: name.into(), card })
    }
}

const BASE: &str = r#"
[teachers.big]
train = { epochs = 4, student = { bit-resnet-small = { depth = 14, width = 32 } } }

[base]
data = "fashion-mnist-8k2k"
student = { bit-resnet-small = { depth = 8, width = 16 } }
resolution = 28
teachers = ["big"]
teaching = "function-matching"
epochs = 2
learning-rate = 3e-3
"#;

fn read_with(text: &str, overrides: &[&str]) -> Result<Experiment, Report> {
    let source = Source { name: "experiments/test.toml".to_owned(), text: text.to_owned(), folder: None };
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    grid::read(&source, &overrides, &FakeCatalogue::default())
}

#[track_caller]
fn read(text: &str) -> Experiment {
    read_with(text, &[]).unwrap_or_else(|report| panic!("{report}"))
}

/// The base with lines added to `[base]` or after it.
#[track_caller]
fn read_base(more: &str) -> Experiment {
    read(&format!("{BASE}{more}\n"))
}

#[track_caller]
fn only_job(experiment: Experiment) -> Job {
    let [only] = <[_; 1]>::try_from(experiment.jobs).expect("one job");
    (*only.job).clone()
}

fn ids(experiment: &Experiment) -> BTreeSet<String> {
    experiment.jobs.iter().map(|job| job.job.id().to_string()).collect()
}

#[test]
fn malformed_files_are_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/malformed");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    for file in files {
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = Source {
            name: format!("experiments/{stem}.toml"),
            text: fs::read_to_string(&file).unwrap(),
            folder: Some("experiments".into()),
        };
        match grid::read(&source, &[], &FakeCatalogue::default()) {
            Ok(_) => panic!("{stem} was accepted"),
            Err(report) => {
                assert!(report.advice().is_some(), "{report}");
                snapshot(&stem, &report.to_string());
            }
        }
    }
}

#[test]
fn malformed_overrides_are_explained() {
    let overrides = [
        "epochs",
        "epochs=",
        "epoch=3",
        "epochs=3O",
        "epochs=[1,2",
        "distance.kl.temprature=2",
        "teaching=fixed",
        "teachers.bag.train.epochs=2",
        "teachers.big.train.epochs=0",
        "run.evaluate-every=0",
        "base.epochs=3",
        "view=ic",
        "a b=3",
        "distance=sqared",
        "distance=kl",
        "distance={kl={temperature=1,scale=\"cubed\"}}",
        "distance={pseudo-labels={smoothing=1}}",
        "distance={dist={beta=1,gamma=1}}",
        "distance={dist={beta=0,gamma=0,temperature=1}}",
        "distance={dkd={alpha=1,beta=-8,temperature=4}}",
        "distance={dkd={alpha=1,beta=8,temperature=4}}",
        "label-weight=1",
        "label-smoothing=0.1",
        "ensemble=sum-of-losses",
        "teacher-weights=[1, 2]",
        "teacher-weights=same",
        "student.bit-resnet={depth=51,width=1}",
        "student.bit-resnet={depth=50,width=9}",
        "student.vit={width=192,depth=12,heads=5,patch=4}",
        "student.vit={width=192,depth=12,heads=3,patch=5}",
        "optimizer.sgd={momentum=1.0,nesterov=false}",
        "optimizer=shampu",
        "optimizer={shampu={}}",
        "optimizer.shampoo=3",
        "optimizer.shampoo={blok=64}",
        "optimizer.shampoo={block=0}",
        "optimizer.shampoo={every=0}",
        "optimizer.shampoo={beta2=1.5}",
        "optimizer.shampoo={epsilon=0}",
        "optimizer.shampoo={graft=\"adam\"}",
        "optimizer.shampoo={graft={rmsprop={beta=0.9}}}",
        "optimizer.shampoo={graft={rmsprop={beta2=1.0}}}",
        "optimizer.muon={iterations=0}",
        "optimizer.muon.adam.beta1=1",
        "decay=rate",
        "precision=f16",
        "run.record-teacher=yes",
        "run.images=everywhere",
        "data=fashion-minst",
        "data={folder=\"a\",tar=\"b\"}",
        "data={broken=\"skip\"}",
        "data={foldr=\"a\"}",
        "data={folder=\"a\",broken=\"ignore\"}",
        "data.folder=3",
        "split.train=validation",
        "split.per-class=0",
        "train-on=[]",
        "train-on=datum",
        "train-on=[{split=\"train\"}]",
        "train-on=[{data=\"fashion-mnist-8k2k\",weight=-1}]",
        "train-on=[{data=\"fashion-mnist-8k2k\",split=\"train[:9000]\"}]",
        "train-on=fashion-mnist-8k2k",
        "answers={replay={epochs=0}}",
        "answers=replay",
        "resize=lanczos",
        "decode=half",
        "augment={rand-augment={operations=2,magnitude=31}}",
        "augment=rand-augment",
        "mixing=cutout",
        "schedule={cooldown=0}",
        "schedule=cooldown",
    ];
    let mut all = String::new();
    for text in overrides {
        let report = read_with(BASE, &["seed=1", text]).expect_err(text);
        assert!(report.advice().is_some(), "{report}");
        writeln!(all, "{text}\n\n{report}\n").unwrap();
    }
    snapshot("overrides", &all);
}

/// Snapshots are named for the file, not for the test.
fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), text));
}

#[test]
fn colours_change_nothing_else() {
    let report = read_with(BASE, &["epochs=0"]).expect_err("no epochs");
    let coloured = report.coloured();
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("a colour ends").1;
    }
    plain.push_str(rest);
    assert_eq!(plain, report.to_string());
}

#[test]
fn blocks_are_a_union_of_products_and_zips() {
    let experiment = read_base(
        r#"
[run]
evaluate-every = 2

[[grid]]
exclude = [{ teaching = "fixed/cc", epochs = 4 }]
[grid.product]
teaching = ["fixed/cc", "consistent/ic"]
seed = [0, 1]
[grid.zip]
epochs = [1, 4]
learning-rate = [1e-2, 1e-3]

[[grid]]
set = { objective = "labels", view = "ic" }
product = { epochs = [1, 4] }
"#,
    );
    assert_eq!(experiment.axes, ["teaching", "seed", "epochs", "learning-rate"]);
    assert_eq!(experiment.run.evaluations, Evaluations::Every(2));
    assert!(!experiment.run.allow_teacher_at_chance && !experiment.run.record_teacher);
    let table: Vec<String> = experiment
        .jobs
        .iter()
        .map(|job| {
            let axes: Vec<&str> = job.axes.values().map(String::as_str).collect();
            format!("{} {}", job.job.teaching_name(), axes.join(" "))
        })
        .collect();
    // In the order of the axes' names: epochs, learning rate, seed, teaching.
    assert_eq!(
        table,
        [
            "fixed/cc 1 1e-2 0 fixed/cc",
            "fixed/cc 1 1e-2 1 fixed/cc",
            "consistent/ic 1 1e-2 0 consistent/ic",
            "consistent/ic 4 1e-3 0 consistent/ic",
            "consistent/ic 1 1e-2 1 consistent/ic",
            "consistent/ic 4 1e-3 1 consistent/ic",
            "labels 1",
            "labels 4",
        ]
    );
}

#[test]
fn equal_jobs_of_two_blocks_are_one() {
    let experiment = read_base(
        "[[grid]]\nproduct = { seed = [0, 1], teaching = [\"consistent/ic\", \"function-matching\"], mixup = [0.5, 1] }\n\
         [[grid]]\nproduct = { seed = [1, 2] }",
    );
    // Consistent jobs have no mixup: 2 seeds. Function matching: 2 seeds x 2 coefficients, one of them in both blocks.
    assert_eq!(experiment.jobs.len(), 2 + 4 + 1);
    let consistent = experiment.jobs.iter().find(|job| job.job.teaching_name() == "consistent/ic").unwrap();
    assert!(!consistent.axes.contains_key("mixup"));
}

#[test]
fn axes_may_be_nested_and_choices_replace() {
    let experiment = read_base(
        r#"
[[grid]]
[grid.product]
distance.kl.temperature = [1, 2]
crop.area = [[0.05, 1.0], [0.25, 1]]
warmup = [{ steps = 3 }, { share = 0.5 }]
clip = ["off", { norm = 2 }]
"#,
    );
    assert_eq!(experiment.jobs.len(), 16);
    assert_eq!(experiment.axes, ["distance.kl.temperature", "crop.area", "warmup", "clip"]);
    let first = &experiment.jobs[0];
    assert_eq!(first.axes["crop.area"], "[0.05, 1.0]");
    assert_eq!(first.axes["clip"], "off");
    assert_eq!(first.job.warmup, Warmup::Steps(3));
    assert_eq!(first.job.crop.margin, 1.25);
}

#[test]
fn overrides_win_over_everything() {
    let text =
        format!("{BASE}\n[[grid]]\nproduct = {{ seed = [0, 1], teaching = [\"fixed/cc\", \"consistent/ic\"] }}\n");
    let experiment = read_with(
        &text,
        &[
            "teaching=function-matching",
            "warmup.steps = 5",
            "run.teacher-at-chance=allow",
            "run.record-teacher=true",
            "teachers.big.train.seed=9",
        ],
    )
    .unwrap();
    assert_eq!(experiment.jobs.len(), 2);
    assert!(experiment.run.allow_teacher_at_chance && experiment.run.record_teacher);
    for job in &experiment.jobs {
        assert_eq!(job.axes["teaching"], "function-matching");
        assert_eq!(job.job.teaching_name(), "function-matching");
        assert_eq!(job.job.warmup, Warmup::Steps(5));
        assert_eq!(job.job.needs().next().unwrap().seed, 9);
    }
}

#[test]
fn an_overridden_zip_list_leaves_the_others() {
    let text = format!(
        "{BASE}\n[[grid]]\nexclude = [{{ epochs = 1 }}]\nzip = {{ epochs = [1, 2], learning-rate = [0.1, 0.2] }}\n"
    );
    let experiment = read_with(&text, &["epochs=7"]).unwrap();
    let rates: Vec<f64> = experiment.jobs.iter().map(|job| job.job.learning_rate).collect();
    assert_eq!(rates, [0.1, 0.2]);
}

#[test]
fn a_teacher_follows_the_base_but_not_the_grid() {
    let experiment = read_base(
        "mixup = 0.5\nseed = 7\n[[grid]]\nproduct = { batch = [100, 200], teaching = [\"fixed/cc\", \"function-matching\"] }",
    );
    let NetworkSource::Job(teacher) = &experiment.teachers["big"] else { panic!("a job") };
    assert_eq!((teacher.batch, teacher.epochs, teacher.seed), (512, 4, 7));
    let Objective::Labels(labels) = &teacher.objective else { panic!("labels") };
    assert_eq!(labels.mixup, 0.0);
    for job in &experiment.jobs {
        assert_eq!(job.job.needs().next(), Some(teacher));
    }
    let Objective::Distil(distil) = &experiment.jobs[1].job.objective else { panic!("distil") };
    assert_eq!(distil.teaching, Teaching::FunctionMatching { mixup: 0.5 });
}

#[test]
fn teachers_come_from_weights_and_from_teachers() {
    let text = BASE.replace("teachers = [\"big\"]", "teachers = [\"old\", \"big\"]").replace(
        "[base]",
        r#"[teachers.old]
weights = "old.safetensors"
model = { bit-resnet-small = { depth = 20, width = 64 } }
resolution = 56

[teachers.middle]
train = { objective = "distil", teaching = "consistent/ic", teachers = ["big"] }

[base]"#,
    );
    let experiment = read(&text);
    let old = &experiment.jobs[0].job.teachers()[0];
    assert_eq!(old.resolution, 56);
    assert_eq!(experiment.places.weights[&"a".repeat(64)], Path::new("old.safetensors"));
    let NetworkSource::Job(middle) = &experiment.teachers["middle"] else { panic!("a job") };
    assert_eq!(middle.needs().count(), 1);
}

#[test]
fn paths_are_meant_from_where_they_are_written() {
    let text = BASE.replace("\"fashion-mnist-8k2k\"", "{ idx = \"images\" }");
    let source = Source { name: "x/test.toml".to_owned(), text, folder: Some("x".into()) };
    let place = |overrides: &[String]| {
        let experiment = grid::read(&source, overrides, &FakeCatalogue::default()).unwrap();
        experiment.places.data[&"e".repeat(64)].origin.clone()
    };
    let images = |path: &str| Origin::Files { kind: Kind::Idx, path: path.into() };
    assert_eq!(place(&[]), images("x/images"));
    let typed = ["data.idx=images", "teachers.big.train.data.idx=images"].map(str::to_owned);
    assert_eq!(place(&typed), images("images"));
}

#[test]
fn the_id_of_a_job_does_not_drift() {
    // A new id here is a new job: every result in every store would be computed again.
    let job = only_job(read_base(""));
    insta::assert_snapshot!(job.id().as_str(), @"f0535a2553711a17");
    assert_eq!(read_base("").hash.len(), 16);
}

#[test]
fn style_is_not_identity() {
    let base = only_job(read_base(""));
    let styles = [
        // Key order, dotted keys, integers for numbers, and defaults spelled out.
        r#"
[base]
seed = 0
learning-rate = 0.003
epochs = 0x2
teaching = 'function-matching'
mixup = 1
distance.kl.temperature = 1
clip.norm = 1
weight-decay = 0.000_1
student.bit-resnet-small.width = 16
student.bit-resnet-small.depth = 8
resolution = 28
data = "fashion-mnist-8k2k"
teachers = [
  "teacher",
]
crop.area = [0.05, 1]

[teachers.teacher.train]
epochs = 4
[teachers.teacher.train.student.bit-resnet-small]
depth = 14
width = 32
"#
        .to_owned(),
        BASE.replace("epochs = 2\n", "") + "[[grid]]\nproduct = { epochs = [2] }\n",
        format!("title = 'another'\n[run]\nevaluate-every = 9\n{BASE}"),
        // What this job has no use for.
        format!("{BASE}ensemble = 'mean-probabilities'\nfixed-crops = 3\n"),
    ];
    for style in styles {
        let job = only_job(read(&style));
        assert_eq!(job.id(), base.id(), "{}\n{}", job.canonical_text(), base.canonical_text());
    }
    let overridden = read_with(&BASE.replace("epochs = 2", "epochs = 5"), &["epochs=2"]).unwrap();
    // The teacher has epochs of its own, so the base's do not reach it.
    assert_eq!(only_job(overridden).id(), base.id());
}

#[test]
fn every_field_is_identity() {
    let changes = [
        "data.idx=images",
        "split.train=train[:7000]",
        "split.validation=train[95%:]",
        "split.test=test[:1000]",
        "student.bit-resnet-small.depth=14",
        "student.bit-resnet-small.width=20",
        "resolution=32",
        "crop.area=[0.1,1]",
        "crop.aspect=[0.5,2]",
        "crop.tries=10",
        "crop.margin=1",
        "flip=false",
        "split.per-class=70",
        "train-on=[{data=\"fashion-mnist-8k2k\",split=\"train[:7000]\"}]",
        "train-on=[{data=\"fashion-mnist-8k2k\",split=\"train[:600]\"}]",
        "train-on=[{data=\"fashion-mnist-8k2k\",split=\"train[:600]\",weight=2}]",
        "answers={replay={epochs=1}}",
        "answers={replay={epochs=2}}",
        "resize=bicubic",
        "resize=bilinear-antialias",
        "decode=reduced",
        "augment=trivial-augment",
        "augment.rand-augment={operations=1,magnitude=9}",
        "mixing=cutmix",
        "objective=labels",
        "teaching=independent-mixup",
        "teaching=fixed/ic-ens",
        "mixup=0.5",
        "teachers.big.resolution=32",
        "teachers.big.train.seed=1",
        "distance.kl.temperature=2",
        "distance.kl.scale=plain",
        "distance=squared",
        "distance=euclidean",
        "distance={pseudo-labels={smoothing=0}}",
        "distance={pseudo-labels={smoothing=0.1}}",
        "distance={dist={beta=1,gamma=1,temperature=1}}",
        "distance={dist={beta=1,gamma=2,temperature=1}}",
        "label-weight=0.5",
        "epochs=3",
        "batch=256",
        "optimizer.adam.beta1=0.8",
        "optimizer.adam.beta2=0.99",
        "optimizer.adam.epsilon=1e-7",
        "optimizer=sgd",
        "optimizer.sgd.nesterov=true",
        "optimizer=shampoo",
        "optimizer.shampoo.block=64",
        "optimizer.shampoo.every=1",
        "optimizer.shampoo.beta2=1",
        "optimizer.shampoo.momentum=0",
        "optimizer.shampoo.nesterov=false",
        "optimizer.shampoo.epsilon=1e-5",
        "optimizer.shampoo.graft=sgd",
        "optimizer.shampoo.graft=adagrad",
        "optimizer.shampoo.graft.adagrad.epsilon=1e-7",
        "optimizer.shampoo.graft.rmsprop.beta2=0.99",
        "optimizer=muon",
        "optimizer.muon.momentum=0.9",
        "optimizer.muon.nesterov=false",
        "optimizer.muon.iterations=6",
        "optimizer.muon.adam.beta2=0.95",
        "decay=learning-rate",
        "decay=gradient",
        "learning-rate=0.01",
        "weight-decay=0",
        "warmup.steps=3",
        "warmup.share=0.2",
        "schedule=linear",
        "schedule=quadratic",
        "schedule.cooldown=0.2",
        "clip=off",
        "clip.norm=2",
        "seed=1",
    ];
    let mut seen = BTreeSet::from([only_job(read_base("")).id()]);
    for change in changes {
        let experiment = read_with(BASE, &[change]).unwrap_or_else(|report| panic!("{report}"));
        assert!(seen.insert(only_job(experiment).id()), "`{change}` did not change the id");
    }
}

const TWO_TEACHERS: &str = r#"
teachers.small.train = { epochs = 3 }
teachers.big.train = { epochs = 4 }

[base]
data = "fashion-mnist-8k2k"
student = { bit-resnet-small = { depth = 8, width = 16 } }
resolution = 28
teachers = ["big", "small"]
teaching = "consistent/ic"
epochs = 2
learning-rate = 3e-3
"#;

/// What says nothing is not in a job's text, so the jobs of before have the ids of before; and a key that belongs to
/// another choice is no part of it.
#[test]
fn choices_that_say_nothing_are_not_identity() {
    let of =
        |overrides: &[&str]| only_job(read_with(TWO_TEACHERS, overrides).unwrap_or_else(|report| panic!("{report}")));
    let plain = of(&[]);
    let Objective::Distil(distil) = &plain.objective else { panic!("distilled") };
    let keys: Vec<String> = serde_json::to_value(distil).unwrap().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["distance", "ensemble", "teachers", "teaching"]);
    assert_eq!(serde_json::to_string(&distil.distance).unwrap(), r#"{"kl":{"temperature":1.0}}"#);
    assert!(!serde_json::to_string(&distil.teachers).unwrap().contains("\"weight\":"));
    let text = |job: &Job| job.canonical_text();
    for same in [
        &["distance.kl.scale=squared"][..],
        &["label-weight=0"],
        &["teacher-weights=equal"],
        &["teacher-weights=[1, 1]"],
        // In a mean only ratios count.
        &["teacher-weights=[3, 3.0]"],
        &["distance={kl={temperature=1}}"],
    ] {
        assert_eq!(text(&of(same)), text(&plain), "{same:?}");
    }
    assert_eq!(text(&of(&["teacher-weights=[3, 1]"])), text(&of(&["teacher-weights=[6, 2]"])));
    // A sum is another sum.
    let sum = |weights| of(&["ensemble=sum-of-kl", weights]);
    assert_ne!(text(&sum("teacher-weights=[2, 2]")), text(&sum("teacher-weights=equal")));
    // Who teaches alone is weighed by nobody, whatever the rule.
    let one = |rule: &str| of(&["teachers=[\"big\"]", rule]);
    let key = |overrides: &[&str]| distillery::plan::stream_key(&of(overrides));
    assert_eq!(
        read_with(TWO_TEACHERS, &["teachers=[\"big\"]", "ensemble=sum-of-kl"]).map(|_| ()).unwrap_err().message(),
        "`ensemble` has no effect on any job"
    );
    assert!(text(&one("seed=0")).contains("mean-logits"));
    // Of the teacher's stream are rule and weights, and not what a student makes of the answers.
    let keys = BTreeSet::from([
        key(&[]),
        key(&["ensemble=mean-probabilities"]),
        key(&["ensemble=sum-of-kl"]),
        key(&["teacher-weights=[1, 2]"]),
        key(&["ensemble=sum-of-kl", "teacher-weights=[1, 2]"]),
    ]);
    assert_eq!(keys.len(), 5);
    for student in [
        "distance=squared",
        "distance.kl.temperature=4",
        "label-weight=0.5",
        "distance={dkd={alpha=1,beta=8,temperature=4}}",
    ] {
        assert_eq!(key(&[student]), key(&[]), "{student}");
    }
}

/// What cannot go together is said, each with a way out.
#[test]
fn what_cannot_be_combined_is_refused() {
    let refused = |overrides: &[&str]| {
        let report = read_with(TWO_TEACHERS, overrides).map(|_| ()).unwrap_err();
        format!("{}\n{}", report.message(), report.advice().unwrap_or_default())
    };
    let dkd = "distance={dkd={alpha=1,beta=8,temperature=4}}";
    assert_eq!(
        refused(&[dkd, "teaching=function-matching"]),
        "`dkd` needs one true class, and mixed images have two\n\
         choose a mode that does not mix, as `consistent/ic`; a `label-weight` brings labels to one that does"
    );
    assert_eq!(
        refused(&["ensemble=sum-of-kl", "distance=squared"]),
        "`sum-of-kl` sums divergences, and the distance is `squared`\n\
         `mean-logits` and `mean-probabilities` make one target, to which there is every distance"
    );
    assert!(refused(&["teacher-weights=[1]"]).starts_with("there are 2 teachers, and 1 weights"));
    assert!(refused(&["teacher-weights=[1, 0]"]).starts_with("a teacher's weight is 0, but must be from 1e-6 to 1e6"));

    // Images without labels: nobody may ask for them.
    struct Unlabelled(FakeCatalogue);
    impl Catalogue for Unlabelled {
        fn data(&self, source: &DataSource) -> Result<FoundData, String> {
            Ok(FoundData { labelled: [false, true, true], ..self.0.data(source)? })
        }
        fn weights(&self, name: &str) -> Result<WeightsFile, String> {
            self.0.weights(name)
        }
    }
    let text = TWO_TEACHERS
        .replace("teachers.small.train = { epochs = 3 }", "")
        .replace("teachers.big.train = { epochs = 4 }", "teachers.big.weights = \"hf:someone/vit\"")
        .replace("[\"big\", \"small\"]", "[\"big\"]")
        .replace("[base]", "[base]\nsplit.validation = \"validation\"");
    let with = |change: &str| {
        let source = Source { name: "a.toml".to_owned(), text: text.clone(), folder: None };
        let changes =
            [change.to_owned(), "split.validation=test[1000:]".to_owned(), "split.test=test[:1000]".to_owned()];
        grid::read(&source, &changes, &Unlabelled(FakeCatalogue::default())).map(|_| ())
    };
    with("distance=squared").unwrap_or_else(|report| panic!("{report}"));
    for needs in [dkd, "label-weight=0.5"] {
        let report = with(needs).unwrap_err();
        assert_eq!(report.message(), "the images of `train` in `fashion-mnist-8k2k` have no labels", "{needs}");
    }
    let other = "train-on=[{data=\"fashion-mnist-8k2k\"}]";
    let source = Source { name: "a.toml".to_owned(), text, folder: None };
    let changes = [other, dkd, "split.validation=test[1000:]", "split.test=test[:1000]"].map(str::to_owned);
    let report = grid::read(&source, &changes, &Unlabelled(FakeCatalogue::default())).map(|_| ()).unwrap_err();
    assert_eq!(report.message(), "the images of `train` in `fashion-mnist-8k2k` have no labels");
}

/// An optimiser is named, or some of its settings are; the rest are its defaults, whatever was chosen below.
#[test]
fn optimizers_have_defaults() {
    let one = |overrides: &[&str]| only_job(read_with(BASE, overrides).unwrap_or_else(|report| panic!("{report}")));
    let usual = one(&[]);
    assert_eq!(usual.optimizer, Optimizer::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }));
    // Neither is written where it is what it was before there was a choice.
    assert!(!usual.canonical_text().contains("\"decay\""), "{}", usual.canonical_text());
    let of = |text: &str| one(&[text]).optimizer;
    assert_eq!(of("optimizer=adam"), usual.optimizer);
    assert_eq!(of("optimizer={sgd={nesterov=true}}"), Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true }));
    let Optimizer::Shampoo(shampoo) = of("optimizer=shampoo") else { panic!() };
    assert_eq!((shampoo.block, shampoo.every, shampoo.nesterov), (128, 10, true));
    assert_eq!(shampoo.graft, Graft::Rmsprop(Rmsprop { beta2: 0.999, epsilon: 1e-8 }));
    assert_eq!(of("optimizer.shampoo.graft=adagrad"), {
        Optimizer::Shampoo(Shampoo { graft: Graft::Adagrad(Adagrad { epsilon: 1e-8 }), ..shampoo })
    });
    let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let muon = Muon { momentum: 0.9, nesterov: true, iterations: 5, adam };
    assert_eq!(of("optimizer={muon={momentum=0.9}}"), Optimizer::Muon(muon));

    // One axis, whose values are shown as they are written, over a base with settings of its own.
    let base = BASE.replace("[base]", "[base]\noptimizer = { shampoo = { every = 5, graft = { adagrad = {} } } }");
    let axis = r#"
[[grid]]
product = { optimizer = ["adam", { shampoo = { graft = { rmsprop = { beta2 = 0.9 } } } }, "muon"] }
"#;
    let jobs = read(&format!("{base}{axis}")).jobs;
    let shown: Vec<&str> = jobs.iter().map(|grid| grid.axes["optimizer"].as_str()).collect();
    assert_eq!(shown, ["adam", "{ shampoo = { graft = { rmsprop = { beta2 = 0.9 } } } }", "muon"]);
    let graft = Graft::Rmsprop(Rmsprop { beta2: 0.9, epsilon: 1e-8 });
    assert_eq!(jobs[1].job.optimizer, Optimizer::Shampoo(Shampoo { every: 5, graft, ..shampoo }));

    // What does not decay follows nothing; torch's decay may be large.
    assert_eq!(one(&["weight-decay=0"]).id(), {
        let both = read_with(&format!("{BASE}\n[[grid]]\nset = {{ weight-decay = 0 }}"), &["seed=0"]).unwrap();
        only_job(both).id()
    });
    let report = read_with(BASE, &["weight-decay=0", "decay=gradient"]).unwrap_err().to_string();
    assert!(report.contains("`decay` has no effect") && report.contains("hint"), "{report}");
    assert_eq!(one(&["weight-decay=5", "decay=learning-rate"]).weight_decay, 5.0);
    for text in ["weight-decay=5", "weight-decay=-1"] {
        assert!(read_with(BASE, &[text]).is_err());
    }
    let report = read_with(BASE, &["weight-decay=1000", "decay=learning-rate"]).unwrap_err().to_string();
    assert!(report.contains("1 / learning-rate"), "{report}");
}

#[test]
fn an_experiment_is_its_set_of_jobs() {
    let a = read_base("[[grid]]\nproduct = { seed = [0, 1] }");
    let b = read_base("[[grid]]\nproduct = { seed = [1] }\n[[grid]]\nzip = { seed = [0] }");
    assert_eq!(ids(&a), ids(&b));
    assert_eq!(a.hash, b.hash);
    assert_ne!(a.hash, read_base("").hash);
}

#[test]
fn a_large_grid_asks_the_catalogue_once() {
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let rates: Vec<String> = (1..=100).map(|n| format!("{n}e-4")).collect();
    let text =
        format!("{BASE}\n[[grid]]\nproduct = {{ seed = [{}], learning-rate = [{}] }}\n", list(1000), rates.join(", "));
    let source = Source { name: "large.toml".to_owned(), text, folder: None };
    let catalogue = FakeCatalogue::default();
    let experiment = grid::read(&source, &[], &catalogue).unwrap();
    assert_eq!(experiment.jobs.len(), 100_000);
    assert_eq!(catalogue.asked.get(), 1);
}

fn try_read(text: &str) -> Result<Experiment, Report> {
    read_with(text, &[])
}

/// A card beside a file, or in its repository on the hub, says what need not be written; what is written must agree.
#[test]
fn cards_tell_what_weights_are() {
    let teacher = |keys: &str| {
        BASE.replace("train = { epochs = 4, student = { bit-resnet-small = { depth = 14, width = 32 } } }", keys)
    };
    let source = |text: &str| try_read(text).map(|experiment| experiment.teachers["big"].clone());
    let NetworkSource::Weights(weights) = source(&teacher("weights = \"hf:someone/vit\"")).unwrap() else {
        panic!("weights")
    };
    assert_eq!(weights.model, Model::Vit(Vit::new(48, 2, 3, 4)));
    assert_eq!(weights.normalization.mean, [0.485; 3]);
    let own = "weights = \"hf:someone/vit\"\nnormalization = { mean = [0.1, 0.1, 0.1], std = [1.0, 1.0, 1.0] }";
    let NetworkSource::Weights(weights) = source(&teacher(own)).unwrap() else { panic!("weights") };
    assert_eq!(weights.normalization.mean, [0.1; 3]);
    for (keys, message) in [
        ("weights = \"plain.safetensors\"", "`model` is missing"),
        ("weights = \"imagenet.safetensors\"", "tells 1000 classes apart"),
        ("weights = \"hf:someone/vit\"\nmodel = { cifar-resnet = { depth = 20 } }", "is said to be a cifar-resnet 20"),
        ("weights = \"plain.safetensors\"\nmodel = { cifar-resnet = { depth = 21 } }", "no such network has 21 layers"),
        ("weights = \"hf:someone/vit\"\nnormalization = { mean = [0, 0, 0], std = [0, 1, 1] }", "`std` is 0"),
    ] {
        let report = try_read(&teacher(keys)).unwrap_err().to_string();
        assert!(report.contains(message), "{keys}: {report}");
    }
}

/// A student may start from a file, or from a network under `[teachers]`; its head goes only when that is said.
#[test]
fn students_start_from_trained_networks() {
    let with = |init: &str, student: &str| {
        let text = BASE.replace("student = { bit-resnet-small = { depth = 8, width = 16 } }", student);
        let text = text.replace("[base]", &format!("[base]\ninit = {init}"));
        try_read(&text)
    };
    let (small, vit) = (
        "student = { bit-resnet-small = { depth = 14, width = 32 } }",
        "student = { vit = { width = 48, depth = 2, heads = 3, patch = 4 } }",
    );
    let init = |experiment: Experiment| experiment.jobs[0].job.init.clone();

    // The teacher itself starts from nothing: it does not inherit what its student starts from.
    let text = BASE.replace("student = { bit-resnet-small = { depth = 8, width = 16 } }", small);
    let text = format!("{text}\ninit = {{ teacher = {{ name = \"big\", head = \"reset\" }} }}\n");
    let Init::Trained(trained) = init(try_read(&text).unwrap()) else { panic!() };
    assert!(matches!(trained.source, NetworkSource::Job(_)) && trained.head == Head::Reset);
    let job = &try_read(&text).unwrap().jobs[0].job;
    assert_eq!(job.needs().count(), 2, "its teacher, and what it starts from");

    let file = "{ weights = { file = \"hf:someone/vit\" } }";
    let Init::Trained(trained) = init(with(file, vit).unwrap()) else { panic!() };
    assert_eq!(trained.head, Head::Keep);
    for (value, student, message) in [
        (file, small, "is said to be a bit-resnet-small 14x32"),
        (
            "{ weights = { file = \"imagenet.safetensors\" } }",
            vit,
            "it tells 1000 classes apart, `fashion-mnist-8k2k` has 10",
        ),
        ("{ teacher = { name = \"bog\" } }", small, "teacher `bog` is not defined"),
        (
            "{ teacher = { name = \"big\" } }",
            "student = { cifar-resnet = { depth = 20 } }",
            "a cifar-resnet 20 cannot start from a bit-resnet-small 14x32",
        ),
        ("\"scrtch\"", small, "unknown"),
    ] {
        let report = with(value, student).unwrap_err().to_string();
        assert!(report.contains(message) && report.contains("hint"), "{value}: {report}");
    }
    assert!(with("{ weights = { file = \"imagenet.safetensors\", head = \"reset\" } }", vit).is_ok());
}

const SIZES: &str = r#"
title = "in sizes"

[base]
data = "fashion-mnist-8k2k"
epochs = 2
teaching = "function-matching"
learning-rate = 3e-3

[teachers.big]
resolution = 28
[teachers.big.train]
student = { bit-resnet-small = { depth = 14, width = 32 } }

[[grid]]
product = { seed = [0, 1] }

[sizes.small.base]
student = { bit-resnet-small = { depth = 8, width = 16 } }
resolution = 28
teachers = ["big"]

[sizes.small.run]
evaluate-every = { per-decade = 5 }

[sizes.small.teachers.big.train]
epochs = 4

[sizes.box]
title = "in a box"
teachers = { big = { weights = "imagenet-like.safetensors", model = { bit-resnet-small = { depth = 20, width = 8 } } } }

[sizes.box.base]
student = { bit-resnet-small = { depth = 8, width = 8 } }
resolution = 16
teachers = ["big"]

[[sizes.box.grid]]
product = { epochs = [5, 6, 7] }
"#;

#[test]
fn a_size_is_laid_over_the_file() {
    let small = read(SIZES);
    assert_eq!(
        (small.name.as_str(), small.stem.as_str(), small.size.as_deref()),
        ("test-small", "test", Some("small"))
    );
    assert_eq!(small.run.evaluations, Evaluations::PerDecade(5));
    assert_eq!(small.jobs.len(), 2);
    let job = &small.jobs[0].job;
    assert_eq!((job.resolution, job.epochs), (28, 2));
    let Some(NetworkSource::Job(teacher)) = job.teachers().first().map(|teacher| &teacher.source) else {
        panic!("the teacher is trained")
    };
    assert_eq!((teacher.epochs, teacher.student.label().as_str()), (4, "bit-resnet-small 14x32"));
    assert_eq!(ids(&small), ids(&read_with(SIZES, &["size=small"]).unwrap()));

    let boxed = read_with(SIZES, &["size=box", "learning-rate=1e-3"]).unwrap();
    assert_eq!((boxed.name.as_str(), boxed.title.as_deref()), ("test-box", Some("in a box")));
    assert_eq!(boxed.run.evaluations, Evaluations::Every(1));
    assert_eq!(boxed.jobs.iter().map(|cell| cell.job.epochs).collect::<Vec<_>>(), [5, 6, 7]);
    let job = &boxed.jobs[0].job;
    assert_eq!((job.resolution, job.learning_rate), (16, 1e-3));
    // Weights take the place of a teacher that would be trained, and of all that was said of it.
    assert!(matches!(job.teachers()[0].source, NetworkSource::Weights(_)));
    assert_eq!(read_base("").name, "test");
    let other = Source { name: "experiments/test-box.toml".to_owned(), text: BASE.to_owned(), folder: None };
    let report = grid::read(&other, &[], &FakeCatalogue::default()).unwrap_err();
    assert!(report.message().contains("size `box` of `test`") && report.advice().is_some(), "{report}");
}

#[test]
fn wrong_sizes_are_explained() {
    let mut all = String::new();
    let without = "[base]\ndata = \"fashion-mnist-8k2k\"\n";
    for (text, overrides) in [
        (SIZES, &["size=bix"] as &[&str]),
        (SIZES, &["size=paper"]),
        (SIZES, &["size=3"]),
        (SIZES, &["sizes.small.base.epochs=3"]),
        (without, &["size=small"]),
        ("[sizes.tiny.base]\nepochs = 3\n", &[]),
        ("[sizes.small]\nbases = { epochs = 3 }\n", &[]),
        ("sizes = 3\n", &[]),
        ("[base]\nepochs = 3\n[sizes.small]\nbase = 3\n", &[]),
        ("[sizes]\n", &[]),
    ] {
        let report = read_with(text, overrides).expect_err(text);
        assert!(report.advice().is_some(), "{report}");
        writeln!(all, "{report}\n").unwrap();
    }
    snapshot("sizes", &all);
}
