//! Modules in files, run by the pool.
//!
//! A file is read, checked and compiled once a configuration, however often it is used. Each use is a template of the pool: a use that
//! is the same as before in its bytes, its settings and its limits is the same template, and so keeps its warm instances over a
//! reload. One instance of each is started while building, so that a module that refuses its settings is found then and
//! not by the first record.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use etl_abi::{Op, Verdict, names};
use etl_config::{
    ConfigPath, InstancePool, Isolation, Loaded, ModuleDeclaration, ModuleUse, Pipeline, Report,
    Secret,
};
use etl_pool::{
    CallError, InstanceOptions, Module, ModuleSource, Pool, PoolErrorKind, PoolOptions, Settings,
    Shelves, Template, Verdicts,
};
use smallvec::SmallVec;

use crate::canary::Home;
use crate::delta::{Change, Delta, NewRecord};
use crate::failure::{FailureKind, TransformError};
use crate::instances::{self, Instances};
use crate::lane::LaneContext;
use crate::record::Headers;
use crate::signature;
use crate::snapshot::BadModule;
use crate::transform::{Reply, Transform};
use crate::view::View;

/// How long making one instance ready may take.
const START: Duration = Duration::from_secs(5);

/// So much of what a guest says of a failure is kept, in bytes.
const MAX_SAID: usize = 4096;

/// A pool, and the budgets that it was made with.
pub(crate) type BudgetedPool = (InstancePool, Arc<Pool>);

#[derive(Default)]
pub(crate) struct Files {
    /// With what it was made of: other budgets are another pool.
    pool: Option<BudgetedPool>,
    /// The pool of a configuration that is being built, where it needs another one.
    next: Option<BudgetedPool>,
    /// The modules of the configuration that is being built. A bad one is reported once.
    modules: HashMap<String, Option<Versions>>,
    /// Settings of that configuration that have no effect: where, and why.
    idle: Vec<(ConfigPath, String)>,
    home: Home,
}

impl Files {
    pub(crate) fn new(home: Home) -> Self {
        Self {
            home,
            ..Self::default()
        }
    }

    /// The pool in use, and with what it was made.
    pub(crate) fn pool(&self) -> Option<&BudgetedPool> {
        self.pool.as_ref()
    }

    /// Goes back to a pool that was in use before.
    pub(crate) fn use_pool(&mut self, pool: Option<BudgetedPool>) {
        self.pool = pool;
    }

    /// Begins a configuration. Answers where its instances may be tried.
    pub(crate) fn begin(&mut self, loaded: &Loaded) -> Result<Shelves, Report> {
        let budgets = &loaded.config.instance_pool;
        let pool = match &self.pool {
            Some((present, pool)) if present == budgets => pool.clone(),
            _ => {
                let options = PoolOptions {
                    max_pool_size: budgets.max_pool_size as usize,
                    creation_rate_limit: budgets.creation_rate_limit,
                    idle_timeout: budgets.idle_timeout,
                    max_total_memory_bytes: budgets.max_total_memory_bytes,
                    cache_dir: budgets.cache_dir.clone(),
                    cache_bytes: budgets.cache_max_bytes,
                    ..PoolOptions::default()
                };
                let pool = Pool::new(options).map_err(|error| {
                    let mut path = ConfigPath::root().key("instance_pool");
                    if error.kind() == PoolErrorKind::Cache {
                        path = path.key("cache_dir");
                    }
                    Report::new([loaded.problem(&path, error.message(), None, None)])
                })?;
                // A lane that sleeps has to be woken to give up what another one needs.
                let home = self.home.clone();
                pool.when_wanted(move || {
                    if let Some(orchestrator) = home.get().and_then(Weak::upgrade) {
                        orchestrator.wake_all();
                    }
                });
                pool
            }
        };
        let trial = pool.shelves();
        self.next = Some((budgets.clone(), pool));
        self.modules.clear();
        self.idle.clear();
        Ok(trial)
    }

    /// Settings of the configuration that was just built that have no effect: where, and why.
    pub(crate) fn idle_settings(&mut self) -> Vec<(ConfigPath, String)> {
        std::mem::take(&mut self.idle)
    }

    pub(crate) fn keep(&mut self) {
        if self.next.is_some() {
            self.pool = self.next.take();
        }
        // Templates keep the modules that are used.
        self.modules.clear();
    }

