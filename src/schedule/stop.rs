//! Asking a run to stop, in two steps: in order, and now.

use tokio::sync::watch;

/// How much of a hurry there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Go,
    /// Start nothing more; what runs finishes its step and saves.
    Finish,
    /// End at once. What was not saved is trained again.
    Now,
}

/// The side that asks.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Level>);

/// The side that listens. A clone sees the same levels.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Level>);

/// Both sides, at [`Level::Go`].
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Level::Go);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// To the next level: the first call asks for order, the second for haste.
    pub fn press(&self) -> Level {
        self.0.send_modify(|level| {
            *level = match level {
                Level::Go => Level::Finish,
                Level::Finish | Level::Now => Level::Now,
            }
        });
        *self.0.borrow()
    }
}

impl Stop {
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Waits until the level rises above `seen`. For ever, if nobody is left who could raise it.
    pub async fn above(&mut self, seen: Level) -> Level {
        match self.0.wait_for(|level| *level > seen).await.map(|level| *level) {
            Ok(level) => level,
            Err(_) => std::future::pending().await,
        }
    }
}
