//! What can go wrong between the engine and a broker, and whether trying again can help.

use std::fmt;
use std::io;

/// A failure of a source or a sink.
#[derive(Debug)]
pub struct AdapterError {
    kind: AdapterErrorKind,
    message: String,
    source: Option<io::Error>,
    permanent: bool,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterErrorKind {
    /// The URL is not one that this crate reads.
    InvalidUrl,
    /// What the URL names does not exist.
    NotFound,
    /// The system refused access.
    PermissionDenied,
    /// A directory stands where a file was expected.
    IsADirectory,
    /// The same file would be read and overwritten.
    SameFile,
    /// There is no room left for what is written.
    StorageFull,
    /// Who read the output has gone: a pipe was closed.
    Closed,
    /// The engine went away while it had records.
    Engine,
    /// Nobody answers: a refused connection, a server that is starting, a time that ran out.
    Unavailable,
    /// Wrong credentials, or a right that is missing.
    Unauthorized,
    /// Another process has it.
    InUse,
    /// What is stored there is not what this program wrote.
    Corrupt,
    /// What was asked for is nothing that this adapter can do.
    Unsupported,
    /// Anything else that the system reported.
    Io,
}

impl AdapterError {
    /// An error of an adapter. The message says what could not be done with what, and why.
    pub fn new(kind: AdapterErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            permanent: false,
        }
    }

    /// An error of the system. `doing` is what failed, as in "cannot read file:orders.ndjson"; the kind follows from
    /// the system's.
    pub fn from_io(doing: impl fmt::Display, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => AdapterErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                AdapterErrorKind::PermissionDenied
            }
            io::ErrorKind::IsADirectory => AdapterErrorKind::IsADirectory,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                AdapterErrorKind::StorageFull
            }
            io::ErrorKind::BrokenPipe => AdapterErrorKind::Closed,
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut => AdapterErrorKind::Unavailable,
            _ => AdapterErrorKind::Io,
        };
        Self {
            kind,
            message: format!("{doing}: {error}"),
            source: Some(error),
            permanent: false,
        }
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> AdapterErrorKind {
        self.kind
    }

    /// The same error, of another kind: where an adapter knows better than the system.
    #[must_use]
    pub fn with_kind(mut self, kind: AdapterErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error, with more to say.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// The same error, that will not pass: after it there is nothing to try again with.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// Whether the same call can succeed later without anybody changing anything but the room on a disk or whether a server runs.
    pub fn is_retryable(&self) -> bool {
        let passes = [AdapterErrorKind::StorageFull, AdapterErrorKind::Unavailable];
        !self.permanent && passes.contains(&self.kind)
    }
}

impl fmt::Display for AdapterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdapterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}
