//! What can be wrong with a frame, and where.

use core::fmt;

/// A frame that cannot be read: what is wrong, in which record, in which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    kind: DecodeErrorKind,
    record: Option<u32>,
    field: &'static str,
}

/// The kinds of [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The frame is shorter than its header and table, or its length field is not its length.
    Length,
    /// The first four bytes are not those of such a frame.
    Magic,
    /// Written for another version.
    Version,
    /// The frame does not hold as many entries as were asked for.
    Count,
    /// An offset or length leaves the frame.
    OutOfFrame,
    /// The regions of a response are together longer than the response.
    Overlap,
    /// A kind or flag that version 1 does not know.
    Unknown,
    /// A topic or header name that is not UTF-8.
    Utf8,
}

impl DecodeError {
    #[cold]
    pub(crate) const fn new(kind: DecodeErrorKind, field: &'static str) -> Self {
        Self {
            kind,
            record: None,
            field,
        }
    }

    #[cold]
    pub(crate) fn at(mut self, record: usize) -> Self {
        self.record = u32::try_from(record).ok();
        self
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// The record (its place in the frame, from 0) where it is wrong; `None` for the frame as a whole.
    #[must_use]
    pub const fn record(&self) -> Option<u32> {
        self.record
    }

    /// The field that is wrong, as `docs/abi.md` names it.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(record) = self.record {
            write!(f, "record {record}: ")?;
        }
        let field = self.field;
        match self.kind {
            DecodeErrorKind::Length => {
                write!(f, "{field} does not agree with the length of the frame")
            }
            DecodeErrorKind::Magic => write!(f, "{field} is not that of the expected frame"),
            DecodeErrorKind::Version => write!(f, "{field} is not {}", crate::VERSION),
            DecodeErrorKind::Count => write!(f, "{field} is not the expected number"),
            DecodeErrorKind::OutOfFrame => write!(f, "{field} lies outside the frame"),
            DecodeErrorKind::Overlap => write!(
                f,
                "{field} claims bytes that other regions already account for"
            ),
            DecodeErrorKind::Unknown => write!(
                f,
                "{field} has a value that version {} does not know",
                crate::VERSION
            ),
            DecodeErrorKind::Utf8 => write!(f, "{field} is not UTF-8"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A frame that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A frame holds at most 4 GiB − 1 bytes.
    TooLarge,
    /// The buffer is shorter than [`request::encoded_len`](crate::request::encoded_len) said.
    BufferTooSmall,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the frame would be larger than 4 GiB",
            Self::BufferTooSmall => "the buffer is too small for the frame",
        })
    }
}

impl core::error::Error for EncodeError {}
