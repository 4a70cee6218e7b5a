//! Compiles a configuration into what runs, or into everything that is wrong with it.
//!
//! A snapshot is immutable. The rules of all modules are one set that is asked once a topic, the conditions of all modules one set
//! that reads a payload once. Modules are numbered in the order in which they run, and the number of a module is the id of its rule,
//! so that what the rules answer is already sorted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use etl_config::{
    ConfigPath, FilterKind, FilterTree, Loaded, ModuleUse, Operator, Pipeline, Problem, Report,
    Severity, Stage, Subject,
};
use etl_filter::conditions::{self, ConditionKind, ConditionSetBuilder};
use etl_filter::{Kind, Rule, RuleSet, RuleSetBuilder, TopicFilter};

use crate::breaker::Breaker;
use crate::canary::OnTrial;
use crate::program::{ModuleProgram, PipelineProgram, Plan, Program, StageProgram};
use crate::transform::Transform;

/// A compiled configuration.
pub(crate) struct Snapshot {
    pub(crate) program: Arc<Program>,
    pub(crate) rules: Arc<RuleSet>,
    /// The plan of a topic that selects nothing.
    pub(crate) nothing: Arc<Plan>,
    /// What it was compiled from.
    pub(crate) loaded: Loaded,
    /// The number of every module, by its place in the configuration: pipeline, stage, module. Disabled pipelines' modules too.
    pub(crate) places: Arc<HashMap<[usize; 3], usize>>,
}

/// A snapshot that does not have its configuration yet.
pub(crate) struct Compiled {
    program: Program,
    rules: RuleSet,
    nothing: Arc<Plan>,
    places: HashMap<[usize; 3], usize>,
    /// What only building could warn of.
    pub(crate) warnings: Vec<Problem>,
}

impl Compiled {
    pub(crate) fn with(self, mut loaded: Loaded) -> Arc<Snapshot> {
        loaded.warnings.extend(self.warnings);
        Arc::new(Snapshot {
            program: Arc::new(self.program),
            rules: Arc::new(self.rules),
            nothing: self.nothing,
            loaded,
            places: Arc::new(self.places),
        })
    }
}

impl Snapshot {
    /// The same under another number.
    pub(crate) fn renumbered(&self, generation: u64) -> Arc<Self> {
        self.changed(generation, self.loaded.clone(), |_| {})
    }

    /// The same under another number, with another declaration of modules and with modules changed that keep their place.
    pub(crate) fn changed(
        &self,
        generation: u64,
        loaded: Loaded,
        mut change: impl FnMut(&mut ModuleProgram),
    ) -> Arc<Self> {
        let mut program = Program::clone(&self.program);
        program.generation = generation;
        for pipeline in &mut program.pipelines {
            for stage in &mut pipeline.stages {
                stage.modules.iter_mut().for_each(&mut change);
            }
        }
        Arc::new(Self {
            program: Arc::new(program),
            rules: self.rules.clone(),
            nothing: self.nothing.clone(),
            loaded,
            places: self.places.clone(),
        })
    }
}

