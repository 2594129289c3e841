//! A step of a cohort: its batch, and the way to have later ones made while this one is computed.

use rayon::Scope;

use super::views::{Batch, Views};

#[derive(Clone, Copy)]
pub struct Moment<'a, 's> {
    pub views: &'s Views<'s>,
    pub batch: &'a Batch,
    /// Of the run, which a stream that is replayed may have shown before.
    pub step: u64,
    /// Steps of the run's longest student.
    pub end: u64,
    /// Work in it is done by whichever of the pool's threads has nothing else to do.
    pub scope: &'a Scope<'s>,
}
