//! Where records go: the trait that an adapter implements to be written.

use std::sync::Arc;

use etl_orchestrator::Record;

use crate::{AdapterError, BoxFuture};

/// Takes records in order, and says when they are safe.
///
/// Writing and confirming are two calls, so that a sink can keep many records on their way and confirm them
/// together. An adapter outside of this crate may implement it; methods with a default may be added.
pub trait Sink: Send {
    /// Takes the records, in this order, after all that were written before. Waits while the sink has too much
    /// on its way.
    ///
    /// # Errors
    ///
    /// These records, or earlier ones that were not yet confirmed, cannot be written. The sink is of no use
    /// afterwards.
    fn write(&mut self, records: Vec<Arc<Record>>) -> BoxFuture<'_, Result<(), AdapterError>>;

    /// Waits until everything that was written is where it can be read.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    fn confirm(&mut self) -> BoxFuture<'_, Result<(), AdapterError>>;

    /// Confirms, and does what is to be done once at the end: a file is synced to its disk.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.confirm()
    }
}
