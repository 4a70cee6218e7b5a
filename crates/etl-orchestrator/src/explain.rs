//! Why a topic selects the modules that it selects, and why not the others. For people: plain structs, slow and complete.

use etl_filter::RuleId;

use crate::snapshot::Snapshot;

/// What every pipeline makes of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicExplanation {
    /// The topic.
    pub topic: String,
    /// The configuration that was asked.
    pub generation: u64,
    /// Every pipeline in the order in which they run; disabled ones last.
    pub pipelines: Vec<PipelineExplanation>,
}

/// What one pipeline makes of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipelineExplanation {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its place among the pipelines is by this and then by its id.
    pub order: i32,
    /// Whether it runs at all.
    pub enabled: bool,
    /// Whether any of its modules is selected.
    pub selected: bool,
    /// Its stages in the order in which they run.
    pub stages: Vec<StageExplanation>,
}

/// What one stage makes of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageExplanation {
    /// Its priority.
    pub priority: u32,
    /// Whether every module sees the stage's input.
    pub parallel: bool,
    /// Its modules in file order.
    pub modules: Vec<ModuleExplanation>,
}

/// What one module makes of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleExplanation {
    /// Its id.
    pub id: String,
    /// Whether the topic selects it. Its conditions then decide record by record.
    pub selected: bool,
    /// What selected it, or the first reason why not.
    pub reason: String,
    /// The conditions that a record must meet, as they would be written.
    pub conditions: Vec<String>,
}

pub(crate) fn explain(snapshot: &Snapshot, topic: &str) -> TopicExplanation {
    let config = &snapshot.loaded.config;
    let mut order: Vec<usize> = (0..config.pipelines.len()).collect();
    order.sort_by(|&left, &right| {
        let key = |index: usize| {
            let pipeline = &config.pipelines[index];
            (!pipeline.enabled, pipeline.order, &pipeline.id)
        };
        key(left).cmp(&key(right))
    });
    let pipelines = order.into_iter().map(|pipeline_index| {
        let pipeline = &config.pipelines[pipeline_index];
        let mut order: Vec<usize> = (0..pipeline.stages.len()).collect();
        order.sort_by_key(|&index| pipeline.stages[index].priority);
        let stages: Vec<StageExplanation> = order
            .into_iter()
            .map(|stage_index| {
                let stage = &pipeline.stages[stage_index];
                let modules = stage
                    .modules
                    .iter()
                    .enumerate()
                    .map(|(module_index, usage)| {
                        let rule =
                            snapshot
                                .places
                                .get(&[pipeline_index, stage_index, module_index]);
                        let (matched, reason) = rule.map_or((false, String::new()), |rule| {
                            because(snapshot, *rule, topic)
                        });
                        let conditions = usage
                            .conditions
                            .iter()
                            .map(|condition| crate::snapshot::condition(condition).to_string());
                        ModuleExplanation {
                            id: usage.module_id.clone(),
                            selected: matched && pipeline.enabled,
                            reason: if pipeline.enabled {
                                reason
                            } else {
                                "the pipeline is disabled".to_owned()
                            },
                            conditions: conditions.collect(),
                        }
                    });
                StageExplanation {
                    priority: stage.priority,
                    parallel: stage.parallel,
                    modules: modules.collect(),
                }
            })
            .collect();
        PipelineExplanation {
            id: pipeline.id.clone(),
            name: pipeline.name.clone(),
            order: pipeline.order,
            enabled: pipeline.enabled,
            selected: stages
                .iter()
                .flat_map(|stage| &stage.modules)
                .any(|module| module.selected),
            stages,
        }
    });
    TopicExplanation {
        topic: topic.to_owned(),
        generation: snapshot.program.generation,
        pipelines: pipelines.collect(),
    }
}

/// Whether a rule matches, and the first finding that says why.
fn because(snapshot: &Snapshot, rule: usize, topic: &str) -> (bool, String) {
    let id = RuleId::new(u32::try_from(rule).unwrap_or(u32::MAX));
    match snapshot.rules.explain_rule(id, topic) {
        Some(explanation) => {
            let reason = explanation.because().first().map_or_else(
                || {
                    if explanation.matched() {
                        "every topic".to_owned()
                    } else {
                        "no topic".to_owned()
                    }
                },
                ToString::to_string,
            );
            (explanation.matched(), reason)
        }
        None => (false, String::new()),
    }
}
