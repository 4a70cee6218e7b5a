//! The log itself: what is in the database, and the transactions on it. Everything here blocks; sources and sinks call it where that is allowed.
//!
//! | table | key | is |
//! |---|---|---|
//! | `topics` | name | number of the topic, retention |
//! | `partitions` | topic, partition | first offset, next offset, records, bytes |
//! | `chunks` | topic, partition, first offset | records that were written together ([`super::chunk`]) |
//! | `consumers` | name, topic, partition | next offset to read, where reading had got to, times it was begun from here |
//! | `identity` | nothing | a random number, by which this log is told from one that is made in its place |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use etl_orchestrator::Record;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    WriteTransaction,
};
use tokio::sync::watch;

use super::chunk;
use super::error::Failures;
use super::model::{Append, Partition, Position, Retention, Topic};
use super::place;
use super::rows::{
    CHUNKS, CONSUMERS, IDENTITY, PARTITIONS, PartitionRow, TOPICS, TopicRow, remove, retain,
    retention, topic_row, write_records,
};
use super::system::{now_ms, random};
use super::url::TopicPatterns;
use crate::{AdapterError, AdapterErrorKind};

/// Pages that are kept in memory.
pub(super) const CACHE_BYTES: usize = 128 << 20;
/// Topics that nobody writes to lose what is too old so often.
const SWEEP_EVERY_MS: i64 = 60_000;

/// How a folder is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make it where it does not exist.
    pub create: bool,
}

/// A folder of topics that is open.
#[derive(Debug)]
pub struct Log {
    database: Store,
    failures: Failures,
    name: String,
    identity: u128,
    /// Grows with each commit.
    version: watch::Sender<u64>,
    /// Consumers that are being read for.
    consumers: Mutex<HashSet<String>>,
    swept: AtomicI64,
}

/// The database, as it is open.
pub(super) enum Store {
    Whole(Database),
    /// Nothing can be written, and nothing is.
    ToRead(redb::ReadOnlyDatabase),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole(..)",
            Self::ToRead(_) => "ToRead(..)",
        })
    }
}

/// Logs that this process has open.
static OPEN: Mutex<BTreeMap<std::path::PathBuf, Weak<Log>>> = Mutex::new(BTreeMap::new());

impl Log {
    /// Opens a folder, or joins whoever in this process has it open.
    ///
    /// # Errors
    ///
    /// There is none, it is damaged, or another process has it open.
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Arc<Self>, AdapterError> {
        let name = place::name(dir);
        let path = place::find(dir, options.create)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let database = place::open(dir, &path)?;
        let log = Arc::new(Self::begin(Store::Whole(database), name)?);
        place::sign(dir);
        open.retain(|_, log| log.strong_count() > 0);
        open.insert(path, Arc::downgrade(&log));
        Ok(log)
    }

    /// Opens a folder to look into it, without writing a byte there unless it must be put right first; or joins whoever in this process has it open.
    ///
    /// # Errors
    ///
    /// There is none, it is damaged, or another process has it open.
    pub(crate) fn look(dir: &Path) -> Result<Arc<Self>, AdapterError> {
        // Each attempt asks anew who has it: that may be this process by now.
        place::patiently(|| Self::look_once(dir))
    }

