//! The seam between the pool and what runs WebAssembly.
//!
//! The pool decides which instance serves which records, how many there may be and what a failure costs. An [`Engine`] compiles
//! and instantiates; an [`Instance`] is one guest with its own memory, used by one thread at a time. There is a real engine
//! (`native`, the only place that names the runtime) and a fake one in [`testing`](crate::testing), and both run the suite that
//! stands there.

mod native;

use std::sync::Arc;
use std::time::Instant;

use crate::artifacts::Authentic;
use crate::caps::Caps;
use crate::error::{CallError, PoolError};
use crate::facts::Facts;
use crate::guest::Guest;
use crate::settings::Settings;

pub use native::NativeEngine;

/// How the memories of instances lie in the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryLayout {
    /// Each reserves 8 GiB of address space, so that code needs no checks: about 16,000 fit into one process.
    Reserved,
    /// Each takes little more than it holds, and code checks every access.
    Compact,
}

/// What an instance may have, and whom it speaks for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Bytes of linear memory that it may have at most.
    pub memory_limit_bytes: u64,
    /// Elements that each of its tables may have at most.
    pub table_elements: u32,
    /// The module's configuration as JSON, for `etl_init_v1`.
    pub config: Settings,
    /// What its instances share: identity, log, budget.
    pub guest: Arc<Guest>,
}

/// Compiles modules and makes instances of them.
pub trait Engine: Send + Sync + 'static {
    /// A compiled module, shared by all threads.
    type Code: Send + Sync + 'static;
    /// One guest.
    type Instance: Instance;
    /// What the instances of one thread share. At most one of them runs at a time.
    type Lane: 'static;

    /// What a thread needs that is going to make instances.
    fn lane(&self) -> Self::Lane;

    /// Reads a module without compiling it: its facts, and everything that speaks against loading it.
    fn vet(&self, bytes: &[u8], caps: &Caps) -> (Facts, Vec<PoolError>);

    /// Compiles a module that was vetted without a problem; `resettable` so that its instances can go back to their first state.
    ///
    /// # Errors
    /// What the compiler refuses, and running out of [`Caps::compile_time`].
    fn compile(
        &self,
        bytes: &[u8],
        facts: &Facts,
        caps: &Caps,
        resettable: bool,
    ) -> Result<Self::Code, PoolError>;

    /// Everything about the engine that decides what code it makes and can load: its version, the processor, its own rewriting.
    fn fingerprint(&self) -> String;

    /// Code as bytes that [`revive`](Self::revive) takes, where the engine can do that.
    fn freeze(&self, code: &Self::Code) -> Option<Vec<u8>>;

    /// Code out of bytes that [`freeze`](Self::freeze) made, on an engine with the same fingerprint, for the same module.
    ///
    /// # Errors
    /// Where the engine does not recognise them.
    fn revive(
        &self,
        bytes: &Authentic,
        facts: &Facts,
        resettable: bool,
    ) -> Result<Self::Code, PoolError>;

    /// Makes an instance and brings it to where it can serve: start function, `_initialize`, `etl_init_v1`.
    ///
    /// # Errors
    /// Those of a call: the guest's own code runs here.
    fn instantiate(
        &self,
        code: &Self::Code,
        setup: &Setup,
        lane: &Self::Lane,
        deadline: Instant,
    ) -> Result<Self::Instance, CallError>;
}

/// One guest with its own memory.
///
/// After any error an instance is in an unknown state; the pool discards it.
pub trait Instance: 'static {
    /// ABI v1: asks the guest for `len` bytes, lets `write` fill them in place, and hands over the guest's reply, in place.
    ///
    /// `None` means that the guest keeps every record. The reply lies within the guest's memory; nothing else about it has been
    /// checked.
    ///
    /// # Errors
    /// A trap, a timeout, pointers that leave the guest's memory, or no memory for the frame.
    fn process(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
        deadline: Instant,
    ) -> Result<Option<&[u8]>, CallError>;

    /// Legacy ABI: one value in, one value out; `read` sees the output in place, before anything is freed.
    ///
    /// # Errors
    /// As for [`process`](Self::process), and the guest's own refusal.
    fn transform<T>(
        &mut self,
        value: &[u8],
        read: impl FnOnce(&[u8]) -> T,
        deadline: Instant,
    ) -> Result<T, CallError>;

    /// Puts the state back to what it was just after the instance was made: memory, globals, tables.
    ///
    /// `false` where that is not possible, always so for code that was not compiled for it; the instance is then given up.
    fn reset(&mut self) -> bool;

    /// Bytes of linear memory that it has now.
    fn memory_bytes(&self) -> u64;
}
