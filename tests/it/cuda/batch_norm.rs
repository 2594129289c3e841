//! Networks with BatchNorm: their running statistics are moved on the GPU, measured with there, and brought back.

use safetensors::SafeTensors;

use super::*;

/// A network of batches, gently trained, so that roundings do not grow.
fn job(student: Model, resolution: u32, epochs: u32) -> Job {
    let optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: false });
    Job { student, resolution, optimizer, learning_rate: 0.01, ..labels(epochs) }
}

fn mobilenet(epochs: u32) -> Job {
    job(Model::MobilenetV3(MobilenetV3 { size: MobilenetSize::Small, norm: Norm::Batch }), 28, epochs)
}

fn cifar(resolution: u32, epochs: u32) -> Job {
    job(Model::CifarResnet(CifarResnet { depth: 20 }), resolution, epochs)
}

/// Every tensor of the job's student.
fn tensors(folder: &Path, job: &Job) -> BTreeMap<String, Vec<f64>> {
    let bytes = fs::read(Folder::new(folder).student(&job.id())).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |bytes: &[u8]| {
        bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
    };
    file.iter().map(|(name, view)| (name.to_owned(), numbers(view.data()))).collect()
}

/// Compares two students tensor by tensor; running variances have moved from one, where they begin.
fn same_student(a: &Path, b: &Path, job: &Job, tolerance: f64) {
    let (a, b) = (tensors(a, job), tensors(b, job));
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let mut statistics = 0;
    for (name, a) in &a {
        let b = &b[name];
        let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
        let error = difference / norm(&mut b.iter().copied()).max(1e-3);
        assert!(error < tolerance, "`{name}` differs by {error}");
        // Means may be zero: those of a linear layer after another norm are.
        if name.ends_with("running_var") {
            assert!(norm(&mut a.iter().map(|x| x - 1.0)) > 1e-2, "`{name}` stayed where it was");
            statistics += 1;
        }
    }
    assert!(statistics > 15, "{statistics}");
}

/// Losses, evaluations by running statistics, and what the student is in the end.
fn same_run(folders: (&Path, &Path), (a, b): (&[Message], &[Message]), job: &Job, what: &str) {
    let (a, b) = (epochs(a, job), epochs(b, job));
    alike(&a, &b, 1e-3, what);
    for (a, b) in a.iter().zip(&b) {
        assert!(!a.evaluations.is_empty() && a.evaluations.len() == b.evaluations.len());
        for (a, b) in a.evaluations.iter().zip(&b.evaluations) {
            let near = (a.loss - b.loss).abs() < 1e-2 * b.loss;
            assert!(near && (a.top1 - b.top1).abs() < 0.05, "{what}: {a:?}\n{b:?}");
        }
    }
    same_student(folders.0, folders.1, job, 5e-2);
}

#[test]
fn a_network_of_batches_trains_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let (cpu, gpu) = (place.path().join("cpu"), place.path().join("gpu"));
    for job in [mobilenet(2), cifar(12, 2)] {
        let run = |folder, device| train(&manifest(&[&job], 1), folder, device);
        same_run((&gpu, &cpu), (&run(&gpu, GPU), &run(&cpu, Device::Cpu)), &job, &job.student.label());
    }
}

/// A checkpoint holds the running statistics too: the rest of the job goes on with them.
#[test]
fn running_statistics_come_back_with_a_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let cpu = place.path().join("cpu");
    let job = cifar(12, 4);
    let expected = train(&manifest(&[&job], 1), &cpu, Device::Cpu);
    for (first, second) in [(GPU, Device::Cpu), (Device::Cpu, GPU)] {
        let folder = place.path().join(first.to_string());
        let mut messages = until(&job, 2, &folder, first);
        messages.extend(train(&manifest(&[&job], 2), &folder, second));
        same_run((&folder, &cpu), (&messages, &expected), &job, &format!("{first}, then {second}"));
    }
}

/// Its batch is not cut, for that would be another network.
#[test]
fn a_batch_that_must_be_whole_is_not_cut() {
    let place = tempfile::tempdir().unwrap();
    let job = Job { batch: 50, ..cifar(28, 1) };
    let with = |name: &str, bytes: u64| {
        let output = worker(&manifest(&[&job], 1), &place.path().join(name), GPU, |command| {
            command.env("DISTILLERY_STAND_IN_MEMORY", bytes.to_string());
        });
        (output.status.success(), text(&output))
    };
    let (trained, said) = with("little", 64 << 20);
    let hint = "hint: give it a smaller batch or cohort, or a network with GroupNorm";
    assert!(
        !trained && said.contains("BatchNorm needs all 50 images of a step at once") && said.contains(hint),
        "{said}"
    );
}

/// A moving average follows on the GPU as on the CPU, is what is measured there, and goes along with a checkpoint.
#[test]
fn a_moving_average_is_taken_along() {
    let place = tempfile::tempdir().unwrap();
    let cpu = place.path().join("cpu");
    let small = labels(4).student;
    let job = Job { ema: Ema::Decay(0.95), schedule: Schedule::Constant, learning_rate: 0.1, ..job(small, 10, 4) };
    let plain = Job { ema: Ema::Off, ..job.clone() };
    let expected = train(&manifest(&[&job], 1), &cpu, Device::Cpu);
    let without = train(&manifest(&[&plain], 1), &cpu, Device::Cpu);
    let loss = |messages: &[Message], job: &Job| epochs(messages, job)[3].evaluations[0].loss;
    let (average, last) = (loss(&expected, &job), loss(&without, &plain));
    assert!((average / last - 1.0).abs() > 1e-2, "the average does not tell itself apart: {average} and {last}");
    for (first, second) in [(GPU, GPU), (GPU, Device::Cpu), (Device::Cpu, GPU)] {
        let (folder, what) = (place.path().join(format!("{first} {second}")), format!("{first}, then {second}"));
        let mut messages = until(&job, 2, &folder, first);
        messages.extend(train(&manifest(&[&job], 2), &folder, second));
        alike(&epochs(&messages, &job), &epochs(&expected, &job), 1e-3, &what);
        assert!((loss(&messages, &job) / average - 1.0).abs() < 1e-3, "{what}");
        for (name, own) in tensors(&folder, &job) {
            let theirs = &tensors(&cpu, &job)[&name];
            let off = own.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-3, "{what}: `{name}` is off by {off}");
        }
    }
}

/// A student that starts from weights of another pixel range sees that range, on the GPU as on the CPU.
#[test]
fn a_student_of_another_pixel_range_trains_as_on_the_cpu() {
    let place = tempfile::tempdir().unwrap();
    let first = cifar(12, 1);
    train(&manifest(&[&first], 1), &place.path().join("first"), Device::Cpu);
    let weights = |std: f64| Weights {
        sha256: "first".into(),
        model: first.student.clone(),
        normalization: Normalization { mean: [0.3; 3], std: [std; 3] },
    };
    let run = |std: f64, device: Device| {
        let source = NetworkSource::Weights(weights(std));
        let job = Job { init: Init::Trained(Box::new(Trained { source, head: Head::Keep })), ..cifar(12, 2) };
        let mut manifest = manifest(&[&job], 1);
        let path = Folder::new(place.path().join("first")).student(&first.id());
        manifest.places.weights.insert("first".into(), path);
        epochs(&train(&manifest, &place.path().join(format!("{device} {std}")), device), &job)
    };
    let expected = run(0.25, Device::Cpu);
    alike(&run(0.25, GPU), &expected, 1e-3, "another pixel range");
    assert_ne!(run(0.5, Device::Cpu)[0].training_loss, expected[0].training_loss, "the range makes no difference");
}
