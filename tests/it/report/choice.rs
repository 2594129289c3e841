//! Settings that are chosen by validation images, panels of other kinds, names, and the paper's numbers.

use distillery::event::Which;
use distillery::report::{self, Report, Theme};
use distillery::store::{Outcome, State};

use super::made_up::{self, done, from_teacher, grid, modes, open};
use super::picture::Picture;
use super::{csv_rows, read};

/// A run with these accuracies on validation and test images.
fn run(rate: &str, seed: u64, validation: f64, test: f64) -> Outcome {
    let mut job = from_teacher(made_up::FUNCTION_MATCHING, 30, seed);
    job.learning_rate = rate.parse().unwrap();
    let mut outcome = done(job, &[("learning-rate", rate)]);
    for evaluation in &mut outcome.epochs.last_mut().unwrap().evaluations {
        evaluation.top1 = if evaluation.split == Which::Validation { validation } else { test };
    }
    outcome
}

fn chosen(select: &str, outcomes: &[Outcome]) -> report::Rendered {
    let text = format!(
        "experiment = \"made-up\"\ntitle = \"Made up\"\n{select}\n[[panel]]\ntitle = \"Accuracy\"\n\
         duration = {{ value = \"test.top1\", series = \"teaching\" }}\n"
    );
    report::render(&read(&text).unwrap(), outcomes, Theme::Light).unwrap()
}

const BY_RATE: &str = "[select]\nover = [\"learning-rate\"]";

#[test]
fn validation_chooses_and_test_is_reported() {
    let outcomes: Vec<Outcome> = (0..3)
        .flat_map(|seed| {
            let off = 0.001 * seed as f64;
            [run("1e-3", seed, 0.80 + off, 0.70 + off), run("3e-3", seed, 0.79 + off, 0.90 + off)]
        })
        .collect();
    let rendered = chosen(BY_RATE, &outcomes);
    let rows = csv_rows(&rendered.csv);
    let mean = rows.iter().find(|row| row[4] == "mean").unwrap();
    assert_eq!((mean[7].parse::<f64>().unwrap() * 1e4).round(), 7010.0, "the other one is better on test images");
    assert_eq!(mean[10], "learning-rate 1e-3");
    assert_eq!(rows.iter().filter(|row| row[4] == "other").count(), 3);
    assert!(
        rendered.markdown.contains("- function matching, 30 epochs: learning-rate 1e-3, of 2"),
        "{}",
        rendered.markdown
    );
    let text = Picture::of(&rendered.svg).all_text();
    assert!(text.contains("Of 2 settings (learning-rate) the best by validation.top1 is shown"), "{text}");
    assert!(rendered.missing.is_empty());
}

#[test]
fn a_setting_with_fewer_runs_or_without_a_number_takes_no_part() {
    let mut outcomes = vec![run("1e-3", 0, 0.80, 0.70), run("1e-3", 1, 0.80, 0.70)];
    // The best of all, of one seed.
    outcomes.push(run("3e-3", 0, 0.95, 0.95));
    let mut failed = run("3e-3", 1, 0.95, 0.95);
    (failed.epochs, failed.state) = (Vec::new(), State::Failed);
    outcomes.push(failed);
    // The best of all in one of two seeds, and no number in the other.
    outcomes.extend([run("1e-2", 0, 0.99, 0.99), run("1e-2", 1, f64::NAN, f64::NAN)]);
    let rendered = chosen(BY_RATE, &outcomes);
    let mean = csv_rows(&rendered.csv).into_iter().find(|row| row[4] == "mean").unwrap().join(",");
    assert!(mean.ends_with(",learning-rate 1e-3"), "{mean}");
    assert!(
        Picture::of(&rendered.svg).all_text().contains("Settings with fewer finished runs than others took no part")
    );
    assert_eq!(rendered.missing.len(), 1);
}

#[test]
fn a_loss_is_chosen_where_it_is_low() {
    let mut outcomes = vec![run("1e-3", 0, 0.80, 0.70), run("3e-3", 0, 0.70, 0.60)];
    for (outcome, loss) in outcomes.iter_mut().zip([2.0, 1.0]) {
        outcome.epochs.last_mut().unwrap().evaluations.iter_mut().for_each(|evaluation| evaluation.loss = loss);
    }
    let rendered = chosen("[select]\nover = [\"learning-rate\"]\nby = \"validation.loss\"", &outcomes);
    assert!(rendered.csv.contains("learning-rate 3e-3"), "{}", rendered.csv);
}

