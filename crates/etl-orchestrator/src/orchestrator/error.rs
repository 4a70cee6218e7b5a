//! Why a record was not taken, or has no outcome.

/// Why a record was not taken, or has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessError {
    kind: ProcessErrorKind,
}

/// The kinds of [`ProcessError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessErrorKind {
    /// As much is in flight as may be. Only [`super::Orchestrator::try_process`] says so; the others wait.
    Busy,
    /// The orchestrator is shut down.
    Closed,
    /// A lane broke while it had the record: a transform panicked, which no module in WebAssembly can cause.
    Broken,
}

impl ProcessError {
    pub(super) fn new(kind: ProcessErrorKind) -> Self {
        Self { kind }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ProcessErrorKind {
        self.kind
    }

    /// Whether the same record may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == ProcessErrorKind::Busy
    }
}

impl std::fmt::Display for ProcessError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.kind {
            ProcessErrorKind::Busy => "as many records are in flight as may be",
            ProcessErrorKind::Closed => "the orchestrator is shut down",
            ProcessErrorKind::Broken => "a lane broke while it had the record",
        })
    }
}

impl std::error::Error for ProcessError {}
