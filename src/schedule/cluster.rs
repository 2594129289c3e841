//! Cohorts as tasks of a batch system: a controller that submits and looks after them, workers that find theirs by an index.
//!
//! Slurm decides when and where; the store decides whose a job is and what came of it, and is believed before Slurm, which
//! forgets, starts things twice, and gives numbers out again. So everything here is found again by a tag of ours, and a task that
//! is started twice is told apart by the store's leases and fences.
//!
//! - **The controller** ([`control`]) holds no state: who hands out, what was submitted and how it was last seen are rows of the store
//!   (`store/submit.rs`). It writes an array down, then its files, then asks `sbatch`. It may be killed at any line of this.
//! - **A task** is `worker --manifest F --index N`: a scheduler of one cohort ([`Watch::is_task`](super::Watch)) on the node it runs
//!   on, with all that schedulers do about leases, spools, lost workers and want of memory.
//! - **Teachers first**: a cohort is submitted when the store says that what it needs is done.
//!
//! Input: a [`Plan`](crate::plan::Plan), a [`Site`](crate::plan::Site). Output: rows in the store, [`Notice`](super::Notice)s.

mod control;
mod count;
mod handover;
mod manifest;
mod resources;
mod slurm;
mod words;

pub use control::{Cluster, control};
pub use count::{Count, unwanted};
pub use handover::{Array, program, write};
pub use manifest::{Header, Line, read};
pub use slurm::{Seen, Slurm, Trouble, log};
pub use words::{explain, is_over, is_running};
