//! The README's table of reports, and the files beside it: generated, and not out of date.

use std::fs;
use std::path::{Path, PathBuf};

use distillery::report::{self, Report, Source, Summary};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Stem of the outputs, the report, its summary; in the order of the README.
fn drawn() -> Vec<(PathBuf, Report, Summary)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("reports")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut report = report::read(&Source { name: stem.clone(), text }).unwrap();
        let out = [format!("{stem}-small"), stem].into_iter().map(|name| path.with_file_name(name));
        let Some(out) = out.into_iter().find(|out| out.with_extension("json").is_file()) else { continue };
        let summary = serde_json::from_str(&fs::read_to_string(out.with_extension("json")).unwrap()).unwrap();
        report.name = out.file_name().unwrap().to_str().unwrap().to_owned();
        all.push((out, report, summary));
    }
    all
}

#[test]
fn the_table_of_reports_is_what_the_summaries_say() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let all = drawn();
    assert!(all.len() > 20, "{} reports have outputs", all.len());
    for (_, report, summary) in &all {
        let row = report::index(&[(report.clone(), summary.clone())]);
        let row = row.lines().last().unwrap();
        assert!(readme.contains(row), "the README lacks\n{row}\n`distillery report --all --index` prints the table");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| [") && line.contains("](reports/")).count();
    assert_eq!(rows, all.len(), "the README has rows of reports that are not there");
}

#[test]
fn every_output_lies_beside_its_report_and_agrees_with_it() {
    for (out, report, summary) in drawn() {
        for extension in ["svg", "png", "csv", "md", "tex"] {
            assert!(out.with_extension(extension).is_file(), "{}.{extension}", out.display());
        }
        let csv = fs::read_to_string(out.with_extension("csv")).unwrap();
        if let Some(headline) = &summary.headline {
            let mean = format!(",mean,,{},{},", headline.n, headline.mean);
            assert!(csv.contains(&mean), "{}: no row of the CSV has {mean}", report.name);
            if let Some(paper) = headline.paper {
                assert!(csv.contains(&format!(",paper,,0,{paper},")), "{}: {paper} is not in its CSV", report.name);
            }
        }
        assert_eq!(summary.verdicts.len(), report.claims.len(), "{}", report.name);
        let markdown = fs::read_to_string(out.with_extension("md")).unwrap();
        for said in &summary.verdicts {
            assert!(markdown.contains(&said.verdict), "{}: {}", report.name, said.verdict);
        }
    }
}

#[test]
fn every_report_is_shipped_and_names_shipped_experiments() {
    for entry in fs::read_dir(root().join("reports")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let report =
                report::read(&Source { name: name.clone(), text: fs::read_to_string(&path).unwrap() }).unwrap();
            for experiment in &report.experiments.0 {
                assert!(root().join(format!("experiments/{experiment}.toml")).is_file(), "{name}: {experiment}");
            }
            let shipped = fs::read_to_string(root().join("src/commands/shipped.rs")).unwrap();
            assert!(shipped.contains(&format!("    \"{name}\"\n")), "`{name}` is not in the binary");
            assert!(report.question.is_some(), "`{name}` does not say what it asks");
        }
    }
}
