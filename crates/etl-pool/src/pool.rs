//! The pool: what all lanes share. Modules by content, and budgets.
//!
//! Nothing here is on the way of a call. Loading takes a lock; calling goes through a lane's own [`Shelves`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::artifacts::Artifacts;
use crate::budget::{InstanceBudget, MemoryBudget};
use crate::caps::Caps;
use crate::engine::{Engine, MemoryLayout, NativeEngine};
use crate::error::{PoolError, PoolErrorKind};
use crate::facts::Facts;
use crate::module::{Compiled, Module, ModuleSource, hex, sha256};
use crate::shelves::Shelves;
use crate::template::{Template, TemplateKey};

/// What a pool may use.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Instances that may be alive at once, over all lanes.
    pub max_pool_size: usize,
    /// Instances that may be made a second; requests over it wait, within their deadline. 0 is no limit.
    pub creation_rate_limit: u32,
    /// An instance that has been idle for so long is dropped.
    pub idle_timeout: Duration,
    /// Bytes that all instances may have together: linear memory, tables, and what is kept to put them back.
    pub max_total_memory_bytes: u64,
    /// Bytes of modules, with their code, that stay compiled although no configuration uses them; what was loaded last stays.
    pub unused_module_bytes: usize,
    /// Where compiled modules are kept between runs; `None` is nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Bytes that the files there may have together; those that were not used for longest go first.
    pub cache_bytes: u64,
    /// How the memories of instances lie in the address space; `None` is [`MemoryLayout::Reserved`], which is faster, up to
    /// [`MOST_RESERVED`] instances, and compact beyond.
    pub memory_layout: Option<MemoryLayout>,
    /// What a module may contain.
    pub caps: Caps,
}

/// Instances up to which a pool reserves address space for each by default: they take 80 TiB of the 128 that a process has.
pub const MOST_RESERVED: usize = 10_000;

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_pool_size: 1_000,
            creation_rate_limit: 0,
            idle_timeout: Duration::from_secs(300),
            max_total_memory_bytes: 4 << 30,
            unused_module_bytes: 64 << 20,
            cache_dir: None,
            cache_bytes: 1 << 30,
            memory_layout: None,
            caps: Caps::default(),
        }
    }
}

/// Modules and budgets, shared by all lanes.
///
/// ```
/// use std::time::{Duration, Instant};
/// use etl_pool::{InstanceOptions, ModuleSource, Pool, PoolOptions, Template};
/// # let upper = wat::parse_str(r#"(module
/// #   (memory (export "memory") 1)
/// #   (func (export "etl_alloc_v1") (param i32) (result i32) i32.const 1024)
/// #   (func (export "etl_process_v1") (param i32 i32) (result i64) i64.const 0))"#)?;
/// let pool = Pool::new(PoolOptions::default())?;
/// let module = pool.load(ModuleSource { id: "upper", bytes: &upper, expected_sha256: None })?;
/// let template = Template::new(module, InstanceOptions::default())?;
///
/// // One lane: a thread that calls.
/// let mut shelves = pool.shelves();
/// let record = etl_abi::NewRecord { topic: "t", value: b"hello", ..Default::default() };
/// let verdicts = shelves.call(&template, &[record], Instant::now() + Duration::from_millis(100))?;
/// assert!(matches!(verdicts.get(0), Ok(etl_abi::Verdict::Keep)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool<E: Engine = NativeEngine> {
    pub(crate) engine: E,
    pub(crate) options: PoolOptions,
    pub(crate) instances: Arc<InstanceBudget>,
    pub(crate) memory: Arc<MemoryBudget>,
    /// Instances that were ever made.
    pub(crate) created: AtomicU64,
    artifacts: Option<Artifacts>,
    registry: Mutex<Registry<E>>,
}

struct Registry<E: Engine> {
    /// Code that is alive, wherever it is held.
    modules: HashMap<[u8; 32], Weak<Compiled<E>>>,
    /// What was loaded last, latest at the back, with its bytes: kept for a configuration that comes back to it.
    recent: VecDeque<(Arc<Compiled<E>>, usize)>,
    recent_bytes: usize,
    templates: HashMap<TemplateKey, Weak<Template<E>>>,
    /// Slots for templates in the shelves of every lane.
    free_slots: Vec<usize>,
    slots: usize,
    template_ids: u64,
}

