//! Ending jobs early that do badly, where that is wanted ([`Halvings`](crate::plan::Halvings)). It is written down with
//! the reason, like a person's wish; such a job has no last epoch, so no figure takes it for one that was trained to its end.

use super::super::board::Place;
use super::super::stop::Level;
use super::super::{Engine, Error, Notice};
use super::{PATIENCE, Run, patiently};
use crate::event::{Epoch, Which};
use crate::job::JobId;
use crate::plan::Halved;

impl<E: Engine, O: FnMut(&Notice)> Run<'_, E, O> {
    /// Takes in what earlier runs measured.
    pub(super) async fn recall(&mut self) -> Result<(), Error> {
        let Some(halving) = &self.halving else { return Ok(()) };
        let measured = {
            let epochs = halving.epochs().to_vec();
            patiently!(self, self.store.validation_after(&epochs))
        };
        for (job, epoch, top1) in measured {
            let ended = self.halving.as_mut().map(|halving| halving.measured(&job, epoch, top1)).unwrap_or_default();
            self.halve(ended).await?;
        }
        Ok(())
    }

    pub(super) async fn measured(&mut self, job: &JobId, row: &Epoch) -> Result<(), Error> {
        let Some(halving) = &mut self.halving else { return Ok(()) };
        let validation = row.evaluations.iter().find(|evaluation| evaluation.split == Which::Validation);
        let ended = validation.map(|evaluation| halving.measured(job, row.epoch, evaluation.top1)).unwrap_or_default();
        self.halve(ended).await
    }

    /// A job failed: nobody waits for its numbers.
    pub(super) async fn not_measured(&mut self, job: &JobId) -> Result<(), Error> {
        let ended = self.halving.as_mut().map(|halving| halving.failed(job)).unwrap_or_default();
        self.halve(ended).await
    }

    async fn halve(&mut self, ended: Vec<Halved>) -> Result<(), Error> {
        for Halved { job, epoch, rank, of } in ended {
            // What is done is done, and as good as any.
            if self.board.place(&job).is_none_or(|place| place == Place::Done) {
                continue;
            }
            let why =
                format!("ended early by successive halving: {rank} of {of} on validation images after {epoch} epochs");
            if patiently!(self, self.store.halve(&job, &why)) {
                self.note(format!("job {job} {why}"));
            }
            match self.board.place(&job) {
                Some(Place::Running) => self.ask_to_leave(&job),
                Some(_) => self.board.put(&job, Place::Unwanted),
                None => {}
            }
        }
        Ok(())
    }
}
