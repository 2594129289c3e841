//! One binary that mirrors `src`.

mod grid;
mod progress;
mod report;
mod schedule;
mod store;
