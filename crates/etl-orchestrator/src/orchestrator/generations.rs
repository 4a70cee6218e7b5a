//! The configurations that were in force: the last ones are kept whole, to be listed, compared and gone back to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etl_config::Loaded;

use super::Orchestrator;
use crate::modules::Keepsake;
use crate::snapshot::Snapshot;

/// Generations that are kept, the one in force among them.
const KEPT: usize = 8;

/// A configuration that is or was in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// When it took force, in Unix milliseconds.
    pub since: i64,
    /// What brought it: `start`, `reload`, or what the change said.
    pub cause: String,
    /// How many pipelines it has, disabled ones included.
    pub pipelines: usize,
}

/// What differs between two configurations, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Pipelines that only the later one has.
    pub pipelines_added: Vec<String>,
    /// Pipelines that only the earlier one has.
    pub pipelines_removed: Vec<String>,
    /// Pipelines that both have and that differ in anything.
    pub pipelines_changed: Vec<String>,
    /// Modules that only the later one has.
    pub modules_added: Vec<String>,
    /// Modules that only the earlier one has.
    pub modules_removed: Vec<String>,
    /// Modules that both have and that differ in their bytes, their file or their canary.
    pub modules_changed: Vec<String>,
    /// Whether `engine`, `instance_pool`, `dead_letter`, `security` or `modules_dir` differ.
    pub settings_changed: bool,
}

/// A pipeline, as [`Orchestrator::pipelines`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipelineEntry {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its place among the pipelines is by this and then by its id.
    pub order: i32,
    /// Whether it runs.
    pub enabled: bool,
    /// The ids of the modules that it uses, in the order in which they run.
    pub modules: Vec<String>,
}

/// A module, as [`Orchestrator::modules`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleEntry {
    /// Its id.
    pub id: String,
    /// Its file.
    pub file: std::path::PathBuf,
    /// The digest of its bytes in hexadecimal, where an enabled pipeline uses it.
    pub sha256: Option<Arc<str>>,
    /// The digest of its new version, where one is on trial.
    pub canary_sha256: Option<Arc<str>>,
    /// The pipelines that use it, disabled ones included.
    pub used_by: Vec<String>,
    /// The file of its new version, where one is on trial.
    pub canary: Option<std::path::PathBuf>,
}

pub(super) struct History(VecDeque<Kept>);

struct Kept {
    snapshot: Arc<Snapshot>,
    keepsake: Keepsake,
    since: i64,
    cause: String,
}

impl History {
    pub(super) fn begin(snapshot: &Arc<Snapshot>, keepsake: Keepsake, unix_ms: i64) -> Self {
        let mut history = Self(VecDeque::new());
        history.add(snapshot, keepsake, "start", unix_ms);
        history
    }

    pub(super) fn add(
        &mut self,
        snapshot: &Arc<Snapshot>,
        keepsake: Keepsake,
        cause: &str,
        unix_ms: i64,
    ) {
        self.0.push_back(Kept {
            snapshot: snapshot.clone(),
            keepsake,
            since: unix_ms,
            cause: cause.to_owned(),
        });
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// A configuration that is kept, and what it used.
    pub(super) fn find(&self, generation: u64) -> Option<(&Arc<Snapshot>, &Keepsake)> {
        self.0
            .iter()
            .find(|kept| kept.snapshot.program.generation == generation)
            .map(|kept| (&kept.snapshot, &kept.keepsake))
    }
}

impl Orchestrator {
    /// The configurations that are kept, oldest first; the last one is in force.
    #[must_use]
    pub fn generations(&self) -> Vec<Generation> {
        let control = self.control();
        let kept = control.history.0.iter();
        kept.map(|kept| Generation {
            generation: kept.snapshot.program.generation,
            since: kept.since,
            cause: kept.cause.clone(),
            pipelines: kept.snapshot.loaded.config.pipelines.len(),
        })
        .collect()
    }

    /// What changed from one generation to another; `None` where one of them is not kept any more.
    #[must_use]
    pub fn difference(&self, from: u64, to: u64) -> Option<Difference> {
        let control = self.control();
        let (from, _) = control.history.find(from)?;
        let (to, _) = control.history.find(to)?;
        Some(difference(from, to))
    }

    /// Reads the configuration of a generation, as it was loaded and edited; `None` where it is not kept any more. That of the one in
    /// force is read without waiting for a change that is being made.
    pub fn read_configuration<T>(
        &self,
        generation: u64,
        read: impl FnOnce(&Loaded) -> T,
    ) -> Option<T> {
        let present = self.shared.live.load_full();
        let snapshot = if present.program.generation == generation {
            present
        } else {
            self.control().history.find(generation)?.0.clone()
        };
        Some(read(&snapshot.loaded))
    }

