//! The numbers of a figure as text: a CSV of what is drawn, Markdown, and rows for the terminal.

use super::select::{Across, Drawn, Figure, Run, Series};
use super::statistics::Interval;
use super::{Report, Value};

/// Plain strings: the first column names the series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// One row for each number that is drawn. `statistic` is `run`, `mean`, `low`, `high` or `reference`; `n` the runs a number
/// is made of (for a reference: the images); `jobs` where it comes from.
pub fn csv(figure: &Figure) -> String {
    let mut text = String::from("panel,value,series,epochs,statistic,seed,n,number,jobs\n");
    for panel in &figure.panels {
        let mut row = |series: &str, epochs: String, statistic: &str, seed: String, n: u64, number: f64, jobs: &str| {
            let cells =
                [&panel.title, &panel.value.to_string(), series, &epochs, statistic, &seed].map(quoted).join(",");
            text.push_str(&format!("{cells},{n},{number},{jobs}\n"));
        };
        for series in &panel.series {
            for run in &series.runs {
                let (epochs, seed) = (run.epochs.to_string(), run.seed.to_string());
                row(&series.name, epochs, "run", seed, 1, run.value, run.job.as_str());
            }
            for mean in &series.means {
                let jobs: Vec<&str> = series.runs_at(mean.epochs).map(|run| run.job.as_str()).collect();
                let jobs = jobs.join(" ");
                let (epochs, n) = (mean.epochs.to_string(), mean.n as u64);
                row(&series.name, epochs.clone(), "mean", String::new(), n, mean.value, &jobs);
                // Curves show their runs, not an interval.
                if let (Some(Interval { low, high }), Across::Durations) = (mean.interval, panel.across) {
                    row(&series.name, epochs.clone(), "low", String::new(), n, low, &jobs);
                    row(&series.name, epochs, "high", String::new(), n, high, &jobs);
                }
            }
        }
        for reference in &panel.references {
            let jobs: Vec<&str> = reference.jobs.iter().map(|job| job.as_str()).collect();
            let (images, value) = (reference.images, reference.value);
            row(&reference.name, String::new(), "reference", String::new(), images, value, &jobs.join(" "));
        }
    }
    text
}

pub fn markdown(report: &Report, figure: &Figure) -> String {
    let mut text = format!("# {}\n\n", figure.title);
    if !figure.subtitle.is_empty() {
        text.push_str(&format!("{}\n\n", figure.subtitle));
    }
    text.push_str(&format!("![{}]({}.svg)\n\n{}\n", figure.title, report.name, figure.footer.join(" ")));
    for panel in &figure.panels {
        let table = of_panel(panel);
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        text.push_str(&format!("\n## {}\n\n", table.title));
        text.push_str(&line(&table.header));
        text.push_str(&format!("|---{}|\n", "|---:".repeat(table.header.len().saturating_sub(1))));
        table.rows.iter().for_each(|row| text.push_str(&line(row)));
    }
    if !figure.missing.is_empty() {
        text.push_str("\n## Missing\n\n");
        figure.missing.iter().for_each(|job| text.push_str(&format!("- {job}\n")));
    }
    text
}

/// Series down, durations across; of curves the last epoch.
pub fn of_panel(panel: &Drawn) -> Table {
    let mut columns = panel.epochs();
    if panel.across == Across::Epochs {
        columns = columns.pop().into_iter().collect();
    }
    let unit = if panel.value.is_share() { ", %" } else { "" };
    let header = std::iter::once(panel.axis.clone())
        .chain(columns.iter().map(|&epochs| format!("{epochs} epoch{}", if epochs == 1 { "" } else { "s" })))
        .collect();
    let mut rows: Vec<Vec<String>> = panel
        .series
        .iter()
        .map(|series| {
            let cells = columns.iter().map(|&epochs| cell(panel.value, series, epochs));
            std::iter::once(series.name.clone()).chain(cells).collect()
        })
        .collect();
    for reference in &panel.references {
        let level = panel.value.table_text(reference.value);
        rows.push(std::iter::once(reference.name.clone()).chain(columns.iter().map(|_| level.clone())).collect());
    }
    Table { title: format!("{} ({}{unit})", panel.title, panel.caption), header, rows }
}

/// `82.8 ± 0.1 (n=3)`, the half width of the 95 % interval; of two runs both; of one itself.
fn cell(value: Value, series: &Series, epochs: u32) -> String {
    let runs: Vec<&Run> = series.runs_at(epochs).collect();
    let Some(mean) = series.means.iter().find(|mean| mean.epochs == epochs) else { return "–".to_owned() };
    let text = |number: f64| value.table_text_beside(mean.value, number);
    let (middle, n) = (text(mean.value), mean.n);
    match (mean.interval, runs.as_slice()) {
        (Some(interval), _) => format!("{middle} ± {} (n={n})", text(interval.high - mean.value)),
        (None, [one, two]) => format!("{middle} ({}, {}; n={n})", text(one.value), text(two.value)),
        _ => format!("{middle} (n={n})"),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
