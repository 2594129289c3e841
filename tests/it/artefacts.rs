//! Every figure and table of the paper, drawn from a store that holds the paper's own published numbers instead of runs.
//!
//! The numbers are those that the reports themselves draw as the paper's. Each is given to the first job of its line and
//! length, whatever settings that has, as the accuracy on validation and test images alike; the attempt says
//! `published` where others name their device, which reports then say.

use std::path::Path;

use distillery::commands::Nominal;
use distillery::event::{Epoch, Evaluation, Event, Message, Which};
use distillery::grid;
use distillery::plan::{CohortId, Plan};
use distillery::report::{self, Report, Source};
use distillery::store::{Outcome, Provenance, Rows, Store};

use crate::report::picture::Picture;

const REPORTS: [&str; 16] = [
    "fig1-duration",
    "fig3-consistency",
    "fig4-patience",
    "fig5",
    "fig7-labels",
    "fig9-flowers102",
    "fig10-pet37",
    "fig11-food101",
    "fig12-sun397",
    "figs9-12-consistency",
    "table1-resolutions",
    "table2-literature",
    "table3-imagenet",
    "table3-ensemble",
    "table3-mobilenet",
    "table4-small-sets",
];

fn shipped(name: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("reports/{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    report::read(&Source { name: name.to_owned(), text }).unwrap()
}

/// What the paper has of a job: from the listed lines of some reports, and from series that are ways of teaching.
fn number(reports: &[Report], outcome: &Outcome) -> Option<f64> {
    let job = &outcome.job;
    let experiment = &outcome.axes["experiment"];
    reports.iter().filter(|report| report.experiments.contains(experiment)).find_map(|report| {
        let papers = report.papers.iter().filter(|paper| paper.data == job.data.name);
        let listed = report.series.iter().find(|line| line.has(outcome));
        let own = listed.and_then(|line| line.paper.at(job.epochs));
        let name = listed.map_or(job.teaching_name(), |line| line.name.as_str());
        own.or_else(|| papers.filter_map(|paper| paper.series.get(name)?.at(job.epochs)).next())
    })
}

fn last_row(outcome: &Outcome, top1: f64) -> Epoch {
    let of = |split| Evaluation {
        split,
        images: 1000,
        loss: 0.5,
        top1,
        top5: 1.0,
        kl: None,
        agreement: None,
        agreement5: None,
        distance: None,
        entropy: None,
        teacher_entropy: None,
        calibration_error: None,
        correct: None,
    };
    let job = &outcome.job;
    Epoch {
        epoch: job.epochs,
        step: job.total_steps(),
        images: u64::from(job.epochs) * job.train_images(),
        training_loss: 0.5,
        learning_rate: 0.0,
        gradient_norm: 1.0,
        student_flops: 1e9,
        teacher_flops: 1e9,
        seconds: 0.0,
        images_per_second: 0.0,
        evaluations: vec![of(Which::Validation), of(Which::Test)],
    }
}

async fn fill(store: &Store, experiment: &str, reports: &[Report]) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("experiments/{experiment}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    let source = grid::Source { name: format!("{experiment}.toml"), text, folder: None };
    let read = grid::read(&source, &["size=paper".to_owned()], &Nominal::default()).unwrap();
    let listed: Vec<_> = read.jobs.iter().map(|cell| (cell.id.clone(), &*cell.job, &cell.axes)).collect();
    store.record_experiment(&read.name, &read.hash, read.title.as_deref(), &read.text, &listed, &[]).await.unwrap();
    let provenance =
        Provenance { device: "published".into(), version: "arXiv 2106.05237".into(), ..Provenance::default() };
    let mut known: Vec<(String, u32, u64)> = Vec::new();
    let mut shared = 0;
    for mut outcome in store.outcomes_with(&read.name, Rows::Last).await.unwrap() {
        // As a report of several experiments has it.
        outcome.axes.insert("experiment".into(), experiment.into());
        // A job of another experiment, too.
        if !outcome.epochs.is_empty() {
            shared += 1;
            continue;
        }
        let Some(top1) = number(reports, &outcome) else { continue };
        let key =
            (format!("{} {}", outcome.job.data.name, outcome.job.teaching_name()), outcome.job.epochs, top1.to_bits());
        if known.contains(&key) {
            continue;
        }
        known.push(key);
        let cohort: CohortId = Plan::new(std::slice::from_ref(&outcome.job), &Default::default()).cohorts[0].id.clone();
        let attempt = store.begin_attempt(&outcome.id, &cohort, &provenance).await.unwrap();
        let says = |event| Message { job: outcome.id.clone(), attempt, at_ms: 1_623_300_000_000, event };
        let messages = [says(Event::Epoch(last_row(&outcome, top1))), says(Event::Finished)];
        for message in &messages {
            store.take(message).await.unwrap();
        }
    }
    known.len() + shared
}

#[test]
fn all_artefacts_are_drawn_from_the_papers_numbers() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("runs");
    std::fs::create_dir(&folder).unwrap();
    let reports: Vec<Report> =
        ["fig7-labels", "table3-imagenet", "fig4-patience", "fig1-duration", "figs9-12-consistency"]
            .map(shipped)
            .to_vec();
    let experiments = [
        ("fig1-duration", 21),
        ("fig7-labels", 16),
        ("fig5-shampoo", 9),
        ("fig5-init", 6),
        ("table1-resolutions", 15),
        ("table3-ensemble", 3),
        ("table3-mobilenet", 9),
        ("fig4-patience", 23),
        ("fig3-consistency", 1),
        ("figs9-12-consistency", 13),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&folder.join("store.sqlite")).await.unwrap();
        for (experiment, least) in experiments {
            let filled = fill(&store, experiment, &reports).await;
            assert!(filled >= least, "{experiment}: {filled} numbers of {least}");
        }
        store.close().await.unwrap();
    });
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("published");
    for name in REPORTS {
        let arguments = ["report", name, "--size", "paper", "--folder", "runs", "--out", out.to_str().unwrap()];
        let output = crate::cli::distillery(place.path(), &arguments);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let file = |extension: &str| std::fs::read_to_string(out.join(format!("{name}-paper.{extension}"))).unwrap();
        let (svg, csv, markdown) = (file("svg"), file("csv"), file("md"));
        let picture = Picture::of(&svg);
        picture.assert_tidy(name);
        assert!(picture.all_text().contains("published numbers that were written into the store, not runs"), "{name}");
        assert!(csv.lines().any(|line| line.contains(",run,")), "{name} draws nothing of the store");
        assert!(markdown.contains("published numbers"), "{name}");
        assert!(file("tex").contains("\\begin{tabular}"), "{name}");
    }
    // Figure 1's curves are Table 3's rows.
    let csv = std::fs::read_to_string(out.join("fig1-duration-paper.csv")).unwrap();
    let line = csv.lines().find(|line| line.contains("function-matching,9600,run")).unwrap();
    assert!(line.contains(",0.8231,"), "{line}");
    // One run a line: nothing can be decided.
    let markdown = std::fs::read_to_string(out.join("fig1-duration-paper.md")).unwrap();
    assert_eq!(markdown.matches("not decided (one seed a side").count(), 7, "{markdown}");
}

