//! What one client may use up.

use std::time::Duration;

/// Bounds on connections and requests. The defaults are in `docs/operations.md`, and its test compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once. Where all are taken, one that is not being answered makes room.
    pub connections: usize,
    /// Connections at once of one address; of IPv6 of one network, since a host has as many addresses there as it likes.
    pub connections_of_one: usize,
    /// Bytes of a request's first line and headers together.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// From the beginning of a connection, or from the last answer, until the headers of a request are complete.
    pub head_time: Duration,
    /// Bytes of a document: a pipeline, a configuration, a record.
    pub document_bytes: usize,
    /// Bytes of a module.
    pub module_bytes: usize,
    /// Bytes of all bodies together that have come and are not answered yet.
    pub all_bodies_bytes: usize,
    /// For a body to come in whole.
    pub body_time: Duration,
    /// For an answer to be taken.
    pub answer_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_of_one: 64,
            head_bytes: 16 << 10,
            headers: 64,
            head_time: Duration::from_secs(20),
            document_bytes: 16 << 20,
            module_bytes: 64 << 20,
            all_bodies_bytes: 256 << 20,
            body_time: Duration::from_secs(60),
            answer_time: Duration::from_secs(30),
        }
    }
}
