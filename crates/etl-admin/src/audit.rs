//! What happened: a line for every change, before it takes effect and after, and for every attempt that was refused.
//!
//! Lines are JSON, each with its number, the hash of the one before it and its own (`line`), appended and on the disk before anything
//! goes on (`log`). Whoever changes, removes or reorders lines breaks the chain, and `verify` says where. Lines that are cut off
//! the end are found by the file `head`, which holds the last hash; a hash that was noted elsewhere finds even a log that was written anew.
//!
//! | event | says |
//! |---|---|
//! | `started` | a process serves the API, from this generation on |
//! | `begun` | a change, or redriving, is about to be made: who, by which credential, from where, what, on which generation |
//! | `done` | what the line `of` began was done: the generation after it and what differs, or what was redriven |
//! | `refused` | what the line `of` began was not done, or an attempt was not let through, and why |
//! | `failed` | the disk, or a mistake in the program, broke what the line `of` began; if the configuration changed, `elsewhere` follows |
//! | `interrupted` | the process ended between the line `of` and its answer: what runs now was loaded from files by another process |
//! | `elsewhere` | the configuration was changed by other ways than the API |
//! | `repaired` | half a line was at the end of the log, as after a power failure, and was cut off |

mod difference;
mod line;
mod log;
mod tail;
mod verify;

pub(crate) use difference::{difference, fields};
pub use log::AuditError;
pub(crate) use log::{Attempt, AuditLog};
pub(crate) use tail::tail;
pub use verify::{Finding, Verified, verify};
