//! The numbers of a figure as text: a CSV of what is drawn, and cells for whoever sets a table.

use super::footer::grouped;
use super::numbers::{Across, Drawn, Figure, Run, Series};
use super::spec::Columns;
use super::statistics::Interval;
use super::value::Value;

/// Plain strings: the first column names the series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Of a panel as a table: columns without that of names, rows with their names.
pub struct Cells {
    pub header: Vec<String>,
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// Ours, and the paper's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub ours: Option<String>,
    pub paper: Option<String>,
}

/// One row for each number that is drawn. `statistic` is `run`, `other` (of a setting that was not chosen), `mean`, `low`,
/// `high`, `reference` or `paper`; `n` the runs a number is made of (for a reference: the images); `jobs` where it comes
/// from; `x` where it stands from left to right, where that is not its epochs; `setting` what was chosen by validation.
pub fn csv(figure: &Figure) -> String {
    let mut text = String::from("panel,value,series,epochs,statistic,seed,n,number,jobs,x,setting\n");
    for panel in &figure.panels {
        of_panel_as_csv(panel, &mut text);
    }
    text
}

/// What a row of the CSV has beside what it is of.
struct Row<'a> {
    epochs: Option<u32>,
    statistic: &'a str,
    seed: Option<u64>,
    n: u64,
    number: f64,
    jobs: &'a str,
    x: Option<f64>,
    setting: &'a str,
}

fn of_panel_as_csv(panel: &Drawn, text: &mut String) {
    use std::fmt::Write as _;
    let by_epochs = !matches!(panel.across, Across::Other(_))
        && !matches!(panel.across, Across::Durations(amount) | Across::Within(amount) if amount != Default::default());
    let head = [&panel.title, &panel.value.to_string()].map(|cell| quoted(cell)).join(",");
    let mut row = |series: &str, row: Row| {
        let epochs = row.epochs.map_or(String::new(), |epochs| epochs.to_string());
        let seed = row.seed.map_or(String::new(), |seed| seed.to_string());
        let x = row.x.filter(|_| !by_epochs).map_or(String::new(), |x| x.to_string());
        let (n, number, jobs, setting) = (row.n, row.number, row.jobs, quoted(row.setting));
        let _ = writeln!(text, "{head},{series},{epochs},{},{seed},{n},{number},{jobs},{x},{setting}", row.statistic);
    };
    for series in &panel.series {
        let name = quoted(&series.name);
        for (statistic, runs) in [("run", &series.runs), ("other", &series.others)] {
            for run in runs {
                let Run { epochs, x, seed, job, value } = run;
                let (epochs, seed, x) = (Some(*epochs), Some(*seed), Some(*x));
                let (number, jobs) = (*value, job.as_str());
                row(&name, Row { epochs, statistic, seed, n: 1, number, jobs, x, setting: "" });
            }
        }
        for mean in &series.means {
            let jobs: Vec<&str> = series.runs_at(mean.epochs).map(|run| run.job.as_str()).collect();
            let jobs = jobs.join(" ");
            let setting = series.choice_at(mean.epochs).map_or("", |choice| choice.setting.as_str());
            let interval = mean.interval.map(|Interval { low, high }| [("low", low), ("high", high)]);
            let numbers = std::iter::once(("mean", mean.value)).chain(interval.into_iter().flatten());
            for (statistic, number) in numbers {
                let (epochs, n, x) = (Some(mean.epochs), mean.n as u64, Some(mean.x));
                row(&name, Row { epochs, statistic, seed: None, n, number, jobs: &jobs, x, setting });
            }
        }
        for published in &series.published {
            let (epochs, number, x) = (published.epochs, published.value, published.epochs.map(f64::from));
            row(&name, Row { epochs, statistic: "paper", seed: None, n: 0, number, jobs: "", x, setting: "" });
        }
    }
    for reference in &panel.references {
        let jobs: Vec<&str> = reference.jobs.iter().map(|job| job.as_str()).collect();
        let (n, number, jobs) = (reference.images, reference.value, jobs.join(" "));
        let statistic = if reference.images == 0 { "paper" } else { "reference" };
        let of_none = Row { epochs: None, statistic, seed: None, n, number, jobs: &jobs, x: None, setting: "" };
        row(&quoted(&reference.name), of_none);
    }
}

