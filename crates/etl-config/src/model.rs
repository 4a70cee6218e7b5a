//! What runs: the validated configuration, with every default filled in and every unit made a type.
//!
//! Nothing here knows how it was written. There is no serde on these types, no optional that means "default", and no value out of
//! bounds: whoever holds a [`Config`] may obey it without looking again. The documents that users write are described in
//! `document.rs`, and change at their own pace.
//!
//! Parts that can turn out wrong only when they are built (patterns, module files, budgets) carry their [`ConfigPath`], so that
//! [`Loaded::problem`](crate::Loaded::problem) can say where in the files they stand.

use std::path::PathBuf;
use std::time::Duration;

use crate::custom_config::CustomConfig;
use crate::path::ConfigPath;
use crate::secret::SecretSettings;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// How the engine schedules and bounds its work.
    pub engine: Engine,
    /// Budgets for module instances.
    pub instance_pool: InstancePool,
    /// Where failed records go.
    pub dead_letter: DeadLetter,
    /// Which modules may be loaded.
    pub security: Security,
    /// Where secrets are.
    pub secrets: SecretSettings,
    /// Where a module is looked for that declares no path of its own. Already resolved against the file that names it.
    pub modules_dir: PathBuf,
    /// Every module that is declared or used, each once: the declared ones in file order, then those that pipelines name without
    /// declaring, in the order of their first use.
    pub modules: Vec<ModuleDeclaration>,
    /// The pipelines in file order, disabled ones included. Execution order is by (`order`, `id`).
    pub pipelines: Vec<Pipeline>,
}

/// Scheduling and back-pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// Threads that run pipelines. `None`: one per core that the process may use.
    pub lanes: Option<u32>,
    /// Records in flight at once, over all lanes; more wait.
    pub max_in_flight_records: u64,
    /// Bytes of records in flight at once, over all lanes; more wait.
    pub max_in_flight_bytes: u64,
    /// Extra records that one input record may cause, over all modules together.
    pub max_emitted_per_record: u32,
    /// How long a record waits in the queue until it counts as one priority more urgent than it is, so that none starves.
    pub ageing: Duration,
}

/// Budgets for instances, over all modules and lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstancePool {
    /// Instances alive at once.
    pub max_pool_size: u32,
    /// Instances of each module that each lane makes ready before a configuration serves.
    pub warmup_instances: u32,
    /// An instance that has been idle for so long is dropped.
    pub idle_timeout: Duration,
    /// Instances created a second; requests over it wait, within their timeout.
    pub creation_rate_limit: u32,
    /// Linear memory of all instances together.
    pub max_total_memory_bytes: u64,
    /// Where compiled modules are kept between runs. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Bytes that the files there may have together.
    pub cache_max_bytes: u64,
}

/// Where failed records go, unless their pipeline says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The topic, as a template of the topic that the record arrived on.
    pub topic: TopicTemplate,
}

/// Which modules may be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// The ed25519 public keys of which one must have signed a module. `None`: signatures are not looked at.
    pub trusted_keys: Option<Vec<[u8; 32]>>,
}

/// A topic in which `{topic}` stands for the topic that a record arrived on.
///
/// ```
/// use etl_config::TopicTemplate;
/// let template: TopicTemplate = "{topic}.dlq".parse()?;
/// assert_eq!(template.render("iot.sensors"), "iot.sensors.dlq");
/// # Ok::<(), etl_config::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    /// What stands between the places for the topic: one more than there are places.
    pub(crate) literals: Vec<String>,
}

/// One module that pipelines may use.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModuleDeclaration {
    /// The name by which pipelines use it.
    pub id: String,
    /// The WASM file. Already resolved against the file that names it.
    pub file: PathBuf,
    /// The file must have this SHA-256, where one is given.
    pub sha256: Option<[u8; 32]>,
    /// A new version of it that is on trial.
    pub canary: Option<Canary>,
    /// Its entry under `modules`, or the first use where it is not declared.
    pub path: ConfigPath,
}

/// A new version of a module, on trial beside the present one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Canary {
    /// The WASM file of the new version. Already resolved against the file that names it.
    pub file: PathBuf,
    /// The file must have this SHA-256, where one is given.
    pub sha256: Option<[u8; 32]>,
    /// Whether what it answers counts.
    pub mode: CanaryMode,
    /// The part of the records that it sees, in hundredths.
    pub percent: u32,
    /// It is rolled back when the part of its calls that fail exceeds that of the present version by more than this.
    pub max_error_increase: f64,
    /// Before it has been called for so many records nothing is judged.
    pub min_samples: u32,
    /// Where it stands.
    pub path: ConfigPath,
}

/// Whether what a [`Canary`] answers counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CanaryMode {
    /// Its records are handled by it and not by the present version.
    #[default]
    Canary,
    /// Its records are handled by the present version; it is shown them too, and what it answers is compared and thrown away.
    Shadow,
}

