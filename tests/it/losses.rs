//! Losses, ensembles, schedules, decay and mixup against PyTorch's, in float64: `tests/golden/losses.py`.

use candle_core::{Device, Tensor};
use distillery::job::*;
use distillery::train::mixing::{Mixed, mix, mix_labels};
use distillery::train::ops::loss::{Labels, Loss, Teachers};
use distillery::train::optimizer::{Layout, State, apply, share_of_peak};
use distillery::train::teacher::combine;
use serde::Deserialize;

use super::small::labels;

#[derive(Deserialize)]
struct Golden {
    logits: Vec<Vec<f64>>,
    /// `[K, N, C]`
    teachers: Vec<Vec<Vec<f64>>>,
    labels: Vec<u32>,
    losses: Vec<Recorded>,
    schedules: Vec<Shares>,
    decay: Decay,
    mixup: Mixup,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Recorded {
    distance: Option<Distance>,
    rule: Ensemble,
    weights: Vec<f64>,
    label_weight: f64,
    smoothing: f64,
    share: f64,
    value: f64,
    gradient: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Shares {
    schedule: Schedule,
    warmup: u64,
    steps: u32,
    shares: Vec<f64>,
}

#[derive(Deserialize)]
struct Decay {
    rate: f64,
    decay: f64,
    warmup: u64,
    start: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    after: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Mixup {
    images: Vec<f64>,
    labels: Vec<u32>,
    mixed: Vec<MixedBatch>,
}

#[derive(Deserialize)]
struct MixedBatch {
    share: f64,
    smoothing: f64,
    images: Vec<f64>,
    labels: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/losses.json")).unwrap()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

fn near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().map(|x| x.abs()).fold(1e-3, f64::max);
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * size,
            "{what}: number {place} is {found}, torch has {expected}"
        );
    }
}

/// What a student is given of its teachers, `[N, K * C]`, and the weights of its parts.
fn answers(golden: &Golden, recorded: &Recorded) -> (Vec<f64>, Vec<f64>) {
    let tensor = |rows: &Vec<Vec<f64>>| Tensor::new(rows.clone(), &Device::Cpu).unwrap();
    let teachers: Vec<Tensor> = golden.teachers[..recorded.weights.len()].iter().map(tensor).collect();
    let (together, weights) = match recorded.rule {
        Ensemble::SumOfKl => (Tensor::cat(&teachers, 1).unwrap(), recorded.weights.clone()),
        rule => (combine(teachers, rule, &recorded.weights).unwrap(), vec![1.0]),
    };
    (together.flatten_all().unwrap().to_vec1().unwrap(), weights)
}

/// Values to 1e-11 of themselves and gradients to 1e-11 of the largest in f64, to 2e-5 in f32, of which labels are always;
/// and gradients are what the values' differences say.
#[test]
fn losses_are_torchs() {
    let golden = golden();
    let logits = golden.logits.concat();
    let classes = golden.logits[0].len();
    let share = 1.0 / golden.labels.len() as f64;
    let mut names = std::collections::BTreeSet::new();
    for recorded in &golden.losses {
        let what = format!(
            "{:?} {:?} {:?}, labels {} {} {}",
            recorded.distance,
            recorded.rule,
            recorded.weights,
            recorded.label_weight,
            recorded.smoothing,
            recorded.share
        );
        names.insert(recorded.distance.map(|distance| distance.name()));
        let (answers, weights) = answers(&golden, recorded);
        let targets = mix_labels(&golden.labels, classes, recorded.share, recorded.smoothing);
        // Labels come as f32; their roundings are not the loss's.
        let wide: Vec<f64> = targets.iter().map(|p| f64::from(*p)).collect();
        let rounded = recorded.label_weight > 0.0;
        let loss = |logits: &[f64], gradient: &mut [f64]| {
            let teachers = recorded.distance.map(|distance| Teachers { logits: &answers, weights: &weights, distance });
            let labels = Some(Labels { probabilities: &wide, weight: recorded.label_weight });
            Loss { teachers, labels }.evaluate(logits, classes, share, gradient) * share
        };
        let mut gradient = vec![0.0; logits.len()];
        let value = loss(&logits, &mut gradient);
        let tolerance = if rounded { 1e-7 } else { 1e-11 };
        near(&[value], &[recorded.value], tolerance, &what);
        near(&gradient, &recorded.gradient.concat(), tolerance, &what);

        for place in (0..logits.len()).step_by(7) {
            let moved = |by: f64| {
                let mut logits = logits.clone();
                logits[place] += by;
                loss(&logits, &mut vec![0.0; logits.len()])
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (slope - gradient[place]).abs() < 1e-7 * (1.0 + value.abs()),
                "{what}: {slope} {}",
                gradient[place]
            );
        }

        let (short_logits, short_answers) = (narrow(&logits), narrow(&answers));
        let mut short = vec![0f32; logits.len()];
        let teachers =
            recorded.distance.map(|distance| Teachers { logits: &short_answers[..], weights: &weights, distance });
        let labels = Some(Labels { probabilities: &targets[..], weight: recorded.label_weight });
        let value = Loss { teachers, labels }.evaluate(&short_logits, classes, share, &mut short) * share;
        near(&[value], &[recorded.value], 2e-5, &what);
        let short: Vec<f64> = short.into_iter().map(f64::from).collect();
        near(&short, &recorded.gradient.concat(), 2e-5, &what);
    }
    assert_eq!(names.len(), 7);
}

/// Where teacher and student agree there is nothing to learn from a distance, and nothing that is not finite; nor is there
/// where logits are far apart.
#[test]
fn losses_stay_finite() {
    let distances = [
        Distance::Kl(Kl::new(1.0)),
        Distance::Squared,
        Distance::Euclidean,
        Distance::PseudoLabels(PseudoLabels { smoothing: 0.1 }),
        Distance::Dist(Dist { beta: 1.0, gamma: 1.0, temperature: 1.0 }),
        Distance::Dkd(Dkd { alpha: 1.0, beta: 8.0, temperature: 1.0 }),
    ];
    let (flat, far) = (vec![0.0f32; 12], (0..12).map(|i| if i % 5 == 0 { 4e4 } else { -4e4 }).collect::<Vec<f32>>());
    let labels = mix_labels(&[0, 1, 2], 4, 1.0, 0.0);
    for distance in distances {
        for (teacher, student) in [(&flat, &flat), (&far, &far), (&flat, &far), (&far, &flat)] {
            let teachers = Some(Teachers { logits: &teacher[..], weights: &[1.0], distance });
            let loss = Loss { teachers, labels: Some(Labels { probabilities: &labels[..], weight: 0.0 }) };
            let mut gradient = vec![f32::NAN; 12];
            let value = loss.evaluate(student, 4, 1.0, &mut gradient);
            assert!(
                value.is_finite() && gradient.iter().all(|slope| slope.is_finite()),
                "{distance:?}: {value} {gradient:?}"
            );
            let learns_from_itself = matches!(distance, Distance::PseudoLabels(_));
            if teacher == student && !learns_from_itself {
                assert!(gradient.iter().all(|slope| slope.abs() < 1e-6), "{distance:?}: {gradient:?}");
            }
        }
    }
}

/// Torch's schedulers, to 1e-12.
#[test]
fn schedules_are_torchs() {
    for Shares { schedule, warmup, steps, shares } in golden().schedules {
        // A step an epoch.
        let job = Job { schedule, warmup: Warmup::Steps(warmup), epochs: steps, batch: 100, ..labels(1) };
        assert_eq!(job.total_steps(), u64::from(steps));
        let found: Vec<f64> = (0..u64::from(steps)).map(|step| share_of_peak(&job, step)).collect();
        near(&found, &shares, 1e-12, &format!("{schedule:?} after {warmup}"));
    }
}

/// AdamW of torch with the decay divided by the learning rate, to 1e-5 of the largest weight: ours are f32.
#[test]
fn decay_is_torchs_but_for_the_learning_rate() {
    let Decay { rate, decay, warmup, start, gradients, after } = golden().decay;
    let job = Job {
        warmup: Warmup::Steps(warmup),
        epochs: u32::try_from(gradients.len()).unwrap(),
        batch: 100,
        learning_rate: rate,
        weight_decay: decay,
        ..labels(1)
    };
    let mut weights = narrow(&start);
    let len = weights.len();
    let layout = Layout { len, decayed: std::iter::once(0..len).collect(), matrices: Vec::new() };
    let mut state = State::new(&job.optimizer, &layout);
    for (step, (gradient, after)) in gradients.iter().zip(&after).enumerate() {
        apply(&job, step as u64, &layout, &narrow(gradient), &mut state, &mut weights);
        let found: Vec<f64> = weights.iter().map(|x| f64::from(*x)).collect();
        near(&found, after, 1e-5, &format!("step {step}"));
    }
}

/// Images and labels of a batch with the batch rolled by one, to f32's roundings.
#[test]
fn mixup_is_torchs() {
    let Mixup { images, labels, mixed } = golden().mixup;
    for MixedBatch { share, smoothing, images: expected, labels: probabilities } in mixed {
        let found = mix(&narrow(&images), 3, 2, Mixed::Mixup { share });
        near(&found.into_iter().map(f64::from).collect::<Vec<_>>(), &expected, 2e-7, "images");
        let found = mix_labels(&labels, 3, share, smoothing);
        near(&found.into_iter().map(f64::from).collect::<Vec<_>>(), &probabilities, 2e-7, "labels");
    }
}