impl Pool {
    /// A pool that runs real modules.
    ///
    /// # Errors
    /// [`PoolErrorKind::Options`] where an option leaves no room for an instance, [`PoolErrorKind::Cache`] where `cache_dir` cannot be used.
    pub fn new(options: PoolOptions) -> Result<Arc<Self>, PoolError> {
        let layout = options
            .memory_layout
            .unwrap_or(if options.max_pool_size > MOST_RESERVED {
                MemoryLayout::Compact
            } else {
                MemoryLayout::Reserved
            });
        Self::with_engine(NativeEngine::new(layout)?, options)
    }
}

impl<E: Engine> Pool<E> {
    /// A pool on an engine of one's own.
    ///
    /// # Errors
    /// As for [`Pool::new`].
    pub fn with_engine(engine: E, options: PoolOptions) -> Result<Arc<Self>, PoolError> {
        if options.max_pool_size == 0 {
            return Err(PoolError::new(
                PoolErrorKind::Options,
                "max_pool_size must be at least 1",
            ));
        }
        let artifacts = options
            .cache_dir
            .as_deref()
            .map(|folder| Artifacts::open(folder, options.cache_bytes))
            .transpose()?
            .flatten();
        Ok(Arc::new(Self {
            engine,
            artifacts,
            instances: Arc::new(InstanceBudget::new(
                options.max_pool_size,
                options.creation_rate_limit,
            )),
            memory: Arc::new(MemoryBudget::new(options.max_total_memory_bytes)),
            options,
            created: AtomicU64::new(0),
            registry: Mutex::new(Registry {
                modules: HashMap::new(),
                recent: VecDeque::new(),
                recent_bytes: 0,
                templates: HashMap::new(),
                free_slots: Vec::new(),
                slots: 0,
                template_ids: 0,
            }),
        }))
    }

    fn registry(&self) -> MutexGuard<'_, Registry<E>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Vets and compiles a module, or finds it compiled already.
    ///
    /// Takes milliseconds to seconds where it compiles; other loads go on meanwhile.
    ///
    /// # Errors
    /// The first problem that [`inspect`](crate::inspect) would show, the content not being the pinned one, or the compiler's refusal.
    pub fn load(self: &Arc<Self>, source: ModuleSource<'_>) -> Result<Arc<Module<E>>, PoolError> {
        let digest = sha256(source.bytes);
        if let Some(expected) = source.expected_sha256
            && expected != digest
        {
            return Err(PoolError::new(
                PoolErrorKind::PinMismatch,
                format!(
                    "module {:?} has sha256 {}, pinned is {}",
                    source.id,
                    hex(&digest),
                    hex(&expected)
                ),
            ));
        }
        let known = self.registry().modules.get(&digest).and_then(Weak::upgrade);
        let compiled = match known {
            Some(compiled) => compiled,
            None => self.compile(source, digest)?,
        };
        self.touch(&compiled);
        Ok(Arc::new(Module {
            id: source.id.to_owned(),
            pool: Arc::clone(self),
            compiled,
        }))
    }

    /// A module has been loaded, or compiled in another way.
    pub(crate) fn touch(&self, compiled: &Arc<Compiled<E>>) {
        let limit = self.options.unused_module_bytes;
        self.registry().touch(compiled, limit);
    }

