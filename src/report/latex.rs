//! The tables of a report for a paper: `\input` them where `booktabs` is loaded.

use super::numbers::Figure;
use super::table::{self, Table};

/// A `tabular` a panel, each under a comment that says what it is.
pub fn latex(figure: &Figure) -> String {
    let tables = figure.panels.iter().map(|panel| tabular(&table::of_panel(panel)));
    let mut text = format!("% {}\n% {}\n", one_line(&figure.title), one_line(&figure.footer.join(" ")));
    tables.for_each(|table| text.push_str(&format!("\n{table}")));
    text
}

fn tabular(table: &Table) -> String {
    let columns = "r".repeat(table.header.len().saturating_sub(1));
    let line = |cells: &[String]| cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" & ");
    let rows: String = table.rows.iter().map(|row| format!("{} \\\\\n", line(row))).collect();
    format!(
        "% {}\n\\begin{{tabular}}{{l{columns}}}\n\\toprule\n{} \\\\\n\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n",
        one_line(&table.title),
        line(&table.header),
    )
}

fn one_line(text: &str) -> String {
    text.replace(['\u{a0}', '\n'], " ")
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => safe.extend(['\\', letter]),
            '\\' => safe.push_str("\\textbackslash{}"),
            '~' => safe.push_str("\\textasciitilde{}"),
            '^' => safe.push_str("\\textasciicircum{}"),
            '<' => safe.push_str("\\textless{}"),
            '>' => safe.push_str("\\textgreater{}"),
            '|' => safe.push_str("\\textbar{}"),
            '±' => safe.push_str("$\\pm$"),
            '→' => safe.push_str("$\\to$"),
            '\u{2212}' => safe.push_str("$-$"),
            '–' => safe.push_str("--"),
            '·' => safe.push_str("$\\cdot$"),
            '×' => safe.push_str("$\\times$"),
            '\u{a0}' => safe.push('~'),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_latex_reads_as_commands_is_escaped() {
        assert_eq!(escaped("82.8 ± 0.1 (n=3) & 5_% <"), "82.8 $\\pm$ 0.1 (n=3) \\& 5\\_\\% \\textless{}");
        let table = Table {
            title: "T (a, %)".into(),
            header: vec!["x".into(), "1 epoch".into()],
            rows: vec![vec!["a^b".into(), "–".into()]],
        };
        let text = tabular(&table);
        assert!(text.contains("{lr}") && text.contains("a\\textasciicircum{}b & -- \\\\\n"), "{text}");
    }
}
