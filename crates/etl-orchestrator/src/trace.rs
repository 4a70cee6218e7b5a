//! The way that one record took, step by step, with how it looked before and after each.

use std::sync::Arc;
use std::time::Duration;

use crate::failure::TransformError;
use crate::program::{ModuleProgram, PipelineProgram, StageProgram};
use crate::record::Record;
use crate::view::View;

/// One step of a traced record.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The priority of the stage.
    pub priority: u32,
    /// The module.
    pub module: Arc<str>,
    /// What it did.
    pub happened: Happened,
    /// The record as the module saw it.
    pub before: Arc<Record>,
    /// The record after it: the same `Arc` where nothing changed. In a parallel stage changes show in the [`Happened::Merged`]
    /// step that ends the stage.
    pub after: Arc<Record>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happened {
    /// The module was not called: the first of its conditions that did not hold, and what it found.
    NotSelected(String),
    /// The module left the record as it was.
    Kept,
    /// The module changed the record or emitted others.
    Changed,
    /// The module dropped the record.
    Dropped,
    /// The module failed and is called again after this wait.
    Retried {
        /// Why.
        error: TransformError,
        /// How long.
        wait: Duration,
    },
    /// The module failed for good, and the pipeline's strategy was applied.
    Failed(TransformError),
    /// The changes of the parallel modules became one.
    Merged,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
}

impl Trace {
    pub(crate) fn step(
        &mut self,
        pipeline: &PipelineProgram,
        stage: &StageProgram,
        module: &ModuleProgram,
        after: &View,
        before: Option<View>,
        happened: Happened,
    ) {
        let changed = before.filter(|before| before != after);
        let after = after.to_record();
        let before = changed.map_or_else(|| after.clone(), View::into_record);
        self.steps.push(Step {
            pipeline: pipeline.id.clone(),
            priority: stage.priority,
            module: module.id.clone(),
            happened,
            before,
            after,
        });
    }
}
