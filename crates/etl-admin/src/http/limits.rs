//! What one client may use up.

use std::time::Duration;

/// Bounds on connections and requests. The defaults are in `docs/operations.md`, and its test compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; more wait until one ends.
    pub connections: usize,
    /// Bytes of a request's first line and headers together.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// From the first byte of a request, or from the beginning of a connection, until its headers are complete.
    pub head_time: Duration,
    /// How long a connection may wait for its next request.
    pub idle_time: Duration,
    /// Bytes of a document: a pipeline, a configuration, a record.
    pub document_bytes: usize,
    /// Bytes of a module.
    pub module_bytes: usize,
    /// For a body to come in whole.
    pub body_time: Duration,
    /// For an answer to be taken.
    pub answer_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head_bytes: 16 << 10,
            headers: 64,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(30),
            document_bytes: 16 << 20,
            module_bytes: 64 << 20,
            body_time: Duration::from_secs(60),
            answer_time: Duration::from_secs(30),
        }
    }
}
