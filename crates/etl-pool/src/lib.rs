//! Compiled modules, and warm, bounded, stoppable instances of them.
//!
//! What it is for: a hostile or broken module must never hurt the program that runs it, and a good one must cost little more than its own
//! instructions.
//!
//! How it works: a [`Pool`] vets and compiles each module once. A [`Template`] is a module with its limits and configuration.
//! Each thread that calls has [`Shelves`] of its own, with warm instances that nobody else touches, so that a call takes no lock.
//! A guest is stopped at its deadline by checks that are written into its code; see `instrument`.
//!
//! What it refuses: modules that import anything not in [`OFFERS`], that use features beyond plain WebAssembly with SIMD and bulk
//! memory, or that exceed [`Caps`]; and to trust any pointer, length or frame that comes out of a guest.
//!
//! [`testing`] has an engine without WebAssembly and the suite that both engines pass.
//!
//! Only `engine/native` names the runtime, and only there is code `unsafe`.

#![deny(unsafe_code)]

mod artifacts;
mod budget;
mod caps;
mod engine;
mod error;
mod execution;
mod facts;
mod guest;
mod guest_log;
mod instrument;
mod module;
mod offer;
mod pool;
mod random;
mod results;
mod settings;
mod shelves;
mod stats;
mod template;
pub mod testing;
mod verdicts;
mod vet;

pub use artifacts::Authentic;
pub use caps::Caps;
pub use engine::{Engine, Instance, MemoryLayout, NativeEngine, Setup};
pub use error::{CallError, FailureKind, PoolError, PoolErrorKind};
pub use execution::Execution;
pub use facts::{Abi, Export, Facts, Import};
pub use module::{Module, ModuleReport, ModuleSource, inspect};
pub use offer::{OFFERS, Offer};
pub use pool::{MOST_RESERVED, Pool, PoolOptions};
pub use settings::Settings;
pub use shelves::Shelves;
pub use stats::{TemplateStats, Waits};
pub use template::{InstanceOptions, Isolation, Template};
pub use verdicts::Verdicts;
