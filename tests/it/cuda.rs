//! The CUDA engine without a GPU: on a stand-in for NVIDIA's libraries (`tests/cuda`) that computes on the CPU, or only
//! counts. Every test is a process of its own, which finds the stand-in by its environment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use distillery::event::{Epoch, Event, Failure, Line, Message};
use distillery::folder::Folder;
use distillery::job::*;
use distillery::plan::{Device, Manifest};
use serde_json::Value;

use super::small::{MODES, distil, labels, manifest};

mod batch_norm;

const GPU: Device = Device::Cuda { ordinal: 0, deterministic: true };

/// The folder of the stand-in's libraries, built once.
fn stand_in() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    let newest = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap());
        entries.max()
    };
    let stamp = folder.join("built");
    let built = fs::metadata(&stamp).and_then(|metadata| metadata.modified()).ok();
    if built.is_none_or(|built| newest(&sources).is_some_and(|newest| newest > built)) {
        let output = Command::new("sh").arg(sources.join("build.sh")).arg(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        File::create(stamp).unwrap();
    }
    folder
}

/// The program beside the stand-in.
fn distillery() -> Command {
    let libraries = stand_in();
    let mut command = Command::new(env!("CARGO_BIN_EXE_distillery"));
    command.env("DISTILLERY_CUDA_LIBRARIES", &libraries).env("DISTILLERY_STAND_IN_CACHE", libraries.join("cache"));
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn worker(manifest: &Manifest, folder: &Path, device: Device, change: impl FnOnce(&mut Command)) -> Output {
    let manifest = Manifest { device, ..manifest.clone() };
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("manifest.json");
    fs::write(&file, serde_json::to_string(&manifest).unwrap()).unwrap();
    let mut command = distillery();
    command.arg("worker").arg("--manifest").arg(file).arg("--folder").arg(folder);
    change(&mut command);
    command.output().unwrap()
}

/// None of a heartbeat.
fn message(line: &str) -> Option<Message> {
    match serde_json::from_str(line).unwrap() {
        Line::Message(message) => Some(*message),
        Line::Beat { .. } => None,
    }
}

fn said(output: &Output) -> Vec<Message> {
    String::from_utf8_lossy(&output.stdout).lines().filter_map(message).collect()
}

/// Trains to the end.
fn train(manifest: &Manifest, folder: &Path, device: Device) -> Vec<Message> {
    let output = worker(manifest, folder, device, |_| {});
    assert!(output.status.success(), "{}", text(&output));
    said(&output)
}

fn epochs(messages: &[Message], job: &Job) -> Vec<Epoch> {
    let own = messages.iter().filter(|message| message.job == job.id());
    own.filter_map(|message| match &message.event {
        Event::Epoch(epoch) => Some(Epoch { seconds: 0.0, images_per_second: 0.0, ..epoch.clone() }),
        _ => None,
    })
    .collect()
}

/// Losses and accuracies of two runs of one job, which differ only in roundings.
fn alike(a: &[Epoch], b: &[Epoch], tolerance: f64, what: &str) {
    assert!(!a.is_empty() && a.len() == b.len(), "{what}: {} and {} epochs", a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        let near = |x: f64, y: f64| (x - y).abs() <= tolerance * (1.0 + y.abs());
        let same = a.step == b.step && a.images == b.images && a.learning_rate == b.learning_rate;
        assert!(same && near(a.training_loss, b.training_loss), "{what}: {a:?}\n{b:?}");
        assert!(near(a.gradient_norm, b.gradient_norm), "{what}: {a:?}\n{b:?}");
    }
}

/// Every operation, whole networks, losses, views, in f32 and bf16; with cuDNN and without.
#[test]
fn operations_agree_with_the_cpu() {
    let check = |command: &mut Command| {
        let output = command.args(["bench", "check", "--device", "cuda", "--json"]).output().unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        assert!(rows.len() > 190, "{} rows", rows.len());
        for row in &rows {
            let (error, bound) = (row["error"].as_f64(), row["bound"].as_f64());
            assert!(row["ok"] == true && error < bound, "{row}");
        }
        assert!(output.status.success(), "{}", text(&output));
    };
    check(&mut distillery());
    #[cfg(feature = "cudnn")]
    {
        // The same libraries but for cuDNN.
        let less = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(stand_in()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() && !entry.file_name().to_string_lossy().contains("cudnn") {
                fs::copy(entry.path(), less.path().join(entry.file_name())).unwrap();
            }
        }
        let mut command = distillery();
        command.env("DISTILLERY_CUDA_LIBRARIES", less.path());
        check(&mut command);
    }
}

/// What a step costs besides arithmetic, counted on the largest workload without computing it.
#[test]
fn a_step_is_one_call_and_allocates_nothing() {
    let place = tempfile::tempdir().unwrap();
    let report = |workload: &[&str], steps: u32| -> (Value, f64) {
        let file = place.path().join("report.json");
        let output = distillery()
            .env("DISTILLERY_STAND_IN", "count")
            .env("DISTILLERY_STAND_IN_REPORT", &file)
            .args(["bench", "--device", "cuda", "--precision", "bf16", "--json", "--steps", &steps.to_string()])
            .args(workload)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        let report = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        (report, row["peak_mib"].as_f64().unwrap())
    };
    // At most so many launches a step, and GiB of memory.
    for (workload, launches, gibibytes) in [
        (&["r50"][..], 345, 3.2),
        (&["r152-r50", "--students", "8"][..], 3_400, 8.5),
        (&["w3", "--batch", "512"][..], 330, 4.2),
    ] {
        // When all places for uploads have been used.
        let ((few, _), (many, mib)) = (report(workload, 4), report(workload, 7));
        let each = |key: &str| (many[key].as_f64().unwrap() - few[key].as_f64().unwrap()) / 3.0;
        let students = if workload.len() > 1 && workload[1] == "--students" { 8.0 } else { 1.0 };
        assert!(
            each("launches") > 100.0 && each("launches") <= f64::from(launches),
            "{workload:?}: {}",
            each("launches")
        );
        assert_eq!(each("allocations"), 0.0, "{workload:?}");
        assert_eq!(each("graph_nodes"), each("launches"), "{workload:?}: what is not recorded?");
        // One for the teacher and one for each student, each of which is told its learning rate.
        let teacher = f64::from(workload[0] == "r152-r50");
        assert_eq!(each("graph_launches"), students + teacher, "{workload:?}");
        assert_eq!(each("uploads"), students, "{workload:?}");
        assert_eq!(each("upload_bytes"), 40.0 * students, "{workload:?}");
        // The benchmark looks at its loss after every step.
        let waits = (each("synchronizations"), each("downloads"));
        assert!(waits.0 <= 2.0 && waits.1 <= 1.0, "{workload:?}: {waits:?}");
        assert!(mib > 100.0 && mib < gibibytes * 1024.0, "{workload:?}: {mib} MiB");
    }
}

/// Nothing of a training loop waits inside an epoch but for the pace of uploads.
#[test]
fn an_epoch_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let shampoo = Shampoo {
        block: 16,
        every: 4,
        beta2: 0.99,
        momentum: 0.9,
        nesterov: true,
        epsilon: 1e-1,
        graft: Graft::Rmsprop(Rmsprop { beta2: 0.99, epsilon: 1e-3 }),
    };
    let adam = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
    let muon = Muon { momentum: 0.9, nesterov: true, iterations: 2, adam };
    let job = |optimizer: Optimizer, steps: u32| Job {
        batch: 10,
        epochs: 1,
        optimizer,
        split: Split { train: slice(0, 10 * steps), ..labels(1).split },
        ..labels(1)
    };
    let report = |optimizer: Optimizer, steps: u32| -> Value {
        let folder = place.path().join(job(optimizer, steps).id().to_string());
        let file = folder.join("report.json");
        // What is measured grows with what is trained on.
        let manifest = Manifest { minitrain: 0, ..manifest(&[&job(optimizer, steps)], 1) };
        let output = worker(&manifest, &folder, GPU, |command| {
            command.env("DISTILLERY_STAND_IN_REPORT", &file);
        });
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    };
    for optimizer in [Optimizer::Adam(adam), Optimizer::Shampoo(shampoo), Optimizer::Muon(muon)] {
        let (few, many) = (report(optimizer, 20), report(optimizer, 60));
        let more = |key: &str| many[key].as_i64().unwrap() - few[key].as_i64().unwrap();
        assert_eq!((more("synchronizations"), more("allocations")), (0, 0), "{optimizer:?}: {few}\n{many}");
        // Pixels, labels and what the optimiser is told.
        assert_eq!(more("uploads"), 3 * 40, "{optimizer:?}");
        assert_eq!(more("graph_launches"), 40, "{optimizer:?}");
    }
}

