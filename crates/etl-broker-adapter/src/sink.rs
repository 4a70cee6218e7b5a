//! Where records go: the trait that an adapter implements to be written.

use std::sync::Arc;

use etl_orchestrator::Record;

use crate::{AdapterError, AdapterErrorKind, BoxFuture, PartitionKey, Positions};

/// Takes records in order, and says when they are safe.
///
/// Writing and confirming are two calls, so that a sink can keep many records on their way and confirm them
/// together. An adapter outside of this crate may implement it; methods with a default may be added.
///
/// **Errors.** After any error, what was written since the last confirmation counts as not written. Where the error
/// [is retryable](AdapterError::is_retryable) the runner waits, calls [`recover`](Self::recover), and writes all of that again, in the same order; the
/// sink need not keep it. Otherwise the run ends.
pub trait Sink: Send {
    /// Takes the records, in this order, after all that were written before. Waits while the sink has too much
    /// on its way.
    ///
    /// # Errors
    ///
    /// These records, or earlier ones that were not yet confirmed, cannot be written.
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>>;

    /// Waits until everything that was written is where it can be read, but for single records that can never be, because of what they are:
    /// those come back.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>>;

    /// Confirms, and makes these positions of the source that this sink was opened with part of the same transaction: either all is there and the
    /// positions stand, or nothing is and they do not. Where any record is refused nothing is committed; all comes again, without it.
    ///
    /// There are as many positions as calls of [`write`](Self::write) since the last confirmation, in the same order: each came with those outputs, of
    /// which there may be none.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    fn confirm_with(
        &mut self,
        positions: Vec<Positions>,
    ) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        let _ = positions;
        Box::pin(async {
            Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                "this sink cannot commit the positions of a source",
            ))
        })
    }

    /// Makes ready to be written to again after a retryable error. `false`: it cannot be, and the error ends the run.
    ///
    /// # Errors
    ///
    /// It did not work; if that is retryable, it is tried again later.
    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async { Ok(false) })
    }

    /// Does what is to be done once at the end, after the last confirmation: a file is synced to its disk.
    ///
    /// # Errors
    ///
    /// It could not be done. Not tried again.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Records on their way to a sink: of one partition of the source, in its order.
pub type Outputs = Arc<[Output]>;

/// A record, and what it came of.
#[derive(Debug, Clone)]
pub struct Output {
    /// The record.
    pub record: Arc<Record>,
    /// What it came of.
    pub origin: Origin,
}

/// Which item of the source a record came of, and as which of its outputs. The same when the item comes again and the modules do the
/// same with it, so a sink can tell a record that it has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The partition of the source.
    pub partition: PartitionKey,
    /// The item's position in it.
    pub position: u64,
    /// Which of its outputs, from 0. Dead letters have the range from [`Origin::FIRST_DEAD_LETTER`] to themselves.
    pub index: u32,
}

/// Set in the index of the dead letter that stands for an output that was refused.
const REFUSED: u32 = 1 << 30;

/// Set in the index of what is left of a dead letter that was refused itself.
const REDUCED: u32 = 1 << 29;

impl Origin {
    /// The index of an item's first dead letter.
    pub const FIRST_DEAD_LETTER: u32 = 1 << 31;

    /// Whether it is a dead letter.
    pub fn is_dead_letter(&self) -> bool {
        self.index >= Self::FIRST_DEAD_LETTER
    }

    /// Of the letter that takes the place of this output, or of this letter, because a sink refused it. No two outputs of an item share one, or a
    /// sink that knows them by it would take the second for the first.
    pub(crate) fn of_letter(self) -> Self {
        let mark = match self.is_dead_letter() {
            true => REDUCED,
            false => Self::FIRST_DEAD_LETTER | REFUSED,
        };
        let index = self.index | mark;
        Self { index, ..self }
    }
}

/// A single record that a sink can never take: over its limit, with a header that it cannot carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which: its number among those written since the last confirmation, from 0.
    pub index: usize,
    /// Why, in a sentence with figures: "the value has 2097152 bytes, over the server's limit of 1048576".
    pub reason: String,
}
