//! Reports: from outcomes to figures and tables.

mod choice;
pub mod made_up;
pub mod picture;
mod verdicts;

use distillery::event::Which;
use distillery::report::{self, Error, Report, Source, Theme};
use distillery::store::{Outcome, State};

use made_up::{done, from_labels, from_teacher, grid, modes, open, product};
use picture::Picture;

fn read(text: &str) -> Result<Report, Error> {
    report::read(&Source { name: "made-up".to_owned(), text: text.to_owned() })
}

fn quickstart() -> Report {
    let text = include_str!("../../reports/quickstart.toml").to_owned();
    report::read(&Source { name: "quickstart".to_owned(), text }).unwrap()
}

/// A report of one panel for each of the given kinds.
fn panels(kinds: &[String]) -> Report {
    let panels: String = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| format!("[[panel]]\ntitle = \"Panel {index}\"\n{kind}\n"))
        .collect();
    read(&format!("experiment = \"made-up\"\ntitle = \"Made up\"\n{panels}")).unwrap()
}

fn accuracy() -> Report {
    panels(&["duration = { value = \"test.top1\", series = \"teaching\" }".to_owned()])
}

fn csv_rows(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

/// With the font's bytes taken out.
fn without_fonts(svg: &str) -> String {
    svg.lines().filter(|line| !line.starts_with("@font-face")).map(|line| format!("{line}\n")).collect()
}

/// Looked at by people; the tests below look for what people would miss.
#[test]
fn the_quickstart_renders_in_both_themes() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let views =
        [("one", 1, Theme::Light), ("two", 2, Theme::Light), ("five", 5, Theme::Light), ("dark", 2, Theme::Dark)];
    for (name, seeds, theme) in views {
        let rendered = report::render(&quickstart(), &grid(seeds), theme).unwrap();
        assert!(rendered.missing.is_empty());
        assert!(rendered.png.starts_with(b"\x89PNG"));
        Picture::of(&rendered.svg).assert_tidy(name);
        std::fs::write(dir.join(format!("{name}.svg")), rendered.svg).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), rendered.png).unwrap();
    }
}

#[test]
fn a_second_rendering_gives_the_same_bytes() {
    let first = report::render(&quickstart(), &grid(3), Theme::Light).unwrap();
    let mut shuffled = grid(3);
    shuffled.reverse();
    // Not `assert_eq`: nobody wants to read two figures.
    assert!(first == report::render(&quickstart(), &grid(3), Theme::Light).unwrap());
    assert!(first == report::render(&quickstart(), &shuffled, Theme::Light).unwrap());
}

#[test]
fn the_figure_and_its_numbers_as_text() {
    let mut outcomes = product(&[made_up::FUNCTION_MATCHING, modes()[1]], &[10, 30], 2);
    outcomes.push(open(from_teacher(modes()[1], 100, 0)));
    let rendered = report::render(&accuracy(), &outcomes, Theme::Light).unwrap();
    insta::assert_snapshot!("svg", without_fonts(&rendered.svg));
    insta::assert_snapshot!("csv", rendered.csv);
    insta::assert_snapshot!("markdown", rendered.markdown);
}

#[test]
fn every_drawn_run_lies_where_its_number_says() {
    let rendered = report::render(&accuracy(), &grid(2), Theme::Light).unwrap();
    let picture = Picture::of(&rendered.svg);
    let level = picture.share_at();
    let mut drawn: Vec<f64> = picture.circles.iter().map(|circle| level(circle.1)).collect();
    let rows = csv_rows(&rendered.csv);
    let mut written: Vec<f64> = rows.iter().filter(|row| row[4] == "run").map(|row| row[7].parse().unwrap()).collect();
    drawn.sort_by(f64::total_cmp);
    written.sort_by(f64::total_cmp);
    assert_eq!(drawn.len(), written.len());
    for (drawn, written) in drawn.iter().zip(&written) {
        // A tenth of a point on a plot of 200 points or more for 10 % of accuracy.
        assert!((drawn - written).abs() < 1e-4, "{drawn} drawn for {written}");
    }
}

