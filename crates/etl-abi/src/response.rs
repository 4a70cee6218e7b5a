//! The response frame: N verdicts, guest to host.
//!
//! [`ResponseReader::parse`] checks a whole frame in one linear pass; afterwards nothing in it can fail.
//! [`ResponseWriter`] writes one into a buffer that it reuses.

mod reader;
mod writer;

pub use reader::{Failure, Op, Ops, ResponseReader, Verdict};
pub use writer::{Data, ResponseWriter};

/// The first four bytes of a response frame.
pub const MAGIC: [u8; 4] = *b"ETLR";

pub(crate) const VERDICT_ENTRY: usize = 16;
pub(crate) const OP_ENTRY: usize = 20;

/// Kinds of verdict: the `u16` at byte 0 of a verdict entry.
pub(crate) mod verdict {
    pub(crate) const KEEP: u16 = 0;
    pub(crate) const DROP: u16 = 1;
    pub(crate) const FAIL: u16 = 2;
    pub(crate) const SET_VALUE: u16 = 3;
    pub(crate) const CHANGE: u16 = 4;
    /// The flag of a failure that a retry may cure: bit 0 of the `u16` at byte 2.
    pub(crate) const RETRYABLE: u16 = 1;
}

/// Kinds of change: the `u32` at byte 0 of an op entry.
pub(crate) mod op {
    pub(crate) const SET_VALUE: u32 = 1;
    pub(crate) const MERGE_PATCH: u32 = 2;
    pub(crate) const SET_KEY: u32 = 3;
    pub(crate) const CLEAR_KEY: u32 = 4;
    pub(crate) const SET_TOPIC: u32 = 5;
    pub(crate) const ADD_HEADER: u32 = 6;
    pub(crate) const SET_HEADER: u32 = 7;
    pub(crate) const REMOVE_HEADER: u32 = 8;
    pub(crate) const SET_TIMESTAMP: u32 = 9;
    pub(crate) const CLEAR_TIMESTAMP: u32 = 10;
    pub(crate) const EMIT: u32 = 11;
}
