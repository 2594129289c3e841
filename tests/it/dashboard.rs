//! The dashboard on a terminal of letters, and what its keys do.

use distillery::alive::Alive;
use distillery::dashboard::app::{App, Ask, Popup, Screen};
use distillery::dashboard::draw;
use distillery::dashboard::snapshot::{Cohort, Happened, Member, Snapshot};
use distillery::progress::Tone;
use distillery::store::{SchedulerWish, Wish};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

fn cohort(number: u32, teaching: &str, students: u32, epoch: u32, epochs: u32) -> Cohort {
    let (share, at) = (f64::from(epoch) / f64::from(epochs), |x: u32| f64::from(x) / f64::from(epochs));
    let member = |student: u32| Member {
        id: format!("{student:08x}{number:08x}"),
        label: format!("learning-rate={} seed={number}", [0.001, 0.003, 0.01][student as usize % 3]),
        state: "running",
        wish: (student == 2).then_some("leaving"),
        epoch,
        epochs,
        images_per_second: (epoch > 0).then_some(1234.5 / f64::from(students)),
        loss: (epoch > 0).then_some(0.4 + 0.1 * f64::from(student)),
        validation: (epoch > 0).then_some(0.8),
        message: None,
    };
    Cohort {
        id: format!("{number:x}a2c1de0{number:08x}"),
        teaching: teaching.to_owned(),
        members: (0..students).map(member).collect(),
        epoch,
        epochs,
        images_per_second: (epoch > 0).then_some(1234.5),
        loss: (0..epoch.min(60)).map(|x| 2.3 / (1.0 + 9.0 * at(x))).collect(),
        validation: (0..epoch.min(60)).map(|x| 0.1 + 0.8 * at(x).sqrt()).collect(),
        left_seconds: (epoch > 0).then_some(200.0 / share),
        device: format!("cuda:{number}"),
        memory_bytes: Some(310_000_000 * u64::from(number + 1)),
        by: "process 4711".to_owned(),
        started_ms: 0,
    }
}

fn happened(at: &str, tone: Tone, text: &str) -> Happened {
    Happened { at: at.to_owned(), tone, job: "3fa2c1de".to_owned(), text: text.to_owned() }
}

fn kept_back(id: &str, state: &'static str, message: Option<&str>) -> Member {
    Member {
        id: id.to_owned(),
        label: "teaching=function-matching learning-rate=0.01 seed=0".to_owned(),
        state,
        epochs: 20,
        message: message.map(str::to_owned),
        ..Member::default()
    }
}

fn idle() -> Snapshot {
    Snapshot {
        experiments: vec!["quickstart".to_owned()],
        counts: [("done", 19), ("open", 12)].into(),
        command: Some("distillery run quickstart".to_owned()),
        ..Snapshot::default()
    }
}

fn busy(cohorts: Vec<Cohort>) -> Snapshot {
    let running = cohorts.iter().map(|cohort| cohort.members.len()).sum::<usize>();
    let owner = Alive {
        owner: "local:box/4711/0".to_owned(),
        host: "box".to_owned(),
        pid: 4711,
        experiment: Some("fig3-consistency-small".to_owned()),
        slots: Some(8),
        started_ms: 0,
        wish: None,
        is_registered: true,
    };
    Snapshot {
        now_ms: 0,
        experiments: vec!["fig3-consistency-small".to_owned()],
        counts: [("done", 140), ("running", running), ("open", 31), ("failed", 3), ("blocked", 1), ("held", 4)].into(),
        schedulers: vec![owner],
        command: None,
        elapsed_seconds: Some(7300.0),
        left_seconds: Some(1500.0),
        cohorts,
        kept_back: vec![
            kept_back("3fa2c1de00000000", "failed", Some("the loss is NaN in epoch 3 at learning rate 1e30\nmore")),
            kept_back("77a2c1de00000000", "held", None),
            kept_back("88a2c1de00000000", "blocked", Some("needs job `3fa2c1de00000000`, which failed")),
        ],
        recent: vec![
            happened("12:03:11", Tone::Good, "finished"),
            happened(
                "12:02:50",
                Tone::Bad,
                "failed: not-finite: the loss is NaN in epoch 3, step 151, at learning rate 0.01 of a run that had gone well until then\nmore",
            ),
            happened("12:01:07", Tone::Warning, "warning: fell to chance by epoch 12: 10.2 % of the validation images"),
            happened("11:59:59", Tone::Plain, "goes on after epoch 7"),
        ],
    }
}

fn eight() -> Snapshot {
    let modes = ["function-matching", "fixed/cc", "consistent/ic + function-matching", "independent-mixup"];
    busy((0..8).map(|n| cohort(n, modes[n as usize % 4], 1 + n * 3, n * n * 20, 1000)).collect())
}

fn app(snapshot: Snapshot) -> App {
    let mut app = App::new(snapshot);
    app.machine = "gpu 0 87 %, 41 of 80 GB · cpu 34 %".to_owned();
    app
}

/// The screen as text.
fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

fn press(app: &mut App, keys: &str) -> Option<Ask> {
    let mut asked = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{1b}' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        asked = app.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    asked
}

#[test]
fn nothing_runs() {
    insta::assert_snapshot!(screen(&app(idle()), 80, 24));
    assert!(screen(&app(Snapshot::default()), 80, 24).contains("nothing was run yet"));
}

