//! What each mode shows, as the paper defines it.

use distillery::job::*;
use distillery::source::{Origin, Source};
use distillery::train::data::{self, DataSet};
use distillery::train::random::{Purpose, Stream};
use distillery::train::views::{Asked, Batch, Look, Still, Views, asked, student_look};
use distillery::train::window::Window;

use crate::small::{MODES, distil, labels};

fn set() -> DataSet {
    data::open(&Source::of(Origin::BuiltIn)).unwrap()
}

fn teacher_look(job: &Job) -> Option<Look> {
    let Objective::Distil(distil) = &job.objective else { return None };
    match asked(distil, job.mixing) {
        Asked::Live(look) => Some(Look { resolution: job.resolution, ..look }),
        Asked::Once(_) => None,
    }
}

fn pixels(views: &Views, batch: &Batch, look: Look) -> Vec<f32> {
    views.show(batch, look).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn job(teaching: Teaching) -> Job {
    distil(&labels(1), teaching, 5)
}

/// Shared means the same pixels; independent and fixed mean others; and every mode asks what its name says.
#[test]
fn modes_show_what_they_say() {
    let set = set();
    for teaching in MODES {
        let job = job(teaching);
        let views = Views::new(&job, &set, &[]);
        let (teacher, student) = (teacher_look(&job), student_look(&job));
        let name = teaching.name();
        for step in [0, 7, 20] {
            let batch = views.batch(step);
            let Some(teacher) = teacher else {
                assert!(name.starts_with("fixed/"), "{name}");
                continue;
            };
            let same = pixels(&views, &batch, teacher) == pixels(&views, &batch, student);
            let shared = name.starts_with("consistent/") || name == "function-matching";
            assert_eq!(same, shared, "{name} at step {step}");
        }
        assert_eq!(student.mix.is_some(), ["function-matching", "independent-mixup"].contains(&name), "{name}");
    }
    let Objective::Distil(fixed) = job(Teaching::FixedInceptionEnsemble { crops: 1024 }).objective else {
        unreachable!()
    };
    assert_eq!(asked(&fixed, Mixing::Mixup), Asked::Once(Still::InceptionEnsemble { crops: 1024 }));
}

/// `independent-mixup` shares the crop: unmixing both with their own coefficients gives the same images.
#[test]
fn independent_mixup_shares_the_crop() {
    let set = set();
    let job = job(Teaching::IndependentMixup { mixup: 1.0 });
    let views = Views::new(&job, &set, &[]);
    let (teacher, student) = (teacher_look(&job).unwrap(), student_look(&job));
    let batch = views.batch(3);
    let unmixed = Look { mix: None, ..teacher };
    assert_eq!(unmixed, Look { mix: None, ..student });
    let (a, b) = (views.coefficient(&batch, teacher).unwrap(), views.coefficient(&batch, student).unwrap());
    assert_ne!(a, b);
    let plain = pixels(&views, &batch, unmixed);
    let size = plain.len() / batch.images.len();
    for (share, mixed) in [(a, pixels(&views, &batch, teacher)), (b, pixels(&views, &batch, student))] {
        for i in 0..batch.images.len() {
            // The partner is the batch rolled by one.
            let partner = (i + batch.images.len() - 1) % batch.images.len();
            for p in 0..size {
                let expected =
                    f64::from(plain[i * size + p]) * share + f64::from(plain[partner * size + p]) * (1.0 - share);
                assert!((f64::from(mixed[i * size + p]) - expected).abs() < 1e-5);
            }
        }
    }
}

/// The coefficient is folded to [0.5, 1]; for p = 1 it is uniform there, for small p it crowds at 1.
#[test]
fn mixing_coefficients_are_folded() {
    let set = set();
    let draw = |beta: f64| -> Vec<f64> {
        let job = job(Teaching::FunctionMatching { mixup: beta });
        let views = Views::new(&job, &set, &[]);
        let look = student_look(&job);
        let share = |step| {
            let batch = views.batch(step);
            views.coefficient(&batch, look).unwrap()
        };
        (0..2000).map(share).collect()
    };
    let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
    let uniform = draw(1.0);
    assert!(uniform.iter().all(|share| (0.5..=1.0).contains(share)));
    // Standard error 0.0032.
    assert!((mean(&uniform) - 0.75).abs() < 0.015, "{}", mean(&uniform));
    let quarter = uniform.iter().filter(|share| **share < 0.625).count();
    assert!((420..580).contains(&quarter), "{quarter} of 2000 in the first quarter");
    assert!(mean(&draw(0.1)) > 0.92);
    assert!(mean(&draw(20.0)) < 0.6);
}

/// Views depend on (seed, epoch, position) alone: not on what was asked before, and not on the length of the run.
#[test]
fn views_are_pure() {
    let set = set();
    let long = job(Teaching::FunctionMatching { mixup: 1.0 });
    let short = Job { epochs: 2, ..long.clone() };
    let look = student_look(&long);
    let forward = Views::new(&long, &set, &[]);
    let seen: Vec<(Batch, Vec<f32>)> = (0..12)
        .map(|step| {
            let batch = forward.batch(step);
            let shown = pixels(&forward, &batch, look);
            (batch, shown)
        })
        .collect();
    let backward = Views::new(&short, &set, &[]);
    for step in (0..12).rev() {
        let batch = backward.batch(step);
        assert_eq!((&batch, &pixels(&backward, &batch, look)), (&seen[step as usize].0, &seen[step as usize].1));
    }
    let other = Views::new(&Job { seed: 1, ..long.clone() }, &set, &[]);
    let batch = other.batch(0);
    assert_ne!(batch.images, seen[0].0.images);
    // The same image of a later epoch is shown otherwise.
    let again = Views::new(&long, &set, &[]);
    let (first, later) = (again.batch(0), again.batch(13));
    assert_ne!(pixels(&again, &first, look), pixels(&again, &later, look));
}

/// Every epoch shows every image once, also where batches run over its end.
#[test]
fn an_epoch_is_every_image_once() {
    let set = set();
    let job = job(Teaching::ConsistentInceptionCrop);
    let views = Views::new(&job, &set, &[]);
    let steps = job.steps_at(4) + 1;
    let images: Vec<u32> = (0..steps).flat_map(|step| views.batch(step).images).collect();
    for epoch in images.chunks_exact(100).take(4) {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
    assert_ne!(images[..100], images[100..200]);
    let labels = views.batch(2).labels;
    let expected: Vec<u32> = views.batch(2).images.iter().map(|image| set.train.labels[*image as usize]).collect();
    assert_eq!(labels, expected);
}

/// paper.md 1.5: round(epochs * images / batch).
#[test]
fn steps_are_the_papers() {
    let flowers = |epochs| Job {
        batch: 512,
        epochs,
        split: Split { train: Slice { part: Part::Train, start: 0, end: 1020 }, ..labels(1).split },
        ..labels(1)
    };
    for (epochs, steps) in [(1_000, 1_992), (10_000, 19_922), (100_000, 199_219), (1_000_000, 1_992_188)] {
        assert_eq!(flowers(epochs).total_steps(), steps);
    }
}

/// Students of different resolution see the same window.
#[test]
fn one_window_two_resolutions() {
    let set = set();
    for teaching in [Teaching::ConsistentInceptionCrop, Teaching::ConsistentMildCrop] {
        let job = job(teaching);
        let views = Views::new(&job, &set, &[]);
        let batch = views.batch(0);
        let look = student_look(&job);
        let mean = |resolution: u32| -> Vec<f32> {
            let shown = pixels(&views, &batch, Look { resolution, ..look });
            let size = (resolution * resolution) as usize;
            shown.chunks_exact(size).map(|image| image.iter().sum::<f32>() / size as f32).collect()
        };
        for (small, large) in mean(14).into_iter().zip(mean(28)) {
            assert!((small - large).abs() < 0.05, "{small} {large}");
        }
        // Exactly: the middle of every third sample of a view of three times the resolution is one of the view itself.
        let (one, three) = (
            pixels(&views, &batch, Look { resolution: 9, ..look }),
            pixels(&views, &batch, Look { resolution: 27, ..look }),
        );
        for image in 0..batch.images.len() {
            for (y, x) in (0..9).flat_map(|y| (0..9).map(move |x| (y, x))) {
                let (a, b) = (one[(image * 9 + y) * 9 + x], three[(image * 27 + 3 * y + 1) * 27 + 3 * x + 1]);
                assert!((a - b).abs() < 1.5 / 127.5, "{}: {a} {b}", teaching.name());
            }
        }
    }
}

/// Labels are mixed as the images are, and smoothed.
#[test]
fn labels_are_mixed_with_the_images() {
    let set = set();
    let job = Job {
        objective: Objective::Labels(Labels { view: View::InceptionCrop, mixup: 1.0, label_smoothing: 0.1 }),
        ..labels(1)
    };
    let views = Views::new(&job, &set, &[]);
    let batch = views.batch(1);
    let look = student_look(&job);
    let share = views.coefficient(&batch, look).unwrap();
    let targets = views.targets(&batch, look, 10, 0.1).unwrap().to_vec2::<f32>().unwrap();
    for (i, row) in targets.iter().enumerate() {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let partner = (i + targets.len() - 1) % targets.len();
        let mut expected = [0.01f64; 10];
        expected[batch.labels[i] as usize] += 0.9 * share;
        expected[batch.labels[partner] as usize] += 0.9 * (1.0 - share);
        assert!(row.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
    }
}

/// The same bytes by 1, 2 and 8 threads, and of epoch 7 directly or after the epochs before it.
#[test]
fn pixels_do_not_depend_on_who_makes_them_or_when() {
    let set = set();
    let job = job(Teaching::IndependentMixup { mixup: 1.0 });
    let look = student_look(&job);
    let first = job.steps_at(7);
    let of_epoch = |views: &Views| -> Vec<Vec<u8>> {
        let bytes = |step| {
            let batch = views.batch(step);
            let mut pixels = vec![0; batch.images.len() * views.pixels_each(look)];
            views.pixels(&batch, look, &mut pixels).unwrap();
            pixels
        };
        (first..job.steps_at(8)).map(bytes).collect()
    };
    let with = |threads, from_the_start: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let views = Views::new(&job, &set, &[]);
            if from_the_start {
                (0..first).for_each(|step| drop(views.batch(step)));
            }
            of_epoch(&views)
        })
    };
    let expected = with(1, true);
    assert_eq!(expected.len(), 6);
    for (threads, from_the_start) in [(1, false), (2, false), (8, true), (8, false)] {
        assert!(with(threads, from_the_start) == expected, "{threads} threads, {from_the_start}");
    }
}

