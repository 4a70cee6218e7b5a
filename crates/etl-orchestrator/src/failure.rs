//! What can go wrong in a module call, as something that callers match on and never parse.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The kinds of failure, each with a name that metrics and dead letters use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The call took longer than the nearest of its timeouts; the guest was stopped.
    Timeout,
    /// The guest trapped.
    Trap,
    /// The guest wanted more memory than it may have.
    MemoryLimit,
    /// What the guest returned could not be read, or does not fit the record.
    InvalidOutput,
    /// The guest said that it failed.
    Module,
    /// No instance could be had in time.
    PoolExhausted,
    /// The module's circuit breaker is open; it was not called.
    CircuitOpen,
}

impl FailureKind {
    /// Every kind, in the order of [`FailureKind::index`].
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Trap,
        Self::MemoryLimit,
        Self::InvalidOutput,
        Self::Module,
        Self::PoolExhausted,
        Self::CircuitOpen,
    ];

    /// The name in dead letters and metrics.
    ///
    /// ```
    /// use etl_orchestrator::FailureKind;
    /// assert_eq!(FailureKind::MemoryLimit.name(), "MemoryLimit");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "Timeout",
            Self::Trap => "Trap",
            Self::MemoryLimit => "MemoryLimit",
            Self::InvalidOutput => "InvalidOutput",
            Self::Module => "Module",
            Self::PoolExhausted => "PoolExhausted",
            Self::CircuitOpen => "CircuitOpen",
        }
    }

    /// Its place in [`FailureKind::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a module call failed for one record.
///
/// ```
/// use etl_orchestrator::{FailureKind, TransformError};
///
/// let error = TransformError::new(FailureKind::Module, "no such sensor").retryable(true);
/// assert!(error.is_retryable());
/// assert_eq!(error.to_string(), "Module: no such sensor");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformError {
    kind: FailureKind,
    retryable: bool,
    code: Option<u32>,
    /// Microseconds; 0 where the module was not just busy. A word, so that no answer of a module becomes larger for it.
    ask_again_us: u32,
    message: Arc<str>,
}

impl TransformError {
    /// A failure. Whether a retry can help follows from the kind: it can for `Timeout`, `PoolExhausted` and `CircuitOpen`.
    pub fn new(kind: FailureKind, message: impl Into<Arc<str>>) -> Self {
        let retryable = matches!(
            kind,
            FailureKind::Timeout | FailureKind::PoolExhausted | FailureKind::CircuitOpen
        );
        Self {
            kind,
            retryable,
            code: None,
            ask_again_us: 0,
            message: message.into(),
        }
    }

    /// Says otherwise about retries.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// With the number that the guest gave its failure.
    #[must_use]
    pub fn with_code(mut self, code: u32) -> Self {
        self.code = Some(code);
        self
    }

    /// Nothing was tried: the module is busy, and to be asked again after this time. That is a failure only once it has gone on for
    /// as long as a call may take.
    #[must_use]
    pub fn asking_again_in(mut self, time: Duration) -> Self {
        self.ask_again_us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// What went wrong, as a kind.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The number that the guest gave its failure.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        self.code
    }

    /// After what time the module is asked again, where it was only busy.
    #[must_use]
    pub fn ask_again_in(&self) -> Option<Duration> {
        (self.ask_again_us > 0).then(|| Duration::from_micros(self.ask_again_us.into()))
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for TransformError {}