/// A chain of stages that applies to the topics that its modules' filters select.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pipeline {
    /// Unique in the configuration; a file name and a metric label.
    pub id: String,
    /// For people. The id where none is given.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// A disabled pipeline is checked but does not run.
    pub enabled: bool,
    /// Pipelines that apply to a record run by (`order`, `id`), lower first.
    pub order: i32,
    /// In file order. They run by priority, lower first; ties in file order.
    pub stages: Vec<Stage>,
    /// For one record's way through the whole pipeline, waiting for retries included.
    pub timeout: Duration,
    /// Further attempts of one module call under [`ErrorHandling::RetryWithBackoff`].
    pub max_retries: u32,
    /// What a failed module call does.
    pub error_handling: ErrorHandling,
    /// Where its dead letters go: its own template, or that of [`DeadLetter`].
    pub dead_letter_topic: TopicTemplate,
    /// Linear memory of all instances that serve this pipeline together. `None`: only the pool's budget holds.
    pub memory_budget_bytes: Option<u64>,
    /// Where it stands.
    pub path: ConfigPath,
}

impl Pipeline {
    /// The same without where it stands, to be compared with another one.
    #[must_use]
    pub fn without_paths(&self) -> Self {
        let mut pipeline = self.clone();
        pipeline.path = ConfigPath::root();
        for stage in &mut pipeline.stages {
            stage.path = ConfigPath::root();
            for usage in &mut stage.modules {
                usage.path = ConfigPath::root();
                usage.filter.forget_paths();
                for condition in &mut usage.conditions {
                    condition.path = ConfigPath::root();
                }
            }
        }
        pipeline
    }
}

impl FilterTree {
    fn forget_paths(&mut self) {
        match self {
            Self::Every => {}
            Self::Any(children) | Self::All(children) => {
                children.iter_mut().for_each(Self::forget_paths);
            }
            Self::Not(inner) => inner.forget_paths(),
            Self::Leaf(filter) => filter.path = ConfigPath::root(),
        }
    }
}

/// Modules of one priority.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stage {
    /// Lower runs first.
    pub priority: u32,
    /// Every module sees the stage's input, and their changes merge; otherwise each sees what the one before it left.
    pub parallel: bool,
    /// For one record's way through the stage. `None`: only the pipeline's timeout holds.
    pub timeout: Option<Duration>,
    /// A failed module is skipped, whatever else the pipeline's [`ErrorHandling`] does.
    pub continue_on_error: bool,
    /// What happens where parallel modules write the same thing differently.
    pub merge_policy: MergePolicy,
    /// In file order.
    pub modules: Vec<ModuleUse>,
    /// Where it stands.
    pub path: ConfigPath,
}

/// One module in one stage, with what selects it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModuleUse {
    /// A [`ModuleDeclaration::id`]; one such is always in [`Config::modules`].
    pub module_id: String,
    /// Which topics select it.
    pub filter: FilterTree,
    /// All of them must hold for the record as it then is.
    pub conditions: Vec<Condition>,
    /// Limits and settings of its instances.
    pub instance: InstanceConfig,
    /// What a record may see of the ones before it.
    pub isolation: Isolation,
    /// When to stop calling a module that keeps failing. `None`: never.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Where it stands.
    pub path: ConfigPath,
}

/// Which topics select a module: filters under any, all and not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterTree {
    /// Every topic: nothing was asked.
    Every,
    /// At least one of them matches. Never empty.
    Any(Vec<FilterTree>),
    /// All of them match. Never empty.
    All(Vec<FilterTree>),
    /// It does not match.
    Not(Box<FilterTree>),
    /// One filter.
    Leaf(TopicFilter),
}

/// One pattern over topics. The pattern is text here; whoever builds the matcher compiles it, and reports what is wrong with it by
/// `path.key("pattern")`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFilter {
    /// The language of the pattern.
    pub kind: FilterKind,
    /// At most [`MAX_PATTERN_BYTES`](crate::MAX_PATTERN_BYTES) bytes.
    pub pattern: String,
    /// Otherwise Unicode simple case folding, on both sides.
    pub case_sensitive: bool,
    /// Inverts this one filter.
    pub negate: bool,
    /// Where it stands.
    pub path: ConfigPath,
}

/// The language of a [`TopicFilter`]'s pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FilterKind {
    /// The whole topic.
    #[default]
    Exact,
    /// The beginning of the topic.
    Prefix,
    /// The end of the topic.
    Suffix,
    /// Anywhere in the topic.
    Contains,
    /// `*` is any run, `?` one character; both cross dots.
    Wildcard,
    /// A regular expression, found anywhere unless anchored.
    Regex,
    /// MQTT levels: `+` is one, `#` the rest.
    Mqtt,
    /// NATS tokens: `*` is one, `>` one or more.
    Nats,
}

/// One test of a record.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// How it is compared.
    pub operator: Operator,
    /// With what: a string, number, boolean or null, of a type that the operator and the subject can meet.
    pub value: serde_json::Value,
    /// Inverts the test.
    pub negate: bool,
    /// Where it stands.
    pub path: ConfigPath,
}