#[test]
fn nobody_chooses_by_test_images() {
    for by in ["test.top1", "training-loss"] {
        let text = format!(
            "experiment = \"e\"\ntitle = \"t\"\n[select]\nby = \"{by}\"\n[[panel]]\ntitle = \"p\"\n\
             duration = {{ value = \"test.top1\", series = \"teaching\" }}\n"
        );
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("would choose by what is reported\nhint: choose by a value on validation"), "{error}");
    }
}

#[test]
fn a_best_epoch_is_stamped_on_the_figure() {
    let mut outcomes = grid(1);
    let before = &mut outcomes[0].epochs[4];
    before.evaluations.iter_mut().for_each(|evaluation| {
        evaluation.top1 = if evaluation.split == Which::Validation { 0.99 } else { 0.5 };
    });
    let last = chosen("", &outcomes);
    let best = chosen("[select]\nepoch = \"best\"", &outcomes);
    assert!(!Picture::of(&last.svg).all_text().contains("BEST EPOCH") && !last.csv.contains(",0.5,"));
    let text = Picture::of(&best.svg).all_text();
    assert!(
        text.contains("BEST EPOCH by validation.top1, not the last") && text.contains("Best epoch on validation"),
        "{text}"
    );
    // At its length, not at the epoch it was best at.
    assert!(best.csv.contains("fixed/cc,10,run,0,1,0.5,"), "{}", best.csv);
}

/// Every kind of panel.
fn kinds(series: &str) -> Vec<String> {
    [
        format!("duration = {{ value = \"test.top1\", {series} }}"),
        format!("duration = {{ value = \"test.top1\", x = \"flops\", {series} }}"),
        format!("curves = {{ value = \"training-loss\", at-epochs = \"longest\", x = \"images\", {series} }}"),
        format!("scatter = {{ x = \"test.agreement\", value = \"test.top1\", {series} }}"),
        format!("scatter = {{ x = \"student-flops\", value = \"validation.kl\", {series} }}"),
        format!("bars = {{ value = \"test.top1\", {series} }}"),
        format!("bars = {{ value = \"test.agreement\", from-zero = false, {series} }}"),
        format!("table = {{ value = \"test.top1\", {series} }}"),
        format!("table = {{ value = \"validation.kl\", columns = \"longest\", {series} }}"),
    ]
    .to_vec()
}

fn of_kinds(kinds: &[String], more: &str) -> Report {
    let panels =
        kinds.iter().enumerate().map(|(index, kind)| format!("[[panel]]\ntitle = \"Panel {index}\"\n{kind}\n"));
    read(&format!("experiment = \"made-up\"\ntitle = \"Made up\"\n{more}\n{}", panels.collect::<String>())).unwrap()
}

#[test]
fn every_kind_of_panel_is_tidy_in_every_company() {
    let long = "a-very-long-name/of-a-place-on-an-axis=with-0.0003 and words, and more words, and a Sesquipedalianword";
    for series in [1, 5, 12] {
        for suffix in ["", long] {
            let outcomes: Vec<Outcome> = (0..series)
                .flat_map(|index| (0..3).flat_map(move |seed| [10, 100].map(|epochs| (index, seed, epochs))))
                .map(|(index, seed, epochs)| {
                    let mut job = from_teacher(modes()[index % 9], epochs, seed);
                    job.learning_rate += 1e-6 * index as f64;
                    done(job, &[("arm", &format!("{index}{suffix}"))])
                })
                .collect();
            for first in 0..9 {
                for count in [1, 2, 3, 6] {
                    let all = kinds("series = \"arm\"");
                    let some: Vec<String> = (0..count).map(|at| all[(first + at) % all.len()].clone()).collect();
                    let svg = report::svg(&of_kinds(&some, ""), &outcomes, Theme::Light).unwrap();
                    let case = format!("{count} panels from {first}, {series} series, {} letters", suffix.len());
                    Picture::of(&svg).assert_tidy(&case);
                }
            }
        }
    }
}

