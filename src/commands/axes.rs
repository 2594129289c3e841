//! `axes`: what can be varied, as a table in Markdown; the one in `experiments/README.md` is this.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use toml::{Table, Value};

use super::{print, print_json, shipped};
use crate::cli;
use crate::grid::axes::{self, AXES};

pub fn axes(arguments: &cli::Axes) -> Result<ExitCode> {
    if arguments.json {
        let rows = AXES.iter().map(|axis| {
            serde_json::json!({
                "name": axis.name,
                "example": axes::example(axis.name),
                "meaning": axis.meaning,
                "source": axis.source,
                "experiments": experiments_with(axis.name),
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        print(&table())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table() -> String {
    let mut text = "| key | for instance | what it is | paper | varied in |\n|---|---|---|---|---|\n".to_owned();
    for axis in AXES {
        let example = axes::example(axis.name).unwrap_or_default().replace('|', "\\|");
        let experiments = experiments_with(axis.name).join(", ");
        let _ = writeln!(text, "| `{}` | {example} | {} | {} | {experiments} |", axis.name, axis.meaning, axis.source);
    }
    text
}

/// The shipped experiments of which some size varies a key.
fn experiments_with(key: &str) -> Vec<&'static str> {
    let varies = |text: &str| text.parse::<Table>().is_ok_and(|file| varied(&file).contains(key));
    shipped::EXPERIMENTS.iter().filter(|(_, text)| varies(text)).map(|(name, _)| *name).collect()
}

/// The job keys that are axes anywhere in a file.
fn varied(file: &Table) -> BTreeSet<String> {
    let sizes = file.get("sizes").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let sections = sizes.filter_map(Value::as_table).chain([file]);
    let blocks = sections.filter_map(|section| section.get("grid")?.as_array()).flatten();
    let axes = blocks.flat_map(|block| ["product", "zip"].map(|list| block.get(list).and_then(Value::as_table)));
    let names = axes.flatten().flat_map(Table::keys);
    // `crop.area` varies the crop.
    names.map(|name| name.split('.').next().unwrap_or(name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_all_sizes_count() {
        let text =
            "[[grid]]\nproduct = { epochs = [1] }\n[[sizes.box.grid]]\nzip = { \"crop.area\" = [1], seed = [0] }\n";
        let expected = ["crop", "epochs", "seed"].map(str::to_owned);
        assert_eq!(varied(&text.parse().unwrap()), BTreeSet::from(expected));
        assert!(experiments_with("teaching").contains(&"quickstart"));
    }
}
