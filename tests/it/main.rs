//! One binary that mirrors `src`.

mod artefacts;
mod chaos;
mod cli;
#[cfg(target_os = "linux")]
mod cluster;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda;
mod dashboard;
mod data;
mod evaluate;
mod export;
mod fences;
mod grid;
mod hub;
#[cfg(target_os = "linux")]
mod kill;
mod losses;
mod optimizers;
mod page;
mod parity;
mod pool;
mod postgres;
mod progress;
mod readme;
mod report;
mod results;
mod schedule;
mod sharing;
mod slurm;
mod small;
mod start;
mod store;
mod train;
mod verbs;
mod views;
#[cfg(target_os = "linux")]
mod worker;
