//! What is on the screen and what keys do. Pure: keys in, [`Ask`]s out.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::snapshot::{Cohort, Member, Snapshot};
use crate::job::JobId;
use crate::store::{SchedulerWish, Wish};

#[derive(Debug)]
pub struct App {
    pub snapshot: Snapshot,
    /// How busy the machine is, in words.
    pub machine: String,
    pub screen: Screen,
    pub popup: Option<Popup>,
    /// Said at the foot until the next key.
    pub notice: Option<String>,
    /// Something was asked that the snapshot does not show yet.
    pub is_stale: bool,
    /// Ids, so that the same stays selected when others come and go, and where they were if it goes.
    cohort: (String, usize),
    job: (String, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// All that run.
    Cohorts,
    /// Of the selected cohort.
    Jobs,
    /// Held, cancelled, failed, blocked.
    KeptBack,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Popup {
    Help,
    /// What `q` offers.
    Leave,
    /// Wants a `y`.
    Sure {
        question: String,
        ask: Ask,
    },
}

/// What is to be done about a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The dashboard alone.
    Leave,
    Schedulers(SchedulerWish),
    Wish {
        jobs: Vec<JobId>,
        wish: Wish,
    },
    /// Held, cancelled, failed and blocked ones may start.
    Release {
        jobs: Vec<JobId>,
    },
}

impl App {
    pub fn new(snapshot: Snapshot) -> App {
        let mut app = App {
            snapshot: Snapshot::default(),
            machine: String::new(),
            screen: Screen::Cohorts,
            popup: None,
            notice: None,
            is_stale: false,
            cohort: (String::new(), 0),
            job: (String::new(), 0),
        };
        app.update(snapshot);
        app
    }

    pub fn update(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.is_stale = false;
        self.settle();
    }

