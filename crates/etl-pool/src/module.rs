//! Modules: loaded once, shared by everybody.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::caps::Caps;
use crate::engine::{Engine, NativeEngine};
use crate::error::PoolError;
use crate::facts::{Abi, Facts};
use crate::pool::Pool;

/// A module to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSource<'a> {
    /// The name under which it is configured; logs and errors show it.
    pub id: &'a str,
    /// The `.wasm` file.
    pub bytes: &'a [u8],
    /// The sha256 that the content must have, where it is pinned.
    pub expected_sha256: Option<[u8; 32]>,
}

/// A compiled module under its name. Cheap to clone as an `Arc`, shared by all threads.
pub struct Module<E: Engine = NativeEngine> {
    pub(crate) id: String,
    pub(crate) pool: Arc<Pool<E>>,
    pub(crate) compiled: Arc<Compiled<E>>,
}

/// Compiled code, once for each content.
pub(crate) struct Compiled<E: Engine> {
    pub(crate) sha256: [u8; 32],
    pub(crate) size: usize,
    code_bytes: usize,
    pub(crate) abi: Abi,
    pub(crate) facts: Facts,
    pub(crate) code: E::Code,
    /// The same, for instances that go back to their first state: compiled when a template first asks for it.
    resettable: OnceLock<Result<(E::Code, usize), PoolError>>,
    bytes: Vec<u8>,
}

impl<E: Engine> Compiled<E> {
    pub(crate) fn new(
        sha256: [u8; 32],
        abi: Abi,
        facts: Facts,
        (code, code_bytes): (E::Code, usize),
        bytes: &[u8],
    ) -> Self {
        Self {
            sha256,
            size: bytes.len(),
            code_bytes,
            abi,
            facts,
            code,
            resettable: OnceLock::new(),
            bytes: bytes.to_vec(),
        }
    }

    /// The code for instances that go back to their first state.
    pub(crate) fn resettable(&self, pool: &Pool<E>) -> Result<&E::Code, PoolError> {
        let compile = || pool.code(&self.bytes, &self.sha256, &self.facts, true);
        match self.resettable.get_or_init(compile) {
            Ok((code, _)) => Ok(code),
            Err(error) => Err(error.clone()),
        }
    }

    /// Bytes that keeping it keeps: the module, and its code as far as it is compiled.
    pub(crate) fn weight(&self) -> usize {
        let resettable = match self.resettable.get() {
            Some(Ok((_, bytes))) => *bytes,
            _ => 0,
        };
        self.bytes.len() + self.code_bytes + resettable
    }
}

impl<E: Engine> Module<E> {
    /// The name under which it is configured.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The sha256 of its bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.compiled.sha256
    }

    /// Its size in bytes, as a file.
    pub fn size(&self) -> usize {
        self.compiled.size
    }

    /// Which contract it fulfils.
    pub fn abi(&self) -> Abi {
        self.compiled.abi
    }

    /// What its bytes say about it: imports, exports, memory.
    pub fn facts(&self) -> &Facts {
        &self.compiled.facts
    }
}

impl<E: Engine> fmt::Debug for Module<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("id", &self.id)
            .field("abi", &self.compiled.abi)
            .field("sha256", &hex(&self.compiled.sha256))
            .finish_non_exhaustive()
    }
}

/// What [`inspect`] finds.
#[derive(Clone, Debug)]
pub struct ModuleReport {
    /// Its size in bytes.
    pub size: usize,
    /// The sha256 of its bytes.
    pub sha256: [u8; 32],
    /// What the bytes say, as far as they could be read.
    pub facts: Facts,
    /// Everything that speaks against loading it; empty where it loads.
    pub problems: Vec<PoolError>,
}

/// Reads a module without compiling it, and says everything about it that there is to say.
///
/// ```
/// let report = etl_pool::inspect(b"not wasm");
/// assert_eq!(report.problems.len(), 1);
/// assert_eq!(report.facts.abi, None);
/// ```
pub fn inspect(bytes: &[u8]) -> ModuleReport {
    let vetted = crate::vet::vet(bytes, &Caps::default());
    ModuleReport {
        size: bytes.len(),
        sha256: sha256(bytes),
        facts: vetted.facts,
        problems: vetted.problems,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
