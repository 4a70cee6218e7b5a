//! Where a configuration's modules come from, and what of them lives longer than one configuration.
//!
//! Modules are files (see `files`), or whatever a test or a simulation gives in their place. Circuit breakers live here: a use that is
//! the same in a new configuration keeps its breaker, open or closed.

use std::collections::HashMap;
use std::sync::Arc;

use etl_config::{ConfigPath, Loaded, ModuleUse, Pipeline, Report, Stage};
use etl_pool::Shelves;

use crate::breaker::{Breaker, Settings};
use crate::canary::{self, Home, Minder, OnTrial, SharedTrials, Split, Terms};
use crate::files::{BudgetedPool, Files};
use crate::program::Program;
use crate::snapshot::{BadModule, Build, Built};
use crate::transform::Transform;

/// What runs for each use of a module, in the place of its file.
#[derive(Clone)]
pub struct TransformFor(Arc<Make>);

type Make = dyn Fn(&ModuleUse) -> Arc<dyn Transform> + Send + Sync;

impl TransformFor {
    /// Asks `make` once for each use of a module in a configuration; and where a new version of the module is on trial, once more with
    /// `@canary` after its id.
    pub fn new(make: impl Fn(&ModuleUse) -> Arc<dyn Transform> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }
}

impl std::fmt::Debug for TransformFor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TransformFor")
    }
}

pub(crate) struct Modules {
    source: Source,
    breakers: HashMap<BreakerKey, Arc<Breaker>>,
    /// Those of the configuration that is being built.
    attempt: HashMap<BreakerKey, Arc<Breaker>>,
    trials: SharedTrials,
    /// Where trials and pools find the orchestrator, and the thread that minds them once there is one.
    home: Home,
    minder: Option<Minder>,
}

/// What a configuration used that lives longer than it: its pool, and its circuit breakers as they are.
#[derive(Clone)]
pub(crate) struct Keepsake {
    pool: Option<BudgetedPool>,
    breakers: HashMap<BreakerKey, Arc<Breaker>>,
}

/// Pipeline, priority and module, which of several such uses it is, and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BreakerKey {
    pipeline: String,
    priority: u32,
    module: String,
    number: usize,
    settings: String,
}

enum Source {
    Given(TransformFor),
    Files(Box<Files>),
}

impl Modules {
    pub(crate) fn new(given: Option<TransformFor>, trials: SharedTrials, home: Home) -> Self {
        let files = || Source::Files(Box::new(Files::new(home.clone())));
        let source = given.map_or_else(files, Source::Given);
        Self {
            source,
            breakers: HashMap::new(),
            attempt: HashMap::new(),
            trials,
            home,
            minder: None,
        }
    }

    /// Begins a configuration.
    pub(crate) fn begin(&mut self, loaded: &Loaded) -> Result<Building<'_>, Report> {
        self.attempt.clear();
        canary::lock(&self.trials).begin();
        let trial = match &mut self.source {
            Source::Given(_) => None,
            Source::Files(files) => Some(files.begin(loaded)?),
        };
        Ok(Building {
            modules: self,
            trial,
        })
    }

    /// The configuration is in force.
    pub(crate) fn keep(&mut self) {
        self.breakers = std::mem::take(&mut self.attempt);
        canary::lock(&self.trials).keep();
        if let Source::Files(files) = &mut self.source {
            files.keep();
        }
    }

    /// What a configuration that is in force needs to come back as it was.
    pub(crate) fn keepsake(&self) -> Keepsake {
        Keepsake {
            pool: self.pool(),
            breakers: self.breakers.clone(),
        }
    }

    /// Goes back to what was in use before.
    pub(crate) fn go_back(&mut self, keepsake: Keepsake) {
        if let Source::Files(files) = &mut self.source {
            files.use_pool(keepsake.pool);
        }
        self.breakers = keepsake.breakers;
    }

    /// The pool of the configuration that was built last, and with what it was made.
    pub(crate) fn pool(&self) -> Option<BudgetedPool> {
        match &self.source {
            Source::Given(_) => None,
            Source::Files(files) => files.pool().cloned(),
        }
    }

    /// The trials of a configuration that comes back are on again.
    pub(crate) fn resume_trials(&mut self, program: &Program) {
        let trials = program
            .modules()
            .filter_map(|module| module.on_trial.as_ref());
        canary::lock(&self.trials).resume(trials.map(|on_trial| &on_trial.trial));
    }

    /// The module of a use, and its new version, from wherever modules come.
    fn make(
        &mut self,
        loaded: &Loaded,
        pipeline: &Pipeline,
        usage: &ModuleUse,
        trial: Option<&mut Shelves>,
    ) -> Result<(Version, Option<Version>), BadModule> {
        match &mut self.source {
            Source::Given(given) => {
                let canary = loaded
                    .config
                    .module(&usage.module_id)
                    .and_then(|declaration| {
                        declaration.canary.as_ref()?;
                        let mut usage = usage.clone();
                        usage.module_id.push_str(CANARY);
                        Some(((given.0)(&usage), None))
                    });
                Ok((((given.0)(usage), None), canary))
            }
            Source::Files(files) => {
                let (module, canary) = files.transform(loaded, pipeline, usage, trial)?;
                let version = |(transform, sha256)| (transform, Some(sha256));
                Ok((version(module), canary.map(version)))
            }
        }
    }
}