    pub fn press(&mut self, key: KeyEvent) -> Option<Ask> {
        self.notice = None;
        // A terminal in raw mode makes no signal of it.
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Ask::Leave);
        }
        match self.popup.take() {
            Some(popup) => self.press_in(popup, key.code),
            None => self.press_on(key.code),
        }
    }

    fn press_in(&mut self, popup: Popup, key: KeyCode) -> Option<Ask> {
        match (popup, key) {
            (Popup::Leave, KeyCode::Char('l' | 'q') | KeyCode::Enter) => return Some(Ask::Leave),
            (Popup::Leave, KeyCode::Char('d')) => self.ask_schedulers(SchedulerWish::Drain),
            (Popup::Leave, KeyCode::Char('s')) => self.ask_schedulers(SchedulerWish::Stop),
            (Popup::Leave, KeyCode::Char('c')) => {
                self.popup = Some(Popup::Sure {
                    question: "Cancel every job that runs, and stop?".to_owned(),
                    ask: Ask::Wish { jobs: self.running(), wish: Wish::Cancel },
                });
            }
            (Popup::Sure { ask, .. }, KeyCode::Char('y')) => return Some(ask),
            // A key that means nothing here leaves what is asked open; these close it.
            (_, KeyCode::Esc | KeyCode::Char('n' | 'q' | '?')) | (Popup::Help, _) => {}
            (popup, _) => self.popup = Some(popup),
        }
        None
    }

    fn ask_schedulers(&mut self, wish: SchedulerWish) {
        let question = match wish {
            SchedulerWish::Drain => "Let what runs come to its end, and start nothing more?",
            _ => "Save what runs, and end? The same command goes on later.",
        };
        self.popup = Some(Popup::Sure { question: question.to_owned(), ask: Ask::Schedulers(wish) });
    }

    fn press_on(&mut self, key: KeyCode) -> Option<Ask> {
        match key {
            KeyCode::Char('q') => self.popup = Some(Popup::Leave),
            KeyCode::Char('?') => self.popup = Some(Popup::Help),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX / 2),
            KeyCode::Enter if self.screen == Screen::Cohorts && self.cohort().is_some() => self.go(Screen::Jobs),
            KeyCode::Esc | KeyCode::Backspace => self.go(Screen::Cohorts),
            KeyCode::Tab => {
                let next = if self.screen == Screen::KeptBack { Screen::Cohorts } else { Screen::KeptBack };
                self.go(next);
            }
            KeyCode::Char('h') => return self.ask(|jobs| Ask::Wish { jobs, wish: Wish::Hold }),
            KeyCode::Char('r') => return self.ask(|jobs| Ask::Release { jobs }),
            KeyCode::Char('c') => {
                let jobs = self.chosen();
                if !jobs.is_empty() {
                    let what = match jobs.as_slice() {
                        [one] => format!("job {:.8}", one.as_str()),
                        several => format!("{} jobs", several.len()),
                    };
                    let question = format!("Cancel {what}? What was trained is saved; `retry` goes on with it.");
                    self.popup = Some(Popup::Sure { question, ask: Ask::Wish { jobs, wish: Wish::Cancel } });
                }
            }
            _ => {}
        }
        None
    }

    fn go(&mut self, screen: Screen) {
        self.screen = screen;
        self.job = (String::new(), 0);
        self.settle();
    }

    fn ask(&self, ask: impl FnOnce(Vec<JobId>) -> Ask) -> Option<Ask> {
        let jobs = self.chosen();
        (!jobs.is_empty()).then(|| ask(jobs))
    }

    /// The selected job, or those of the selected cohort.
    fn chosen(&self) -> Vec<JobId> {
        let id = |member: &Member| JobId::from_stored(member.id.clone());
        match self.screen {
            Screen::Cohorts => self.cohort().map_or(Vec::new(), |cohort| cohort.members.iter().map(id).collect()),
            Screen::Jobs | Screen::KeptBack => self.jobs().get(self.job.1).map(id).into_iter().collect(),
        }
    }

    fn running(&self) -> Vec<JobId> {
        let members = self.snapshot.cohorts.iter().flat_map(|cohort| &cohort.members);
        members.map(|member| JobId::from_stored(member.id.clone())).collect()
    }

    pub fn cohort(&self) -> Option<&Cohort> {
        self.snapshot.cohorts.get(self.cohort.1)
    }

    /// The jobs that are listed.
    pub fn jobs(&self) -> &[Member] {
        match self.screen {
            Screen::KeptBack => &self.snapshot.kept_back,
            Screen::Cohorts | Screen::Jobs => self.cohort().map_or(&[], |cohort| &cohort.members),
        }
    }

    /// The place of the selected line.
    pub fn selected(&self) -> usize {
        if self.screen == Screen::Cohorts { self.cohort.1 } else { self.job.1 }
    }

    fn step(&mut self, by: isize) {
        let count = if self.screen == Screen::Cohorts { self.snapshot.cohorts.len() } else { self.jobs().len() };
        let place = self.selected().saturating_add_signed(by).min(count.saturating_sub(1));
        if self.screen == Screen::Cohorts {
            self.cohort = (self.snapshot.cohorts.get(place).map(|one| one.id.clone()).unwrap_or_default(), place);
        } else {
            self.job = (self.jobs().get(place).map(|one| one.id.clone()).unwrap_or_default(), place);
        }
    }

    /// Finds the selected ones in a new snapshot. The cohort whose jobs are shown may be over.
    fn settle(&mut self) {
        let cohorts = &self.snapshot.cohorts;
        let there = cohorts.iter().position(|one| one.id == self.cohort.0);
        if there.is_none() && self.screen == Screen::Jobs {
            self.screen = Screen::Cohorts;
            self.notice = Some(format!("cohort {:.8} has ended", self.cohort.0));
        }
        let place = there.unwrap_or(self.cohort.1.min(cohorts.len().saturating_sub(1)));
        self.cohort = (cohorts.get(place).map(|one| one.id.clone()).unwrap_or_default(), place);
        let jobs = self.jobs();
        let there = jobs.iter().position(|one| one.id == self.job.0);
        let place = there.unwrap_or(self.job.1.min(jobs.len().saturating_sub(1)));
        self.job = (jobs.get(place).map(|one| one.id.clone()).unwrap_or_default(), place);
    }
}