fn slice(start: u32, end: u32) -> Slice {
    Slice { part: Part::Train, start, end }
}

/// A teacher, then every mode: the same data, views, losses and schedules as on the CPU.
#[test]
fn every_mode_trains_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let (cpu, gpu) = (place.path().join("cpu"), place.path().join("gpu"));
    let teacher = labels(2);
    let label_jobs = [
        teacher.clone(),
        Job {
            objective: Objective::Labels(Labels { view: View::MildCrop, mixup: 0.5, label_smoothing: 0.1 }),
            optimizer: Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true }),
            ..labels(2)
        },
    ];
    for job in &label_jobs {
        let run = |folder, device| epochs(&train(&manifest(&[job], 1), folder, device), job);
        alike(&run(&gpu, GPU), &run(&cpu, Device::Cpu), 1e-4, "labels");
    }
    // The same teacher for both.
    fs::copy(Folder::new(&cpu).student(&teacher.id()), Folder::new(&gpu).student(&teacher.id())).unwrap();
    for mode in MODES {
        let job = distil(&teacher, mode, 2);
        let run = |folder, device| epochs(&train(&manifest(&[&job], 1), folder, device), &job);
        let (on_gpu, on_cpu) = (run(&gpu, GPU), run(&cpu, Device::Cpu));
        alike(&on_gpu, &on_cpu, 1e-4, &format!("{mode:?}"));
        let agree = |a: &Epoch, b: &Epoch| {
            a.evaluations.iter().zip(&b.evaluations).all(|(a, b)| (a.top1 - b.top1).abs() < 0.05)
        };
        assert!(on_gpu.iter().zip(&on_cpu).all(|(a, b)| agree(a, b)), "{mode:?}");
    }
}

