//! The engine that runs guests: wasmer with its Cranelift compiler. Nothing outside this folder names it.
//!
//! - `compile`: rewrites a module so that it can be stopped, and compiles it within its time;
//! - `leash` and `watchdog`: how a guest is stopped;
//! - `memory`: limits and accounts for linear memories and tables;
//! - `compact`: memories that take little address space, each in a `room`;
//! - `imports`: the host functions of `offer`;
//! - `instance`: instances and calls into them;
//! - `snapshot`: their first state, and the way back to it;
//! - `failure`: traps, in our words.

#![allow(unsafe_code)]

mod compact;
mod compile;
mod failure;
mod imports;
mod instance;
mod leash;
mod memory;
mod room;
mod snapshot;
mod watchdog;

use std::sync::Arc;
use std::time::Instant;

use super::{Engine, MemoryLayout, Setup};
use crate::artifacts::Authentic;
use crate::caps::Caps;
use crate::error::{CallError, PoolError, PoolErrorKind};
use crate::facts::Facts;
use crate::vet;

pub use compile::Code;
pub use instance::NativeInstance;
pub use leash::Leash;
use watchdog::Watchdog;

/// Compiles to machine code and runs it in this process.
pub struct NativeEngine {
    layout: MemoryLayout,
    fingerprint: String,
    watchdog: Watchdog,
}

impl NativeEngine {
    /// An engine for this machine, with the thread that stops its guests.
    ///
    /// # Errors
    /// [`PoolErrorKind::Options`] where no thread can be had.
    pub fn new(layout: MemoryLayout) -> Result<Self, PoolError> {
        Ok(Self {
            layout,
            fingerprint: compile::fingerprint(layout),
            watchdog: Watchdog::start().map_err(|error| {
                PoolError::new(
                    PoolErrorKind::Options,
                    format!("no thread to stop guests: {error}"),
                )
            })?,
        })
    }
}

impl std::fmt::Debug for NativeEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeEngine").finish_non_exhaustive()
    }
}

impl Engine for NativeEngine {
    type Code = Code;
    type Instance = NativeInstance;
    type Lane = Arc<Leash>;

    fn lane(&self) -> Arc<Leash> {
        self.watchdog.lane()
    }

    fn vet(&self, bytes: &[u8], caps: &Caps) -> (Facts, Vec<PoolError>) {
        let vetted = vet::vet(bytes, caps);
        (vetted.facts, vetted.problems)
    }

    fn compile(
        &self,
        bytes: &[u8],
        facts: &Facts,
        caps: &Caps,
        resettable: bool,
    ) -> Result<Code, PoolError> {
        Code::compile(self.layout, bytes, facts, caps, resettable)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn freeze(&self, code: &Code) -> Option<Vec<u8>> {
        code.freeze()
    }

    fn revive(
        &self,
        bytes: &Authentic,
        facts: &Facts,
        resettable: bool,
    ) -> Result<Code, PoolError> {
        Code::revive(self.layout, bytes, facts, resettable)
    }

    fn instantiate(
        &self,
        code: &Code,
        setup: &Setup,
        lane: &Arc<Leash>,
        deadline: Instant,
    ) -> Result<NativeInstance, CallError> {
        NativeInstance::new(code, setup, lane, deadline)
    }
}