/// A report must fit its experiments in every size, though it is looked at in one.
#[test]
fn reports_fit_every_size() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |folder: &str| -> Vec<String> {
        let paths = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let toml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        toml.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let mut drawn = 0;
    for size in ["small", "box", "paper"] {
        let mut all: std::collections::BTreeMap<String, Vec<Outcome>> = Default::default();
        for experiment in stems("experiments") {
            let text = std::fs::read_to_string(root.join(format!("experiments/{experiment}.toml"))).unwrap();
            if !text.contains(&format!("[sizes.{size}.base]")) {
                continue;
            }
            let source = grid::Source { name: format!("{experiment}.toml"), text, folder: None };
            let read = grid::read(&source, &[format!("size={size}")], &Nominal::default()).unwrap();
            let outcomes = read.jobs.iter().enumerate().map(|(index, cell)| {
                let mut outcome = Outcome {
                    id: cell.id.clone(),
                    job: (*cell.job).clone(),
                    axes: cell.axes.clone(),
                    state: distillery::store::State::Done,
                    message: None,
                    epochs: Vec::new(),
                    seconds: 1.0,
                    teachers: Vec::new(),
                    flags: Default::default(),
                };
                let row = last_row(&outcome, 0.5 + 0.0001 * (index % 97) as f64);
                outcome.epochs.push(row);
                outcome
            });
            all.insert(experiment, outcomes.collect());
        }
        for name in stems("reports") {
            let report = shipped(&name);
            let several = report.experiments.0.len() > 1;
            let mut outcomes: Vec<Outcome> = Vec::new();
            for experiment in &report.experiments.0 {
                for outcome in all.get(experiment).into_iter().flatten() {
                    let mut outcome = outcome.clone();
                    if several {
                        outcome.axes.insert("experiment".to_owned(), experiment.clone());
                    }
                    outcomes.push(outcome);
                }
            }
            if outcomes.is_empty() {
                continue;
            }
            match report::svg(&report, &outcomes, report::Theme::Light) {
                Ok(svg) => {
                    Picture::of(&svg).assert_tidy(&format!("{name}, {size}"));
                    drawn += 1;
                }
                // Of a data set that this size does not have.
                Err(report::Error::Empty(_)) => {
                    assert!(name.starts_with("fig1") || name.starts_with("fig9"), "{name}, {size}")
                }
                Err(error) => panic!("{name}, {size}: {error}"),
            }
            for verdict in report::verdicts(&report, &outcomes) {
                if let report::Ruling::Refused(reason) = &verdict.ruling {
                    assert!(!reason.contains("differ in"), "{name}, {size}: {}: {reason}", verdict.claim);
                }
            }
        }
    }
    assert!(drawn > 55, "{drawn}");
}