/// Ensembles of every kind and with weights, teachers at another resolution than the student, bf16.
#[test]
fn ensembles_and_resolutions_train_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let (cpu, gpu) = (place.path().join("cpu"), place.path().join("gpu"));
    let teachers = [labels(1), Job { seed: 5, resolution: 14, ..labels(1) }];
    for teacher in &teachers {
        train(&manifest(&[teacher], 1), &cpu, Device::Cpu);
        let (from, to) = (Folder::new(&cpu).student(&teacher.id()), Folder::new(&gpu).student(&teacher.id()));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    for ensemble in [Ensemble::MeanLogits, Ensemble::MeanProbabilities, Ensemble::SumOfKl] {
        for precision in [Precision::F32, Precision::Bf16] {
            let of = |job: &Job| Teacher {
                source: NetworkSource::Job(std::sync::Arc::new(job.clone())),
                resolution: job.resolution,
                weight: if job.seed == 5 { 2.0 } else { 1.0 },
            };
            let job = Job {
                objective: Objective::Distil(Distil {
                    teachers: teachers.iter().map(of).collect(),
                    ensemble,
                    teaching: Teaching::FunctionMatching { mixup: 1.0 },
                    distance: Distance::Kl(Kl::new(1.0)),
                    labels: LabelShare::default(),
                    answers: Answers::Live,
                }),
                precision,
                ..labels(1)
            };
            let run = |folder, device| epochs(&train(&manifest(&[&job], 1), folder, device), &job);
            let tolerance = if precision == Precision::F32 { 1e-4 } else { 5e-2 };
            alike(&run(&gpu, GPU), &run(&cpu, Device::Cpu), tolerance, &format!("{ensemble:?} {precision:?}"));
        }
    }
}