/// Series down, durations across; of curves the last epoch.
pub fn of_panel(panel: &Drawn) -> Table {
    let columns = match panel.across {
        Across::Table(columns) => columns,
        _ => Columns::Epochs,
    };
    let Cells { header, rows } = cells(panel, columns);
    let axis = panel.axis.clone().unwrap_or_default();
    let unit = if panel.value.is_share() { ", %" } else { "" };
    let flat = |cell: Cell| match (cell.ours, cell.paper) {
        (Some(ours), Some(paper)) if ours != "–" => format!("{ours}; {paper}"),
        (_, Some(paper)) => paper,
        (Some(ours), None) => ours,
        (None, None) => "–".to_owned(),
    };
    Table {
        title: format!("{} ({}{unit})", panel.title, panel.caption),
        header: std::iter::once(axis).chain(header).collect(),
        rows: rows
            .into_iter()
            .map(|(name, cells)| std::iter::once(name).chain(cells.into_iter().map(flat)).collect())
            .collect(),
    }
}

/// The same before it is put into words; references, one level for all columns, come last.
pub fn cells(panel: &Drawn, columns: Columns) -> Cells {
    let paper = |number: f64| {
        // As many decimals as the paper has.
        let whose = if panel.published { "" } else { " (paper)" };
        if panel.value.is_share() { format!("{:.2}{whose}", 100.0 * number) } else { format!("{number}{whose}") }
    };
    if columns == Columns::Longest {
        let rows = panel.series.iter().map(|series| {
            let longest = series.means.last().map(|mean| mean.epochs);
            let ours = longest.map(|epochs| cell(panel.value, series, epochs));
            let published = series.published.last().map(|number| paper(number.value));
            let none = ours.is_none() && published.is_none();
            (series.shown.clone(), vec![Cell { ours: ours.or(none.then(|| "–".to_owned())), paper: published }])
        });
        let mut rows: Vec<_> = rows.collect();
        rows.extend(levels(panel, 1));
        return Cells { header: vec!["longest run".to_owned()], rows };
    }
    let mut epochs = panel.epochs();
    if matches!(panel.across, Across::Within(_)) {
        epochs = epochs.pop().into_iter().collect();
    }
    let plural = |epochs: u32| if epochs == 1 { "" } else { "s" };
    let header =
        epochs.iter().map(|&epochs| format!("{} epoch{}", grouped(u64::from(epochs)), plural(epochs))).collect();
    let rows = panel.series.iter().map(|series| {
        let cells = epochs.iter().map(|&epochs| {
            let published = series.published_at(epochs).map(paper);
            let ours = match (series.mean_at(epochs), &published) {
                (None, Some(_)) => None,
                _ => Some(cell(panel.value, series, epochs)),
            };
            Cell { ours, paper: published }
        });
        (series.shown.clone(), cells.collect())
    });
    let mut rows: Vec<(String, Vec<Cell>)> = rows.collect();
    rows.extend(levels(panel, epochs.len()));
    Cells { header, rows }
}

fn levels(panel: &Drawn, columns: usize) -> impl Iterator<Item = (String, Vec<Cell>)> {
    panel.references.iter().map(move |reference| {
        let level = Cell { ours: Some(panel.value.table_text(reference.value)), paper: None };
        (reference.name.clone(), vec![level; columns])
    })
}

/// `82.8 ± 0.1 (n=3)`, the half width of the 95 % interval; of two runs both; of one itself.
pub fn cell(value: Value, series: &Series, epochs: u32) -> String {
    let runs: Vec<&Run> = series.runs_at(epochs).collect();
    let Some(mean) = series.mean_at(epochs) else { return "–".to_owned() };
    let text = |number: f64| value.table_text_beside(mean.value, number);
    let (middle, n) = (text(mean.value), mean.n);
    match (mean.interval, runs.as_slice()) {
        (Some(interval), _) => format!("{middle} ± {} (n={n})", text((interval.high - interval.low) / 2.0)),
        (None, [one, two]) => format!("{middle} ({}, {}; n={n})", text(one.value), text(two.value)),
        _ => format!("{middle} (n={n})"),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
