//! Where records come from: the trait that an adapter implements to be read.
//!
//! A source has **partitions**: order holds within each and nowhere else. It gives out items, each with a token, and keeps every one of
//! them until its token is acknowledged; what is not acknowledged comes again, to this reader later or to the next one.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etl_orchestrator::Record;

use crate::AdapterError;

/// A future behind a pointer, so that sources and sinks can be chosen when the program runs. One a batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives out records, and is told when they are safe.
///
/// An adapter outside of this crate may implement it; methods with a default may be added.
pub trait Source: Send {
    /// Waits for records: at least one, at most [`Demand::records`]; or for what else there is to tell.
    ///
    /// Dropping the future loses nothing: what was not returned is returned by the next call.
    ///
    /// # Errors
    ///
    /// The source cannot be read. Where the error [is retryable](AdapterError::is_retryable) the runner waits, calls
    /// [`recover`](Self::recover) and pulls again; otherwise the run ends, once what was given out is safe.
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>>;

    /// Says that everything that came of these records is safe. Tokens of one partition come in the order in which they were given
    /// out, those of different ones in any; each comes once. Returns when the source has taken note, which need not be when it is on a disk:
    /// what a crash makes forgotten comes again.
    ///
    /// # Errors
    ///
    /// The source could not take note; the records may come again.
    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>>;

    /// Takes records back that were not processed: they come again, at the earliest after `delay` where the source can time that. With a token all
    /// later ones of its partition that are not acknowledged are given back too, in order.
    ///
    /// The default does nothing: right where what is not acknowledged comes again by itself, and where nothing can.
    ///
    /// # Errors
    ///
    /// They could not be given back; they come again when the source notices, at the latest after a restart.
    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        let _ = (tokens, delay);
        Box::pin(async { Ok(()) })
    }

    /// Says that nothing of these partitions is in flight any more: once for each [`Pulled::Revoked`], after the last acknowledgement.
    ///
    /// # Errors
    ///
    /// As for [`ack`](Self::ack).
    fn release<'a>(
        &'a mut self,
        partitions: &'a [PartitionKey],
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        let _ = partitions;
        Box::pin(async { Ok(()) })
    }

    /// What [`ack`](Self::ack) of these tokens would note, for [`Sink::confirm_with`](crate::Sink::confirm_with) of the sink that was opened with
    /// this source as a pair. Tokens come as for `ack`, which is then not called for them; [`committed`](Self::committed) is.
    ///
    /// `None`: there is no such pair.
    fn positions(&mut self, tokens: &[AckToken]) -> Option<Positions> {
        let _ = tokens;
        None
    }

    /// Says that the sink has committed the positions of these tokens.
    fn committed(&mut self, tokens: &[AckToken]) {
        let _ = tokens;
    }

    /// How far the reading is behind, where that can be known. The future borrows nothing, so that asking holds nothing up.
    fn lag(&self) -> BoxFuture<'static, Result<Option<Lag>, AdapterError>> {
        Box::pin(async { Ok(None) })
    }

    /// Makes ready to be pulled from again after a retryable error. `false`: it cannot be, and the error ends the run.
    ///
    /// # Errors
    ///
    /// It did not work; if that is retryable, it is tried again later.
    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async { Ok(false) })
    }

    /// Ends it cleanly: notes what was acknowledged, leaves its group. Nothing is called afterwards.
    ///
    /// # Errors
    ///
    /// Some of what was acknowledged may come again.
    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async { Ok(()) })
    }

    /// How many bytes there are to read in all, where that is known.
    fn total_bytes(&self) -> Option<u64> {
        None
    }
}

/// What a [`Source`] is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// At most so many records; never 0.
    pub records: usize,
    /// About so many bytes: no further record once there are as many.
    pub bytes: usize,
    /// None of these partitions, where the source can leave them out: as much of them is in flight as may be, or they wait for the sink for dead
    /// letters. Of a source that cannot, the latter are [given back](Source::give_back).
    pub paused: &'a HashSet<PartitionKey>,
}

/// The answer of [`Source::pull`].
#[derive(Debug)]
pub enum Pulled {
    /// Records.
    Batch(Batch),
    /// Partitions were, or are about to be, taken away: this reader no longer shares in them.
    Revoked(Revocation),
    /// There will be no more.
    End,
}

/// What one call of [`Source::pull`] gave: each partition in its order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records, and what should have been some.
    pub items: Vec<Item>,
    /// Bytes of the source that were read for them.
    pub bytes_read: u64,
}

/// One element of a source, with the token by which it is acknowledged.
#[derive(Debug)]
pub struct Item {
    /// Names it in [`Source::ack`].
    pub token: AckToken,
    /// The partition of the source that it belongs to.
    pub partition: PartitionKey,
    /// Its place in the partition: grows, and is the same when the item comes again.
    pub position: u64,
    /// How often it was given out before, as far as the source knows. The record gets it as header
    /// [`REDELIVERED`].
    pub redelivered: u32,
    /// The record, or why there is none.
    pub content: Result<Arc<Record>, InvalidRecord>,
}

/// The header that says how often a record was given out before: a decimal number, absent where it comes for the first time.
pub const REDELIVERED: &str = "etl-redelivered";

/// A number that only the source that gave it out understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckToken(pub u64);

/// A partition of a source: the unit within which order holds. The same number after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey(pub u64);

impl PartitionKey {
    /// For a source whose partitions are numbered within topics, or that has one partition for each topic.
    ///
    /// It is a hash (64-bit FNV-1a). Should two ever share a number, they only wait for each other.
    pub fn of(topic: &str, partition: u32) -> Self {
        let bytes = topic.bytes().chain(partition.to_be_bytes());
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }
}

/// Partitions that go to somebody else.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// Which.
    pub partitions: Vec<PartitionKey>,
    /// How long what is in flight of them may still be finished and acknowledged. Zero: they are gone already, and their tokens mean nothing any more.
    pub within: Duration,
}

/// Positions of a source in the form that the sink of its pair commits.
#[derive(Clone)]
pub struct Positions(Arc<dyn Any + Send + Sync>);

impl Positions {
    /// Wraps what both sides of the pair know.
    pub fn new(positions: impl Any + Send + Sync) -> Self {
        Self(Arc::new(positions))
    }

    /// What was wrapped, if it is a `T`.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Positions(..)")
    }
}

/// How far a source's reader is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// Records that are there and not acknowledged.
    pub records: u64,
    /// The same by partition, where it is known, under the names that its users give them.
    pub partitions: Vec<(Arc<str>, u64)>,
}

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
