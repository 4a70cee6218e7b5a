//! What a log holds, as those who use it see it: topics, partitions, positions of consumers, and what one transaction does to them.

use std::sync::Arc;
use std::time::Duration;

use etl_orchestrator::Record;

/// What a topic keeps: what is over any of these goes, oldest first. 0: no such limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Since it was written.
    pub age: Duration,
    /// In each partition.
    pub bytes: u64,
    /// In each partition.
    pub records: u64,
}

impl std::fmt::Display for Retention {
    /// `3600 s, 1048576 bytes, 1000 records`; nothing where everything is kept.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limits = [
            (self.age.as_secs(), "s"),
            (self.bytes, "bytes"),
            (self.records, "records"),
        ];
        let mut comma = "";
        for (limit, unit) in limits.into_iter().filter(|(limit, _)| *limit > 0) {
            write!(f, "{comma}{limit} {unit}")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// What it keeps.
    pub retention: Retention,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    pub(super) id: u32,
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// The offset of the oldest record that is there.
    pub first: u64,
    /// The offset of the next record that comes.
    pub next: u64,
    /// Records.
    pub records: u64,
    /// Bytes, as they are stored.
    pub bytes: u64,
}

/// How far a consumer is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic's number.
    pub(super) topic: u32,
    pub(super) partition: u32,
    /// The next record to read.
    pub next: u64,
    /// Where reading had got to, with records that are not acknowledged.
    pub handed: u64,
    /// Times that a source began here.
    pub begun: u32,
}

impl Position {
    /// A consumer has handled everything before `next`.
    pub fn new(topic: &Topic, partition: u32, next: u64) -> Self {
        Self {
            topic: topic.id,
            partition,
            next,
            handed: next,
            begun: 0,
        }
    }
}

/// One transaction.
#[derive(Debug, Default)]
pub struct Append<'a> {
    /// Records, in order; each goes to its topic and partition.
    pub records: Vec<&'a Record>,
    /// Put before every topic.
    pub prefix: &'a str,
    /// Positions of a consumer.
    pub positions: Vec<(Arc<str>, Position)>,
    /// Records to take out: number of the topic, partition, offsets.
    pub removals: Vec<(u32, u32, Vec<u64>)>,
    /// Not synced to the disk before it returns.
    pub not_durable: bool,
}
