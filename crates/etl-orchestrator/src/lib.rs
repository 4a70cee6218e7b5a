//! What runs when, what happens when it fails, and how it changes while running.
//!
//! An [`Orchestrator`] takes a configuration and runs its pipelines over records, on threads of its own ([`Orchestrator::process`]) or on
//! the caller's ([`Orchestrator::lane`]). What it promises is in `docs/semantics.md`, whose examples are tests of this crate.
//!
//! How it works: a configuration is compiled once to an immutable snapshot (`snapshot`, `program`); a topic selects a plan of it
//! (`plan_cache`); a run carries one or many records through their plan (`run`), on the instances of one lane (`lane`), calling what
//! implements [`Transform`]; changes are kept beside the original record until the end (`view`, `apply`, `merge`). Around that: the queue of
//! the orchestrator's own lanes (`queue`, `worker`), reloads (`orchestrator`, `modules`, `files`), and what is counted (`stats`, `metrics`, `health`).
//!
//! What it must never know: where records come from and go to, how a configuration was written, and which engine runs a module.
#![forbid(unsafe_code)]

mod alerts;
mod apply;
mod breaker;
mod canary;
mod clock;
mod core;
mod delta;
mod explain;
mod failure;
mod files;
mod groups;
mod header_edits;
mod health;
mod histogram;
mod instances;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod job;
mod json;
mod lane;
mod merge;
mod merge_patch;
mod metrics;
mod modules;
mod orchestrator;
mod outcome;
mod plan_cache;
mod program;
mod queue;
mod record;
mod run;
pub mod signature;
mod snapshot;
mod stats;
mod sync;
mod trace;
mod transform;
mod view;
mod worker;

pub use alerts::{Alert, Severity, alerts};
pub use breaker::CircuitState;
pub use canary::{CanaryStatus, Handled};
pub use clock::Clock;
pub use delta::{Change, Delta, NewRecord};
pub use explain::{ModuleExplanation, PipelineExplanation, StageExplanation, TopicExplanation};
pub use failure::{FailureKind, TransformError};
pub use health::{Health, Reason};
pub use histogram::Histogram;
pub use instances::{InstanceTotals, Instances};
pub use lane::{Deferred, Lane, LaneContext, Progress};
pub use metrics::{METRICS, Metric, MetricKind};
pub use modules::TransformFor;
pub use orchestrator::{
    ChangeError, ChangeErrorKind, ChangeOptions, Changed, Circuit, Difference, Generation,
    ModuleEntry, Options, Orchestrator, PipelineEntry, ProcessError, ProcessErrorKind, Stats,
};
pub use outcome::{DeadLetter, Outcome};
pub use queue::QueueStats;
pub use record::{Headers, Record};
pub use stats::{Counts, ModuleTotals, PipelineTotals, StageTotals, Totals};
pub use trace::{Happened, Step};
pub use transform::{Reply, Transform};
pub use view::View;
