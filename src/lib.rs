//! scaffold
pub mod diagnostic;
pub mod event;
pub mod folder;
pub mod grid;
pub mod job;
pub mod plan;
pub mod report;
pub mod store;
pub mod train;
