//! From the bytes of a vetted module to code that can be stopped.

use std::num::NonZero;
use std::time::Instant;

use wasmer::sys::{
    CompilerConfig, Cranelift, CraneliftOptLevel, EngineBuilder, Features, NativeEngineExt,
};
use wasmer::{Engine, Module};
use wasmer_types::{CompilationProgressCallback, UserAbort, VERSION};

use super::super::MemoryLayout;
use super::memory::CompilingTunables;
use crate::artifacts::Authentic;
use crate::caps::Caps;
use crate::error::{PoolError, PoolErrorKind};
use crate::facts::{Abi, Facts};
use crate::instrument::{INSTRUMENT_VERSION, instrument};
use crate::offer::{self, Offer};

/// A compiled module.
///
/// It has an engine of its own: the runtime keeps all the code that an engine has ever made for as long as the engine lives, and a pool
/// lives longer than its modules do.
pub struct Code {
    pub(super) module: Module,
    // Behind the module, which registers where its code lies, and so is dropped first.
    pub(super) engine: Engine,
    pub(super) layout: MemoryLayout,
    pub(super) abi: Abi,
    /// What it imports, in the order of its import section; the call for the next slice comes behind.
    pub(super) imports: Vec<&'static Offer>,
    pub(super) facts: Facts,
    /// Whether writes are noted, so that instances can go back to their first state.
    pub(super) resettable: bool,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code")
            .field("abi", &self.abi)
            .finish_non_exhaustive()
    }
}

/// How many functions are compiled at once: each may take some hundred megabytes while it is.
fn threads() -> NonZero<usize> {
    const MOST: NonZero<usize> = NonZero::new(4).unwrap();
    std::thread::available_parallelism().map_or(NonZero::<usize>::MIN, |all| all.min(MOST))
}

/// The compiler, with the features that vetting accepts, and a second memory for the map of `instrument`.
fn engine(layout: MemoryLayout) -> Engine {
    let mut compiler = Cranelift::default();
    compiler.opt_level(CraneliftOptLevel::Speed);
    compiler.num_threads(threads());
    let mut features = Features::new();
    features
        .threads(false)
        .multi_memory(true)
        .exceptions(false)
        .memory64(false);
    let compiler: Box<dyn CompilerConfig> = Box::new(compiler);
    let mut engine: Engine = EngineBuilder::new(compiler)
        .set_features(Some(features))
        .engine()
        .into();
    engine.set_tunables(CompilingTunables(layout));
    engine
}

/// What makes the code, part by part. The runtime asks for an exact version of the first alone, and none of them tells its own; a test compares this
/// with what is locked.
const COMPILER: &str = "cranelift-assembler-x64 0.135.8, cranelift-assembler-x64-meta 0.135.8, \
    cranelift-codegen 0.135.0, cranelift-codegen-meta 0.135.8, cranelift-codegen-shared 0.135.8, \
    cranelift-frontend 0.135.0, cranelift-isle 0.135.0, regalloc2 0.15.2";

/// What decides the code that is made of a module, apart from the module.
pub(super) fn fingerprint(layout: MemoryLayout) -> String {
    let engine = engine(layout);
    let target = engine.target();
    let mut features: Vec<String> = target
        .cpu_features()
        .iter()
        .map(|feature| feature.to_string())
        .collect();
    features.sort_unstable();
    format!(
        "wasmer {VERSION} speed; {COMPILER}; {}; {}; instrument {INSTRUMENT_VERSION}; {layout:?}",
        target.triple(),
        features.join(",")
    )
}

fn refused(message: impl std::fmt::Display) -> PoolError {
    PoolError::new(
        PoolErrorKind::Compile,
        format!("cannot be compiled: {message}"),
    )
}

