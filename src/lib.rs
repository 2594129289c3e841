//! scaffold
pub mod event;
pub mod folder;
pub mod job;
pub mod plan;
pub mod report;
pub mod store;
