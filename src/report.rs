//! Reports: stored outcomes of experiments become figures, the numbers behind them, tables, and verdicts on what was claimed.
//!
//! In: a `reports/*.toml` ([`read`]) and the [`Outcome`]s of the experiments it names. Out ([`render`]): one SVG with real
//! text, the PNG of that same SVG, a CSV of exactly what is drawn with the jobs behind each number, Markdown, LaTeX, and a
//! [`Summary`]; or a [`page`] of HTML for many of them.
//!
//! The way through: `spec` (what is asked) -> `select` (`numbers`, each with its jobs; nothing is drawn yet) and `verdict`
//! -> `figure` and `panel` (geometry) -> `canvas` (SVG, PNG), and from the same numbers `table` (CSV, cells), `markdown`,
//! `latex`, `html`, `summary`. A new kind of panel is a variant of [`Kind`], an arm in `select`, and a file under `panel`.
//!
//! This module only reads. It has no clock, no database and no file system: the same outcomes give the same bytes. It
//! never chooses among runs unless a report says among which axes, and then by validation images alone: else two jobs that
//! would share one dot are an error.

mod axis;
mod canvas;
mod compare;
mod figure;
mod font;
mod footer;
mod html;
mod label;
mod latex;
mod markdown;
mod numbers;
mod panel;
mod select;
mod spec;
mod statistics;
mod summary;
mod table;
mod theme;
mod value;
mod verdict;
mod words;

use crate::store::{Outcome, Spent};

use numbers::Figure;

pub use compare::{Comparison, Over, Ranked, compare as comparison, ranking};
pub use footer::grouped;
pub use html::{Told, page};
pub use spec::{AtEpochs, Kind, Listed, Numbers, Panel, Paper, Report, Scale, Source};
pub use statistics::{Interval, mean, t_interval, t_quantile};
pub use summary::{Headline, Recorded, Said, Summary, index};
pub use table::Table;
pub use theme::Theme;
pub use value::{Measure, Value};
pub use verdict::{Measured, Ruling, Verdict};

/// Everything a report gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub svg: String,
    /// Of the SVG, two pixels a point.
    pub png: Vec<u8>,
    pub csv: String,
    pub markdown: String,
    pub latex: String,
    /// Of the report's claims, in their order.
    pub verdicts: Vec<Verdict>,
    /// Jobs the report asks for that have no final values, one line each.
    pub missing: Vec<String>,
    /// The first panel, for the terminal.
    pub results: Table,
    pub summary: Summary,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not say what a report is.
    #[error("report `{name}` cannot be read\n{message}")]
    Malformed { name: String, message: String },
    #[error("panel `{panel}` names the axis `{axis}`, which no job of `{experiment}` has\nhint: {known}")]
    UnknownAxis { panel: String, axis: String, experiment: String, known: String },
    /// A mean over jobs that differ in more than their seed would hide what differs.
    #[error("panel `{panel}` would draw two jobs as one: {jobs} differ in {axes}\nhint: {hint}")]
    Ambiguous { panel: String, jobs: String, axes: String, hint: String },
    #[error(
        "no panel of report `{0}` has a value to draw yet\nhint: no job where it looks has ended; `distillery status` says how \
         experiments stand, and the report's `where` where it looks"
    )]
    Empty(String),
    #[error("the store holds nothing of experiment `{experiment}`\nhint: {hint}")]
    NotRun { experiment: String, hint: String },
    #[error("the figure cannot be turned into pixels: {0}")]
    Pixels(String),
}

/// Understands a report file.
///
/// # Errors
/// With line and caret, where a key is unknown, a value is of the wrong kind, or a panel does not say what it shows.
pub fn read(source: &Source) -> Result<Report, Error> {
    spec::read(source)
}

/// Draws what there is; what is not there yet is in [`Rendered::missing`] and in the figure's footer.
///
/// # Errors
/// Where nothing can be drawn, or only by mixing jobs that differ in more than their seed.
pub fn render(report: &Report, outcomes: &[Outcome], theme: Theme) -> Result<Rendered, Error> {
    render_with(report, outcomes, theme, Vec::new(), &[])
}

/// The same; `experiments` and `spent` are what the store says of where it comes from, for [`Rendered::summary`].
///
/// # Errors
/// As [`render`].
pub fn render_with(
    report: &Report,
    outcomes: &[Outcome],
    theme: Theme,
    experiments: Vec<Recorded>,
    spent: &[Spent],
) -> Result<Rendered, Error> {
    let figure = drawable(report, outcomes)?;
    let results = figure.panels.first().map(table::of_panel).unwrap_or_default();
    let summary = summary::summary(report, &figure, experiments, spent);
    let svg = figure::draw(&figure, theme).svg;
    // Pixels and a million lines of numbers take about as long as each other.
    let (png, csv) = rayon::join(|| canvas::png(&svg), || table::csv(&figure));
    let (png, markdown, latex) = (png?, markdown::markdown(report, &figure), latex::latex(&figure));
    let Figure { verdicts, missing, .. } = figure;
    Ok(Rendered { svg, png, csv, markdown, latex, verdicts, missing, results, summary })
}

/// What becomes of the report's claims; drawing nothing.
pub fn verdicts(report: &Report, outcomes: &[Outcome]) -> Vec<Verdict> {
    verdict::verdicts(report, &select::Ground::new(outcomes).points)
}

/// The SVG of [`render`] alone, for where nobody needs pixels.
///
/// # Errors
/// As [`render`].
pub fn svg(report: &Report, outcomes: &[Outcome], theme: Theme) -> Result<String, Error> {
    Ok(figure::draw(&drawable(report, outcomes)?, theme).svg)
}

/// The first panel as rows of plain text: series down, durations across.
///
/// # Errors
/// As [`render`], but an experiment without any result is a table without columns.
pub fn results_table(report: &Report, outcomes: &[Outcome]) -> Result<Table, Error> {
    let figure = select::figure(report, outcomes)?;
    Ok(figure.panels.first().map(table::of_panel).unwrap_or_default())
}

fn drawable(report: &Report, outcomes: &[Outcome]) -> Result<Figure, Error> {
    let figure = select::figure(report, outcomes)?;
    if figure.is_empty() { Err(Error::Empty(report.name.clone())) } else { Ok(figure) }
}
