//! scaffold
pub mod event;
pub mod folder;
pub mod job;
pub mod plan;
pub mod store;
pub mod train;