/// What a [`Condition`] looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The first header of this name.
    Header(String),
    /// What this JSONPath finds in a JSON value. Text here; whoever builds the conditions compiles it, and reports what is wrong
    /// with it by `path.key("field_path")`.
    Payload(String),
    /// Bytes of the record's value.
    MessageSize,
    /// Milliseconds since the record's timestamp.
    MessageAge,
}

/// How a [`Condition`] compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the operators")]
pub enum Operator {
    #[default]
    Equals,
    NotEquals,
    GreaterThan,
    LessThan,
    GreaterThanOrEqual,
    LessThanOrEqual,
    Contains,
    StartsWith,
    EndsWith,
    /// A regular expression; the condition's value is its text, of at most [`MAX_PATTERN_BYTES`](crate::MAX_PATTERN_BYTES) bytes.
    Matches,
}

/// Limits and settings of a module's instances.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InstanceConfig {
    /// Linear memory that one instance may have.
    pub memory_limit_bytes: u64,
    /// For one call of one record.
    pub execution_timeout: Duration,
    /// Instances of this module with this configuration alive at once, over all lanes. [`InstancePool::max_pool_size`] where
    /// nothing is said.
    pub max_concurrent_instances: u32,
    /// How long a result may be reused for the same input. `None`: not at all.
    pub cache_ttl: Option<Duration>,
    /// The module's own settings, which it is given as JSON. An empty object where there are none.
    pub custom_config: CustomConfig,
}

/// When to stop calling a module that keeps failing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitBreaker {
    /// The part of the calls in the window, above 0 and at most 1, that must have failed for the circuit to open.
    pub failure_rate: f64,
    /// How far back calls count.
    pub window: Duration,
    /// Fewer calls than this in the window never open the circuit.
    pub min_calls: u32,
    /// How long it stays open before probes are let through.
    pub open: Duration,
    /// Probes that must all succeed for the circuit to close.
    pub half_open_probes: u32,
}

/// What a failed module call does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ErrorHandling {
    /// The pipeline is undone for this record; its input goes on.
    #[default]
    StopPipeline,
    /// The module is skipped.
    SkipModule,
    /// Tried again, with exponential back-off and full jitter; then as `StopPipeline`.
    RetryWithBackoff,
    /// The record leaves the flow for the dead-letter topic.
    SendToDeadLetter,
}

/// What happens where parallel modules write the same thing differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MergePolicy {
    /// The later module in file order wins, and the conflict is counted.
    #[default]
    Ordered,
    /// The stage fails.
    Strict,
}

/// What a record may see of the ones before it, in a module's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// What the module left there: instances are reused as they are.
    #[default]
    Instance,
    /// Nothing of earlier batches.
    Batch,
    /// Nothing at all.
    Record,
}

impl Config {
    /// The declaration of a module that a pipeline uses.
    #[must_use]
    pub fn module(&self, id: &str) -> Option<&ModuleDeclaration> {
        self.modules.iter().find(|module| module.id == id)
    }
}

impl FilterTree {
    /// The filters in it, from first to last.
    pub fn leaves(&self) -> impl Iterator<Item = &TopicFilter> {
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Self::Every => {}
                    Self::Leaf(filter) => return Some(filter),
                    Self::Not(inner) => pending.push(inner),
                    Self::Any(children) | Self::All(children) => {
                        pending.extend(children.iter().rev());
                    }
                }
            }
        })
    }
}

macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $type {
            /// Every value with the name that configurations use for it.
            pub(crate) const NAMES: &[(&'static str, Self)] = &[$(($name, Self::$variant)),*];

            /// The name that configurations use for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

names!(FilterKind {
    Exact = "Exact",
    Prefix = "Prefix",
    Suffix = "Suffix",
    Contains = "Contains",
    Wildcard = "Wildcard",
    Regex = "Regex",
    Mqtt = "Mqtt",
    Nats = "Nats",
});
names!(Operator {
    Equals = "Equals",
    NotEquals = "NotEquals",
    GreaterThan = "GreaterThan",
    LessThan = "LessThan",
    GreaterThanOrEqual = "GreaterThanOrEqual",
    LessThanOrEqual = "LessThanOrEqual",
    Contains = "Contains",
    StartsWith = "StartsWith",
    EndsWith = "EndsWith",
    Matches = "Matches",
});
names!(ErrorHandling {
    StopPipeline = "StopPipeline",
    SkipModule = "SkipModule",
    RetryWithBackoff = "RetryWithBackoff",
    SendToDeadLetter = "SendToDeadLetter",
});
names!(MergePolicy { Ordered = "ordered", Strict = "strict" });
names!(CanaryMode { Canary = "canary", Shadow = "shadow" });
names!(Isolation { Instance = "instance", Batch = "batch", Record = "record" });