impl Code {
    pub(super) fn compile(
        layout: MemoryLayout,
        bytes: &[u8],
        facts: &Facts,
        caps: &Caps,
        resettable: bool,
    ) -> Result<Self, PoolError> {
        let instrumented = instrument(bytes, resettable).map_err(refused)?;
        let started = Instant::now();
        let limit = caps.compile_time;
        let progress = CompilationProgressCallback::new(move |_| {
            if started.elapsed() < limit {
                Ok(())
            } else {
                Err(UserAbort::new(format!("it takes longer than {limit:?}")))
            }
        });
        let engine = engine(layout);
        let module = engine
            .new_module_with_progress(&instrumented, progress)
            .map_err(refused)?;
        Self::new(module, engine, layout, facts, resettable)
    }

    fn new(
        module: Module,
        engine: Engine,
        layout: MemoryLayout,
        facts: &Facts,
        resettable: bool,
    ) -> Result<Self, PoolError> {
        let abi = facts
            .abi
            .ok_or_else(|| refused("it is not a module of either ABI"))?;
        let mut imports = Vec::with_capacity(facts.imports.len());
        for import in &facts.imports {
            let offer = offer::find(&import.module, &import.name)
                .ok_or_else(|| refused(format!("import {}.{}", import.module, import.name)))?;
            imports.push(offer);
        }
        Ok(Self {
            module,
            engine,
            layout,
            abi,
            imports,
            facts: facts.clone(),
            resettable,
        })
    }

    pub(super) fn freeze(&self) -> Option<Vec<u8>> {
        self.module.serialize().ok().map(|bytes| bytes.to_vec())
    }

    pub(super) fn revive(
        layout: MemoryLayout,
        bytes: &Authentic,
        facts: &Facts,
        resettable: bool,
    ) -> Result<Self, PoolError> {
        let engine = engine(layout);
        // SAFETY: the bytes are what `freeze` made: nobody without the key can have made or changed them, and they are looked for
        // under a name that covers the module, this runtime's version, the processor's features and the rewriting.
        let module = unsafe { Module::deserialize(&engine, bytes.bytes()) }.map_err(refused)?;
        Self::new(module, engine, layout, facts, resettable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packages that are locked, with their versions.
    fn locked() -> Vec<(String, String)> {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"))
                .expect("the workspace has a lock file");
        let field = |line: Option<&str>, name: &str| {
            line.and_then(|line| line.strip_prefix(name))
                .and_then(|rest| rest.strip_prefix(" = \"")?.strip_suffix('"'))
                .map(str::to_owned)
        };
        lock.split("[[package]]\n")
            .filter_map(|package| {
                let mut lines = package.lines();
                Some((
                    field(lines.next(), "name")?,
                    field(lines.next(), "version")?,
                ))
            })
            .collect()
    }

    /// Code that another version made must not be loaded, so the name of an artefact has to change with each of them.
    #[test]
    fn artefacts_carry_the_versions_that_are_locked() {
        let locked = locked();
        for needed in ["wasmer", "wasmer-compiler-cranelift", "wasmer-vm"] {
            assert!(
                locked.iter().any(|(name, _)| name == needed),
                "{needed} is not locked"
            );
        }
        for (name, version) in &locked {
            if name.starts_with("wasmer") {
                assert_eq!(version, VERSION, "{name}");
            }
        }
        let makes_code = |name: &str| {
            ["cranelift-codegen", "cranelift-assembler", "cranelift-isle"]
                .iter()
                .any(|part| name.starts_with(part))
                || ["cranelift-frontend", "regalloc2"].contains(&name)
        };
        let compiler: Vec<String> = locked
            .iter()
            .filter(|(name, _)| makes_code(name))
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        assert_eq!(COMPILER, compiler.join(", "), "say so in COMPILER");
        let fingerprint = fingerprint(MemoryLayout::Compact);
        assert!(
            fingerprint.starts_with(&format!("wasmer {VERSION} speed; {COMPILER}; ")),
            "{fingerprint}"
        );
    }
}