#[test]
fn one_cohort_runs() {
    insta::assert_snapshot!(screen(&app(busy(vec![cohort(3, "function-matching", 4, 12, 20)])), 80, 24));
    insta::assert_snapshot!(screen(&app(busy(vec![cohort(3, "function-matching", 1, 0, 20)])), 140, 45));
}

#[test]
fn eight_cohorts_run() {
    insta::assert_snapshot!(screen(&app(eight()), 80, 24));
    insta::assert_snapshot!(screen(&app(eight()), 140, 45));
}

#[test]
fn jobs_and_what_is_kept_back_are_listed() {
    let mut app = app(eight());
    press(&mut app, "jjj\n");
    assert_eq!(app.screen, Screen::Jobs);
    insta::assert_snapshot!(screen(&app, 80, 24));
    press(&mut app, "\t");
    insta::assert_snapshot!(screen(&app, 80, 24));
}

#[test]
fn dialogs_lie_over_it() {
    let mut app = app(eight());
    press(&mut app, "q");
    insta::assert_snapshot!(screen(&app, 80, 24));
    press(&mut app, "s");
    insta::assert_snapshot!(screen(&app, 80, 24));
    press(&mut app, "\u{1b}?");
    insta::assert_snapshot!(screen(&app, 80, 24));
}

/// Whatever the size and the names, nothing breaks.
#[test]
fn every_size_and_name_is_drawn() {
    let mut long = eight();
    long.experiments = vec!["a-name-that-goes-on-and-on".repeat(4), "another".to_owned()];
    for (place, cohort) in long.cohorts.iter_mut().enumerate() {
        cohort.teaching = "日本語の名前 + ".repeat(place + 1);
        cohort.epochs = 1_000_000;
        cohort.by = "process 4194304 on `a-host.with.a.long.name.example.org`".to_owned();
        for member in &mut cohort.members {
            member.label = "distance.kl.temperature=10 ".repeat(place + 1);
        }
    }
    for width in (1..200).step_by(11) {
        for height in (1..60).step_by(11) {
            for keys in ["", "\n", "\t", "q", "?", "c", "GGG\njjj"] {
                let mut app = app(long.clone());
                app.snapshot.left_seconds = Some(1e9);
                press(&mut app, keys);
                screen(&app, width, height);
            }
        }
    }
    let wide = screen(&app(long), 100, 30);
    assert!(wide.contains('…') && wide.contains(" x22"), "{wide}");
}

#[test]
fn more_than_fit_are_counted_and_reached() {
    let mut app = app(busy((0..40).map(|n| cohort(n, "fixed/cc", 1, 5, 10)).collect()));
    assert!(screen(&app, 80, 24).contains("more below"));
    press(&mut app, "G");
    let text = screen(&app, 80, 24);
    assert!(text.contains("more above") && text.contains("▸ 27a2c1de"), "{text}");
    press(&mut app, "gj");
    assert!(screen(&app, 80, 24).contains("▸ 1a2c1de0"));
}

#[test]
fn keys_ask_and_dangerous_ones_ask_twice() {
    let mut app = app(eight());
    assert_eq!(press(&mut app, "ql"), Some(Ask::Leave));
    assert_eq!(press(&mut app, "q\u{1b}"), None);
    assert_eq!(press(&mut app, "qs"), None);
    assert!(matches!(app.popup, Some(Popup::Sure { .. })));
    // A stray key leaves the question open, `n` closes it.
    assert_eq!(press(&mut app, "x"), None);
    assert_eq!(press(&mut app, "ny"), None);
    assert_eq!(press(&mut app, "qsy"), Some(Ask::Schedulers(SchedulerWish::Stop)));
    assert_eq!(press(&mut app, "qdy"), Some(Ask::Schedulers(SchedulerWish::Drain)));
    let Some(Ask::Wish { jobs, wish: Wish::Cancel }) = press(&mut app, "qcy") else { panic!("nothing is cancelled") };
    assert_eq!(jobs.len(), (0..8).map(|n| 1 + n * 3).sum::<usize>());
    // Of a cohort all jobs, of a job that one.
    let Some(Ask::Wish { jobs, wish: Wish::Hold }) = press(&mut app, "jh") else { panic!("nothing is held") };
    assert_eq!(jobs.len(), 4);
    let Some(Ask::Release { jobs }) = press(&mut app, "\njr") else { panic!("nothing is released") };
    assert_eq!(jobs[0].as_str(), "0000000100000001");
    let Some(Ask::Wish { jobs, wish: Wish::Cancel }) = press(&mut app, "cy") else { panic!("nothing is cancelled") };
    assert_eq!(jobs.len(), 1);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(control), Some(Ask::Leave));
}

#[test]
fn the_selected_stays_when_others_come_and_go() {
    let mut app = app(eight());
    press(&mut app, "jjj");
    let id = app.cohort().unwrap().id.clone();
    let mut later = eight();
    later.cohorts.remove(0);
    app.update(later.clone());
    assert_eq!(app.cohort().unwrap().id, id);
    press(&mut app, "\n");
    later.cohorts.retain(|cohort| cohort.id != id);
    app.update(later);
    assert_eq!(app.screen, Screen::Cohorts);
    assert!(app.notice.as_ref().unwrap().contains("has ended"));
    app.update(idle());
    assert_eq!((press(&mut app, "h"), press(&mut app, "c"), &app.popup), (None, None, &None));
}
