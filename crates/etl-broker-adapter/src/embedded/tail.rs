//! Looking into topics without a consumer ([`EmbeddedTail`]), and taking records out of one ([`EmbeddedQueue`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::log::{Append, Log, OpenOptions, Topic};
use super::sink::blocking;
use super::url::TopicPatterns;
use crate::broker::From;
use crate::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Demand, Item, PartitionKey, Pulled,
    Source,
};

const OFFSET_BITS: u32 = 40;

/// Reads topics from a place on and moves nobody's position.
pub struct EmbeddedTail {
    log: Arc<Log>,
    topics: TopicPatterns,
    from: From,
    follow: bool,
    /// The next offset of each partition that is known, by topic and number.
    cursors: BTreeMap<(Arc<str>, u32), Cursor>,
    versions: watch::Receiver<u64>,
    begun: bool,
}

struct Cursor {
    topic: u32,
    next: u64,
    index: u64,
}

impl EmbeddedTail {
    /// Opens topics to look into.
    pub fn new(log: Arc<Log>, topics: TopicPatterns, from: From, follow: bool) -> Self {
        Self {
            versions: log.versions(),
            log,
            topics,
            from,
            follow,
            cursors: BTreeMap::new(),
            begun: false,
        }
    }

    fn discover(&mut self) -> Result<(), AdapterError> {
        self.versions.mark_unchanged();
        for topic in self.log.topics()? {
            if self.topics.matches(&topic.name) {
                self.add(&topic);
            }
        }
        self.begun = true;
        Ok(())
    }

    /// As one that has been open all the time: partitions that are new are read from their beginning.
    fn discover_more(&mut self) -> Result<(), AdapterError> {
        self.begun = true;
        self.discover()
    }

    fn add(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            let index = self.cursors.len() as u64;
            let next = match self.from {
                From::End if !self.begun => partition.next,
                From::Offset(offset) => offset.max(partition.first),
                From::Last(count) if !self.begun => {
                    partition.next.saturating_sub(count).max(partition.first)
                }
                _ => partition.first,
            };
            let place = (topic.name.clone(), partition.number);
            self.cursors.entry(place).or_insert(Cursor {
                topic: topic.id,
                next,
                index,
            });
        }
    }

    async fn pulled(&mut self, demand: Demand<'_>) -> Result<Pulled, AdapterError> {
        loop {
            if !self.begun || self.versions.has_changed().unwrap_or(false) {
                self.discover()?;
            }
            let mut batch = Batch::default();
            for ((topic, partition), cursor) in &mut self.cursors {
                let free = demand.records - batch.items.len();
                if free == 0 {
                    break;
                }
                let place = (topic, cursor.topic);
                let records = self
                    .log
                    .read(place, *partition, cursor.next, free, demand.bytes)?;
                for record in records {
                    cursor.next = record.offset + 1;
                    batch.items.push(Item {
                        token: AckToken(cursor.index << OFFSET_BITS | record.offset),
                        partition: PartitionKey::of(topic, *partition),
                        position: record.offset,
                        redelivered: 0,
                        content: Ok(record),
                    });
                }
            }
            if !batch.items.is_empty() {
                return Ok(Pulled::Batch(batch));
            }
            if !self.follow || self.versions.changed().await.is_err() {
                return Ok(Pulled::End);
            }
            self.versions.mark_changed();
        }
    }
}

impl Source for EmbeddedTail {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(self.pulled(demand))
    }

    /// Nobody's position moves.
    fn ack<'a>(&'a mut self, _tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async { Ok(()) })
    }
}

/// As [`EmbeddedTail`] that follows, but with the folder open only while it reads, so that other processes can write to it meanwhile.
pub struct EmbeddedFollow {
    dir: PathBuf,
    tail: Option<EmbeddedTail>,
    topics: TopicPatterns,
    from: From,
    cursors: BTreeMap<(Arc<str>, u32), Cursor>,
    begun: bool,
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl EmbeddedFollow {
    /// Opens topics of a folder to look into.
    pub fn new(dir: impl Into<PathBuf>, topics: TopicPatterns, from: From) -> Self {
        Self {
            dir: dir.into(),
            tail: None,
            topics,
            from,
            cursors: BTreeMap::new(),
            begun: false,
        }
    }

    async fn pulled(&mut self, demand: Demand<'_>) -> Result<Pulled, AdapterError> {
        loop {
            let mut tail = match self.tail.take() {
                Some(tail) => tail,
                None => match Log::open(&self.dir, OpenOptions::default()) {
                    Ok(log) => {
                        let mut tail =
                            EmbeddedTail::new(log, self.topics.clone(), self.from, false);
                        tail.cursors = std::mem::take(&mut self.cursors);
                        if self.begun {
                            tail.discover_more()?;
                        }
                        tail
                    }
                    Err(error) if error.kind() == AdapterErrorKind::InUse => {
                        tokio::time::sleep(LOOK_EVERY).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            // Reading waits for nothing here, so the cursors cannot be lost between.
            let pulled = tail.pulled(demand).await;
            self.begun = true;
            if let Ok(Pulled::Batch(_)) = &pulled {
                self.tail = Some(tail);
                return pulled;
            }
            self.cursors = std::mem::take(&mut tail.cursors);
            drop(tail);
            pulled?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Source for EmbeddedFollow {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(self.pulled(demand))
    }

    /// Nobody's position moves.
    fn ack<'a>(&'a mut self, _tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A topic whose records are taken out when they are acknowledged, each by itself and in any order.
pub struct EmbeddedQueue(EmbeddedTail);

impl EmbeddedQueue {
    /// Opens a topic to take records out of.
    pub fn new(log: Arc<Log>, topic: &str) -> Self {
        let topics = TopicPatterns::new([topic]);
        Self(EmbeddedTail::new(log, topics, From::Beginning, false))
    }
}

impl Source for EmbeddedQueue {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        self.0.pull(demand)
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        let mut offsets: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for token in tokens {
            let offset = token.0 & ((1 << OFFSET_BITS) - 1);
            offsets
                .entry(token.0 >> OFFSET_BITS)
                .or_default()
                .push(offset);
        }
        let places = self.0.cursors.iter();
        let removals = places.filter_map(|((_, partition), cursor)| {
            let offsets = offsets.remove(&cursor.index)?;
            Some((cursor.topic, *partition, offsets))
        });
        let (log, removals) = (self.0.log.clone(), removals.collect());
        Box::pin(blocking(move || {
            log.commit(&Append {
                removals,
                ..Append::default()
            })
        }))
    }
}