/// Every distance, with labels and without.
#[test]
fn every_distance_trains_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let (cpu, gpu) = (place.path().join("cpu"), place.path().join("gpu"));
    let teacher = labels(1);
    train(&manifest(&[&teacher], 1), &cpu, Device::Cpu);
    let (from, to) = (Folder::new(&cpu).student(&teacher.id()), Folder::new(&gpu).student(&teacher.id()));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    let mut jobs = Vec::new();
    for distance in [
        Distance::Kl(Kl { temperature: 4.0, scale: Scale::Plain }),
        Distance::Squared,
        Distance::Euclidean,
        Distance::PseudoLabels(PseudoLabels { smoothing: 0.1 }),
        Distance::Dist(Dist { beta: 1.0, gamma: 1.0, temperature: 2.0 }),
        Distance::Dkd(Dkd { alpha: 1.0, beta: 8.0, temperature: 4.0 }),
    ] {
        for weight in [0.0, 0.5] {
            let mut job = distil(&teacher, Teaching::ConsistentInceptionCrop, 1);
            let Objective::Distil(distil) = &mut job.objective else { unreachable!() };
            (distil.distance, distil.labels) = (distance, LabelShare { weight, smoothing: 0.2 * weight });
            jobs.push(job);
        }
    }
    let all: Vec<&Job> = jobs.iter().collect();
    let (on_gpu, on_cpu) = (train(&manifest(&all, 1), &gpu, GPU), train(&manifest(&all, 1), &cpu, Device::Cpu));
    for job in &jobs {
        let Objective::Distil(distil) = &job.objective else { unreachable!() };
        // Plain descent would go on with what a step got wrong; Adam makes it larger where gradients are small.
        alike(
            &epochs(&on_gpu, job),
            &epochs(&on_cpu, job),
            1e-3,
            &format!("{:?} {:?}", distil.distance, distil.labels),
        );
    }
}

/// Alone or in company, all at once or in turns for want of memory.
#[test]
fn company_changes_no_bits() {
    let place = tempfile::tempdir().unwrap();
    // Some 5 MB each.
    let wide = Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 32 });
    let job = |i: u32| Job { student: wide.clone(), learning_rate: 0.002 * f64::from(i + 1), ..labels(1) };
    let jobs: Vec<Job> = (0..4).map(job).collect();
    let all: Vec<&Job> = jobs.iter().collect();
    let folder = |name: &str| place.path().join(name);
    let together = train(&manifest(&all, 1), &folder("together"), GPU);
    for job in &jobs[2..] {
        let alone = epochs(&train(&manifest(&[job], 1), &folder("alone"), GPU), job);
        assert_eq!(epochs(&together, job), alone, "a student depends on its company");
    }
    let with_memory = |mib: u64| {
        let output = worker(&manifest(&all, 1), &folder(&mib.to_string()), GPU, |command| {
            command.env("DISTILLERY_STAND_IN_MEMORY", (mib << 20).to_string());
        });
        (said(&output), text(&output), output.status)
    };
    // The workspace of products takes 32 MiB; then there is room for some students, but not for all.
    let (messages, text, status) = with_memory(54);
    assert!(status.success() && text.contains("of 4 students fit on the GPU at once"), "{text}");
    for job in &jobs {
        assert_eq!(epochs(&messages, job), epochs(&together, job), "in turns");
    }
    let (_, text, status) = with_memory(33);
    assert!(!status.success() && text.contains("hint: give it a smaller cohort or batch"), "{text}");
}