/// What is called, and the digest of its bytes where it is a file.
type Version = (Arc<dyn Transform>, Option<Arc<str>>);

/// Under this ending of a module's id, [`TransformFor`] is asked for its new version.
const CANARY: &str = "@canary";

/// A configuration that is being built.
pub(crate) struct Building<'a> {
    modules: &'a mut Modules,
    /// Instances that are started to see whether they start. They go when the configuration is built.
    trial: Option<Shelves>,
}

impl Build for Building<'_> {
    fn transform(
        &mut self,
        loaded: &Loaded,
        pipeline: &Pipeline,
        usage: &ModuleUse,
    ) -> Result<Built, BadModule> {
        let modules = &mut *self.modules;
        let (stable, canary) = modules.make(loaded, pipeline, usage, self.trial.as_mut())?;
        let built = Built {
            transform: stable.0.clone(),
            sha256: stable.1.clone(),
            on_trial: None,
        };
        let terms = loaded
            .config
            .module(&usage.module_id)
            .and_then(|declaration| declaration.canary.as_ref())
            .zip(canary);
        let Some((terms, canary)) = terms else {
            return Ok(built);
        };
        let terms = Terms::new(&usage.module_id, terms, stable.1, canary.1);
        let Some(trial) = canary::lock(&modules.trials).on(terms) else {
            return Ok(built);
        };
        let versions = OnTrial {
            trial,
            stable: stable.0,
            canary: canary.0,
        };
        let home = &modules.home;
        let minder = modules
            .minder
            .get_or_insert_with(|| Minder::start(home.clone()));
        Ok(Built {
            transform: Arc::new(Split::new(versions.clone(), minder.clone())),
            on_trial: Some(versions),
            ..built
        })
    }

    fn breaker(
        &mut self,
        pipeline: &Pipeline,
        stage: &Stage,
        usage: &ModuleUse,
    ) -> Option<Arc<Breaker>> {
        let settings = Settings::from(usage.circuit_breaker.as_ref()?);
        let mut key = BreakerKey {
            pipeline: pipeline.id.clone(),
            priority: stage.priority,
            module: usage.module_id.clone(),
            number: 0,
            settings: format!("{settings:?}"),
        };
        while self.modules.attempt.contains_key(&key) {
            key.number += 1;
        }
        let breaker = self
            .modules
            .breakers
            .get(&key)
            .cloned()
            .unwrap_or_else(|| Arc::new(Breaker::new(settings)));
        self.modules.attempt.insert(key, breaker.clone());
        Some(breaker)
    }

    fn idle_settings(&mut self) -> Vec<(ConfigPath, String)> {
        match &mut self.modules.source {
            Source::Given(_) => Vec::new(),
            Source::Files(files) => files.idle_settings(),
        }
    }
}
