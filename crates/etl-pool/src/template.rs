//! Templates: a module, and how its instances are to be.
//!
//! Two templates of the same module with the same options are one, so a configuration that is loaded again keeps its warm instances.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{MemoryBudget, TemplateBudget};
use crate::engine::{Engine, NativeEngine, Setup};
use crate::error::{PoolError, PoolErrorKind};
use crate::execution::Execution;
use crate::guest::Guest;
use crate::module::Module;
use crate::settings::Settings;
use crate::stats::{Counts, TemplateStats, Waits};

/// How far one record is kept from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Instances are reused; what a guest keeps in its memory stays until it fails or is dropped.
    #[default]
    Instance,
    /// Each call starts as the instance was after its initialisation.
    Batch,
    /// Each record starts as the instance was after its initialisation.
    Record,
}

/// How instances of a module are to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceOptions {
    /// Bytes of linear memory that one instance may have.
    pub memory_limit_bytes: u64,
    /// Instances alive at once, over all lanes; `None` is as many as the pool allows.
    pub max_concurrent_instances: Option<usize>,
    /// The module's own configuration, as JSON. Empty is no configuration.
    pub custom_config: Settings,
    /// How far one record is kept from the next.
    pub isolation: Isolation,
    /// For how long the answer to a record serves for the same record again; `None` is not at all.
    ///
    /// Such a module is shown partition 0 and offset 0 for every record, because the same message at another place is the same
    /// record. Without effect on a module that imports a clock or random numbers.
    pub cache_ttl: Option<Duration>,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 64 << 20,
            max_concurrent_instances: None,
            custom_config: Settings::default(),
            isolation: Isolation::Instance,
            cache_ttl: None,
        }
    }
}

/// What makes two templates the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemplateKey {
    sha256: [u8; 32],
    id: String,
    options: InstanceOptions,
}

/// A module, and how its instances are to be: what a lane calls.
pub struct Template<E: Engine = NativeEngine> {
    pub(crate) module: Arc<Module<E>>,
    pub(crate) options: InstanceOptions,
    pub(crate) setup: Setup,
    pub(crate) budget: Arc<TemplateBudget>,
    pub(crate) counts: Counts,
    pub(crate) slot: usize,
    pub(crate) id: u64,
    key: TemplateKey,
}

impl<E: Engine> Template<E> {
    /// The template of this module with these options: the one that is alive already, or a new one.
    ///
    /// # Errors
    /// [`PoolErrorKind::Memory`] where the module starts with more memory than an instance may have, [`PoolErrorKind::Options`]
    /// where no instance may ever be alive, [`PoolErrorKind::Compile`] where the compiler refuses what isolation needs.
    pub fn new(module: Arc<Module<E>>, options: InstanceOptions) -> Result<Arc<Self>, PoolError> {
        let minimum = module.facts().memory_minimum_bytes;
        if minimum > options.memory_limit_bytes {
            return Err(PoolError::new(
                PoolErrorKind::Memory,
                format!(
                    "module {:?} starts with {minimum} bytes of memory, more than the {} that its instances may have",
                    module.id(),
                    options.memory_limit_bytes
                ),
            ));
        }
        if options.max_concurrent_instances == Some(0) {
            return Err(PoolError::new(
                PoolErrorKind::Options,
                format!("module {:?} may have no instances at all", module.id()),
            ));
        }
        if options.isolation != Isolation::Instance {
            module.compiled.resettable(&module.pool)?;
            module.pool.touch(&module.compiled);
        }
        if options.cache_ttl.is_some() && module.facts().nondeterministic {
            tracing::warn!(
                module = module.id(),
                "results are not cached: the module imports a clock or random numbers"
            );
        }
        let key = TemplateKey {
            sha256: module.sha256(),
            id: module.id().to_owned(),
            options: options.clone(),
        };
        let pool = Arc::clone(&module.pool);
        Ok(pool.template(key.clone(), move |slot, id| Self {
            setup: Setup {
                memory_limit_bytes: options.memory_limit_bytes,
                table_elements: module.pool.options.caps.table_elements,
                config: options.custom_config.clone(),
                guest: Arc::new(Guest::new(
                    module.id(),
                    options.custom_config.clone(),
                    Arc::new(MemoryBudget::part_of(&module.pool.memory)),
                )),
            },
            budget: Arc::new(TemplateBudget::new(
                options.max_concurrent_instances.unwrap_or(usize::MAX),
            )),
            counts: Counts::default(),
            module,
            options,
            slot,
            id,
            key,
        }))
    }

    /// The module.
    pub fn module(&self) -> &Arc<Module<E>> {
        &self.module
    }

    /// How its instances are.
    pub fn options(&self) -> &InstanceOptions {
        &self.options
    }

    /// Instances that are alive now, over all lanes.
    pub fn instances(&self) -> usize {
        self.budget.live()
    }

    /// Instances that may be alive at once, over all lanes.
    pub fn most_instances(&self) -> usize {
        self.budget
            .limit
            .min(self.module.pool.options.max_pool_size)
    }

    /// Bytes that its instances have now: linear memory, tables, and what is kept to put them back.
    pub fn memory_bytes(&self) -> u64 {
        self.setup.guest.memory.used()
    }

    /// How long calls waited for an instance where none was warm: for a place within the budgets, and until it was made.
    pub fn waits(&self) -> Waits {
        self.counts.waits()
    }

    /// The code of its instances.
    pub(crate) fn code(&self) -> Result<&E::Code, PoolError> {
        match self.options.isolation {
            Isolation::Instance => Ok(&self.module.compiled.code),
            // Compiled when the template was made.
            Isolation::Batch | Isolation::Record => {
                self.module.compiled.resettable(&self.module.pool)
            }
        }
    }

    /// Whether a lane waits for one of its instances, or any instance, to go.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.budget.is_awaited() || self.module.pool.instances.is_awaited()
    }

    /// What happened to its instances so far.
    pub fn stats(&self) -> TemplateStats {
        self.counts.read()
    }

    /// How long its guests took for a crossing, over all lanes since the template was made.
    pub fn execution(&self) -> Execution {
        self.counts.execution.read()
    }

    /// For how long results may be used again, if at all.
    #[inline]
    pub(crate) fn cache_ttl(&self) -> Option<Duration> {
        self.options
            .cache_ttl
            .filter(|_| !self.module.compiled.facts.nondeterministic)
    }

    /// What its guests have counted with `etl.counter`, by name.
    pub fn counters(&self) -> Vec<(String, i64)> {
        self.setup.guest.counters()
    }
}

impl<E: Engine> Drop for Template<E> {
    fn drop(&mut self) {
        self.module.pool.forget_template(&self.key, self.slot);
    }
}

impl<E: Engine> fmt::Debug for Template<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("module", &self.module.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
