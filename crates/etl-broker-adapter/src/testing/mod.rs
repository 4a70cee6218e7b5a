//! One suite for every adapter, and what tests of adapters need.
//!
//! An adapter's tests implement [`Place`] over the real thing (a folder, a server that they started) and call [`conformance`]. What an adapter cannot do
//! it says in [`Abilities`]; everything else is asked of it. The fake, [`Memory`], runs the same suite, so that what is tested with it is true.
//!
//! Failures are panics that name the check and the place: this is for tests.

mod faults;
mod memory;
mod suite;

pub use faults::{Flaky, Slow};
pub use memory::Memory;
pub use suite::{CHECKS, Check};

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etl_orchestrator::Record;

use crate::{
    AdapterError, BoxFuture, Demand, Item, Origin, Output, Outputs, PartitionKey, Pulled, Sink,
    Source,
};

/// How long a check waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where records are written to and read from again: empty, and the test's own.
pub trait Place: Send + Sync {
    /// Reads these topics for a consumer, from the oldest record on where the consumer has no position.
    fn source<'a>(
        &'a self,
        topics: &'a [&'a str],
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>>;

    /// Opens it to be written to; topics are made as they are needed.
    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>>;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Stops it and starts it again, as far as the test can. Nothing is open then.
    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What an adapter can do. [`Abilities::all`], less what it cannot, which its documentation says too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// What is not acknowledged comes again, and what is does not.
    pub redelivers: bool,
    /// What comes again to the next reader comes in its order, and before what is newer.
    pub redelivers_in_order: bool,
    /// It knows of a record that it was given out before, also by an earlier reader; without, only what the same reader gave back.
    pub counts_deliveries: bool,
    /// Partitions of a topic have numbers, and a record keeps its own.
    pub partitions: bool,
    /// A partition that is paused is left out of what is pulled.
    pub pauses: bool,
    /// Header values are any bytes.
    pub binary_headers: bool,
    /// Headers of different names keep their order among each other; those of one name always do.
    pub header_order: bool,
    /// A record without a key is not one with an empty key.
    pub empty_key: bool,
    /// Timestamps are kept to the millisecond.
    pub timestamps: bool,
    /// The source knows how far it is behind.
    pub lag: bool,
    /// Its limit for a record in bytes, if a test can reach it.
    pub max_record: Option<usize>,
}

impl Abilities {
    /// Everything, and no limit.
    pub const fn all() -> Self {
        Self {
            redelivers: true,
            redelivers_in_order: true,
            counts_deliveries: true,
            partitions: true,
            pauses: true,
            binary_headers: true,
            header_order: true,
            empty_key: true,
            timestamps: true,
            lag: true,
            max_record: None,
        }
    }
}

/// Runs every check that applies, each at a place of its own.
///
/// # Panics
///
/// A check fails, or its place cannot be made.
pub async fn conformance<P: Place>(mut make: impl AsyncFnMut() -> P) {
    for check in CHECKS {
        check.hold(&make().await).await;
    }
}

/// Records as outputs, each of a partition of its topic, and each at a position of its own: to a sink that recognises what it has, the same position
/// would be the same record.
pub fn outputs(records: impl IntoIterator<Item = Record>) -> Outputs {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let output = |record: Record| Output {
        origin: Origin {
            partition: PartitionKey::of(&record.topic, record.partition),
            position: NEXT.fetch_add(1, Ordering::Relaxed),
            index: 0,
        },
        record: Arc::new(record),
    };
    records.into_iter().map(output).collect()
}

/// Writes and confirms.
///
/// # Panics
///
/// It does not work.
pub async fn write(sink: &mut dyn Sink, records: impl IntoIterator<Item = Record>) {
    sink.write(outputs(records)).await.expect("is written");
    let refused = sink.confirm().await.expect("is confirmed");
    assert_eq!(refused, [], "nothing is refused");
}

/// Pulls until there are so many items.
///
/// # Panics
///
/// They do not come.
pub async fn pull(source: &mut dyn Source, count: usize) -> Vec<Item> {
    let mut items = Vec::new();
    while items.len() < count {
        match tokio::time::timeout(PATIENCE, pull_some(source, count - items.len())).await {
            Ok(Some(more)) => items.extend(more),
            Ok(None) => panic!("the end came after {} of {count}", items.len()),
            Err(_) => panic!("only {} of {count} came", items.len()),
        }
    }
    items
}

/// What there is, once nothing more comes for a while.
///
/// # Panics
///
/// The source fails.
pub async fn pull_rest(source: &mut dyn Source) -> Vec<Item> {
    let mut items = Vec::new();
    while let Ok(Some(more)) =
        tokio::time::timeout(Duration::from_millis(700), pull_some(source, 1_000)).await
    {
        items.extend(more);
    }
    items
}

/// What there is of a source that ends.
///
/// # Panics
///
/// The source fails.
pub async fn pull_rest_now(source: &mut dyn Source) -> Vec<Item> {
    let mut items = Vec::new();
    while let Some(more) = pull_some(source, 1_000).await {
        items.extend(more);
    }
    items
}

async fn pull_some(source: &mut dyn Source, records: usize) -> Option<Vec<Item>> {
    let paused = HashSet::new();
    let demand = Demand {
        records,
        bytes: usize::MAX,
        paused: &paused,
    };
    loop {
        match source.pull(demand).await.expect("can be pulled from") {
            Pulled::Batch(batch) => return Some(batch.items),
            // A group that finds itself gives and takes.
            Pulled::Revoked(revocation) => source
                .release(&revocation.partitions)
                .await
                .expect("can be released"),
            Pulled::End => return None,
        }
    }
}
