//! Where a convoy is: pipeline, stage and planned modules, and how much time a call has there.

use super::*;

/// The nearest of the timeouts that hold for a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Module,
    Stage,
    Pipeline,
}

/// Where a convoy is.
pub(super) struct Place<'a> {
    pub(super) program: &'a Program,
    pub(super) plan: &'a Plan,
    /// The pipeline's place in the program.
    pub(super) index: usize,
    pub(super) pipeline: &'a PipelineProgram,
    pub(super) stage: &'a StageProgram,
    /// The planned modules.
    pub(super) modules: &'a [usize],
    pub(super) keeps_input: bool,
}

impl<'a> Place<'a> {
    pub(super) fn module(&self, place: usize) -> &'a ModuleProgram {
        &self.stage.modules[self.modules[place]]
    }

    /// The nearest timeout of a call for a flight.
    pub(super) fn limit(&self, module: &ModuleProgram, flight: &Flight) -> (Duration, Scope) {
        self.limit_after(module, flight.in_stage, flight.in_pipeline)
    }

    /// The nearest timeout of a call for a flight that has spent so much. Of equal ones the innermost.
    pub(super) fn limit_after(
        &self,
        module: &ModuleProgram,
        in_stage: Duration,
        in_pipeline: Duration,
    ) -> (Duration, Scope) {
        let mut nearest = (module.timeout, Scope::Module);
        if let Some(timeout) = self.stage.timeout {
            let left = timeout.saturating_sub(in_stage);
            if left < nearest.0 {
                nearest = (left, Scope::Stage);
            }
        }
        let left = self.pipeline.timeout.saturating_sub(in_pipeline);
        if left < nearest.0 {
            nearest = (left, Scope::Pipeline);
        }
        nearest
    }

    /// The time that the stage and the pipeline leave a flight.
    pub(super) fn left(&self, flight: &Flight) -> Duration {
        let pipeline = self.pipeline.timeout.saturating_sub(flight.in_pipeline);
        let stage = self
            .stage
            .timeout
            .map(|timeout| timeout.saturating_sub(flight.in_stage));
        stage.map_or(pipeline, |stage| stage.min(pipeline))
    }
}
