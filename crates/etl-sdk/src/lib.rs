//! Write a module for the record pipeline: one function in, one `.wasm` out.
//!
//! A module is a function over a borrowed [`Record`], optionally a config of its own, and an [`Output`] that collects what is to change.
//! This is a whole one:
//!
//! ```
//! use etl_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     limit: f64,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { limit: 30.0 }
//!     }
//! }
//!
//! #[transform]
//! fn heat_alarm(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
//!     let reading: serde_json::Value = record.json()?;
//!     let celsius = reading["celsius"].as_f64().ok_or(Error::permanent("celsius is missing"))?;
//!     out.merge_patch(&json!({ "hot": celsius > config.limit }))
//! }
//!
//! // Natively the same function runs in ordinary tests, through the same bytes as in a host.
//! use etl_sdk::testing::{TestRecord, run};
//!
//! let outcome = run(heat_alarm, TestRecord::new("sensors").value(r#"{"celsius":41}"#), json!({ "limit": 40 }));
//! assert_eq!(outcome.json(), json!({ "celsius": 41, "hot": true }));
//!
//! let outcome = run(heat_alarm, TestRecord::new("sensors").value("{}"), ());
//! assert_eq!(outcome.failure().unwrap().message, "celsius is missing");
//! ```
//!
//! Its `Cargo.toml` says `crate-type = ["cdylib", "rlib"]`, and `cargo build --target wasm32-unknown-unknown --release` gives
//! the file. Without a config the second parameter is left out.
//!
//! - What can be changed: [`Output`]. What can be read: [`Record`].
//! - Failing: return an [`Error`], or use `?` on any `std` error. [`Error::retryable`] tells the host that trying again can help.
//! - Looking out: [`now`], [`random`], [`counter`], and the macros [`error!`], [`warn!`], [`info!`], [`debug!`] and [`trace!`].
//! - The config is read once per instance; one that does not fit [`Deserialize`](serde::Deserialize) is refused with its message
//!   before any record is seen.
//! - A panic stops the instance. Its message is logged first (feature `panic-messages`, on by default).
//!
//! How it works: [`guest::Guest`] reads a frame of records, calls the function for each, and writes a frame of verdicts, all in
//! buffers that are kept from call to call. `#[transform]` exports it. There is no unsafe code but the attribute that names
//! the exports and the declaration of the imports.
#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]
#![deny(unsafe_code)]

mod error;
#[doc(hidden)]
pub mod guest;
mod host;
mod output;
mod record;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use error::{Error, Result};
pub use etl_abi::{Headers, LogLevel};
pub use etl_sdk_macros::transform;
pub use guest::NoConfig;
#[doc(hidden)]
pub use host::log;
pub use host::{counter, now, random};
pub use output::{NewRecord, Output};
pub use record::Record;
pub use {serde, serde_json};

/// Everything that a module usually names.
pub mod prelude {
    pub use crate::{
        Error, NewRecord, Output, Record, Result, counter, debug, error, info, now, random, trace,
        transform, warn,
    };
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{self, Value, json};
}

/// Logs a line at a [`LogLevel`]: `log!(LogLevel::Info, "{} records", count)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => { $crate::log($level, ::core::format_args!($($message)+)) };
}

/// Logs that something failed.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::LogLevel::Error, $($message)+) };
}

/// Logs that something is odd.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log!($crate::LogLevel::Warn, $($message)+) };
}

/// Logs what is worth knowing.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::LogLevel::Info, $($message)+) };
}

/// Logs what helps to debug the module.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::LogLevel::Debug, $($message)+) };
}

/// Logs every step.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log!($crate::LogLevel::Trace, $($message)+) };
}

/// The module in the README is an example like any other: it must compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