#[test]
fn every_number_is_traced_to_the_jobs_that_made_it() {
    let outcomes = grid(3);
    let rendered = report::render(&quickstart(), &outcomes, Theme::Light).unwrap();
    for row in csv_rows(&rendered.csv) {
        let jobs: Vec<&Outcome> =
            row[8].split(' ').map(|id| outcomes.iter().find(|outcome| outcome.id.as_str() == id).unwrap()).collect();
        let number: f64 = row[7].parse().unwrap();
        match (row[4], row[1]) {
            ("reference", _) => assert!(jobs.iter().all(|job| job.teachers[1].top1 == number)),
            ("mean", "test.top1") => {
                assert_eq!(jobs.len(), 3);
                let values: Vec<f64> = jobs.iter().map(|job| job.final_evaluation(Which::Test).unwrap().top1).collect();
                assert_eq!(report::mean(&values), Some(number));
            }
            ("run", "training-loss") => {
                let epoch: usize = row[3].parse().unwrap();
                assert_eq!(jobs[0].epochs[epoch - 1].training_loss, number);
            }
            _ => assert!(!jobs.is_empty()),
        }
    }
}

#[test]
fn the_footer_says_what_one_two_and_three_seeds_are_drawn_as() {
    let footer = |seeds| {
        let rendered = report::render(&accuracy(), &grid(seeds), Theme::Light).unwrap();
        let intervals = rendered.csv.lines().filter(|line| line.contains(",low,")).count();
        let bands = rendered.svg.matches("opacity=\"0.16\"").count();
        (Picture::of(&rendered.svg).all_text(), intervals, bands)
    };
    let (text, intervals, bands) = footer(1);
    assert!(text.contains("one seed (n = 1): no interval can be given"), "{text}");
    assert_eq!((intervals, bands), (0, 0));
    let (text, intervals, bands) = footer(2);
    assert!(text.contains("mean of 2 seeds (n = 2); dots are the two runs"), "{text}");
    assert_eq!((intervals, bands), (0, 0));
    let (text, intervals, bands) = footer(3);
    assert!(text.contains("mean of 3 seeds (n = 3); bands"), "{text}");
    assert_eq!((intervals, bands), (15, 5));
}

/// A baseline that was only trained shortly, three seeds of one mode, two of another, one of a third.
#[test]
fn unequal_numbers_of_seeds_are_drawn_each_in_its_way() {
    let mut outcomes = vec![done(from_labels(30, 0), &[]), done(from_labels(30, 1), &[])];
    for epochs in [10, 30, 100, 300] {
        for (mode, seeds) in [(made_up::FUNCTION_MATCHING, 3), (modes()[1], 2), (modes()[4], 1), (modes()[3], 2)] {
            outcomes.extend((0..seeds).map(|seed| done(from_teacher(mode, epochs, seed), &[])));
        }
    }
    let rendered = report::render(&quickstart(), &outcomes, Theme::Light).unwrap();
    let picture = Picture::of(&rendered.svg);
    picture.assert_tidy("unequal numbers of seeds");
    let text = picture.all_text();
    assert!(text.contains("mean of 1 to 3 seeds (n in the table)"), "{text}");
    assert!(rendered.markdown.contains("| labels only | – | "), "{}", rendered.markdown);
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(dir.join("unequal.png"), rendered.png).unwrap();
}

#[test]
fn what_is_not_finite_is_left_out_and_counted() {
    let mut outcomes = grid(2);
    let worst = outcomes[0].epochs.last_mut().unwrap();
    worst.evaluations.iter_mut().for_each(|evaluation| evaluation.top1 = f64::NAN);
    let rendered = report::render(&accuracy(), &outcomes, Theme::Light).unwrap();
    assert!(!rendered.csv.contains("NaN") && !without_fonts(&rendered.svg).contains("NaN"));
    assert!(Picture::of(&rendered.svg).all_text().contains("1 value is not finite"));
}

