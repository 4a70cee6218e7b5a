//! A configuration, compiled to what runs: pipelines, stages and modules with their handles, and nothing that has to be looked up.

use std::sync::Arc;
use std::time::Duration;

use etl_config::{ErrorHandling, MergePolicy, TopicTemplate};
use etl_filter::conditions::{ConditionSet, GroupId, Selection};

use crate::breaker::Breaker;
use crate::canary::OnTrial;
use crate::transform::Transform;

/// Every enabled pipeline in the order in which they run.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) pipelines: Vec<PipelineProgram>,
    pub(crate) conditions: Arc<ConditionSet>,
    pub(crate) generation: u64,
    /// How many modules there are.
    pub(crate) module_count: usize,
    /// Records that one input may cause, over all modules.
    pub(crate) max_emitted: u32,
}

#[derive(Clone)]
pub(crate) struct PipelineProgram {
    pub(crate) id: Arc<str>,
    /// The [`ModuleProgram::index`] of its first module.
    pub(crate) first_module: usize,
    /// By priority, ties in file order.
    pub(crate) stages: Vec<StageProgram>,
    pub(crate) timeout: Duration,
    pub(crate) max_retries: u32,
    pub(crate) strategy: ErrorHandling,
    pub(crate) dead_letter_topic: TopicTemplate,
}

#[derive(Clone)]
pub(crate) struct StageProgram {
    /// Its number among all stages, in the order in which they run: its counters.
    pub(crate) index: usize,
    pub(crate) priority: u32,
    pub(crate) parallel: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) continue_on_error: bool,
    pub(crate) merge_policy: MergePolicy,
    pub(crate) modules: Vec<ModuleProgram>,
}

#[derive(Clone)]
pub(crate) struct ModuleProgram {
    pub(crate) id: Arc<str>,
    pub(crate) transform: Arc<dyn Transform>,
    pub(crate) timeout: Duration,
    /// `None`: always.
    pub(crate) conditions: Option<GroupId>,
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// The module's digest in hexadecimal, where it is a file.
    pub(crate) sha256: Option<Arc<str>>,
    /// A new version of it that is on trial; then `transform` calls either.
    pub(crate) on_trial: Option<OnTrial>,
    /// Its number among all modules, in the order in which they run: its rule, and its counters.
    pub(crate) index: usize,
}

/// What a topic selects: places in a [`Program`], in the order in which they run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) pipelines: Box<[PlannedPipeline]>,
    /// The conditions of its modules, whose fields are read together.
    pub(crate) conditions: Selection,
    pub(crate) has_conditions: bool,
    /// Whether records that came in different batches may go through it together: not where a module is set to meet one batch at a time, nor past a
    /// circuit breaker, whose probes are counted in records.
    pub(crate) joins: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlannedPipeline {
    pub(crate) index: usize,
    pub(crate) stages: Box<[PlannedStage]>,
    /// Whether a failure may come after a change, so that the input has to be kept to go back to.
    pub(crate) keeps_input: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlannedStage {
    pub(crate) index: usize,
    /// Places in the stage's modules.
    pub(crate) modules: Box<[usize]>,
}

impl Program {
    /// A program without pipelines.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        let conditions = etl_filter::conditions::ConditionSetBuilder::new()
            .build()
            .expect("no conditions");
        Self {
            pipelines: Vec::new(),
            conditions: Arc::new(conditions),
            generation: 0,
            module_count: 0,
            max_emitted: 0,
        }
    }

    /// The pipeline and the priority of every stage, in the order of [`StageProgram::index`].
    pub(crate) fn stage_keys(&self) -> impl Iterator<Item = (Arc<str>, u32)> {
        self.pipelines.iter().flat_map(|pipeline| {
            let stages = pipeline.stages.iter();
            stages.map(|stage| (pipeline.id.clone(), stage.priority))
        })
    }

    /// Every module of every pipeline, in the order in which they run.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &ModuleProgram> {
        let stages = self.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
        stages.flat_map(|stage| &stage.modules)
    }
}

impl Plan {
    /// The plan that selects nothing.
    pub(crate) fn nothing(program: &Program) -> Self {
        Self::select(program, &[])
    }

    /// The plan for the modules whose rules match, by [`ModuleProgram::index`], ascending. Modules are numbered in the order in which
    /// they run, so this is one walk along both.
    pub(crate) fn select(program: &Program, selected: &[u32]) -> Self {
        let mut groups = Vec::new();
        let mut joins = true;
        let mut pipelines = Vec::new();
        let mut rest = selected.iter().peekable();
        while let Some(&&first) = rest.peek() {
            let index = program
                .pipelines
                .partition_point(|pipeline| pipeline.first_module <= first as usize)
                - 1;
            let pipeline = &program.pipelines[index];
            let mut calls = 0;
            let mut stages = Vec::new();
            for (index, stage) in pipeline.stages.iter().enumerate() {
                let mut modules = Vec::new();
                for (place, module) in stage.modules.iter().enumerate() {
                    if rest
                        .next_if(|next| **next as usize == module.index)
                        .is_some()
                    {
                        modules.push(place);
                        groups.extend(module.conditions);
                        joins &= module.breaker.is_none() && module.transform.joins_batches();
                    }
                }
                calls += modules.len();
                if !modules.is_empty() {
                    stages.push(PlannedStage {
                        index,
                        modules: modules.into(),
                    });
                }
            }
            if calls == 0 {
                break;
            }
            pipelines.push(PlannedPipeline {
                index,
                stages: stages.into(),
                keeps_input: calls > 1,
            });
        }
        Self {
            pipelines: pipelines.into(),
            conditions: program.conditions.select(&groups),
            has_conditions: !groups.is_empty(),
            joins,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pipelines.is_empty()
    }

    /// The priority of a stage of the plan: how urgent a record is that stands before it.
    pub(crate) fn priority(&self, program: &Program, pipeline: usize, stage: usize) -> u32 {
        let planned = &self.pipelines[pipeline];
        program.pipelines[planned.index].stages[planned.stages[stage].index].priority
    }
}
