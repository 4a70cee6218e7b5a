//! Looking into topics without a consumer ([`EmbeddedTail`]), and taking records out of one ([`EmbeddedQueue`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::log::Log;
use super::model::{Append, Topic};
use super::place;
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

    /// What there is now.
    fn read(&mut self, demand: &Demand<'_>) -> Result<Batch, AdapterError> {
        let mut batch = Batch::default();
        let mut bytes = demand.bytes;
        for ((topic, partition), cursor) in &mut self.cursors {
            let free = demand.records - batch.items.len();
            if free == 0 || bytes == 0 {
                break;
            }
            let place = (topic, cursor.topic);
            let records = self.log.read(place, *partition, cursor.next, free, bytes)?;
            for record in records {
                cursor.next = record.offset + 1;
                bytes = bytes.saturating_sub(record.weight());
                batch.items.push(Item {
                    token: AckToken(cursor.index << OFFSET_BITS | record.offset),
                    partition: PartitionKey::of(topic, *partition),
                    position: record.offset,
                    redelivered: 0,
                    content: Ok(record),
                });
            }
        }
        Ok(batch)
    }

    async fn pulled(&mut self, demand: Demand<'_>) -> Result<Pulled, AdapterError> {
        loop {
            if !self.begun || self.versions.has_changed().unwrap_or(false) {
                self.discover()?;
            }
            let batch = self.read(&demand)?;
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

/// As [`EmbeddedTail`] that follows, but with the folder open only while it reads, so that other processes can write to it meanwhile, whatever whoever asks for
/// records does with them. Nothing is written there unless whoever wrote last died at it, which is put right first; where nothing has changed it is not opened.
pub struct EmbeddedFollow {
    dir: PathBuf,
    topics: TopicPatterns,
    from: From,
    cursors: BTreeMap<(Arc<str>, u32), Cursor>,
    /// Of the log that the cursors are of.
    identity: Option<u128>,
    /// When the log had last been changed before it was found that there is nothing more in it.
    exhausted: Option<SystemTime>,
    /// How long to wait where another process has it open.
    patience: Duration,
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two looks where another process has it open, at first: most have it for a moment. It doubles up to [`LOOK_EVERY`].
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Of a change that is not older than this it cannot be told from the time alone whether another one followed.
const FRESH: Duration = Duration::from_secs(1);

impl EmbeddedFollow {
    /// Opens topics of a folder to look into.
    pub fn new(dir: impl Into<PathBuf>, topics: TopicPatterns, from: From) -> Self {
        Self {
            dir: dir.into(),
            topics,
            from,
            cursors: BTreeMap::new(),
            identity: None,
            exhausted: None,
            patience: LOOK_AGAIN,
        }
    }

    async fn pulled(&mut self, demand: Demand<'_>) -> Result<Pulled, AdapterError> {
        loop {
            let mut wait = LOOK_EVERY;
            let changed = place::changed_at(&self.dir);
            if changed.is_none() || changed != self.exhausted {
                self.exhausted = None;
                let dir = self.dir.clone();
                match blocking(move || Log::look_once(&dir)).await {
                    Ok(log) => {
                        self.patience = LOOK_AGAIN;
                        // Reading waits for nothing here, so nothing is lost between.
                        let batch = self.read(log, &demand)?;
                        if !batch.items.is_empty() {
                            return Ok(Pulled::Batch(batch));
                        }
                        let settled = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > FRESH);
                        self.exhausted = changed.filter(settled);
                    }
                    // A run has it, and may have it for long.
                    Err(error) if error.kind() == AdapterErrorKind::InUse => {
                        wait = self.patience;
                        self.patience = (wait * 2).min(LOOK_EVERY);
                    }
                    Err(error) => return Err(error),
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn read(&mut self, log: Arc<Log>, demand: &Demand<'_>) -> Result<Batch, AdapterError> {
        let (before, now) = (self.identity, log.identity());
        if before.is_some_and(|before| before != now) {
            // Another one was made in its place.
            self.cursors.clear();
        }
        let mut tail = EmbeddedTail::new(log, self.topics.clone(), self.from, false);
        tail.cursors = std::mem::take(&mut self.cursors);
        // As one that has been open all the time: partitions that are new are read from their beginning.
        tail.begun = before.is_some();
        let found = tail.discover();
        if found.is_ok() {
            self.identity = Some(now);
        }
        let read = found.and_then(|()| tail.read(demand));
        self.cursors = tail.cursors;
        read
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::OpenOptions;
    use crate::testing::pull;
    use etl_orchestrator::Record;

    #[tokio::test]
    async fn who_follows_looks_less_often_while_a_folder_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::open(folder.path(), OpenOptions { create: true }).expect("is made");
        let record = Record::new("t", "1");
        log.commit(&Append {
            records: vec![&record],
            ..Append::default()
        })
        .expect("commits");
        drop(log);
        let file = std::fs::File::open(folder.path().join("log.redb")).expect("opens");
        file.lock().expect("nobody has it");
        let topics = TopicPatterns::new(["t"]);
        let mut follow = EmbeddedFollow::new(folder.path(), topics, From::Beginning);
        let mut waits = vec![follow.patience];
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while follow.patience < LOOK_EVERY && tokio::time::Instant::now() < until {
            let some = tokio::time::timeout(Duration::from_millis(1), pull(&mut follow, 1));
            some.await.expect_err("it is taken");
            waits.push(follow.patience);
        }
        waits.dedup();
        assert_eq!(waits, [10, 20, 40, 80, 160, 250].map(Duration::from_millis));
        file.unlock().expect("is given back");
        assert_eq!(pull(&mut follow, 1).await.len(), 1);
        assert_eq!(follow.patience, LOOK_AGAIN);
    }
}