#[test]
fn the_numbers_of_every_kind_are_in_the_csv() {
    let outcomes = grid(3);
    let rendered = report::render(&of_kinds(&kinds("series = \"teaching\""), ""), &outcomes, Theme::Light).unwrap();
    let rows = csv_rows(&rendered.csv);
    let of = |panel: &str, statistic: &str| {
        let name = format!("Panel {panel}");
        rows.iter().filter(|row| row[0] == name && row[4] == statistic).cloned().collect::<Vec<_>>()
    };
    for row in of("1", "run") {
        let job = outcomes.iter().find(|outcome| outcome.id.as_str() == row[8]).unwrap();
        assert_eq!(row[9].parse::<f64>().unwrap(), 6e9 * f64::from(job.job.epochs), "flops of both");
    }
    let scattered = of("3", "run");
    assert_eq!(scattered.len(), 36, "labels alone have no agreement");
    for row in scattered {
        let job = outcomes.iter().find(|outcome| outcome.id.as_str() == row[8]).unwrap();
        let test = job.final_evaluation(Which::Test).unwrap();
        assert_eq!((row[9].parse().ok(), row[7].parse().ok()), (test.agreement, Some(test.top1)));
    }
    assert_eq!(of("5", "mean").len(), 5, "bars stand at one length");
    let text = Picture::of(&rendered.svg).all_text();
    let mean = of("5", "mean").into_iter().find(|row| row[2] == "function-matching").unwrap();
    let written = format!("{:.1}", 100.0 * mean[7].parse::<f64>().unwrap());
    assert!(text.contains(&format!("{written} ±")), "{written} in {text}");
    assert!(rendered.latex.matches("\\begin{tabular}").count() == 9 && rendered.latex.contains("\\toprule"));
}

#[test]
fn names_facets_and_lines_of_several_axes() {
    let outcomes: Vec<Outcome> = [("a", "x"), ("a", "y"), ("b", "x")]
        .into_iter()
        .enumerate()
        .map(|(index, (arm, leg))| {
            let mut job = from_teacher(made_up::FUNCTION_MATCHING, 30, 0);
            job.weight_decay += 1e-6 * index as f64;
            done(job, &[("arm", arm), ("leg", leg)])
        })
        .collect();
    let text = "experiment = \"e\"\ntitle = \"t\"\n[names.arm]\na = \"the first\"\n[[panel]]\ntitle = \"p\"\nfacet = \"arm\"\n\
                duration = { value = \"test.top1\", series = \"leg\" }\n[[panel]]\ntitle = \"q\"\n\
                table = { value = \"test.top1\", series = [\"arm\", \"leg\"] }\n";
    let rendered = report::render(&read(text).unwrap(), &outcomes, Theme::Light).unwrap();
    for title in ["## p, the first (", "## p, b (", "| the first · y |", "| b · x |", "| arm, leg | 30 epochs |"] {
        assert!(rendered.markdown.contains(title), "{title} in {}", rendered.markdown);
    }
}

const PAPER: &str = "[[paper]]\nsource = \"Table 9\"\ndata = \"DATA\"\nabout = \"Elsewhere\"\nteacher = 83.0\n[paper.series]\n\
                     \"function-matching\" = { 10 = 81.5, 1000 = 82.25 }\n\"of others\" = { 10 = 50.0 }\n";

#[test]
fn the_papers_numbers_stand_beside_ours_or_among_them() {
    let kinds = ["duration = { value = \"test.top1\", series = \"teaching\" }".to_owned()];
    let beside = report::render(&of_kinds(&kinds, PAPER), &grid(2), Theme::Light).unwrap();
    let text = Picture::of(&beside.svg).all_text();
    assert!(text.contains("In the paper: Elsewhere") && text.contains("not run here"), "{text}");
    let ours = beside.csv.lines().filter(|line| line.starts_with("Panel 0,")).collect::<Vec<_>>();
    assert!(!ours.is_empty() && ours.iter().all(|line| !line.contains(",paper,")), "{}", beside.csv);
    assert!(
        beside.csv.contains("In the paper: Elsewhere,test.top1,function-matching,1000,paper,,0,0.8225,"),
        "{}",
        beside.csv
    );

    let same = PAPER.replace("DATA", "fashion-mnist-8k2k");
    let among = report::render(&of_kinds(&kinds, &same), &grid(2), Theme::Light).unwrap();
    let text = Picture::of(&among.svg).all_text();
    assert!(!text.contains("In the paper") && text.contains("function matching, paper"), "{text}");
    assert!(among.csv.contains("Panel 0,test.top1,of others,10,paper,"), "{}", among.csv);
    assert!(among.markdown.contains("; 81.50 (paper) |"), "{}", among.markdown);
    // They are in no mean.
    let mean = |csv: &str| csv.lines().find(|line| line.contains("function-matching,10,mean")).unwrap().to_owned();
    assert_eq!(mean(&beside.csv), mean(&among.csv));
}

