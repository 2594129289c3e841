//! scaffold
mod outcome;
pub use outcome::{Outcome, State};