    /// The module of a use, and the new version of it that is on trial.
    pub(crate) fn transform(
        &mut self,
        loaded: &Loaded,
        pipeline: &Pipeline,
        usage: &ModuleUse,
        mut trial: Option<&mut Shelves>,
    ) -> Result<(Made, Option<Made>), BadModule> {
        let Some((budgets, pool)) = self.next.clone() else {
            return Err(BadModule {
                path: usage.path.clone(),
                message: "no pool was made".to_owned(),
                hint: None,
            });
        };
        let (module, canary) = self.module(loaded, &pool, usage)?;
        let settings = &usage.instance.custom_config;
        let takes_settings = |module: &Module| {
            let exports = &module.facts().exports;
            exports.iter().any(|export| export.name == names::INIT)
        };
        if !settings.is_empty() && !takes_settings(&module) {
            let message = format!(
                "module `{}` takes no configuration: it does not export `{}`, so this has no effect",
                usage.module_id,
                names::INIT
            );
            let path = usage.path.key("instance_config").key("custom_config");
            self.idle.push((path, message));
        }
        let mut make = |module| {
            let options = instance_options(pipeline, usage, &budgets)?;
            make(
                &pool,
                module,
                options,
                usage,
                &budgets,
                trial.as_deref_mut(),
            )
        };
        Ok((make(module)?, canary.map(make).transpose()?))
    }

    fn module(
        &mut self,
        loaded: &Loaded,
        pool: &Arc<Pool>,
        usage: &ModuleUse,
    ) -> Result<Versions, BadModule> {
        let entry = match self.modules.entry(usage.module_id.clone()) {
            Entry::Occupied(known) => {
                return known.get().clone().ok_or_else(BadModule::known);
            }
            Entry::Vacant(entry) => entry,
        };
        let Some(declaration) = loaded.config.module(&usage.module_id) else {
            entry.insert(None);
            let message = format!("module `{}` is not declared", usage.module_id);
            return Err(BadModule {
                path: usage.path.clone(),
                message,
                hint: None,
            });
        };
        let versions = versions(loaded, pool, declaration);
        entry.insert(versions.as_ref().ok().cloned());
        versions
    }
}

/// A module, and its new version where one is on trial.
type Versions = (Arc<Module>, Option<Arc<Module>>);

/// What a use of a module calls, and the digest of its bytes in hexadecimal.
pub(crate) type Made = (Arc<dyn Transform>, Arc<str>);

fn versions(
    loaded: &Loaded,
    pool: &Arc<Pool>,
    declaration: &ModuleDeclaration,
) -> Result<Versions, BadModule> {
    let id = &declaration.id;
    let read =
        |file: &Path, sha256, place: &ConfigPath| read(loaded, pool, id, file, sha256, place);
    let module = read(&declaration.file, declaration.sha256, &declaration.path)?;
    let canary = declaration
        .canary
        .as_ref()
        .map(|canary| read(&canary.file, canary.sha256, &canary.path));
    Ok((module, canary.transpose()?))
}

/// Makes a module ready for a use, and starts one instance of it to see whether it starts.
fn make(
    pool: &Arc<Pool>,
    module: Arc<Module>,
    options: InstanceOptions,
    usage: &ModuleUse,
    budgets: &InstancePool,
    trial: Option<&mut Shelves>,
) -> Result<Made, BadModule> {
    let sha256: Arc<str> = hexadecimal(&module.sha256()).into();
    let at = |key: &'static str| usage.path.key("instance_config").key(key);
    let template = Template::new(module, options).map_err(|error| BadModule {
        path: if error.kind() == PoolErrorKind::Memory {
            at("memory_limit_bytes")
        } else {
            usage.path.clone()
        },
        message: error.message().to_owned(),
        hint: None,
    })?;
    // Where there are instances, it has started already.
    if let Some(trial) = trial
        && template.instances() == 0
    {
        trial
            .try_start(&template, Instant::now() + START)
            .map_err(|error| BadModule {
                path: at("custom_config"),
                message: format!(
                    "module `{}` does not start with this configuration: {}",
                    usage.module_id,
                    error.message()
                ),
                hint: None,
            })?;
    }
    let transform = Arc::new(Pooled {
        pool: pool.clone(),
        template,
        warmup: budgets.warmup_instances as usize,
    });
    Ok((transform, sha256))
}

