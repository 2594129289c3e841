//! Tables for the terminal, and numbers as people read them.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Aligned columns under a header, no frame; columns that hold numbers to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { 1 }, if index == last { 0 } else { 1 }));
        let numeric = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        if rows.iter().filter_map(|row| row.get(index)).filter(|cell| !cell.is_empty()).all(numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{}\n", lines.join("\n"))
}

/// `1.23 TFLOP`
pub fn flops(count: f64) -> String {
    let units = ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"];
    let power = if count < 1.0 { 0 } else { ((count.log10() / 3.0) as usize).min(units.len() - 1) };
    format!("{:.3} {}", Digits(count / 1000f64.powi(power as i32)), units[power])
}

/// `1.23 GB`
pub fn bytes(count: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let power = if count < 1.0 { 0 } else { ((count.log10() / 3.0) as usize).min(units.len() - 1) };
    format!("{} {}", Digits(count / 1000f64.powi(power as i32)), units[power])
}

/// Three significant digits.
struct Digits(f64);

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places = if self.0 >= 100.0 {
            0
        } else if self.0 >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{:.places$}", self.0)
    }
}

/// `3 min 20 s`, `2 h 5 min`, `4.1 s`
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
        s if s < 48.0 * 3600.0 => format!("{} h {} min", s as u64 / 3600, s as u64 % 3600 / 60),
        s if s < 1000.0 * 86_400.0 => format!("{:.1} days", s / 86_400.0),
        s => format!("{:.0} years", s / 86_400.0 / 365.25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(flops(0.0), "0.00 FLOP");
        assert_eq!(flops(999.0), "999 FLOP");
        assert_eq!(flops(1.234e12), "1.23 TFLOP");
        assert_eq!(flops(45.6e9), "45.6 GFLOP");
        assert_eq!(duration(Duration::from_millis(4120)), "4.1 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(7500)), "2 h 5 min");
    }

    #[test]
    fn columns_align() {
        let text = table(&["name", "n"], &[vec!["a".into(), "10".into()], vec!["longer".into(), "9".into()]]);
        assert_eq!(text, "name     n\na       10\nlonger   9\n");
    }
}
