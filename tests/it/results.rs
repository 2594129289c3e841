//! From runs to results through the program: claims that are older than the numbers, `report`, `compare`, `leaderboard`.

use std::fs;
use std::path::Path;

use crate::cli::{distillery, text};

const EXPERIMENT: &str = r#"
    title = "Rates"
    [base]
    objective = "labels"
    data = "fashion-mnist-8k2k"
    split = { train = "train[:100]", validation = "train[7000:7060]", test = "test[:80]" }
    student = { bit-resnet-small = { depth = 8, width = 4 } }
    resolution = 8
    batch = 20
    [[grid]]
    product = { learning-rate = [1e-3, 1e-2], epochs = [1, 2], seed = [0, 1, 2] }
"#;

const REPORT: &str = r#"
    experiment = "rates"
    title = "Which rate?"
    question = "Does the rate matter?"
    [select]
    over = ["learning-rate"]
    [[panel]]
    title = "Test accuracy"
    duration = { value = "test.top1", series = "teaching" }
    [[claim]]
    claim = "the larger rate has the lower training loss"
    value = "training-loss"
    where = { epochs = "longest" }
    left = { learning-rate = 1e-2 }
    right = { learning-rate = 1e-3 }
    expect = "less"
"#;

fn ok(place: &Path, arguments: &[&str]) -> String {
    let output = distillery(place, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(place: &Path, arguments: &[&str]) -> String {
    let output = distillery(place, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    text(&output.stderr)
}

#[test]
fn claims_are_written_down_before_the_runs_and_judged_after() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    for folder in ["experiments", "reports"] {
        fs::create_dir(place.join(folder)).unwrap();
    }
    fs::write(place.join("experiments/rates.toml"), EXPERIMENT).unwrap();
    fs::write(place.join("reports/which.toml"), REPORT).unwrap();
    let told = ok(place, &["run", "rates", "--quiet"]);
    assert!(told.contains("the larger rate has the lower training loss") && told.contains("which.svg"), "{told}");
    for extension in ["svg", "png", "csv", "json", "md", "tex"] {
        assert!(place.join("runs/reports/which").with_extension(extension).is_file(), "{extension}");
    }
    let markdown = || fs::read_to_string(place.join("runs/reports/which.md")).unwrap();
    assert!(markdown().contains(", before any of the 12 jobs began."), "{}", markdown());

    // The same claim in other words and spaces is another text; what is no claim is none.
    fs::write(place.join("reports/which.toml"), REPORT.replace("Which rate?", "Which one?")).unwrap();
    ok(place, &["report", "which"]);
    assert!(markdown().contains("before any of the 12 jobs began"), "a title is no claim: {}", markdown());
    fs::write(place.join("reports/which.toml"), REPORT.replace("\"less\"", "\"greater\"")).unwrap();
    ok(place, &["report", "which"]);
    assert!(markdown().contains("does not say when these claims were written down"), "{}", markdown());
    ok(place, &["run", "rates", "--quiet", "--no-report"]);
    ok(place, &["report", "which"]);
    assert!(markdown().contains(", when 12 of 12 jobs had begun."), "{}", markdown());

    let page = ok(place, &["report", "which", "--html"]);
    assert_eq!(page, "page     runs/reports/which.html\n");
    let html = fs::read_to_string(place.join("runs/reports/which.html")).unwrap();
    assert!(html.contains("distillery run rates\ndistillery report which --html"), "how to get it again");
    let index = ok(place, &["report", "--all", "--index"]);
    assert!(index.contains("| [beyond](reports/which.md) | Does the rate matter? | `rates` | "), "{index}");
    let all = ok(place, &["report", "--all", "--html", "--json"]);
    assert!(all.contains("which.html"), "one report is its own page: {all}");

    // By the median of three numbers everybody can add up.
    let compared = ok(place, &["compare", "learning-rate=1e-2 and epochs=2", "learning-rate=1e-3 and epochs=2"]);
    assert!(compared.contains("learning-rate") && compared.contains("(n = 3 pairs, 2 epochs)"), "{compared}");
    assert!(compared.contains("image by image: "), "{compared}");
    let json: serde_json::Value = serde_json::from_str(&ok(
        place,
        &[
            "compare",
            "learning-rate=1e-2 and epochs=2",
            "learning-rate=1e-3 and epochs=2",
            "--json",
            "--value",
            "training-loss",
        ],
    ))
    .unwrap();
    let mean = |side: &str| json[side]["mean"].as_f64().unwrap();
    let difference = json["difference"]["mean"].as_f64().unwrap();
    assert!((mean("left") - mean("right") - difference).abs() < 1e-12 && difference < 0.0, "{json}");
    assert!(json["difference"]["p"].as_f64().is_some_and(|p| p > 0.0 && p < 1.0), "{json}");

    let board = ok(place, &["leaderboard", "rates", "-n", "3"]);
    assert_eq!(board.lines().count(), 4, "{board}");
    let json: serde_json::Value = serde_json::from_str(&ok(place, &["leaderboard", "rates", "--json"])).unwrap();
    let by: Vec<f64> = json["settings"].as_array().unwrap().iter().map(|one| one["by"].as_f64().unwrap()).collect();
    assert!(by.len() == 4 && by.windows(2).all(|pair| pair[0] >= pair[1]), "{json}");

    let error = refused(place, &["compare", "all", "epochs=2"]);
    assert!(error.contains("differ in `epochs`") && error.contains("hint: select more narrowly"), "{error}");
    let error = refused(place, &["compare", "epochs=2", "epochs=2"]);
    assert!(error.contains("both sides are the same jobs\nhint: "), "{error}");
    let error = refused(place, &["compare", "epochs=77", "epochs=2"]);
    assert!(error.contains("no job is `epochs=77`\nhint: "), "{error}");
    let error = refused(place, &["leaderboard", "rates", "--by", "validation.top2"]);
    assert!(error.contains("is no value"), "{error}");
    let error = refused(place, &["leaderboard", "rate"]);
    assert!(error.contains("there is no experiment `rate`\nhint: did you mean `rates`?"), "{error}");
    let error = refused(place, &["leaderboard", "quickstart"]);
    assert!(error.contains("the store holds nothing of experiment `quickstart`\nhint: "), "{error}");
    // What decides about a claim belongs to it.
    fs::write(
        place.join("reports/which.toml"),
        REPORT.replace("title = \"Which", "correction = \"none\"\n    title = \"Which"),
    )
    .unwrap();
    ok(place, &["report", "which"]);
    assert!(markdown().contains("does not say when these claims were written down"), "{}", markdown());
    let error = refused(place, &["report"]);
    assert!(error.contains("no report is named\nhint: "), "{error}");
}