    /// As [`look`](Self::look), without waiting for another process that has it open, unless it must be put right first.
    pub(super) fn look_once(dir: &Path) -> Result<Arc<Self>, AdapterError> {
        let path = place::find(dir, false)?;
        {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|_, log| log.strong_count() > 0);
            if let Some(log) = open.get(&path).and_then(Weak::upgrade) {
                return Ok(log);
            }
        }
        let Some(database) = place::open_to_read(dir, &path)? else {
            // Whoever had it was killed: it has to be put in order first.
            return Self::open(dir, OpenOptions::default());
        };
        let mut log = Self::over(Store::ToRead(database), place::name(dir));
        let Some(identity) = log.known_identity()? else {
            // Whoever made it went before it was complete. Nobody can write to it while it is open here.
            drop(log);
            return Self::open(dir, OpenOptions::default());
        };
        log.identity = identity;
        Ok(Arc::new(log))
    }

    /// Over any storage: for tests that cut its power.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is damaged.
    pub fn with_backend(backend: impl StorageBackend) -> Result<Arc<Self>, AdapterError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| super::error::of("cannot open the log", error))?;
        let log = Self::begin(Store::Whole(database), "the log".to_owned())?;
        Ok(Arc::new(log))
    }

    fn over(database: Store, name: String) -> Self {
        Self {
            database,
            failures: Failures::default(),
            name,
            identity: 0,
            version: watch::Sender::new(0),
            consumers: Mutex::default(),
            swept: AtomicI64::new(now_ms()),
        }
    }

    fn begin(database: Store, name: String) -> Result<Self, AdapterError> {
        let mut log = Self::over(database, name);
        // One that is there is opened without writing, so that it can be read where no room is left; only retention takes out what is too old.
        if let Some(identity) = log.known_identity()? {
            log.identity = identity;
            if let Err(error) = log.sweep(now_ms()) {
                tracing::warn!(%error, "retention could not take anything out of {}", log.name);
            }
            return Ok(log);
        }
        let new = random()?;
        // Every table is there from the beginning, so that readers need not ask.
        log.identity = log.change(true, |transaction| {
            transaction.open_table(TOPICS)?;
            transaction.open_table(PARTITIONS)?;
            transaction.open_table(CHUNKS)?;
            transaction.open_table(CONSUMERS)?;
            let mut identity = transaction.open_table(IDENTITY)?;
            if let Some(row) = identity.get(())? {
                return Ok(row.value());
            }
            identity.insert((), new)?;
            Ok(new)
        })?;
        Ok(log)
    }

    /// The number of a log that is complete, with every table.
    fn known_identity(&self) -> Result<Option<u128>, AdapterError> {
        let read = || -> Result<u128, redb::Error> {
            let transaction = self.read_transaction()?;
            // The last of the tables that were made, all in one transaction.
            let identity = transaction.open_table(IDENTITY)?.get(())?;
            identity.map_or(Err(redb::Error::TableDoesNotExist(String::new())), |row| {
                Ok(row.value())
            })
        };
        match read() {
            Ok(identity) => Ok(Some(identity)),
            Err(redb::Error::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failures.of(self.doing_read(), error)),
        }
    }

    fn read_transaction(&self) -> Result<ReadTransaction, redb::TransactionError> {
        match &self.database {
            Store::Whole(database) => database.begin_read(),
            Store::ToRead(database) => database.begin_read(),
        }
    }

    /// Whether it can be written to.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.database, Store::Whole(_))
    }

    /// `embedded:DIR`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as long as this log is there, and that of no other one: not of one that was in the same folder before either.
    pub fn identity(&self) -> u128 {
        self.identity
    }

    /// Changes with each commit of this process.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn change<T>(
        &self,
        durable: bool,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, AdapterError> {
        let Store::Whole(database) = &self.database else {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!("{} is open to be looked into, and not written", self.name),
            ));
        };
        let write = || {
            let mut transaction = database.begin_write()?;
            // After a crash the log is open again at once, however large it is.
            transaction.set_quick_repair(true);
            if !durable {
                transaction.set_durability(Durability::None)?;
            }
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        let result = write().map_err(|error: redb::Error| {
            self.failures
                .of(format_args!("cannot write {}", self.name), error)
        })?;
        self.version.send_modify(|version| *version += 1);
        Ok(result)
    }

    fn doing_read(&self) -> String {
        format!("cannot read {}", self.name)
    }

    /// Does all of it, or nothing.
    ///
    /// # Errors
    ///
    /// Nothing of it was done; what was committed before stands.
    pub fn commit(&self, append: &Append<'_>) -> Result<(), AdapterError> {
        let now = now_ms();
        self.change(!append.not_durable, |transaction| {
            write_records(transaction, append, now)?;
            let mut consumers = transaction.open_table(CONSUMERS)?;
            for (consumer, at) in &append.positions {
                let key = (&**consumer, at.topic, at.partition);
                // A run that gives up may write an older position after a commit that it no longer waited for: none ever goes back.
                let (next, handed) = match consumers.get(key)? {
                    Some(row) => (row.value().0.max(at.next), row.value().1.max(at.handed)),
                    None => (at.next, at.handed),
                };
                consumers.insert(key, (next, handed, at.begun))?;
            }
            drop(consumers);
            remove(transaction, &append.removals)
        })?;
        let swept = self.swept.load(Ordering::Relaxed);
        if now - swept > SWEEP_EVERY_MS
            && let Err(error) = self.sweep(now)
        {
            // All of it was done, and is not to be done again.
            tracing::warn!(%error, "retention could not take anything out of {}", self.name);
        }
        Ok(())
    }

    /// Takes what is too old out of every topic that says so.
    fn sweep(&self, now: i64) -> Result<(), AdapterError> {
        self.swept.store(now, Ordering::Relaxed);
        if self
            .topics()?
            .iter()
            .all(|topic| topic.retention == Retention::default())
        {
            return Ok(());
        }
        self.change(true, |transaction| {
            let topics = transaction.open_table(TOPICS)?;
            let mut partitions = transaction.open_table(PARTITIONS)?;
            let mut chunks = transaction.open_table(CHUNKS)?;
            let rows: Vec<TopicRow> = topics
                .iter()?
                .map(|row| Ok(row?.1.value()))
                .collect::<Result<_, redb::Error>>()?;
            for topic in rows {
                let of = (topic.0, 0)..=(topic.0, u32::MAX);
                let own: Vec<((u32, u32), PartitionRow)> = partitions
                    .range(of)?
                    .map(|row| row.map(|(key, value)| (key.value(), value.value())))
                    .collect::<Result<_, _>>()?;
                for (key, mut partition) in own {
                    retain(&mut chunks, key, &mut partition, retention(topic), now)?;
                    partitions.insert(key, partition)?;
                }
            }
            Ok(())
        })
    }

    /// Makes a topic with partitions from 0 on, or changes what it keeps and adds partitions.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        retention: Option<Retention>,
    ) -> Result<(), AdapterError> {
        self.change(true, |transaction| {
            let mut topics = transaction.open_table(TOPICS)?;
            let row = topic_row(&mut topics, name)?;
            if let Some(keep) = retention {
                let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
                topics.insert(name, (row.0, age, keep.bytes, keep.records))?;
            }
            let mut table = transaction.open_table(PARTITIONS)?;
            for number in 0..partitions.max(1) {
                if table.get((row.0, number))?.is_none() {
                    table.insert((row.0, number), (0, 0, 0, 0))?;
                }
            }
            Ok(())
        })
    }

    /// Every topic, by name.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn topics(&self) -> Result<Vec<Topic>, AdapterError> {
        let read = || -> Result<Vec<Topic>, redb::Error> {
            let transaction = self.read_transaction()?;
            let partitions = transaction.open_table(PARTITIONS)?;
            let mut topics = Vec::new();
            for row in transaction.open_table(TOPICS)?.iter()? {
                let (name, row) = row?;
                let row = row.value();
                let mut own = Vec::new();
                for partition in partitions.range((row.0, 0)..=(row.0, u32::MAX))? {
                    let (key, value) = partition?;
                    let (first, next, records, bytes) = value.value();
                    own.push(Partition {
                        number: key.value().1,
                        first,
                        next,
                        records,
                        bytes,
                    });
                }
                topics.push(Topic {
                    name: name.value().into(),
                    retention: retention(row),
                    partitions: own,
                    id: row.0,
                });
            }
            Ok(topics)
        };
        read().map_err(|error| self.failures.of(self.doing_read(), error))
    }

    /// Records of a partition from an offset on: as many as are wanted, and none more once there are so many bytes.
    pub(super) fn read(
        &self,
        topic: (&Arc<str>, u32),
        partition: u32,
        from: u64,
        records: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Record>>, AdapterError> {
        let (name, id) = topic;
        let read = || -> Result<Option<Vec<Arc<Record>>>, redb::Error> {
            let table = self.read_transaction()?.open_table(CHUNKS)?;
            let before = table
                .range((id, partition, 0)..=(id, partition, from))?
                .next_back();
            let first = match before {
                Some(row) => row?.0.value().2,
                None => from,
            };
            let (mut found, mut size) = (Vec::new(), 0);
            for row in table.range((id, partition, first)..=(id, partition, u64::MAX))? {
                let (key, row) = row?;
                let row = Bytes::copy_from_slice(row.value());
                let Some(chunk) = chunk::read(row, key.value().2, from, name, partition) else {
                    return Ok(None);
                };
                for record in chunk {
                    if found.len() >= records || size >= bytes && !found.is_empty() {
                        return Ok(Some(found));
                    }
                    size += record.weight();
                    found.push(record);
                }
            }
            Ok(Some(found))
        };
        read()
            .map_err(|error| self.failures.of(self.doing_read(), error))?
            .ok_or_else(|| {
                AdapterError::new(
                    AdapterErrorKind::Corrupt,
                    format!(
                        "{}: topic {name}, partition {partition} is damaged after offset {from}",
                        self.doing_read()
                    ),
                )
            })
    }

    /// Where a consumer is, by topic number and partition.
    pub(super) fn positions(
        &self,
        consumer: &str,
    ) -> Result<HashMap<(u32, u32), Position>, AdapterError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.read_transaction()?.open_table(CONSUMERS)?;
            let mut positions = HashMap::new();
            for row in table.range((consumer, 0, 0)..=(consumer, u32::MAX, u32::MAX))? {
                let (key, row) = row?;
                let ((_, topic, partition), (next, handed, begun)) = (key.value(), row.value());
                let position = Position {
                    topic,
                    partition,
                    next,
                    handed,
                    begun,
                };
                positions.insert((topic, partition), position);
            }
            Ok(positions)
        };
        read().map_err(|error| self.failures.of(self.doing_read(), error))
    }

    /// Where a consumer is in one partition, if it has a position there.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn position(
        &self,
        consumer: &str,
        topic: &Topic,
        partition: u32,
    ) -> Result<Option<Position>, AdapterError> {
        Ok(self.positions(consumer)?.remove(&(topic.id, partition)))
    }

    /// How far a consumer is behind in the topics that it reads.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn lag(&self, consumer: &str, topics: &TopicPatterns) -> Result<crate::Lag, AdapterError> {
        let positions = self.positions(consumer)?;
        let mut lag = crate::Lag::default();
        for topic in self
            .topics()?
            .iter()
            .filter(|topic| topics.matches(&topic.name))
        {
            for partition in &topic.partitions {
                let at = positions.get(&(topic.id, partition.number));
                let next = at.map_or(partition.first, |at| at.next.max(partition.first));
                let behind = partition.next.saturating_sub(next);
                lag.records += behind;
                let name = format!("{}/{}", topic.name, partition.number);
                lag.partitions.push((name.into(), behind));
            }
        }
        Ok(lag)
    }

    fn in_use(&self) -> MutexGuard<'_, HashSet<String>> {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a consumer's name, so that two sources do not move one position.
    pub(super) fn claim(self: &Arc<Self>, consumer: &str) -> Result<Claim, AdapterError> {
        if !self.in_use().insert(consumer.to_owned()) {
            return Err(AdapterError::new(
                AdapterErrorKind::InUse,
                format!(
                    "{} is being read for consumer {consumer} already; give this one another name: ?consumer=NAME",
                    self.name
                ),
            ));
        }
        Ok(Claim {
            log: self.clone(),
            consumer: consumer.into(),
        })
    }
}

/// A consumer's name, taken until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    log: Arc<Log>,
    pub(super) consumer: Arc<str>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.log.in_use().remove(&*self.consumer);
    }
}

#[cfg(test)]
mod tests;