/// A batch in passes gives the same step.
#[test]
fn micro_batches_give_the_same_gradient() {
    let place = tempfile::tempdir().unwrap();
    let job = Job {
        resolution: 28,
        batch: 50,
        student: Model::BitResnetSmall(BitResnetSmall { depth: 8, width: 16 }),
        ..labels(1)
    };
    let run = |bytes: u64, name: &str| {
        let file = place.path().join(name).join("report.json");
        let output = worker(&manifest(&[&job], 1), &place.path().join(name), GPU, |command| {
            command.env("DISTILLERY_STAND_IN_MEMORY", bytes.to_string()).env("DISTILLERY_STAND_IN_REPORT", &file);
        });
        assert!(output.status.success(), "{}", text(&output));
        let report: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        (epochs(&said(&output), &job), report["kernels"]["loss_rows"].as_u64().unwrap())
    };
    let (whole, once) = run(80_000_000_000, "whole");
    let (parts, often) = run(48 << 20, "parts");
    assert!(often >= 2 * once, "{often} passes instead of {once}");
    alike(&parts, &whole, 1e-4, "in parts");
}

/// Stopped or killed at any moment and started again: the rows of an undisturbed run, bit for bit.
#[test]
fn a_killed_worker_goes_on_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let teacher = labels(1);
    // Epochs of many steps: sums that are cut by a stop must come out as if they were not.
    let job = Job { batch: 4, ..distil(&teacher, Teaching::FunctionMatching { mixup: 1.0 }, 4) };
    let job = Job { split: Split { train: slice(0, 400), ..job.split.clone() }, ..job };
    let undisturbed = place.path().join("undisturbed");
    train(&manifest(&[&teacher], 1), &undisturbed, GPU);
    let weights = Folder::new(&undisturbed).student(&teacher.id());
    let expected = epochs(&train(&manifest(&[&job], 1), &undisturbed, GPU), &job);
    for signal in ["TERM", "KILL"] {
        let disturbed = place.path().join(signal);
        let to = Folder::new(&disturbed).student(&teacher.id());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&weights, to).unwrap();
        let mut rows: BTreeMap<u32, Epoch> = BTreeMap::new();
        let mut ended = false;
        for attempt in 1..40 {
            let milliseconds = 300 * attempt;
            let output = worker(&manifest(&[&job], attempt), &disturbed, GPU, |command| {
                let program = command.get_program().to_owned();
                let arguments: Vec<_> = command.get_args().map(|argument| argument.to_owned()).collect();
                let environment: Vec<_> =
                    command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
                *command = Command::new("timeout");
                command.args(["-s", signal, &format!("{}", f64::from(milliseconds) / 1e3)]);
                command.arg(program).args(arguments).envs(environment);
            });
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            let messages = lines.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
            for epoch in epochs(&messages.collect::<Vec<_>>(), &job) {
                // An epoch that was said and not saved is said again, in the same words.
                if let Some(before) = rows.insert(epoch.epoch, epoch.clone()) {
                    assert_eq!(before, epoch, "{signal}");
                }
            }
            if lines.contains("finished") {
                ended = true;
                break;
            }
        }
        assert!(ended, "{signal}: never finished");
        assert_eq!(rows.into_values().collect::<Vec<_>>(), expected, "{signal}");
    }
}

/// With `--deterministic` two runs agree in every bit. The stand-in's fastest algorithms do not, as real ones may not.
#[cfg(feature = "cudnn")]
#[test]
fn determinism_is_what_was_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let job = labels(2);
    let run = |name: &str, deterministic| {
        let device = Device::Cuda { ordinal: 0, deterministic };
        let folder = place.path().join(name);
        let rows = epochs(&train(&manifest(&[&job], 1), &folder, device), &job);
        (rows, fs::read(Folder::new(&folder).student(&job.id())).unwrap())
    };
    assert_eq!(run("a", true), run("b", true));
    assert_ne!(run("c", false), run("d", false), "the test shows nothing: no algorithm was free to differ");
}

