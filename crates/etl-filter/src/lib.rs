//! Being written.
#![forbid(unsafe_code)]

#[cfg(feature = "conditions")]
pub mod conditions;
