//! Where a configuration's modules come from, and what of them lives longer than one configuration.
//!
//! Modules are files (see `files`), or whatever a test or a simulation gives in their place. Circuit breakers live here: a use that is
//! the same in a new configuration keeps its breaker, open or closed.

use std::collections::HashMap;
use std::sync::Arc;

use etl_config::{Loaded, ModuleUse, Pipeline, Report, Stage};
use etl_pool::Shelves;

use crate::breaker::{Breaker, Settings};
use crate::files::Files;
use crate::snapshot::{BadModule, Build, Built};
use crate::transform::Transform;

/// What runs for each use of a module, in the place of its file.
#[derive(Clone)]
pub struct TransformFor(Arc<Make>);

type Make = dyn Fn(&ModuleUse) -> Arc<dyn Transform> + Send + Sync;

impl TransformFor {
    /// Asks `make` once for each use of a module in a configuration.
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
    Files(Files),
}

impl Modules {
    pub(crate) fn new(given: Option<TransformFor>) -> Self {
        let source = given.map_or_else(|| Source::Files(Files::default()), Source::Given);
        Self {
            source,
            breakers: HashMap::new(),
            attempt: HashMap::new(),
        }
    }

    /// Begins a configuration.
    pub(crate) fn begin(&mut self, loaded: &Loaded) -> Result<Building<'_>, Report> {
        self.attempt.clear();
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
        if let Source::Files(files) = &mut self.source {
            files.keep();
        }
    }

    /// The pool of the configuration that was built last.
    pub(crate) fn pool(&self) -> Option<Arc<etl_pool::Pool>> {
        match &self.source {
            Source::Given(_) => None,
            Source::Files(files) => files.pool(),
        }
    }
}

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
        match &mut self.modules.source {
            Source::Given(given) => Ok(Built {
                transform: (given.0)(usage),
                sha256: None,
            }),
            Source::Files(files) => files.transform(loaded, pipeline, usage, self.trial.as_mut()),
        }
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
}
