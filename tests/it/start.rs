//! What a student starts from and what it leaves behind: trained networks, moving averages, running statistics, cards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use distillery::card::Card;
use distillery::event::{Event, Message};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::plan::{Manifest, Plan};
use distillery::train::model::{Blueprint, Role};
use distillery::train::weights::{load_body, load_weights};
use distillery::train::{self, Control, End};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::small::{labels, manifest, rows, train};

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path());
    (place, folder)
}

/// A job of one epoch with a rate so low that weights hardly move.
fn still(job: Job) -> Job {
    Job { learning_rate: 1e-12, weight_decay: 0.0, ..job }
}

fn student(folder: &Folder, job: &Job) -> Vec<f32> {
    load_weights(&folder.student(&job.id()), &Blueprint::new(&job.student, job.input())).unwrap()
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}

fn starting(from: NetworkSource, head: Head) -> Job {
    still(Job { init: Init::Trained(Box::new(Trained { source: from, head })), ..labels(1) })
}

#[test]
fn a_student_starts_from_another_jobs_network_with_its_head_or_without() {
    let (_place, folder) = folder();
    let first = labels(2);
    train(&manifest(&[&first], 1), &folder);
    let weights = student(&folder, &first);
    let blueprint = Blueprint::new(&first.student, first.input());
    let head: Vec<_> = blueprint.places().filter(|(entry, _)| entry.name.starts_with("head.")).collect();
    assert!(head.iter().any(|(_, range)| weights[range.clone()].iter().any(|weight| *weight != 0.0)));

    let keep = starting(NetworkSource::Job(std::sync::Arc::new(first.clone())), Head::Keep);
    train(&manifest(&[&keep], 1), &folder);
    assert!(near(&student(&folder, &keep), &weights));

    let reset = starting(NetworkSource::Job(std::sync::Arc::new(first.clone())), Head::Reset);
    train(&manifest(&[&reset], 1), &folder);
    let mut expected = weights.clone();
    // As from scratch: zero.
    head.iter().for_each(|(_, range)| expected[range.clone()].fill(0.0));
    assert!(near(&student(&folder, &reset), &expected));
    assert_ne!(keep.id(), reset.id());
}

/// It waits for what it starts from, also where both ask the same of the loader and would be trained together.
#[test]
fn what_a_student_starts_from_is_trained_before() {
    let first = labels(1);
    let second = starting(NetworkSource::Job(std::sync::Arc::new(first.clone())), Head::Keep);
    let plan = Plan::new(&[second.clone(), first.clone()], &Default::default());
    assert_eq!(plan.cohorts.len(), 2);
    let of = |job: &Job| plan.cohorts.iter().position(|cohort| cohort.jobs[0].0 == job.id()).unwrap();
    assert!(of(&first) < of(&second));
    assert_eq!(plan.cohorts[of(&second)].needs, [first.id()]);
}

/// A file of another class count: refused by name with a hint, unless the head is left behind.
#[test]
fn a_head_of_other_classes_is_replaced_only_when_that_is_said() {
    let (place, folder) = folder();
    let mut other = labels(1);
    other.data.classes = 7;
    let blueprint = Blueprint::new(&other.student, other.input());
    let weights: Vec<f32> = (0..blueprint.len()).map(|i| i as f32 / 1e5).collect();
    let path = place.path().join("seven.safetensors");
    train::checkpoint::save_student(&path, &blueprint, &weights, "none").unwrap();
    let source = |model| Weights {
        sha256: "seven".into(),
        model,
        normalization: Normalization { mean: [0.3; 3], std: [0.4; 3] },
    };
    let with = |head| {
        let job = starting(NetworkSource::Weights(source(other.student.clone())), head);
        let mut manifest = manifest(&[&job], 1);
        manifest.places.weights.insert("seven".into(), path.clone());
        (job, manifest)
    };
    let (_, kept) = with(Head::Keep);
    let error = format!("{:#}", train::run(&kept, &folder, &Control::default(), &mut |_| {}).unwrap_err());
    assert!(error.contains("`head.fc.weight` is F32 [7, 16, 1, 1], expected F32 [10, 16, 1, 1]"), "{error}");
    assert!(error.contains("head = \"reset\""), "{error}");
    let (job, reset) = with(Head::Reset);
    train(&reset, &folder);
    let trained = student(&folder, &job);
    assert!(near(&trained[..100], &weights[..100]));
    // candle reads it too.
    let tensors = candle_core::safetensors::load(folder.student(&job.id()), &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors["head.fc.weight"].dims(), [10, 16, 1, 1]);
    assert_eq!(tensors.len(), blueprint.tensors.len());
    // What the file was trained on goes with its weights, to the exported card and to who learns from it.
    let card = Card::from_json(&fs::read_to_string(folder.student(&job.id()).with_extension("json")).unwrap());
    let card = card.unwrap().unwrap();
    assert_eq!((card.normalization.mean, card.classes, &card.model), ([0.3; 3], 10, &job.student));
    assert_eq!(card.job.as_deref(), Some(job.id().as_str()));
}