fn read(
    loaded: &Loaded,
    pool: &Arc<Pool>,
    id: &str,
    path: &Path,
    expected_sha256: Option<[u8; 32]>,
    place: &ConfigPath,
) -> Result<Arc<Module>, BadModule> {
    let file = path.display();
    let bytes = loaded.read_module(path).map_err(|error| BadModule {
        path: place.clone(),
        message: format!("module `{id}` cannot be read from {file}: {error}"),
        hint: (error.kind() == std::io::ErrorKind::NotFound)
            .then(|| "a module is a .wasm file in `modules_dir`, or where its `path` under `[[modules]]` says".to_owned()),
    })?;
    // Before anything of it is compiled.
    if let Some(trusted) = loaded.config.security.trusted_keys.as_deref() {
        signature::verify(&bytes, trusted).map_err(|error| BadModule {
            path: place.clone(),
            message: format!("module `{id}` is refused, from {file}: {error}"),
            hint: Some(
                "`etl module sign` signs it; `trusted_keys` under `[security]` says whose signature counts"
                    .to_owned(),
            ),
        })?;
    }
    pool.load(ModuleSource {
        id,
        bytes: &bytes,
        expected_sha256,
    })
    .map_err(|error| BadModule {
        path: match error.kind() {
            PoolErrorKind::PinMismatch => place.key("sha256"),
            _ => place.clone(),
        },
        message: format!("{file}: {}", error.message()),
        hint: None,
    })
}

/// The limits of a use. A pipeline's memory budget is shared out between its uses: each may have so many instances that all of them at
/// their limits fit together.
fn instance_options(
    pipeline: &Pipeline,
    usage: &ModuleUse,
    budgets: &InstancePool,
) -> Result<InstanceOptions, BadModule> {
    let instance = &usage.instance;
    let mut most = u64::from(instance.max_concurrent_instances.min(budgets.max_pool_size));
    if let Some(budget) = pipeline.memory_budget_bytes {
        let uses = pipeline.stages.iter().flat_map(|stage| &stage.modules);
        let one_of_each: u64 = uses.map(|usage| usage.instance.memory_limit_bytes).sum();
        let rounds = budget / one_of_each.max(1);
        if rounds == 0 {
            return Err(BadModule {
                path: pipeline.path.key("memory_budget_bytes"),
                message: format!(
                    "one instance of each of the pipeline's modules may need {one_of_each} bytes, more than the {budget} of its budget"
                ),
                hint: Some(
                    "raise the budget, or lower the modules' `memory_limit_bytes`".to_owned(),
                ),
            });
        }
        most = most.min(rounds);
    }
    let json = instance
        .custom_config
        .reveal_json()
        .map_err(|error| BadModule {
            path: usage.path.key("instance_config").key("custom_config"),
            message: error.to_string(),
            hint: None,
        })?;
    let secrets = instance.custom_config.secrets();
    Ok(InstanceOptions {
        memory_limit_bytes: instance.memory_limit_bytes,
        max_concurrent_instances: Some(usize::try_from(most).unwrap_or(usize::MAX)),
        custom_config: Settings::from(json).hiding(secrets.iter().map(Secret::reveal)),
        isolation: match usage.isolation {
            Isolation::Instance => etl_pool::Isolation::Instance,
            Isolation::Batch => etl_pool::Isolation::Batch,
            Isolation::Record => etl_pool::Isolation::Record,
        },
        cache_ttl: instance.cache_ttl,
    })
}

/// A template of the pool, as a plan calls it.
struct Pooled {
    pool: Arc<Pool>,
    template: Arc<Template>,
    warmup: usize,
}

impl Transform for Pooled {
    fn call(
        &self,
        lane: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) {
        match lane
            .shelves(&self.pool)
            .call(&self.template, records, deadline)
        {
            Ok(verdicts) => match verdicts.into_value() {
                Ok(value) => replies.push(Reply::Value(value)),
                Err(verdicts) => {
                    let mut names = Names::default();
                    replies.resize_with(records.len(), || Reply::Keep);
                    for (index, reply) in replies.iter_mut().enumerate() {
                        match verdicts.get(index) {
                            // Made where it stays: what is moved as soon as it is made takes twice as long.
                            Ok(Verdict::SetValue(value)) => {
                                *reply = Reply::Value(verdicts.bytes(value));
                            }
                            Ok(Verdict::Keep) => {}
                            other => *reply = self.reply(&verdicts, other, &mut names),
                        }
                    }
                }
            },
            Err(error) => {
                let error = failed(&error);
                replies.extend(records.iter().map(|_| Reply::Fail(error.clone())));
            }
        }
    }