/// Trains until an epoch is over, and stops.
fn until(job: &Job, epoch: u32, folder: &Path, device: Device) -> Vec<Message> {
    // The job's rows say when to stop it: there is a checkpoint then.
    let file = folder.join("manifest.json");
    fs::create_dir_all(folder).unwrap();
    fs::write(&file, serde_json::to_string(&Manifest { device, ..manifest(&[job], 1) }).unwrap()).unwrap();
    let mut command = distillery();
    command.arg("worker").arg("--manifest").arg(&file).arg("--folder").arg(folder);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut messages = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some(message) = message(&line) else { continue };
        if matches!(&message.event, Event::Epoch(row) if row.epoch == epoch) {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        messages.push(message);
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(75), "it should have been stopped on its way");
    messages
}

/// A job begun on a GPU goes on on the CPU, and the other way.
#[test]
fn a_job_changes_its_device_on_the_way() {
    let place = tempfile::tempdir().unwrap();
    // Gently, so that roundings do not grow.
    let optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: false });
    let job = Job { optimizer, learning_rate: 0.01, ..labels(12) };
    let expected = epochs(&train(&manifest(&[&job], 1), &place.path().join("cpu"), Device::Cpu), &job);
    for (first, second) in [(GPU, Device::Cpu), (Device::Cpu, GPU)] {
        let folder = place.path().join(first.to_string());
        let mut messages = until(&job, 2, &folder, first);
        messages.extend(train(&manifest(&[&job], 2), &folder, second));
        alike(&epochs(&messages, &job), &expected, 1e-3, &format!("{first}, then {second}"));
    }
}

/// Optimisers with directions and without, decay of every kind: as on the CPU, from the first step and from a checkpoint of
/// the CPU.
#[test]
fn optimizers_train_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let adam = Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
    // Gently, so that roundings do not grow.
    let shampoo = Shampoo {
        block: 24,
        every: 3,
        beta2: 0.99,
        momentum: 0.9,
        nesterov: true,
        epsilon: 1e-2,
        graft: Graft::Rmsprop(Rmsprop { beta2: 0.99, epsilon: 1e-3 }),
    };
    let muon = Muon { momentum: 0.9, nesterov: true, iterations: 2, adam };
    let sgd = Sgd { momentum: 0.9, nesterov: true };
    let jobs = [
        (Optimizer::Shampoo(shampoo), Decay::LearningRate, 1e-3),
        (Optimizer::Shampoo(Shampoo { graft: Graft::Sgd, ..shampoo }), Decay::Gradient, 1e-2),
        (Optimizer::Muon(muon), Decay::Schedule, 1e-3),
        (Optimizer::Adam(adam), Decay::Gradient, 1e-3),
        (Optimizer::Sgd(sgd), Decay::LearningRate, 1e-2),
    ];
    for (optimizer, decay, learning_rate) in jobs {
        let job = Job { optimizer, decay, learning_rate, weight_decay: 0.01, ..labels(4) };
        let expected = epochs(&train(&manifest(&[&job], 1), &place.path().join("cpu"), Device::Cpu), &job);
        let found = epochs(&train(&manifest(&[&job], 1), &place.path().join("gpu"), GPU), &job);
        alike(&found, &expected, 1e-3, &format!("{optimizer:?}"));
    }
    // After more epochs roundings have grown, as they do for Adam.
    const MET: usize = 4;
    let job = Job { optimizer: Optimizer::Shampoo(shampoo), learning_rate: 5e-4, ..labels(12) };
    let expected = epochs(&train(&manifest(&[&job], 1), &place.path().join("cpu"), Device::Cpu), &job);
    for (first, second) in [(GPU, Device::Cpu), (Device::Cpu, GPU)] {
        let folder = place.path().join(first.to_string());
        let mut messages = until(&job, 2, &folder, first);
        messages.extend(train(&manifest(&[&job], 2), &folder, second));
        let met = epochs(&messages, &job);
        assert_eq!(met.len(), 12);
        alike(&met[..MET], &expected[..MET], 1e-4, &format!("{first}, then {second}"));
    }
}

