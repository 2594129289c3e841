//! Distillery: an experiment-ablation harness for knowledge distillation.
//!
//! It reproduces, and lets others vary, the experiments of *Knowledge distillation: a good teacher is patient and
//! consistent* (Beyer et al., arXiv 2106.05237).
//!
//! # The flow
//!
//! ```text
//! experiments/*.toml                                                        reports/*.toml
//!         |                                                                        |
//!         v                                                                        v
//!       grid ---> plan ---> schedule ---> worker process: train ---events---> store ---> report ---> svg png csv md tex html
//!                               |                                    |
//!                               +--- engine: local                   +---> progress (terminal)
//! ```
//!
//! - [`grid`] reads an experiment file: a base job and the axes that vary it. Text in, jobs out.
//! - [`plan`] removes what is done, orders what depends on what, gathers jobs into cohorts, and prices them.
//! - [`schedule`] places cohorts on slots, starts one worker process each, listens, retries, stops.
//! - [`train`] runs one cohort on one device. All of candle is here, and the engines: networks as graphs of layers
//!   ([`train::graph`], [`train::ops`]), run on the CPU image by image in a planned piece of memory ([`train::engine`]; with
//!   BatchNorm, whose images meet, from one norm to the next), on a GPU layer by layer ([`train::cuda`], with the
//!   feature `cuda`; the CPU's operations are its oracle).
//! - [`store`] keeps jobs, attempts, epochs and events. All of sqlx is here. Schedulers write, and
//!   hold jobs by leases; whoever looks may leave wishes.
//! - [`report`] turns stored metrics into figures, tables, and verdicts on what was claimed. All of plotters is here. It only
//!   reads.
//! - [`export`] gives stored metrics to other programs: tables, TensorBoard, MLflow. It only reads, too.
//!
//! While it runs, people look and ask: [`select`] says which jobs are meant, [`alive`] who is at work, [`dashboard`] shows
//! it; what they ask is written into the store, and the scheduler acts on it.
//!
//! [`job`] and [`event`] are the contracts between them, [`folder`] says where files lie, [`diagnostic`] how a text at
//! fault is shown, [`words`] how numbers are said, [`digest`] how content is named, [`disk`] what room is left, [`source`]
//! where a data set lies, [`known`] what the paper's data sets are, [`card`] what a weights file holds, [`hub`] fetches
//! weights and data sets of the Hugging Face hub, [`commands`] is one file a verb and the only place that knows every module.
//!
//! # Three ideas
//!
//! 1. **The cohort.** In this paper's setting the teacher is four fifths of the arithmetic of a step, and hundreds of
//!    jobs of a grid ask the same teacher the same question. Every view is a pure function of (seed, epoch, position),
//!    so jobs with equal stream keys ([`plan::stream_key`]) share one loader and one teacher forward, and resume,
//!    replay and paired comparison are exact. A student's numbers do not depend on its company: a test says so.
//! 2. **Honest science.** Selection looks at validation, reports show test; seeds are an axis; a number in a figure is
//!    traceable to its job.
//! 3. **Nothing lost.** Kill anything at any time; the same command goes on; the result is the one an undisturbed run
//!    gives, bit for bit on the CPU.
//!
//! # Fences
//!
//! A test (`tests/it/fences.rs`) holds what the compiler cannot:
//!
//! 1. `candle` is named only under `train`, `cudarc` only under `train::cuda`, `sqlx` only under `store`, `plotters` and
//!    `resvg` only under `report`, `hf_hub` and `reqwest` only under `hub`, `ratatui` only under `dashboard`, `clap` only
//!    in `cli.rs`, `cli` and `main.rs`; `parquet` and `csv` under `train`, which reads such files, and `export`, which writes
//!    them.
//! 2. `job`, `grid`, `plan`, `select` are pure: no clock, no network, no device.
//! 3. `train` is synchronous and knows neither tokio nor the store; it speaks through a sink of events and is told
//!    by flags when to stop.
//! 4. `schedule` is generic over what runs a cohort, so its tests use a fake one under paused time.
//! 5. `report` only reads: rendering again gives the same bytes.
//! 6. Identity is content: the same resolved job has the same id on every machine. Paths, devices, intervals of
//!    evaluation and the size of a cohort are not identity.
//! 7. Experiments do not know reports; a report names an experiment.
//! 8. Every row in the store leads to the resolved text of the job that made it, and to the attempt.

pub mod alive;
pub mod card;
pub mod cli;
pub mod commands;
pub mod dashboard;
pub mod diagnostic;
pub mod digest;
pub mod disk;
pub mod event;
pub mod export;
pub mod folder;
pub mod grid;
pub mod hub;
pub mod job;
pub mod known;
pub mod plan;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod select;
pub mod source;
pub mod store;
pub mod train;
pub mod words;
