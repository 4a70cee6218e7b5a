//! Where records come from: the trait that an adapter implements to be read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use etl_orchestrator::Record;

use crate::AdapterError;

/// A future behind a pointer, so that sources and sinks can be chosen when the program runs. One a batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives out records, and is told when they are safe.
///
/// An adapter outside of this crate may implement it; methods with a default may be added.
pub trait Source: Send {
    /// Waits for records: at least one, at most `max`. `None`: there will be no more.
    ///
    /// Dropping the future loses nothing: what was not returned is returned by the next call.
    ///
    /// # Errors
    ///
    /// The source cannot be read, and has itself tried what could be tried.
    fn pull(&mut self, max: usize) -> BoxFuture<'_, Result<Option<Pulled>, AdapterError>>;

    /// Says that everything that came of these records is safe. Tokens come in the order in which they were given
    /// out, and each one comes once.
    ///
    /// # Errors
    ///
    /// The source could not take note; the records may come again.
    fn ack(&mut self, tokens: &[AckToken]) -> BoxFuture<'_, Result<(), AdapterError>>;

    /// How many bytes there are to read in all, where that is known.
    fn total_bytes(&self) -> Option<u64> {
        None
    }
}

/// What one call of [`Source::pull`] gave, in the order of the source.
#[derive(Debug)]
pub struct Pulled {
    /// Records, and what should have been some.
    pub items: Vec<Item>,
    /// Bytes of the source read to get here, from its beginning.
    pub bytes_read: u64,
}

/// One element of a source, with the token by which it is acknowledged.
#[derive(Debug)]
pub struct Item {
    /// Names it in [`Source::ack`].
    pub token: AckToken,
    /// The record, or why there is none.
    pub content: Result<Arc<Record>, InvalidRecord>,
}

/// A number that only the source that gave it out understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckToken(pub u64);

/// What stood where a record should have been. It ends as a dead letter.
#[derive(Debug, Clone)]
pub struct InvalidRecord {
    /// Where it stood, as in `orders.ndjson:17`.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
    /// Its bytes, or the beginning of them.
    pub bytes: Bytes,
    /// How many bytes it has in all.
    pub length: u64,
    /// Its offset in the source.
    pub offset: u64,
}
