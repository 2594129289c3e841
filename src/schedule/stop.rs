//! Asking a run to stop, in steps: start nothing more, end in order, end now.

use tokio::sync::watch;

/// How much of a hurry there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Go,
    /// Start nothing more; what runs goes on to its end.
    Drain,
    /// What runs finishes its step and saves.
    Finish,
    /// End at once. What was not saved is trained again.
    Now,
}

/// The side that asks.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Level>);

/// The side that listens. A clone sees the same levels.
#[derive(Clone, Debug)]
pub struct Stop {
    level: watch::Receiver<Level>,
    /// For those that find a reason themselves.
    raise: watch::Sender<Level>,
}

/// Both sides, at [`Level::Go`].
pub fn stop() -> (Stopper, Stop) {
    let (sender, level) = watch::channel(Level::Go);
    (Stopper(sender.clone()), Stop { level, raise: sender })
}

impl Stopper {
    /// To the next level: the first call asks for order, the second for haste.
    pub fn press(&self) -> Level {
        self.0.send_modify(|level| {
            *level = match level {
                Level::Go | Level::Drain => Level::Finish,
                Level::Finish | Level::Now => Level::Now,
            }
        });
        *self.0.borrow()
    }

    /// To a level, if it is above the present one: asking again asks for nothing more.
    pub fn raise(&self, to: Level) {
        raise(&self.0, to);
    }
}

impl Stop {
    pub fn level(&self) -> Level {
        *self.level.borrow()
    }

    /// As [`Stopper::raise`].
    pub fn raise(&self, to: Level) {
        raise(&self.raise, to);
    }

    /// Waits until the level rises above `seen`. For ever, if nobody is left who could raise it.
    pub async fn above(&mut self, seen: Level) -> Level {
        match self.level.wait_for(|level| *level > seen).await.map(|level| *level) {
            Ok(level) => level,
            Err(_) => std::future::pending().await,
        }
    }
}

fn raise(sender: &watch::Sender<Level>, to: Level) {
    sender.send_if_modified(|level| {
        let higher = to > *level;
        *level = (*level).max(to);
        higher
    });
}
