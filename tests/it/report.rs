//! Reports: from outcomes to figures and tables.

mod made_up;

use distillery::report::{self, Report, Source, Theme};

fn quickstart() -> Report {
    let text = include_str!("../../reports/quickstart.toml").to_owned();
    report::read(&Source { name: "quickstart".to_owned(), text }).unwrap()
}

#[test]
fn preview() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, seeds, theme) in [("two", 2, Theme::Light), ("five", 5, Theme::Light), ("dark", 2, Theme::Dark), ("one", 1, Theme::Light)] {
        let rendered = report::render(&quickstart(), &made_up::grid(seeds), theme).unwrap();
        std::fs::write(dir.join(format!("{name}.svg")), rendered.svg).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), rendered.png).unwrap();
        std::fs::write(dir.join(format!("{name}.csv")), rendered.csv).unwrap();
        std::fs::write(dir.join(format!("{name}.md")), rendered.markdown).unwrap();
    }
}
