//! One binary that mirrors `src`.

mod progress;
mod schedule;
mod store;
