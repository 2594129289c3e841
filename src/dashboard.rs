//! `status --watch`: what runs, on a whole terminal, once a second.
//!
//! It reads the store and nothing else, so it can be opened beside any run, from another terminal, and closed again; what
//! is asked with it is written into the store as the verbs do, and whoever runs acts on it. All of ratatui is here.
//!
//! - [`snapshot`]: what is there, read at one moment. `status` prints the same.
//! - [`app`]: what keys do; knows no terminal. [`view`] draws it; a pure function of the app.
//! - [`machine`]: how busy processors and GPUs are.
//!
//! The terminal is put back when it ends, when it panics and at SIGTERM or SIGHUP.

pub mod app;
mod curves;
mod list;
pub mod machine;
mod popup;
pub mod snapshot;
mod spark;
mod table;
mod view;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::folder::Folder;
use crate::store::{Error, Location, Store};

use app::{App, Ask};
use machine::Machine;
use snapshot::Camera;

pub use view::draw;

/// Between two looks, unless looking takes more than a tenth of it.
const EVERY: Duration = Duration::from_secs(1);
/// How long a key may wait when the reader of keys is to end.
const KEYS: Duration = Duration::from_millis(200);

/// Shows a folder and its store until somebody leaves.
///
/// # Errors
/// When the store cannot be read at the start, or the terminal is none.
pub async fn watch(folder: &Folder, location: &Location, experiment: Option<String>) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(location).await?;
    let mut camera = Camera::new(folder, experiment);
    let mut app = App::new(camera.take(&store).await?);
    let mut machine = Machine::watch();
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    // This also sets a panic hook that puts the terminal back.
    let mut terminal = ratatui::try_init()?;
    let _back = PutBack;
    let mut keys = Keys::read();
    let mut next = Instant::now() + EVERY;
    loop {
        app.machine = machine.look();
        terminal.draw(|frame| draw(frame, &app))?;
        tokio::select! {
            event = keys.next() => match event {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    if let Some(asked) = press(&mut app, key, location).await? {
                        return Ok(asked);
                    }
                    // What was asked is seen at once.
                    if app.is_stale {
                        next = Instant::now();
                    }
                }
                // A new size is drawn anyway.
                Some(_) => {}
                None => return Ok(ExitCode::FAILURE),
            },
            () = sleep_until(next.into()) => {
                let begun = Instant::now();
                match camera.take(&store).await {
                    Ok(snapshot) => app.update(snapshot),
                    // Locked for a moment, or moved away: shown until it works again.
                    Err(error) => app.notice = Some(format!("cannot read the store: {error}")),
                }
                next = Instant::now() + EVERY.max(10 * begun.elapsed());
            }
            _ = terminate.recv() => return Ok(ExitCode::from(128 + 15)),
            _ = hang_up.recv() => return Ok(ExitCode::from(128 + 1)),
        }
    }
}

/// Heeds a key; with an exit code, it was the last one.
async fn press(app: &mut App, key: KeyEvent, location: &Location) -> anyhow::Result<Option<ExitCode>> {
    match app.press(key) {
        None => {}
        Some(Ask::Leave) => return Ok(Some(ExitCode::SUCCESS)),
        Some(ask) => {
            app.notice = Some(match act(&ask, location).await {
                Ok(done) => done,
                Err(error) => format!("not done: {error}"),
            });
            app.is_stale = true;
        }
    }
    Ok(None)
}

/// Writes what was asked into the store; says what came of it.
async fn act(ask: &Ask, location: &Location) -> Result<String, Error> {
    let store = Store::open_to_ask(location).await?;
    let said = match ask {
        Ask::Leave => String::new(),
        Ask::Schedulers(wish) => match store.ask_schedulers(*wish).await? {
            0 => "no scheduler reads wishes here; press Ctrl-C where it runs".to_owned(),
            1 => format!("asked the scheduler to {}", wish.name()),
            several => format!("asked {several} schedulers to {}", wish.name()),
        },
        Ask::Wish { jobs, wish } => {
            let changed = store.wish(jobs, Some(*wish)).await?.len();
            format!("{} {}", crate::progress::jobs(changed), if wish.name() == "hold" { "held" } else { "cancelled" })
        }
        Ask::Release { jobs } => {
            let retried = store.retry(jobs).await?;
            let released = store.wish(jobs, None).await?;
            let changed = released.iter().filter(|job| !retried.contains(job)).count() + retried.len();
            format!("{} may start", crate::progress::jobs(changed))
        }
    };
    store.close().await?;
    Ok(said)
}

/// Puts the terminal back.
struct PutBack;

impl Drop for PutBack {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// A thread that reads keys: the terminal knows no other way that works everywhere.
struct Keys {
    events: mpsc::UnboundedReceiver<Event>,
    is_over: Arc<AtomicBool>,
}

impl Keys {
    fn read() -> Keys {
        let (sender, events) = mpsc::unbounded_channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let one =
                || -> io::Result<Option<Event>> { if event::poll(KEYS)? { event::read().map(Some) } else { Ok(None) } };
            while !over.load(Ordering::Relaxed) {
                // Whoever listened is gone, or the terminal is.
                let goes_on = match one() {
                    Ok(Some(event)) => sender.send(event).is_ok(),
                    Ok(None) => true,
                    Err(_) => false,
                };
                if !goes_on {
                    return;
                }
            }
        });
        Keys { events, is_over }
    }

    /// None when the terminal is gone.
    async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