    /// Every pipeline of the configuration in force, in the order in which they run.
    #[must_use]
    pub fn pipelines(&self) -> Vec<PipelineEntry> {
        let snapshot = self.shared.live.load_full();
        let pipelines = snapshot.loaded.config.pipelines.iter();
        let mut pipelines: Vec<PipelineEntry> = pipelines
            .map(|pipeline| {
                let mut stages: Vec<_> = pipeline.stages.iter().collect();
                stages.sort_by_key(|stage| stage.priority);
                let modules = stages.into_iter().flat_map(|stage| &stage.modules);
                PipelineEntry {
                    id: pipeline.id.clone(),
                    name: pipeline.name.clone(),
                    order: pipeline.order,
                    enabled: pipeline.enabled,
                    modules: modules.map(|usage| usage.module_id.clone()).collect(),
                }
            })
            .collect();
        pipelines.sort_by(|left, right| (left.order, &left.id).cmp(&(right.order, &right.id)));
        pipelines
    }

    /// Every module of the configuration in force, by id.
    #[must_use]
    pub fn modules(&self) -> Vec<ModuleEntry> {
        entries(&self.shared.live.load_full())
    }

    /// The same of a generation; `None` where it is not kept any more.
    #[must_use]
    pub fn modules_of(&self, generation: u64) -> Option<Vec<ModuleEntry>> {
        let snapshot = self.control().history.find(generation)?.0.clone();
        Some(entries(&snapshot))
    }
}

fn entries(snapshot: &Snapshot) -> Vec<ModuleEntry> {
    let config = &snapshot.loaded.config;
    let mut modules: Vec<ModuleEntry> = config
        .modules
        .iter()
        .map(|module| {
            let uses = |pipeline: &&etl_config::Pipeline| {
                let mut uses = pipeline.stages.iter().flat_map(|stage| &stage.modules);
                uses.any(|usage| usage.module_id == module.id)
            };
            let mut programs = snapshot.program.modules();
            let program = programs.find(|program| *program.id == *module.id);
            let trial = program.and_then(|program| program.on_trial.as_ref());
            let terms = trial.map(|on_trial| &on_trial.trial.terms);
            let stable = program.and_then(|program| program.sha256.clone());
            ModuleEntry {
                id: module.id.clone(),
                file: module.file.clone(),
                sha256: terms.map_or(stable, |terms| terms.stable_sha256.clone()),
                canary_sha256: terms.and_then(|terms| terms.canary_sha256.clone()),
                used_by: config
                    .pipelines
                    .iter()
                    .filter(uses)
                    .map(|pipeline| pipeline.id.clone())
                    .collect(),
                canary: module.canary.as_ref().map(|canary| canary.file.clone()),
            }
        })
        .collect();
    modules.sort_by(|left, right| left.id.cmp(&right.id));
    modules
}

fn difference(from: &Snapshot, to: &Snapshot) -> Difference {
    let (before, after) = (&from.loaded.config, &to.loaded.config);
    let pipelines = |config: &etl_config::Config| -> BTreeMap<String, etl_config::Pipeline> {
        let pipelines = config.pipelines.iter();
        pipelines
            .map(|pipeline| (pipeline.id.clone(), pipeline.without_paths()))
            .collect()
    };
    let (added, removed, changed) = sides(&pipelines(before), &pipelines(after));
    let (modules_added, modules_removed, modules_changed) = sides(&modules(from), &modules(to));
    Difference {
        pipelines_added: added,
        pipelines_removed: removed,
        pipelines_changed: changed,
        modules_added,
        modules_removed,
        modules_changed,
        settings_changed: before.engine != after.engine
            || before.instance_pool != after.instance_pool
            || before.dead_letter != after.dead_letter
            || before.security != after.security
            || before.secrets != after.secrets
            || before.modules_dir != after.modules_dir,
    }
}

/// What makes a module what it is: its declaration without its place, and the digest of its bytes.
type Identity = (String, Option<Arc<str>>);

fn modules(snapshot: &Snapshot) -> BTreeMap<String, Identity> {
    let config = &snapshot.loaded.config;
    config
        .modules
        .iter()
        .map(|module| {
            let mut programs = snapshot.program.modules();
            let program = programs.find(|program| *program.id == *module.id);
            let canary = module.canary.as_ref().map(|canary| {
                let terms = (
                    canary.percent,
                    canary.max_error_increase,
                    canary.min_samples,
                );
                (&canary.file, canary.sha256, canary.mode, terms)
            });
            let written = format!("{:?} {:?} {canary:?}", module.file, module.sha256);
            let sha256 = program.and_then(|program| program.sha256.clone());
            (module.id.clone(), (written, sha256))
        })
        .collect()
}

/// Names that only the later one has, that only the earlier one has, and that differ.
fn sides<T: PartialEq>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> (Vec<String>, Vec<String>, Vec<String>) {
    let only = |these: &BTreeMap<String, T>, others: &BTreeMap<String, T>| {
        let names = these.keys().filter(|name| !others.contains_key(*name));
        names.cloned().collect()
    };
    let changed = before
        .iter()
        .filter(|(name, content)| after.get(*name).is_some_and(|other| other != *content));
    (
        only(after, before),
        only(before, after),
        changed.map(|(name, _)| name.clone()).collect(),
    )
}
