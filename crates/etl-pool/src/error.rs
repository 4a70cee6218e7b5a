//! What can go wrong, as types.
//!
//! Two errors, for two moments. A [`PoolError`] says why a module cannot be loaded or a pool cannot be made; it is met when a
//! configuration is built. A [`CallError`] says why records were not transformed; it is met while records flow, belongs to one
//! record of a batch, and knows whether trying again can help. Callers match on `kind()`, never on the message.

use std::fmt;
use std::time::Duration;

/// Why a module could not be loaded, or a pool not be made.
#[derive(Clone, Debug)]
pub struct PoolError {
    kind: PoolErrorKind,
    message: String,
}

/// The causes of a [`PoolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolErrorKind {
    /// The bytes are not a WebAssembly module, or one that uses a feature that is not accepted.
    Invalid,
    /// The module exceeds a cap on its size or shape (see [`Caps`](crate::Caps)).
    TooLarge,
    /// The exports that make it a module of either ABI are missing, or have another type.
    Exports,
    /// It imports something that is not offered.
    Imports,
    /// The content differs from the pinned sha256.
    PinMismatch,
    /// Its memory or tables need more than an instance may have.
    Memory,
    /// The compiler refused it, or took too long.
    Compile,
    /// The cache of compiled modules cannot be used.
    Cache,
    /// An option of the pool has a value that it cannot work with.
    Options,
}

impl PoolError {
    pub(crate) fn new(kind: PoolErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The cause.
    pub fn kind(&self) -> PoolErrorKind {
        self.kind
    }

    /// What happened, in a sentence for the person who wrote the configuration.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PoolError {}

/// How a call failed, in the words that dead letters and metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The deadline passed and the guest was stopped.
    Timeout,
    /// The guest trapped: `unreachable`, a division by zero, an access out of bounds, a stack overflow, an exit.
    Trap,
    /// The guest failed after it was refused memory that its limit does not allow, or said itself that it has none for its input.
    MemoryLimit,
    /// What the guest returned is not what its ABI prescribes.
    InvalidOutput,
    /// The guest itself reported a failure.
    Module,
    /// No instance was free, or could be made, before the deadline.
    PoolExhausted,
}

impl FailureKind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Trap,
        Self::MemoryLimit,
        Self::InvalidOutput,
        Self::Module,
        Self::PoolExhausted,
    ];

    /// The name under which metrics and dead letters show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "Timeout",
            Self::Trap => "Trap",
            Self::MemoryLimit => "MemoryLimit",
            Self::InvalidOutput => "InvalidOutput",
            Self::Module => "Module",
            Self::PoolExhausted => "PoolExhausted",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a record was not transformed.
///
/// Small to move (one pointer), because it is the cold half of a `Result` on the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError(Box<CallErrorInner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct CallErrorInner {
    kind: FailureKind,
    message: String,
    stray: bool,
    ask_again_in: Option<Duration>,
}

impl CallError {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self(Box::new(CallErrorInner {
            kind,
            message: message.into(),
            stray: false,
            ask_again_in: None,
        }))
    }

    /// A lane that does not wait would have had to.
    pub(crate) fn asking_again_in(mut self, time: Duration) -> Self {
        self.0.ask_again_in = Some(time);
        self
    }

    /// The guest was stopped for the call before, which ended in the same moment: neither this record nor its guest is to blame.
    pub(crate) fn stray() -> Self {
        Self(Box::new(CallErrorInner {
            kind: FailureKind::Trap,
            message: "stopped at the deadline of the call before".to_owned(),
            stray: true,
            ask_again_in: None,
        }))
    }

    pub(crate) fn is_stray(&self) -> bool {
        self.0.stray
    }

    /// How it failed.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    ///
    /// True where the cause was time or load. A trap, an invalid output and a failure for memory were already tried on a
    /// fresh instance before they are reported, so the record itself is the cause.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            FailureKind::Timeout | FailureKind::PoolExhausted
        )
    }

    /// After what time to ask again, where nothing was tried because the lane [never waits](crate::Shelves::never_wait) and there was no
    /// instance at once: `PoolExhausted`, but not a failure yet.
    pub fn ask_again_in(&self) -> Option<Duration> {
        self.0.ask_again_in
    }

    /// What happened, without the kind.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for CallError {}
