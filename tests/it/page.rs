//! The page of HTML: whole without anything else, and alive in a browser.

use std::path::PathBuf;
use std::process::Command;

use distillery::report::{self, Recorded, Report, Source, Told};
use distillery::store::{Outcome, Spent};

use crate::report::made_up::grid;

fn claimed() -> Report {
    let text = "experiment = \"made-up\"\ntitle = \"Views <shared> & \\\"not\\\"\"\nquestion = \"Which?\"\n\
                [[panel]]\ntitle = \"Test accuracy\"\nduration = { value = \"test.top1\", series = \"teaching\" }\n\
                [[panel]]\ntitle = \"In short\"\nbars = { value = \"test.top1\", series = \"teaching\" }\n\
                [[claim]]\nclaim = \"shared views are ahead\"\nwhere = { epochs = \"longest\" }\n\
                left = { teaching = \"function-matching\" }\nright = { teaching = \"fixed/cc\" }\n";
    report::read(&Source { name: "made-up".to_owned(), text: text.to_owned() }).unwrap()
}

fn page(report: &Report, outcomes: &[Outcome]) -> String {
    let spent = [Spent {
        device: "cuda:0".to_owned(),
        threads: Some(4),
        version: "0.1.0 (abcdef)".to_owned(),
        jobs: 45,
        seconds: 5400.0,
        days: ["2026-11-25".to_owned(), "2026-11-26".to_owned()],
    }];
    let experiments = [Recorded { name: "made-up".to_owned(), hash: "0123456789abcdef".to_owned() }];
    let commands = vec!["distillery run made-up".to_owned(), "distillery report made-up --html".to_owned()];
    let told = Told { report, outcomes, spent: &spent, experiments: &experiments, commands };
    report::page("Views & more", &[told]).unwrap()
}

#[test]
fn the_page_needs_nothing_else_and_says_where_its_numbers_come_from() {
    let html = page(&claimed(), &grid(3));
    assert_eq!(html, page(&claimed(), &grid(3)), "the same bytes again");
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for told in [
        "Views &lt;shared&gt; &amp; &quot;not&quot;",
        "0123456789abcdef",
        "<td>cuda:0</td><td>4</td><td>0.1.0 (abcdef)</td><td>45</td><td>1.50</td><td>2026-11-25 to 2026-11-26</td>",
        "distillery run made-up\ndistillery report made-up --html",
        "<span class=\"verdict supported\">supported</span>",
        "What it cost: 1.50 GPU-hours; ",
        "prefers-color-scheme: dark",
        "download=\"made-up.csv\"",
        grid(3)[0].id.as_str(),
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert_eq!(html.matches("<svg ").count(), 2, "light and dark");
    assert_eq!(html.matches("font/woff2").count(), 2, "the fonts once, not in every figure");
    assert!(matches!(report::page("nothing", &[]), Err(report::Error::Empty(_))));
}

/// Points at a mean and presses the title of a column; what comes of it is written into the page.
const PROBE: &str = "<script>{
const figure = document.querySelector('figure'), svg = figure.querySelector('svg'), box = svg.getBoundingClientRect();
const spot = JSON.parse(figure.querySelector('script').textContent)[0], scale = box.width / (svg.viewBox.baseVal.width / 10);
const at = { clientX: box.left + spot[0] * scale + 3, clientY: box.top + spot[1] * scale + 2, bubbles: true };
svg.dispatchEvent(new PointerEvent('pointermove', at));
const tip = document.getElementById('tip');
document.body.dataset.said = tip.style.display + '|' + tip.textContent.replace(/\\n/g, ' / ') + '|' + spot[2].replace(/\\n/g, ' / ');
const table = [...document.querySelectorAll('table.sorts')].find(table => !table.classList.contains('claims'));
const column = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent));
table.querySelectorAll('th button')[1].click();
const up = column();
table.querySelectorAll('th button')[1].click();
const sorted = up.every((value, index) => !index || up[index - 1] <= value);
const down = column();
document.body.dataset.sorted = sorted + ' ' + (down.join() === [...up].reverse().join());
document.body.dataset.wide = document.documentElement.scrollWidth <= innerWidth;
}</script></body>";

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("DISTILLERY_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || {
        ["chromium", "chromium-browser", "google-chrome"]
            .iter()
            .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
            .find(|program| program.is_file())
    };
    named.or_else(found)
}

#[test]
fn figures_answer_and_tables_sort_in_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: no Chromium; DISTILLERY_BROWSER names one");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("page.html");
    std::fs::write(&file, page(&claimed(), &grid(3)).replace("</body>", PROBE)).unwrap();
    for (size, what) in [("1280,900", "a desk"), ("390,800", "a phone")] {
        let output = Command::new(&browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--dump-dom",
                "--virtual-time-budget=2000",
            ])
            .arg(format!("--window-size={size}"))
            .arg(format!("--user-data-dir={}", place.path().join(what).display()))
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&output.stdout);
        let said = |name: &str| {
            let text = dom.split(&format!("data-{name}=\"")).nth(1).unwrap_or_default();
            text.split('"').next().unwrap_or_default().to_owned()
        };
        let told: Vec<String> = said("said").split('|').map(str::to_owned).collect();
        assert!(told.len() == 3 && told[0] == "block" && told[1] == told[2], "{what}: {told:?}");
        assert!(told[1].contains("epochs / ") && told[1].contains("n = 3"), "{what}: {told:?}");
        assert_eq!(said("sorted"), "true true", "{what}");
        assert_eq!(said("wide"), "true", "{what}: the page is wider than the window");
    }
}