#[test]
fn an_interval_that_reaches_below_zero_is_not_cut_off_at_a_logarithmic_axis() {
    let mut outcomes = grid(3);
    let last = outcomes[0].epochs.last_mut().unwrap();
    last.training_loss = 100.0;
    let kind = "duration = { value = \"training-loss\", series = \"teaching\", scale = \"log\" }";
    let rendered = report::render(&panels(&[kind.to_owned()]), &outcomes, Theme::Light).unwrap();
    let lows = csv_rows(&rendered.csv).iter().filter(|row| row[4] == "low").count();
    assert_eq!(lows, 14);
    assert!(Picture::of(&rendered.svg).all_text().contains("1 value is not finite, or not positive"));
}

#[test]
fn what_is_missing_is_said() {
    let mut outcomes = grid(2);
    let mut failed = open(from_teacher(modes()[1], 300, 1));
    failed.state = State::Failed;
    failed.message = Some("the loss is no longer a finite number".to_owned());
    outcomes.push(failed);
    let mut running = done(from_labels(300, 0), &[]);
    running.epochs.truncate(5);
    running.state = State::Running;
    outcomes.push(running);
    let rendered = report::render(&accuracy(), &outcomes, Theme::Light).unwrap();
    assert_eq!(rendered.missing.len(), 2);
    let failed = "(fixed/cc, 300 epochs, seed 1): failed: the loss is no longer a finite number";
    assert!(rendered.missing[0].ends_with(failed), "{}", rendered.missing[0]);
    assert!(rendered.missing[1].ends_with("(labels, 300 epochs, seed 0): running"), "{}", rendered.missing[1]);
    assert!(rendered.markdown.contains(failed));
    assert!(Picture::of(&rendered.svg).all_text().contains("2 of 32 jobs have no final result yet"));
}

#[test]
fn a_teacher_that_is_only_needed_is_no_point_of_the_grid() {
    let mut outcomes = grid(1);
    let mut teacher = done((**outcomes[0].job.needs().next().unwrap()).clone(), &[]);
    teacher.axes.clear();
    outcomes.push(teacher);
    let rendered = report::render(&accuracy(), &outcomes, Theme::Light).unwrap();
    assert!(rendered == report::render(&accuracy(), &grid(1), Theme::Light).unwrap());
}

#[test]
fn jobs_that_differ_in_more_than_their_seed_are_not_averaged() {
    let mut other = from_labels(10, 0);
    other.learning_rate = 1e-3;
    let outcomes = [done(from_labels(10, 0), &[("learning-rate", "3e-3")]), done(other, &[("learning-rate", "1e-3")])];
    let error = report::render(&accuracy(), &outcomes, Theme::Light).unwrap_err();
    insta::assert_snapshot!("ambiguous", error);

    let kind = "duration = { value = \"test.top1\", series = \"teaching\", where = { learning-rate = 0.003 } }";
    let rendered = report::render(&panels(&[kind.to_owned()]), &outcomes, Theme::Light).unwrap();
    assert_eq!(csv_rows(&rendered.csv).len(), 2);
    assert!(Picture::of(&rendered.svg).all_text().contains("· learning-rate 0.003"));

    let kind = "duration = { value = \"test.top1\", series = \"learning-rate\" }";
    let rendered = report::render(&panels(&[kind.to_owned()]), &outcomes, Theme::Light).unwrap();
    let series: Vec<&str> = csv_rows(&rendered.csv).iter().map(|row| row[2]).collect();
    assert_eq!(series, ["1e-3", "1e-3", "3e-3", "3e-3"]);
}

#[test]
fn malformed_reports_say_where() {
    let files = [
        "experiment = \"e\"\ntitle = \"t\"\n",
        "experiment = \"e\"\ntitle = \"t\"\npanel = []\n",
        "experiment = \"e\"\ntitle = \"t\"\ncolour = 1\n",
        "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\n",
        "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\nduration = { value = \"test.top2\", series = \"x\" }\n",
        "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\nduration = { value = \"test.top1\" }\n",
        "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\nduration = { value = \"test.top1\", serie = \"x\" }\n",
        "experiment = \"e\"\ntitle = \"t\"\n[[panel]]\ntitle = \"p\"\n\
         curves = { value = \"training-loss\", series = \"x\", at-epochs = \"longer\" }\n",
    ];
    let errors: String = files.into_iter().map(|text| format!("{}\n----\n", read(text).unwrap_err())).collect();
    insta::assert_snapshot!("malformed", errors);
}