/// The average is what is measured and exported; the last weights lie beside it. By hand for one step, and a run that
/// is stopped at every step ends with the same bits.
#[test]
fn a_moving_average_is_what_a_job_results_in() {
    let ema = |epochs| Job { ema: Ema::Decay(0.9), ..labels(epochs) };
    assert_eq!(ema(1).ema.keeps(0), Some(2.0 / 11.0));
    assert_eq!(ema(1).ema.keeps(1000), Some(0.9));
    let (_place, folder) = folder();
    let (plain, mut once) = (Job { batch: 100, ..labels(1) }, Job { batch: 100, ..ema(1) });
    once.seed = plain.seed;
    assert_eq!(once.total_steps(), 1);
    assert_ne!(plain.id(), once.id());
    let plain_rows = rows(&train(&manifest(&[&plain], 1), &folder), &plain);
    let once_rows = rows(&train(&manifest(&[&once], 1), &folder), &once);
    assert_ne!(plain_rows, once_rows, "what is measured is not the average");
    let last = folder.student(&once.id()).with_file_name("student.last.safetensors");
    let blueprint = Blueprint::new(&once.student, once.input());
    let card = |path: &Path| fs::read_to_string(path.with_extension("json")).unwrap();
    assert_eq!(card(&last), card(&folder.student(&once.id())), "both have the job's card");
    let last = load_weights(&last, &blueprint).unwrap();
    assert_eq!(last, student(&folder, &plain));
    let begin = blueprint.scratch(once.seed);
    let expected: Vec<f32> = begin.iter().zip(&last).map(|(a, b)| a + (b - a) * (9.0 / 11.0)).collect();
    assert!(near(&student(&folder, &once), &expected));

    let job = ema(2);
    let undisturbed = rows(&train(&manifest(&[&job], 1), &folder), &job);
    let whole = fs::read(folder.student(&job.id())).unwrap();
    let (_other_place, other) = self::folder();
    let said = stopped_at_every_step(&job, &other);
    assert_eq!(rows(&said, &job), undisturbed);
    assert_eq!(fs::read(other.student(&job.id())).unwrap(), whole);
}

fn stopped_at_every_step(job: &Job, folder: &Folder) -> Vec<Message> {
    let mut said = Vec::new();
    for attempt in 1..=200 {
        let stop = Control::default();
        let manifest: Manifest = manifest(&[job], attempt);
        let mut steps = 0;
        let end = train::run(&manifest, folder, &stop, &mut |message| {
            steps += u32::from(matches!(message.event, Event::Step { .. }));
            if steps > 0 || attempt % 3 == 0 {
                stop.stop();
            }
            said.push(message);
        });
        if end.unwrap() == End::Complete {
            assert!(attempt > 5, "it was hardly stopped");
            return said;
        }
    }
    panic!("it does not come to an end")
}

/// Running statistics are part of a student: they move while it trains, its file and checkpoints carry them, and a
/// network that is used by them answers each image by itself.
#[test]
fn running_statistics_are_kept() {
    let mobile = Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Batch });
    let job = Job { student: mobile, resolution: 32, ..labels(2) };
    let (_place, folder) = folder();
    let undisturbed = rows(&train(&manifest(&[&job], 1), &folder), &job);
    let weights = student(&folder, &job);
    let blueprint = Blueprint::new(&job.student, job.input());
    let mut seen = 0;
    for (entry, range) in blueprint.places() {
        let begin = match entry.role {
            Role::RunningMean => 0.0,
            Role::RunningVariance => 1.0,
            _ => continue,
        };
        seen += 1;
        assert!(weights[range.clone()].iter().all(|number| number.is_finite()), "{}", entry.name);
        assert!(weights[range].iter().any(|number| *number != begin), "`{}` never moved", entry.name);
    }
    assert_eq!(seen, 68);
    let (_other_place, other) = self::folder();
    assert_eq!(rows(&stopped_at_every_step(&job, &other), &job), undisturbed);
    assert_eq!(fs::read(other.student(&job.id())).unwrap(), fs::read(folder.student(&job.id())).unwrap());
}

