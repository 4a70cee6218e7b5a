//! The bytes that cross the boundary between the host and a guest module, version 1.
//!
//! What it is for: host and guest exchange one **frame** of records and one frame of verdicts per call. This crate writes and
//! reads both, on both sides; `docs/abi.md` is the normative description and `tests/vectors/` holds frames that a guest written
//! in any language can be checked against.
//!
//! How it works: little endian throughout, a 16-byte frame header, then a table with one fixed-width entry per record, then
//! the bytes that the entries point to. Offsets count from the start of the frame. Nothing needs alignment.
//!
//! What it refuses: an offset, length or count that leaves its frame, an unknown version, kind or flag, a topic or header
//! name that is not UTF-8, and a response whose regions together are longer than the response itself (so that checking and using
//! a frame costs time in proportion to its length, whatever overlaps in it). It never panics on bytes, on 32-bit targets either.
//!
//! ```
//! use etl_abi::{request, response::{ResponseReader, ResponseWriter}, NewRecord, Verdict};
//!
//! // The host writes records straight into guest memory ...
//! let records = [NewRecord { topic: "sensors", value: b"21", ..NewRecord::default() }];
//! let mut memory = vec![0; request::encoded_len(&records)?];
//! let length = request::encode(&records, &mut memory)?;
//!
//! // ... the guest reads them and answers ...
//! let mut writer = ResponseWriter::new();
//! let reader = request::RequestReader::parse(&memory[..length])?;
//! writer.begin(reader.len());
//! for record in reader.iter() {
//!     assert_eq!(record?.value(), b"21");
//!     writer.set_value(b"22");
//!     writer.end_record();
//! }
//! let answer = writer.finish()?.expect("something changed");
//!
//! // ... and the host checks the whole answer once, after which nothing in it can fail.
//! let verdicts = ResponseReader::parse(answer, records.len())?;
//! assert!(matches!(verdicts.verdict(0), Verdict::SetValue(b"22")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod record;
mod region;
pub mod request;
pub mod response;

pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use record::{Headers, NewRecord, RecordFields, RecordRef};
pub use response::{Failure, Op, Ops, Verdict};

/// The version that this crate speaks: the `u16` at byte 4 of every frame.
pub const VERSION: u16 = 1;

/// Names of what a v1 module exports and may import.
pub mod names {
    /// The guest's linear memory (export).
    pub const MEMORY: &str = "memory";
    /// `(len: i32) -> i32`: room for a frame of `len` bytes (export).
    pub const ALLOC: &str = "etl_alloc_v1";
    /// `(ptr: i32, len: i32) -> i64`: one request frame in, one packed response frame out (export).
    pub const PROCESS: &str = "etl_process_v1";
    /// `(ptr: i32, len: i32) -> i64`: the module's `custom_config` as JSON, once per instance (optional export).
    pub const INIT: &str = "etl_init_v1";
    /// `()`: called once before anything else (optional export).
    pub const INITIALIZE: &str = "_initialize";
    /// The module name of every import below.
    pub const IMPORT_MODULE: &str = "etl";
    /// `(level: i32, ptr: i32, len: i32)`: one log line (import).
    pub const LOG: &str = "log";
    /// `() -> i64`: Unix time in milliseconds (import).
    pub const NOW: &str = "now";
    /// `() -> i64`: 64 random bits (import).
    pub const RANDOM: &str = "random";
    /// `(name_ptr: i32, name_len: i32, delta: i64)`: adds to a counter (import).
    pub const COUNTER: &str = "counter";
}

/// How much a log line matters: the first argument of the `etl.log` import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// Worth knowing.
    Info = 3,
    /// For whoever debugs the module.
    Debug = 4,
    /// Every step.
    Trace = 5,
}

impl LogLevel {
    /// The level of a number from the guest; a number outside 1 to 5 counts as the nearest level.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            0 | 1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// Packs a pointer and a length into what `etl_process_v1` and `etl_init_v1` return: pointer in the high half.
///
/// ```
/// assert_eq!(etl_abi::unpack(etl_abi::pack(0x1_0000, 48)), (0x1_0000, 48));
/// ```
#[must_use]
pub const fn pack(pointer: u32, length: u32) -> u64 {
    ((pointer as u64) << 32) | length as u64
}

/// Pointer and length out of a packed result. Both are hostile: check them against the memory before use.
#[must_use]
pub const fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}