    fn joins_batches(&self) -> bool {
        self.template.options().isolation != etl_pool::Isolation::Batch
    }

    fn instances(&self) -> Vec<Instances> {
        vec![instances::of_template(&self.template)]
    }

    fn warm(&self, lane: &mut LaneContext) {
        let warmed =
            lane.shelves(&self.pool)
                .warm(&self.template, self.warmup, Instant::now() + START);
        if let Err(error) = warmed {
            // It started once, while building: what is missing here is room, and the first record will ask for it again.
            tracing::info!(
                module = self.template.module().id(),
                "not all instances could be made ready: {}",
                error.message()
            );
        }
    }
}

impl Pooled {
    fn reply(
        &self,
        verdicts: &Verdicts,
        verdict: Result<Verdict<'_>, &CallError>,
        names: &mut Names,
    ) -> Reply {
        match verdict {
            Ok(Verdict::Keep) => Reply::Keep,
            Ok(Verdict::SetValue(value)) => Reply::Value(verdicts.bytes(value)),
            Ok(Verdict::Drop) => Reply::Drop,
            Ok(Verdict::Change(ops)) => {
                let mut changes = Vec::with_capacity(ops.len());
                changes.extend(ops.iter().map(|op| change(verdicts, op, names)));
                Reply::Change(Delta::from(changes))
            }
            Ok(Verdict::Fail(failure)) => {
                let settings = &self.template.options().custom_config;
                // Cut after secrets were masked, of which half would not be known.
                let said = settings.masked(failure.message);
                let said = &said[..said.floor_char_boundary(MAX_SAID)];
                let error = TransformError::new(FailureKind::Module, said);
                Reply::Fail(error.retryable(failure.retryable).with_code(failure.code))
            }
            Err(error) => Reply::Fail(failed(error)),
        }
    }
}

/// Names of headers in the answers of one call, which mostly are the same for each record: each is made once.
#[derive(Default)]
struct Names(SmallVec<[Arc<str>; 4]>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let name = Arc::from(name);
        if self.0.len() < self.0.inline_size() {
            self.0.push(Arc::clone(&name));
        }
        name
    }
}

fn change(verdicts: &Verdicts, op: Op<'_>, names: &mut Names) -> Change {
    match op {
        Op::SetValue(value) => Change::SetValue(verdicts.bytes(value)),
        Op::MergePatch(patch) => Change::MergePatch(verdicts.bytes(patch)),
        Op::SetKey(key) => Change::SetKey(verdicts.bytes(key)),
        Op::ClearKey => Change::ClearKey,
        Op::SetTopic(topic) => Change::SetTopic(topic.into()),
        Op::AddHeader { name, value } => Change::AddHeader(names.get(name), verdicts.bytes(value)),
        Op::SetHeader { name, value } => Change::SetHeader(names.get(name), verdicts.bytes(value)),
        Op::RemoveHeader { name } => Change::RemoveHeader(names.get(name)),
        Op::SetTimestamp(timestamp) => Change::SetTimestamp(timestamp),
        Op::ClearTimestamp => Change::ClearTimestamp,
        Op::Emit(record) => Change::Emit(Box::new(NewRecord {
            topic: (!record.topic().is_empty()).then(|| record.topic().into()),
            key: record.key().map(|key| verdicts.bytes(key)),
            value: verdicts.bytes(record.value()),
            headers: record
                .headers()
                .iter()
                .map(|(name, value)| (names.get(name), verdicts.bytes(value)))
                .collect::<Headers>(),
            timestamp: record.timestamp(),
        })),
    }
}

fn failed(error: &CallError) -> TransformError {
    let kind = match error.kind() {
        etl_pool::FailureKind::Timeout => FailureKind::Timeout,
        etl_pool::FailureKind::Trap => FailureKind::Trap,
        etl_pool::FailureKind::MemoryLimit => FailureKind::MemoryLimit,
        etl_pool::FailureKind::Module => FailureKind::Module,
        etl_pool::FailureKind::PoolExhausted => FailureKind::PoolExhausted,
        _ => FailureKind::InvalidOutput,
    };
    let failed = TransformError::new(kind, error.message()).retryable(error.is_retryable());
    match error.ask_again_in() {
        Some(time) => failed.asking_again_in(time),
        None => failed,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