#[test]
fn what_was_not_run_is_drawn_nowhere() {
    let kinds = ["duration = { value = \"test.top1\", series = \"teaching\" }".to_owned()];
    let error =
        report::render(&of_kinds(&kinds, PAPER), &[open(from_teacher(modes()[0], 10, 0))], Theme::Light).unwrap_err();
    assert!(matches!(error, report::Error::Empty(_)), "{error}: the paper's numbers alone are no report of ours");
}

/// Attributes of the shapes of one kind with this paint, in tenths of points.
fn shapes<'a>(svg: &'a str, tag: &str, paint: &str) -> Vec<&'a str> {
    let begins = format!("<{tag} ");
    svg.lines().filter(|line| line.starts_with(&begins) && line.contains(paint)).collect()
}

fn attribute(shape: &str, name: &str) -> String {
    shape.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

/// The line through the first and last pair of numbers; how far the others are from it.
fn residual(pairs: &[(f64, f64)]) -> f64 {
    let (first, last) = (pairs[0], *pairs.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap());
    let slope = (last.1 - first.1) / (last.0 - first.0);
    pairs.iter().map(|(x, y)| (first.1 + slope * (x - first.0) - y).abs()).fold(0.0, f64::max)
}

#[test]
fn curves_and_bars_are_where_their_csv_says() {
    let kinds = [
        "curves = { value = \"training-loss\", series = \"teaching\", at-epochs = \"longest\" }".to_owned(),
        "bars = { value = \"test.top1\", series = \"teaching\" }".to_owned(),
    ];
    let rendered = report::render(&of_kinds(&kinds, ""), &grid(3), Theme::Light).unwrap();
    let rows = csv_rows(&rendered.csv);
    let means = |panel: &str, series: &str| -> Vec<(f64, f64)> {
        let of = rows.iter().filter(|row| row[0] == panel && row[2] == series && row[4] == "mean");
        of.map(|row| (row[3].parse().unwrap(), row[7].parse().unwrap())).collect()
    };
    // Function matching's strong line: its colour, 2.2 points wide.
    let lines = shapes(&rendered.svg, "polyline", "stroke=\"#0072B2\" stroke-width=\"22\"");
    let points: Vec<(f64, f64)> = attribute(lines[0], "points")
        .split_whitespace()
        .map(|point| point.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    let written = means("Panel 0", "function-matching");
    assert_eq!(points.len(), written.len(), "every epoch of the mean is drawn");
    let across: Vec<(f64, f64)> = points.iter().zip(&written).map(|(drawn, written)| (written.0, drawn.0)).collect();
    let along: Vec<(f64, f64)> = points.iter().zip(&written).map(|(drawn, written)| (written.1, drawn.1)).collect();
    assert!(residual(&across) <= 1.0 && residual(&along) <= 1.0, "{} and {}", residual(&across), residual(&along));

    // Bars begin at zero and are as long as they are high.
    let mut longest: Vec<(f64, f64)> = Vec::new();
    for (series, colour) in [("labels", "#80868E"), ("consistent/ic", "#56B4E9"), ("function-matching", "#0072B2")] {
        let bar = shapes(&rendered.svg, "rect", &format!("fill=\"{colour}\""));
        assert_eq!(bar.len(), 1, "{series}");
        longest.push((means("Panel 1", series)[0].1, attribute(bar[0], "width").parse().unwrap()));
    }
    for (value, width) in &longest {
        assert!((width / value - longest[0].1 / longest[0].0).abs() < 2.0, "{longest:?}");
    }
}
