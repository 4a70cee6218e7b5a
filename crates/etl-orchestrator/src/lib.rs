//! What runs when, what happens when it fails, and how it changes while running.
//!
//! An [`Orchestrator`] takes a configuration and runs its pipelines over records, on threads of its own ([`Orchestrator::process`]) or on
//! the caller's ([`Orchestrator::lane`]). What it promises is in `docs/semantics.md`, whose examples are tests of this crate.
//!
//! How it works: a configuration is compiled once to an immutable snapshot (`snapshot`, `program`); a topic selects a plan of it
//! (`plan_cache`); a run carries one or many records through their plan (`run`), on the instances of one lane (`lane`), calling what
//! implements [`Transform`]; changes are kept beside the original record until the end (`view`, `merge`). Around that: the queue of
//! the orchestrator's own lanes (`queue`, `worker`), reloads (`orchestrator`, `modules`, `files`), and what is counted (`stats`).
//!
//! What it must never know: where records come from and go to, how a configuration was written, and which engine runs a module.
#![forbid(unsafe_code)]

mod breaker;
mod clock;
mod core;
mod delta;
mod explain;
mod failure;
mod files;
mod groups;
mod json;
mod lane;
mod merge;
mod merge_patch;
mod modules;
mod orchestrator;
mod outcome;
mod plan_cache;
mod program;
mod queue;
mod record;
mod run;
mod snapshot;
mod stats;
mod trace;
mod transform;
mod view;
mod worker;

pub use breaker::CircuitState;
pub use clock::Clock;
pub use delta::{Change, Delta, NewRecord};
pub use explain::{ModuleExplanation, PipelineExplanation, StageExplanation, TopicExplanation};
pub use failure::{FailureKind, TransformError};
pub use lane::{Deferred, Lane, LaneContext, Progress};
pub use modules::TransformFor;
pub use orchestrator::{Circuit, Options, Orchestrator, ProcessError, ProcessErrorKind, Stats};
pub use outcome::{DeadLetter, Outcome};
pub use queue::QueueStats;
pub use record::{Headers, Record};
pub use stats::{Counts, Histogram, ModuleTotals, PipelineTotals, Totals};
pub use trace::{Happened, Step};
pub use transform::{Reply, Transform};
pub use view::View;