#[test]
fn axes_and_values_that_are_not_there() {
    let kind = "duration = { value = \"test.top1\", series = \"temperature\" }";
    let error = report::render(&panels(&[kind.to_owned()]), &grid(1), Theme::Light).unwrap_err();
    assert!(error.to_string().contains("hint: it has `epochs`, `seed`, `teaching`"), "{error}");
    let empty = report::render(&accuracy(), &[open(from_labels(10, 0))], Theme::Light).unwrap_err();
    assert!(matches!(empty, Error::Empty(_)), "{empty}");
    assert!(report::results_table(&accuracy(), &[]).unwrap().rows.is_empty());
}

#[test]
fn the_results_table_has_a_row_a_series_and_a_column_a_duration() {
    let table = report::results_table(&quickstart(), &grid(2)).unwrap();
    assert_eq!(table.header, ["teaching", "10 epochs", "30 epochs", "100 epochs"]);
    let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["labels only", "fixed/cc", "independent/ic", "consistent/ic", "function matching", "teacher"]);
    assert!(table.rows[1][3].ends_with("; n=2)"), "{:?}", table.rows[1]);
}

#[test]
fn nothing_overlaps_or_is_cut_from_one_to_twelve_panels_and_series() {
    let long = "a-very-long-name/of-a-place-on-an-axis=with-0.0003 and words, and more words, and a Sesquipedalianword";
    let values = ["test.top1", "test.agreement", "validation.kl", "training-loss", "gradient-norm"];
    for count in [1, 2, 3, 4, 5, 7, 9, 10, 12] {
        for series in [1, 5, 12] {
            for (case, suffix) in [("short", ""), ("long", long)] {
                let outcomes: Vec<Outcome> = (0..series)
                    .flat_map(|index| {
                        [10, 12, 14, 30, 1200].map(|epochs| {
                            let mut job = from_teacher(modes()[index % 9], epochs, 0);
                            job.learning_rate += 1e-6 * index as f64;
                            let mut outcome = done(job, &[("arm", &format!("{index}{suffix}"))]);
                            // All lines end in one place: the hardest case for their labels.
                            if let Some(last) = outcome.epochs.last_mut() {
                                last.evaluations.iter_mut().for_each(|evaluation| evaluation.top1 = 0.8);
                            }
                            outcome
                        })
                    })
                    .collect();
                let kinds: Vec<String> = (0..count)
                    .map(|panel| match panel % 3 {
                        2 => format!(
                            "curves = {{ value = \"{}\", series = \"arm\", at-epochs = 30, scale = \"log\" }}",
                            values[panel % 5]
                        ),
                        _ => format!("duration = {{ value = \"{}\", series = \"arm\" }}", values[panel % 5]),
                    })
                    .collect();
                let svg = report::svg(&panels(&kinds), &outcomes, Theme::Light).unwrap();
                Picture::of(&svg).assert_tidy(&format!("{count} panels, {series} series, {case} names"));
            }
        }
    }
}

#[test]
fn quantiles_and_intervals_as_published() {
    let known = [(1, 12.7062), (2, 4.3027), (10, 2.2281), (30, 2.0423), (31, 2.0395), (60, 2.0003), (120, 1.9799)];
    for (freedom, quantile) in known {
        assert!((report::t_quantile(freedom).unwrap() - quantile).abs() < 5e-5, "{freedom}");
    }
    assert_eq!(report::t_quantile(0), None);
    assert_eq!(report::t_interval(&[1.0, 2.0]), None);
    let interval = report::t_interval(&[1.0, 2.0, 3.0]).unwrap();
    assert!((interval.low + 0.484_138).abs() < 1e-6 && (interval.high - 4.484_138).abs() < 1e-6, "{interval:?}");
}