/// Over many positions: half of the views are mirrored; coefficients are those of Beta(p, p), the larger part; aspects of
/// inception crops fill their range evenly, areas crowd at its small end as TensorFlow's sampler has them.
#[test]
fn draws_have_their_distributions() {
    let set = set();
    let job = job(Teaching::FunctionMatching { mixup: 1.0 });
    let views = Views::new(&job, &set, &[]);
    let look = student_look(&job);
    let share_below =
        |values: &[f64], bound: f64| values.iter().filter(|value| **value < bound).count() as f64 / values.len() as f64;
    // Uniform on [0.5, 1]; a standard deviation of a share is at most 0.008.
    let uniform: Vec<f64> = (0..4000).map(|step| views.coefficient(&views.batch(step), look).unwrap()).collect();
    for (bound, expected) in [(0.5, 0.0), (0.6, 0.2), (0.75, 0.5), (0.9, 0.8), (1.0, 1.0)] {
        assert!((share_below(&uniform, bound) - expected).abs() < 0.03, "{bound}: {}", share_below(&uniform, bound));
    }
    // Beta(2, 2) has the distribution function 3 x^2 - 2 x^3, so the larger part lies below b with F(b) - F(1 - b).
    let peaked = Look { mix: look.mix.map(|mix| distillery::train::views::Mix { beta: 2.0, ..mix }), ..look };
    let peaked: Vec<f64> = (0..4000).map(|step| views.coefficient(&views.batch(step), peaked).unwrap()).collect();
    let below = |x: f64| 3.0 * x * x - 2.0 * x * x * x;
    for bound in [0.55, 0.65, 0.8, 0.95] {
        let (found, expected) = (share_below(&peaked, bound), below(bound) - below(1.0 - bound));
        assert!((found - expected).abs() < 0.03, "{bound}: {found}, not {expected}");
    }
    // A whole view at its own size is the image or its mirror image.
    let whole = Job { resolution: 28, ..distil(&labels(1), Teaching::FixedResize, 40) };
    let views = Views::new(&whole, &set, &[]);
    let look = student_look(&whole);
    let (mut mirrored, mut all) = (0, 0);
    for step in 0..60 {
        let batch = views.batch(step);
        let mut pixels = vec![0; batch.images.len() * 784];
        views.pixels(&batch, look, &mut pixels).unwrap();
        for (image, shown) in batch.images.iter().zip(pixels.chunks_exact(784)) {
            let own = set.train.see(*image as usize, |image| image.pixels.to_vec()).unwrap();
            let mirror: Vec<u8> = own.chunks_exact(28).flat_map(|row| row.iter().rev().copied()).collect();
            assert!(shown == own || shown == mirror);
            mirrored += usize::from(shown != own);
            all += 1;
        }
    }
    // 480 of 960 expected, standard deviation 15.
    assert!((420..540).contains(&mirrored), "{mirrored} of {all}");
    // Aspect ratios as drawn: of images so large that whole pixels do not matter.
    let crop = Crop { area: [0.05, 1.0], aspect: [0.75, 1.3333], tries: 100, margin: 1.0 };
    let drawn = |index| {
        let mut stream = Stream::new(4, Purpose::TeacherView, index);
        Window::draw(View::InceptionCrop, &crop, (5000, 4000), &mut stream)
    };
    let windows: Vec<Window> = (0..4000).map(drawn).collect();
    let aspects: Vec<f64> = windows
        .iter()
        .filter(|window| window.width * window.height < 0.3 * 20e6)
        .map(|window| (window.width / window.height - 0.75) / 0.5833)
        .collect();
    assert!(aspects.len() > 1000, "{}", aspects.len());
    for bound in [0.25, 0.5, 0.75] {
        assert!((share_below(&aspects, bound) - bound).abs() < 0.05, "{bound}: {}", share_below(&aspects, bound));
    }
    // Heights are uniform between those of the smallest and the largest area, so sqrt(area) is, up to where it must fit.
    let roots: Vec<f64> = windows.iter().map(|window| (window.width * window.height / 20e6).sqrt()).collect();
    assert!(
        (share_below(&roots, 0.5) / share_below(&roots, 0.75) - 0.525).abs() < 0.05,
        "{}",
        share_below(&roots, 0.5)
    );
}
