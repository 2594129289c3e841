//! One page for one report or many: figures that answer to the pointer, verdicts, tables that sort, where the numbers come
//! from, and how to get them again. The page needs nothing but itself: no server, no network, no other file.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canvas::{Page, Spot};
use super::numbers::Figure;
use super::spec::Report;
use super::summary::{Recorded, device_seconds};
use super::table::{self, Table};
use super::theme::Theme;
use super::verdict::Verdict;
use super::{Error, drawable, figure, font, markdown};
use crate::store::{Outcome, Spent, State};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
/// Numbers larger than this are not put into the page a second time as a file to save.
const MOST_CSV: usize = 1 << 20;

/// A report with what it is made from.
pub struct Told<'a> {
    pub report: &'a Report,
    pub outcomes: &'a [Outcome],
    /// What was computed where.
    pub spent: &'a [Spent],
    pub experiments: &'a [Recorded],
    /// What fills the store and draws the report, a line each.
    pub commands: Vec<String>,
}

/// The page. Reports that have nothing to draw are left out.
///
/// # Errors
/// Where a report can only be drawn by mixing jobs that differ in more than their seed, or none has anything to draw.
pub fn page(title: &str, all: &[Told]) -> Result<String, Error> {
    let mut sections = Vec::new();
    for told in all {
        match drawable(told.report, told.outcomes) {
            Ok(figure) => sections.push((told, figure)),
            Err(Error::Empty(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if sections.is_empty() {
        return Err(Error::Empty(title.to_owned()));
    }
    let mut html = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let _ = write!(
        html,
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{}{STYLE}\
         </style>\n</head>\n<body>\n",
        text(title),
        font::faces(),
    );
    let _ = writeln!(html, "<header>\n<h1>{}</h1>", text(title));
    if sections.len() > 1 {
        html.push_str(&contents(&sections));
    }
    html.push_str("</header>\n<main>\n");
    for (told, figure) in &sections {
        section(&mut html, told, figure, sections.len() > 1);
    }
    let _ = write!(
        html,
        "</main>\n<footer><p class=\"quiet\">Drawn by distillery {}.</p></footer>\n<div id=\"tip\" role=\"status\"></div>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
    );
    Ok(html)
}

fn contents(sections: &[(&Told, Figure)]) -> String {
    let entry = |(told, figure): &(&Told, Figure)| {
        let of = told.report.reproduces.as_ref().map_or(String::new(), |what| format!(" ({})", text(what)));
        format!("<li><a href=\"#{}\">{}</a>{of}</li>\n", text(&told.report.name), text(&figure.title))
    };
    format!("<nav aria-label=\"reports\"><ul>\n{}</ul></nav>\n", sections.iter().map(entry).collect::<String>())
}

fn section(html: &mut String, told: &Told, figure: &Figure, titled: bool) {
    let report = told.report;
    let _ = writeln!(html, "<section id=\"{}\">", text(&report.name));
    if titled {
        let _ = writeln!(html, "<h2>{}</h2>", text(&figure.title));
    }
    let of = report.reproduces.as_ref().map(|what| format!("{what} of arXiv 2106.05237."));
    let about: Vec<&str> = report.question.as_deref().into_iter().chain(of.as_deref()).collect();
    if !about.is_empty() {
        let _ = writeln!(html, "<p>{}</p>", text(&about.join(" ")));
    }
    picture(html, figure);
    claims(html, report, &figure.verdicts);
    html.push_str("<div class=\"panels\">\n");
    for panel in &figure.panels {
        let table = table::of_panel(panel);
        let _ = writeln!(html, "<div>\n<h3>{}</h3>", text(&table.title));
        sorted(html, &table, true);
        let chosen = panel.series.iter().flat_map(|series| series.choices.iter().map(move |choice| (series, choice)));
        let chosen: Vec<String> = chosen
            .map(|(series, choice)| {
                let line = format!("{}, {} epochs: {}", series.shown, choice.epochs, choice.told());
                format!("<li>{}</li>", text(&line))
            })
            .collect();
        if !chosen.is_empty() {
            let _ = writeln!(
                html,
                "<details><summary>Chosen on validation images</summary><ul>{}</ul></details>",
                chosen.concat()
            );
        }
        html.push_str("</div>\n");
    }
    html.push_str("</div>\n");
    if !figure.missing.is_empty() {
        let lines: String = markdown::missing(figure).iter().map(|line| format!("<li>{}</li>", text(line))).collect();
        let _ = writeln!(
            html,
            "<details open><summary>Missing ({})</summary><ul>{lines}</ul></details>",
            figure.missing.len()
        );
    }
    origin(html, told, figure);
    html.push_str("</section>\n");
}

/// The figure in both themes, and where it answers.
fn picture(html: &mut String, of: &Figure) {
    let light = figure::draw(of, Theme::Light);
    let dark = figure::draw(of, Theme::Dark);
    let inline = |page: &Page, class: &str| {
        // The page has the font already, and a title in a picture would pop up over what the figure answers.
        let (head, rest) = page.svg.split_once("<style>").unwrap_or((&page.svg, ""));
        let body = rest.split_once("</style>\n").map_or(rest, |(_, body)| body);
        let head = head.split_once("<title>").map_or(head, |(head, _)| head);
        let label =
            format!("<svg class=\"{class}\" font-family=\"{}\" aria-label=\"{}\" ", font::FAMILY, text(&of.title));
        head.replacen("<svg ", &label, 1) + body
    };
    let spots: Vec<(f64, f64, &str)> =
        light.spots.iter().map(|Spot { place, text }| (place.0, place.1, text.as_str())).collect();
    // In a script `</` would end it.
    let spots = serde_json::to_string(&spots).unwrap_or_default().replace("</", "<\\/");
    let _ = writeln!(
        html,
        "<figure>\n{}{}<script type=\"application/json\">{spots}</script>\n</figure>",
        inline(&light, "light"),
        inline(&dark, "dark"),
    );
}

fn claims(html: &mut String, report: &Report, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    html.push_str("<h3>Claims</h3>\n<div class=\"scroll\"><table class=\"sorts claims\"><thead><tr>");
    for title in ["claim", "by", "expected", "found", "p", "by image", "verdict"] {
        let _ = write!(html, "<th scope=\"col\">{title}</th>");
    }
    html.push_str("</tr></thead><tbody>\n");
    for verdict in verdicts {
        let [claim, by, expected, found, outcome] = markdown::row(verdict);
        let word = verdict.ruling.word();
        let rest = outcome.strip_prefix(word).unwrap_or_default();
        let class = word.replace(' ', "-");
        let p = verdict.measured.as_ref().and_then(|measured| measured.p).map_or("–".to_owned(), p_text);
        let images = verdict.by_image().unwrap_or_else(|| "–".to_owned());
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td data-is=\"by\">{}</td><td data-is=\"expected\">{}</td><td data-is=\"found\">{}</td>\
             <td data-is=\"p\">{p}</td><td data-is=\"by image\">{}</td><td><span class=\"verdict {class}\">{word}</span>{}</td></tr>",
            text(&claim),
            text(&by),
            text(&expected),
            text(&found),
            text(&images),
            text(rest),
        );
    }
    let _ = writeln!(
        html,
        "</tbody></table></div>\n<p class=\"quiet\">{}</p>",
        text(&markdown::rule(report, verdicts.len()))
    );
}

/// `0.031`, `< 0.001`
fn p_text(p: f64) -> String {
    if p < 0.001 { "&lt; 0.001".to_owned() } else { format!("{p:.3}") }
}

fn sorted(html: &mut String, table: &Table, numbers: bool) {
    html.push_str("<div class=\"scroll\"><table class=\"sorts\"><thead><tr>");
    let class = |column: usize| if numbers && column > 0 { " class=\"number\"" } else { "" };
    for (column, title) in table.header.iter().enumerate() {
        let title = if title.is_empty() { "line" } else { title };
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), text(title));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("<td{}>{}</td>", class(column), text(cell)));
        let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html.push_str("</tbody></table></div>\n");
}

/// Where the numbers come from, and how to get them again.
fn origin(html: &mut String, told: &Told, figure: &Figure) {
    let done = told.outcomes.iter().filter(|outcome| outcome.state == State::Done).count();
    html.push_str("<h3>Where the numbers come from</h3>\n");
    let experiments =
        told.experiments.iter().map(|one| format!("<code>{}</code> ({})", text(&one.name), text(&one.hash)));
    let _ = writeln!(
        html,
        "<p>{done} of {} jobs of {}. {}</p>",
        told.outcomes.len(),
        experiments.collect::<Vec<_>>().join(", "),
        text(&figure.footer.join(" ")),
    );
    if !told.spent.is_empty() {
        let rows = told.spent.iter().map(|spent| {
            let threads = spent.threads.map_or(String::new(), |threads| threads.to_string());
            let days = if spent.days[0] == spent.days[1] { spent.days[0].clone() } else { spent.days.join(" to ") };
            vec![
                spent.device.clone(),
                threads,
                spent.version.clone(),
                spent.jobs.to_string(),
                hours(spent.seconds),
                days,
            ]
        });
        let header = ["device", "threads", "program", "jobs", "hours", "when"].map(str::to_owned).to_vec();
        sorted(html, &Table { title: String::new(), header, rows: rows.collect() }, false);
    }
    let rows = told.outcomes.iter().filter_map(|outcome| outcome.last());
    let flops: f64 = rows.map(|row| row.student_flops + row.teacher_flops).sum();
    let unit = if told.spent.iter().any(|spent| spent.device.starts_with("cuda")) { "GPU" } else { "core" };
    let _ = writeln!(
        html,
        "<p>What it cost: {} {unit}-hours; {flops:.1e} FLOPs, were every student to ask its teacher alone.</p>",
        hours(device_seconds(told.spent)),
    );
    let _ = writeln!(html, "<p>To get them again:</p>\n<pre>{}</pre>", text(&told.commands.join("\n")),);
    jobs(html, told.outcomes);
    let csv = table::csv(figure);
    if csv.len() <= MOST_CSV {
        let _ = writeln!(
            html,
            "<p><a download=\"{0}.csv\" href=\"data:text/csv;base64,{1}\">{0}.csv</a>: every number that is drawn, with its \
             jobs.</p>",
            text(&told.report.name),
            STANDARD.encode(csv),
        );
    }
}

fn jobs(html: &mut String, outcomes: &[Outcome]) {
    let mut axes: Vec<&String> = outcomes.iter().flat_map(|outcome| outcome.axes.keys()).collect();
    axes.sort();
    axes.dedup();
    let header: Vec<String> = ["job", "state"]
        .into_iter()
        .map(str::to_owned)
        .chain(axes.iter().map(|axis| (*axis).clone()))
        .chain(["test top-1, %", "seconds"].map(str::to_owned))
        .collect();
    let row = |outcome: &Outcome| {
        let top1 = outcome.final_evaluation(crate::event::Which::Test).map(|evaluation| 100.0 * evaluation.top1);
        let mut row = vec![outcome.id.to_string(), outcome.state.name().to_owned()];
        row.extend(axes.iter().map(|axis| outcome.axes.get(*axis).cloned().unwrap_or_default()));
        row.extend([top1.map_or(String::new(), |top1| format!("{top1:.2}")), format!("{:.1}", outcome.seconds)]);
        row
    };
    let _ = writeln!(html, "<details><summary>Jobs ({})</summary>", outcomes.len());
    sorted(html, &Table { title: String::new(), header, rows: outcomes.iter().map(row).collect() }, false);
    html.push_str("</details>\n");
}

fn hours(seconds: f64) -> String {
    let hours = seconds / 3600.0;
    if hours < 10.0 { format!("{hours:.2}") } else { format!("{hours:.0}") }
}

fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
