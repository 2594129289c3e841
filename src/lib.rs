//! scaffold
pub mod event;
pub mod folder;
pub mod job;
pub mod plan;
pub mod progress;
pub mod schedule;
pub mod store;
