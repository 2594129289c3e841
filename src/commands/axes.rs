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
    let shipped = shipped_axes();
    if arguments.json {
        let rows = AXES.iter().map(|axis| {
            serde_json::json!({
                "name": axis.name,
                "example": axes::example(axis.name),
                "meaning": axis.meaning,
                "source": axis.source,
                "experiments": experiments_with(&shipped, axis.name),
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        print(&table(&shipped))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(shipped: &[Varied]) -> String {
    let mut text = "| key | for instance | what it is | paper | varied in |\n|---|---|---|---|---|\n".to_owned();
    for axis in AXES {
        let example = axes::example(axis.name).unwrap_or_default().replace('|', "\\|");
        let experiments = experiments_with(shipped, axis.name).join(", ");
        let _ = writeln!(text, "| `{}` | {example} | {} | {} | {experiments} |", axis.name, axis.meaning, axis.source);
    }
    text
}

/// A shipped experiment, and the keys that some size of it varies.
type Varied = (&'static str, BTreeSet<String>);

fn shipped_axes() -> Vec<Varied> {
    let of = |text: &str| text.parse::<Table>().map(|file| varied(&file)).unwrap_or_default();
    shipped::EXPERIMENTS.iter().map(|(name, text)| (*name, of(text))).collect()
}

fn experiments_with(shipped: &[Varied], key: &str) -> Vec<&'static str> {
    shipped.iter().filter(|(_, keys)| keys.contains(key)).map(|(name, _)| *name).collect()
}

/// The job keys that differ between the jobs of a file or of one of its sizes: its axes, and what its blocks fix
/// differently.
fn varied(file: &Table) -> BTreeSet<String> {
    let sizes = file.get("sizes").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let sections = sizes.filter_map(Value::as_table).chain([file]);
    let mut varied = BTreeSet::new();
    for section in sections {
        let blocks: Vec<&Table> =
            section.get("grid").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect();
        let under = |block: &'_ &Table, name: &str| block.get(name).and_then(Value::as_table).cloned();
        for list in ["product", "zip"] {
            let names = blocks.iter().filter_map(|block| under(block, list)).flat_map(|axes| axes.into_iter());
            // `crop.area` varies the crop.
            varied.extend(names.map(|(name, _)| name.split('.').next().unwrap_or(&name).to_owned()));
        }
        let fixed: Vec<Table> = blocks.iter().map(|block| under(block, "set").unwrap_or_default()).collect();
        let names: BTreeSet<&String> = fixed.iter().flat_map(Table::keys).collect();
        varied.extend(
            names.into_iter().filter(|name| fixed.iter().any(|set| set.get(*name) != fixed[0].get(*name))).cloned(),
        );
    }
    varied
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
        // What only some blocks fix, or each otherwise; not what all have alike.
        let text =
            "[[grid]]\nset = { objective = \"labels\", batch = 5 }\n[[grid]]\nset = { batch = 5, clip.norm = 2 }\n";
        let expected = ["clip", "objective"].map(str::to_owned);
        assert_eq!(varied(&text.parse().unwrap()), BTreeSet::from(expected));
        assert!(experiments_with(&shipped_axes(), "teaching").contains(&"quickstart"));
    }
}