#[test]
fn a_negative_variance_is_named() {
    let job = Job { student: Model::CifarResnet(CifarResnet { depth: 20 }), ..labels(1) };
    let (place, blueprint) = (tempfile::tempdir().unwrap(), Blueprint::new(&job.student, job.input()));
    let mut weights = blueprint.scratch(1);
    let (_, range) = blueprint.places().find(|(entry, _)| entry.name == "bn1.running_var").unwrap();
    weights[range.start + 3] = -1e-3;
    let path = place.path().join("negative.safetensors");
    train::checkpoint::save_student(&path, &blueprint, &weights, "none").unwrap();
    let error = load_weights(&path, &blueprint).unwrap_err().to_string();
    assert!(error.contains("variances that can be none: negative: `bn1.running_var`"), "{error}");
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A file of `labels`' student, changed.
fn changed(place: &Path, change: impl Fn(&mut Tensors)) -> PathBuf {
    let job = labels(1);
    let blueprint = Blueprint::new(&job.student, job.input());
    let path = place.join("changed.safetensors");
    train::checkpoint::save_student(&path, &blueprint, &blueprint.scratch(1), "none").unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors =
        file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    let mut tensors: Tensors = tensors.collect();
    change(&mut tensors);
    let views =
        tensors.iter().map(|(name, (kind, shape, data))| (name, TensorView::new(*kind, shape.clone(), data).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn damaged_weights_are_explained() {
    let (place, _) = folder();
    let job = labels(1);
    let blueprint = Blueprint::new(&job.student, job.input());
    let load = |path: &Path| load_weights(path, &blueprint).map_err(|error| format!("{error:#}"));
    assert_eq!(load(&changed(place.path(), |_| ())).unwrap(), blueprint.scratch(1));
    // What torch saves beside a BatchNorm is no surprise.
    let counted = changed(place.path(), |tensors| {
        tensors.insert("bn1.num_batches_tracked".into(), (Dtype::I64, vec![], vec![0; 8]));
    });
    assert!(load(&counted).is_ok());

    let renamed = changed(place.path(), |tensors| {
        let stem = tensors.remove("stem.conv.weight").unwrap();
        tensors.insert("conv1.weight".into(), stem);
        tensors.get_mut("norm.bias").unwrap().1 = vec![2, 8];
    });
    let error = load(&renamed).unwrap_err();
    for part in
        ["missing: `stem.conv.weight`", "unexpected: `conv1.weight`", "`norm.bias` is F32 [2, 8], expected F32 [16]"]
    {
        assert!(error.contains(part), "{error}");
    }
    let broken = changed(place.path(), |tensors| {
        tensors.get_mut("norm.weight").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(load(&broken).unwrap_err().contains("not finite: `norm.weight`"));
    let wide = changed(place.path(), |tensors| {
        let (kind, _, data) = tensors.get_mut("norm.weight").unwrap();
        *kind = Dtype::F64;
        *data = (0..16).flat_map(|i| f64::from(i).to_le_bytes()).collect();
    });
    let (_, range) = blueprint.places().find(|(entry, _)| entry.name == "norm.weight").unwrap();
    assert_eq!(load(&wide).unwrap()[range][..3], [0.0, 1.0, 2.0]);
    let turned = changed(place.path(), |tensors| tensors.get_mut("head.fc.weight").unwrap().1 = vec![10, 4, 4, 1]);
    assert!(load(&turned).unwrap_err().contains("another architecture"), "of the right classes");
    let integers = changed(place.path(), |tensors| tensors.get_mut("norm.weight").unwrap().0 = Dtype::I32);
    assert!(load(&integers).unwrap_err().contains("`norm.weight` is I32 [16], expected F32 [16]"));

    let whole = fs::read(changed(place.path(), |_| ())).unwrap();
    let path = place.path().join("cut.safetensors");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.contains("is neither a whole safetensors file nor an `.npz`"), "{length}: {error}");
    }
    fs::write(&path, b"PK\x03\x04....archive/data.pkl....").unwrap();
    assert!(load(&path).unwrap_err().contains("is a checkpoint of torch\nhint: "));
    fs::write(&path, b"not weights at all, but longer than a header's length").unwrap();
    assert!(load(&path).unwrap_err().contains("neither"));
    assert!(load(&place.path().join("absent")).unwrap_err().contains("cannot read"));
    // A head that is left behind may be anything, but the rest may not.
    let fresh = vec![0.5; blueprint.len()];
    let loaded = load_body(
        &changed(place.path(), |tensors| {
            tensors.remove("head.fc.bias");
            tensors.get_mut("head.fc.weight").unwrap().1 = vec![4, 40];
        }),
        &blueprint,
        &fresh,
    );
    let loaded = loaded.unwrap();
    assert_eq!(&loaded[loaded.len() - 170..], &fresh[..170]);
    let renamed = changed(place.path(), |tensors| drop(tensors.remove("stem.conv.weight")));
    assert!(load_body(&renamed, &blueprint, &fresh).is_err());
}
