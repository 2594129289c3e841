//! One binary that mirrors `src`.

mod cli;
mod fences;
mod grid;
#[cfg(target_os = "linux")]
mod kill;
mod progress;
mod report;
mod schedule;
mod small;
mod store;
mod train;
mod views;
