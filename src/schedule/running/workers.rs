//! The workers that run, as futures of what becomes of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::super::Ended;

type Worker<'a> = Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// The running workers' futures. Polled in place and not spawned: they borrow, and need not be `Send`. A handful of
/// slots does not want more than a list.
#[derive(Default)]
pub(super) struct Workers<'a> {
    running: Vec<(usize, Worker<'a>)>,
}

impl<'a> Workers<'a> {
    pub fn add(&mut self, cohort: usize, worker: impl Future<Output = Ended> + 'a) {
        self.running.push((cohort, Box::pin(worker)));
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next to end; never, if there is none.
    pub async fn next(&mut self) -> (usize, Ended) {
        poll_fn(|context| {
            for at in 0..self.running.len() {
                if let Poll::Ready(ended) = self.running[at].1.as_mut().poll(context) {
                    let (cohort, _) = self.running.remove(at);
                    return Poll::Ready((cohort, ended));
                }
            }
            Poll::Pending
        })
        .await
    }
}
