//! From the bytes of a vetted module to code that can be stopped.

use std::time::Instant;

use wasmer::sys::{
    CompilerConfig, Cranelift, CraneliftOptLevel, EngineBuilder, Features, NativeEngineExt,
};
use wasmer::{Engine, Module};
use wasmer_types::{CompilationProgressCallback, UserAbort};

use crate::caps::Caps;
use crate::error::{PoolError, PoolErrorKind};
use crate::facts::{Abi, Facts};
use crate::instrument::instrument;
use crate::offer::{self, Offer};

/// A compiled module.
pub struct Code {
    pub(super) module: Module,
    pub(super) abi: Abi,
    /// What it imports, in the order of its import section; the call for the next slice comes behind.
    pub(super) imports: Vec<&'static Offer>,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code")
            .field("abi", &self.abi)
            .finish_non_exhaustive()
    }
}

/// The compiler, with the features that vetting accepts and no others.
pub(super) fn engine() -> Engine {
    let mut compiler = Cranelift::default();
    compiler.opt_level(CraneliftOptLevel::Speed);
    let mut features = Features::new();
    features
        .threads(false)
        .multi_memory(false)
        .exceptions(false)
        .memory64(false);
    let compiler: Box<dyn CompilerConfig> = Box::new(compiler);
    EngineBuilder::new(compiler)
        .set_features(Some(features))
        .engine()
        .into()
}

impl Code {
    pub(super) fn compile(
        engine: &Engine,
        bytes: &[u8],
        facts: &Facts,
        caps: &Caps,
    ) -> Result<Self, PoolError> {
        let refused = |message: String| {
            PoolError::new(
                PoolErrorKind::Compile,
                format!("cannot be compiled: {message}"),
            )
        };
        let abi = facts
            .abi
            .ok_or_else(|| refused("it is not a module of either ABI".to_owned()))?;
        let mut imports = Vec::with_capacity(facts.imports.len());
        for import in &facts.imports {
            let offer = offer::find(&import.module, &import.name)
                .ok_or_else(|| refused(format!("import {}.{}", import.module, import.name)))?;
            imports.push(offer);
        }
        let instrumented = instrument(bytes).map_err(refused)?;
        let started = Instant::now();
        let limit = caps.compile_time;
        let progress = CompilationProgressCallback::new(move |_| {
            if started.elapsed() < limit {
                Ok(())
            } else {
                Err(UserAbort::new(format!("it takes longer than {limit:?}")))
            }
        });
        let module = engine
            .new_module_with_progress(&instrumented, progress)
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            module,
            abi,
            imports,
        })
    }
}