/// The snapshot that is in force, as a lane reads it: one comparison where nothing has changed.
pub(crate) struct Live(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Live {
    pub(crate) fn new(current: &Arc<ArcSwap<Snapshot>>) -> Self {
        Self(Cache::new(current.clone()))
    }

    #[inline]
    pub(crate) fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}

/// A module made ready to run, as [`Build::transform`] finds it.
pub(crate) struct Built {
    pub(crate) transform: Arc<dyn Transform>,
    /// The digest of the module's bytes in hexadecimal.
    pub(crate) sha256: Option<Arc<str>>,
    /// A new version of the module that is on trial; then `transform` calls either.
    pub(crate) on_trial: Option<OnTrial>,
}

/// What is wrong with a module, at the place in the configuration that is to blame.
pub(crate) struct BadModule {
    pub(crate) path: ConfigPath,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl BadModule {
    /// It is bad, and that has been said.
    pub(crate) fn known() -> Self {
        Self {
            path: ConfigPath::root(),
            message: String::new(),
            hint: None,
        }
    }
}

/// Where a snapshot's modules come from, and what lives longer than a snapshot.
pub(crate) trait Build {
    /// The module of a use in a pipeline.
    fn transform(
        &mut self,
        loaded: &Loaded,
        pipeline: &Pipeline,
        usage: &ModuleUse,
    ) -> Result<Built, BadModule>;

    /// The circuit breaker of a use, which keeps its state as long as nothing about the use changes.
    fn breaker(
        &mut self,
        pipeline: &Pipeline,
        stage: &Stage,
        usage: &ModuleUse,
    ) -> Option<Arc<Breaker>>;

    /// What is in the configuration and has no effect: where, and why.
    fn idle_settings(&mut self) -> Vec<(ConfigPath, String)>;
}

/// Compiles the enabled pipelines, and checks the disabled ones.
pub(crate) fn compile(
    loaded: &Loaded,
    generation: u64,
    build: &mut dyn Build,
) -> Result<Compiled, Report> {
    let config = &loaded.config;
    let mut problems: Vec<Problem> = Vec::new();
    let mut rules = RuleSet::builder();
    let mut groups = ConditionSetBuilder::new();
    let mut places = HashMap::new();
    let mut uses: Vec<&ModuleUse> = Vec::new();
    let mut group_uses: Vec<&ModuleUse> = Vec::new();
    let mut blamed: HashSet<String> = HashSet::new();

    let mut order: Vec<usize> = (0..config.pipelines.len()).collect();
    order.sort_by(|&left, &right| {
        let key = |index: usize| (config.pipelines[index].order, &config.pipelines[index].id);
        key(left).cmp(&key(right))
    });
    let mut pipelines = Vec::new();
    let mut stage_count = 0;
    // Disabled pipelines come last: their modules are checked like the others, and no number is theirs afterwards.
    let (enabled, disabled): (Vec<usize>, Vec<usize>) = order
        .into_iter()
        .partition(|&index| config.pipelines[index].enabled);
    let enabled_count = enabled.len();
    for (position, pipeline_index) in enabled.into_iter().chain(disabled).enumerate() {
        let pipeline = &config.pipelines[pipeline_index];
        let runs = position < enabled_count;
        let first_module = uses.len();
        let mut order: Vec<usize> = (0..pipeline.stages.len()).collect();
        order.sort_by_key(|&index| pipeline.stages[index].priority);
        let mut stages = Vec::new();
        for stage_index in order {
            let stage = &pipeline.stages[stage_index];
            let mut modules = Vec::new();
            for (module_index, usage) in stage.modules.iter().enumerate() {
                let index = uses.len();
                uses.push(usage);
                rules.add(rule(&usage.filter));
                let conditions = (!usage.conditions.is_empty()).then(|| {
                    group_uses.push(usage);
                    groups.add(usage.conditions.iter().map(condition).collect())
                });
                match build.transform(loaded, pipeline, usage) {
                    Ok(built) => {
                        places.insert([pipeline_index, stage_index, module_index], index);
                        modules.push(ModuleProgram {
                            id: usage.module_id.as_str().into(),
                            transform: built.transform,
                            timeout: usage.instance.execution_timeout,
                            conditions,
                            breaker: if runs {
                                build.breaker(pipeline, stage, usage)
                            } else {
                                None
                            },
                            sha256: built.sha256,
                            on_trial: built.on_trial,
                            index,
                        });
                    }
                    // One bad file or budget is one problem, however many uses it has.
                    Err(bad) => {
                        let key = format!("{} {}", bad.path, bad.message);
                        if !bad.message.is_empty() && blamed.insert(key) {
                            problems.push(loaded.problem(&bad.path, bad.message, bad.hint, None));
                        }
                    }
                }
            }
            stage_count += 1;
            stages.push(StageProgram {
                index: stage_count - 1,
                priority: stage.priority,
                parallel: stage.parallel,
                timeout: stage.timeout,
                continue_on_error: stage.continue_on_error,
                merge_policy: stage.merge_policy,
                modules,
            });
        }
        if runs {
            pipelines.push(PipelineProgram {
                id: pipeline.id.as_str().into(),
                first_module,
                stages,
                timeout: pipeline.timeout,
                max_retries: pipeline.max_retries,
                strategy: pipeline.error_handling,
                dead_letter_topic: pipeline.dead_letter_topic.clone(),
            });
        }
    }

    let (denied, warnings) = build
        .idle_settings()
        .into_iter()
        .map(|(path, message)| loaded.warning(&path, message, None))
        .partition::<Vec<_>, _>(|problem| problem.severity() == Severity::Error);
    problems.extend(denied);
    let rules = build_rules(loaded, &rules, &uses, &mut problems);
    let conditions = match groups.build() {
        Ok(conditions) => Some(conditions),
        Err(error) => {
            for problem in error.problems() {
                let condition =
                    &group_uses[problem.group().index()].conditions[problem.condition()];
                let key = if problem.is_in_path() {
                    "field_path"
                } else {
                    "value"
                };
                let offset = problem.span().map(|span| span.start);
                problems.push(loaded.problem(
                    &condition.path.key(key),
                    problem.message(),
                    None,
                    offset,
                ));
            }
            None
        }
    };
    match (rules, conditions) {
        (Some(rules), Some(conditions)) if problems.is_empty() => {
            let program = Program {
                module_count: pipelines
                    .iter()
                    .flat_map(|pipeline| &pipeline.stages)
                    .map(|stage| stage.modules.len())
                    .sum(),
                pipelines,
                conditions: Arc::new(conditions),
                generation,
                max_emitted: config.engine.max_emitted_per_record,
            };
            let nothing = Arc::new(Plan::nothing(&program));
            Ok(Compiled {
                program,
                rules,
                nothing,
                places,
                warnings,
            })
        }
        _ => Err(Report::new(problems)),
    }
}

/// Builds the rule set, or blames every pattern that is wrong.
fn build_rules(
    loaded: &Loaded,
    rules: &RuleSetBuilder,
    uses: &[&ModuleUse],
    problems: &mut Vec<Problem>,
) -> Option<RuleSet> {
    let mut errors = rules.check();
    let built = match rules.build() {
        Ok(built) if errors.is_empty() => return Some(built),
        Ok(_) => None,
        Err(error) => {
            // What only the whole can be over is not found by checking rules one by one.
            if errors.is_empty() {
                errors.push(error);
            }
            None
        }
    };
    for error in errors {
        let Some(usage) = uses.get(error.rule().index()) else {
            continue;
        };
        let filter = error
            .filter_index()
            .and_then(|index| usage.filter.leaves().nth(index));
        let (path, offset) = match filter {
            Some(filter) => (filter.path.key("pattern"), error.position()),
            None => (usage.path.clone(), None),
        };
        problems.push(loaded.problem(&path, error.message(), None, offset));
    }
    built
}

fn rule(tree: &FilterTree) -> Rule {
    match tree {
        FilterTree::Every => Rule::everything(),
        FilterTree::Any(children) => Rule::any(children.iter().map(rule)),
        FilterTree::All(children) => Rule::all(children.iter().map(rule)),
        FilterTree::Not(inner) => Rule::not(rule(inner)),
        FilterTree::Leaf(filter) => {
            let kind = match filter.kind {
                FilterKind::Exact => Kind::Exact,
                FilterKind::Prefix => Kind::Prefix,
                FilterKind::Suffix => Kind::Suffix,
                FilterKind::Contains => Kind::Contains,
                FilterKind::Wildcard => Kind::Wildcard,
                FilterKind::Regex => Kind::Regex,
                FilterKind::Mqtt => Kind::Mqtt,
                FilterKind::Nats => Kind::Nats,
            };
            TopicFilter::new(kind, filter.pattern.as_str())
                .with_case_sensitive(filter.case_sensitive)
                .with_negate(filter.negate)
                .into()
        }
    }
}

pub(crate) fn condition(condition: &etl_config::Condition) -> conditions::Condition {
    let kind = match &condition.subject {
        Subject::Header(name) => ConditionKind::header(name),
        Subject::Payload(path) => ConditionKind::payload(path),
        Subject::MessageSize => ConditionKind::MessageSize,
        Subject::MessageAge => ConditionKind::MessageAge,
    };
    let operator = match condition.operator {
        Operator::Equals => conditions::Operator::Equals,
        Operator::NotEquals => conditions::Operator::NotEquals,
        Operator::GreaterThan => conditions::Operator::GreaterThan,
        Operator::LessThan => conditions::Operator::LessThan,
        Operator::GreaterThanOrEqual => conditions::Operator::GreaterThanOrEqual,
        Operator::LessThanOrEqual => conditions::Operator::LessThanOrEqual,
        Operator::Contains => conditions::Operator::Contains,
        Operator::StartsWith => conditions::Operator::StartsWith,
        Operator::EndsWith => conditions::Operator::EndsWith,
        Operator::Matches => conditions::Operator::Matches,
    };
    let value = match &condition.value {
        serde_json::Value::Bool(value) => conditions::Value::Bool(*value),
        serde_json::Value::String(value) => conditions::Value::String(value.clone()),
        serde_json::Value::Number(value) => value
            .to_string()
            .parse()
            .map_or(conditions::Value::Null, conditions::Value::Number),
        // Lists and objects do not get past the configuration's own checks.
        _ => conditions::Value::Null,
    };
    conditions::Condition {
        kind,
        operator,
        value,
        negate: condition.negate,
    }
}