/// A teacher's answers go to disk and are not asked for again.
#[test]
fn a_recorded_stream_is_replayed() {
    let place = tempfile::tempdir().unwrap();
    let teacher = labels(1);
    train(&manifest(&[&teacher], 1), place.path(), GPU);
    let run = |job: &Job| {
        let file = place.path().join("report.json");
        let recording = Manifest { record_teacher: true, ..manifest(&[job], 1) };
        let output = worker(&recording, place.path(), GPU, |command| {
            command.env("DISTILLERY_STAND_IN_REPORT", &file);
        });
        assert!(output.status.success(), "{}", text(&output));
        let report: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        (epochs(&said(&output), job), report["kernels"]["mean_logits"].as_u64().unwrap_or(0))
    };
    let job = |learning_rate| Job { learning_rate, ..distil(&teacher, Teaching::ConsistentInceptionCrop, 2) };
    let (_, asked) = run(&job(0.01));
    assert_eq!(asked, job(0.01).total_steps());
    let (replayed, asked) = run(&job(0.02));
    assert_eq!(asked, 0, "recorded answers were asked for again");
    let elsewhere = tempfile::tempdir().unwrap();
    let to = Folder::new(elsewhere.path()).student(&teacher.id());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(Folder::new(place.path()).student(&teacher.id()), to).unwrap();
    assert_eq!(replayed, epochs(&train(&manifest(&[&job(0.02)], 1), elsewhere.path(), GPU), &job(0.02)));
}

/// A student that diverges is stopped on the GPU, named with its step, and the others go on.
#[test]
fn what_is_not_finite_fails_alone() {
    let place = tempfile::tempdir().unwrap();
    let wild = Job {
        learning_rate: 1e30,
        clip: Clip::Off,
        optimizer: Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: false }),
        ..labels(2)
    };
    let good = labels(2);
    let messages = train(&manifest(&[&wild, &good], 1), place.path(), GPU);
    let ends = |job: &Job| {
        let own = messages.iter().filter(|message| message.job == job.id());
        own.filter(|message| matches!(message.event, Event::Finished | Event::Failed { .. })).collect::<Vec<_>>()
    };
    assert!(matches!(ends(&good)[..], [Message { event: Event::Finished, .. }]));
    let [Message { event: Event::Failed { class, message }, .. }] = ends(&wild)[..] else { panic!("{messages:?}") };
    assert_eq!(*class, Failure::NotFinite);
    assert!(message.contains("at step ") && message.contains("learning rate"), "{message}");
    let step: u64 = message.split("at step ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(step < 6, "noticed late: {message}");
}

/// What is asked for and not there is one clear error; what is not asked for is done without.
#[test]
fn a_missing_gpu_is_named() {
    let place = tempfile::tempdir().unwrap();
    let run = |libraries: Option<&Path>, device: &[&str]| {
        let mut command = distillery();
        match libraries {
            Some(folder) => command.env("DISTILLERY_CUDA_LIBRARIES", folder),
            None => command.env_remove("DISTILLERY_CUDA_LIBRARIES"),
        };
        command.args(["run", "quickstart", "--folder"]).arg(place.path()).args(device);
        command.args(["epochs=1", "teachers.wide.train.epochs=1", "run.teacher-at-chance=allow", "--no-report"]);
        command.args(["split.train=train[:64]", "split.validation=train[7000:7064]", "split.test=test[:64]"]);
        command.output().unwrap()
    };
    let beyond = run(Some(&stand_in()), &["--device", "cuda:3"]);
    assert_eq!(beyond.status.code(), Some(1));
    assert!(
        text(&beyond).contains("there is no GPU 3: the driver shows 1\nhint: they count from 0"),
        "{}",
        text(&beyond)
    );
    let unknown = run(Some(&stand_in()), &["--device", "gpu"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).contains("expected `cpu`, `cuda` or `cuda:N`"), "{}", text(&unknown));
    if !Path::new("/dev/nvidiactl").exists() {
        let nowhere = run(None, &["--device", "cuda"]);
        assert!(
            text(&nowhere).contains("cannot open NVIDIA's driver") && text(&nowhere).contains("hint: "),
            "{}",
            text(&nowhere)
        );
        let without = run(None, &[]);
        assert!(without.status.success(), "{}", text(&without));
    }
}