    fn compile(
        &self,
        source: ModuleSource<'_>,
        digest: [u8; 32],
    ) -> Result<Arc<Compiled<E>>, PoolError> {
        let named = |error: &PoolError| {
            PoolError::new(error.kind(), format!("module {:?} {error}", source.id))
        };
        let (facts, problems) = self.engine.vet(source.bytes, &self.options.caps);
        if let Some(problem) = problems.first() {
            return Err(named(problem));
        }
        let Some(abi) = facts.abi else {
            return Err(PoolError::new(
                PoolErrorKind::Exports,
                format!("module {:?} is not a module of either ABI", source.id),
            ));
        };
        let (code, code_bytes) = self
            .code(source.bytes, &digest, &facts, false)
            .map_err(|error| named(&error))?;
        let compiled = Arc::new(Compiled::new(
            digest,
            abi,
            facts,
            (code, code_bytes),
            source.bytes,
        ));
        // Two threads that load the same content at once compile it twice and agree on one.
        let mut registry = self.registry();
        if let Some(other) = registry.modules.get(&digest).and_then(Weak::upgrade) {
            return Ok(other);
        }
        registry.modules.insert(digest, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    /// Code of a vetted module and about how many bytes it has: from the cache, or compiled and put there.
    pub(crate) fn code(
        &self,
        bytes: &[u8],
        sha256: &[u8; 32],
        facts: &Facts,
        resettable: bool,
    ) -> Result<(E::Code, usize), PoolError> {
        let compile = || {
            let code = self
                .engine
                .compile(bytes, facts, &self.options.caps, resettable)?;
            // Costs little beside compiling, and is the only way to know how much there is.
            let frozen = self.engine.freeze(&code);
            Ok((code, frozen))
        };
        let size = |frozen: &Option<Vec<u8>>| frozen.as_ref().map_or(bytes.len(), Vec::len);
        let Some(artifacts) = &self.artifacts else {
            return compile().map(|(code, frozen)| (code, size(&frozen)));
        };
        let fingerprint = self.engine.fingerprint();
        let name = Artifacts::name(&[sha256, fingerprint.as_bytes(), &[u8::from(resettable)]]);
        if let Some(kept) = artifacts.load(&name) {
            match self.engine.revive(&kept, facts, resettable) {
                Ok(code) => return Ok((code, kept.bytes().len())),
                Err(error) => {
                    tracing::warn!(name, %error, "a cached compiled module is not usable; it is compiled again");
                }
            }
        }
        let (code, frozen) = compile()?;
        if let Some(frozen) = &frozen {
            artifacts.store(&name, frozen);
        }
        Ok((code, size(&frozen)))
    }

    /// The shelves of one lane. They stay on the thread that makes them.
    pub fn shelves(self: &Arc<Self>) -> Shelves<E> {
        Shelves::new(Arc::clone(self))
    }

    /// Whom to tell when a lane begins to wait for an instance to go: it is called on the waiting thread, again and again as long as
    /// the wait lasts, and should see to it that lanes which are idle [give way](Shelves::give_way). Set once; later ones are not told.
    pub fn when_wanted(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.instances.when_wanted(Box::new(tell));
    }

    /// Instances that are alive now, over all lanes.
    pub fn instances(&self) -> usize {
        self.instances.live()
    }

    /// Instances that were made, those that are gone included.
    pub fn instances_created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }

    /// Bytes that all instances may have together.
    pub fn memory_limit_bytes(&self) -> u64 {
        self.options.max_total_memory_bytes
    }

    /// Bytes that all instances have now.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.used()
    }

    /// The template of this key: the one that is alive, or what `make` makes of a slot and an id.
    pub(crate) fn template(
        &self,
        key: TemplateKey,
        make: impl FnOnce(usize, u64) -> Template<E>,
    ) -> Arc<Template<E>> {
        let mut registry = self.registry();
        if let Some(template) = registry.templates.get(&key).and_then(Weak::upgrade) {
            return template;
        }
        let slot = registry.free_slots.pop().unwrap_or_else(|| {
            registry.slots += 1;
            registry.slots - 1
        });
        registry.template_ids += 1;
        let template = Arc::new(make(slot, registry.template_ids));
        registry.templates.insert(key, Arc::downgrade(&template));
        template
    }

    /// A template is gone: its slot may be used again. The shelves tell a new template of the same slot by its id.
    pub(crate) fn forget_template(&self, key: &TemplateKey, slot: usize) {
        let mut registry = self.registry();
        registry.free_slots.push(slot);
        // Another of the same key may have been made since.
        if registry
            .templates
            .get(key)
            .is_some_and(|template| template.strong_count() == 0)
        {
            registry.templates.remove(key);
        }
    }
}

impl<E: Engine> Registry<E> {
    /// Moves a module to the back of what is kept, and lets go of what was not loaded for longest beyond the limit.
    fn touch(&mut self, compiled: &Arc<Compiled<E>>, limit: usize) {
        self.recent.retain(|(other, bytes)| {
            let stays = !Arc::ptr_eq(other, compiled);
            if !stays {
                self.recent_bytes -= bytes;
            }
            stays
        });
        let bytes = compiled.weight();
        self.recent_bytes += bytes;
        self.recent.push_back((Arc::clone(compiled), bytes));
        while self.recent_bytes > limit
            && let Some((_, bytes)) = self.recent.pop_front()
        {
            self.recent_bytes -= bytes;
        }
        self.modules.retain(|_, module| module.strong_count() > 0);
    }
}

impl<E: Engine> fmt::Debug for Pool<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
