//! Reads topics of the log for a consumer, from its position on.
//!
//! The next records are read while those before are on their way. A position is noted when records are acknowledged: by a commit of its own that follows
//! at once, in the background ([`Notes`]), or by the sink, in the transaction of the outputs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etl_orchestrator::Record;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::log::{Claim, Log};
use super::model::{Append, Position};
use super::sink::blocking;
use super::url::{Start, TopicPatterns};
use crate::{
    AckToken, AdapterError, Batch, BoxFuture, Demand, Item, Lag, PartitionKey, Positions, Pulled,
    Source,
};

/// Tokens are the number of the partition, among those of this source, and in the lower bits the offset.
const OFFSET_BITS: u32 = 40;

/// Topics of a folder, read for one consumer.
pub struct EmbeddedSource {
    log: Arc<Log>,
    claim: Claim,
    topics: TopicPatterns,
    start: Start,
    follow: bool,
    parts: Vec<Part>,
    known: HashMap<(u32, u32), usize>,
    /// The partition to begin with, so that all get their turn.
    turn: usize,
    reading: Option<JoinHandle<Result<Vec<Read>, AdapterError>>>,
    /// Grows when something is given back: what was read before is not what comes next.
    epoch: u64,
    notes: Arc<Notes>,
    /// The last that was begun.
    noting: Option<JoinHandle<()>>,
    versions: watch::Receiver<u64>,
    begun: bool,
}

/// One partition.
struct Part {
    topic: Arc<str>,
    id: u32,
    number: u32,
    key: PartitionKey,
    /// The next to hand out.
    cursor: u64,
    at: Position,
    /// What lies before this was handed out before, so many times.
    again: (u64, u32),
}

/// What was read of one partition.
struct Read {
    part: usize,
    from: u64,
    epoch: u64,
    records: Vec<Arc<Record>>,
}

/// Positions as the sink over the same log commits them.
pub(super) struct Handed {
    pub(super) log: Arc<Log>,
    pub(super) consumer: Arc<str>,
    pub(super) positions: Vec<Position>,
}

impl EmbeddedSource {
    /// Opens the topics for a consumer, whose position may be there already.
    ///
    /// # Errors
    ///
    /// The log cannot be read; the consumer is being read for already.
    pub fn open(
        log: Arc<Log>,
        consumer: &str,
        topics: TopicPatterns,
        start: Start,
        follow: bool,
    ) -> Result<Self, AdapterError> {
        let claim = log.claim(consumer)?;
        let mut source = Self {
            versions: log.versions(),
            log,
            claim,
            topics,
            start,
            follow,
            parts: Vec::new(),
            known: HashMap::new(),
            turn: 0,
            reading: None,
            epoch: 0,
            notes: Arc::default(),
            noting: None,
            begun: false,
        };
        source.discover()?;
        // Those that begin here without having come further since the last time are told how often that was.
        let begun = source.parts.iter().map(|part| part.at.clone());
        let positions = begun
            .map(|at| (source.claim.consumer.clone(), at))
            .collect();
        source.log.commit(&Append {
            positions,
            ..Append::default()
        })?;
        source.begun = true;
        Ok(source)
    }

    /// Takes in partitions that are new.
    fn discover(&mut self) -> Result<(), AdapterError> {
        self.versions.mark_unchanged();
        let topics = self.log.topics()?;
        let positions = self.log.positions(&self.claim.consumer)?;
        for topic in topics
            .into_iter()
            .filter(|topic| self.topics.matches(&topic.name))
        {
            for partition in topic.partitions {
                let place = (topic.id, partition.number);
                if self.known.contains_key(&place) {
                    continue;
                }
                let found = positions.get(&place);
                let mut at = found.cloned().unwrap_or(Position {
                    topic: topic.id,
                    partition: partition.number,
                    // What comes up while the source is open is new, whatever it begins with.
                    next: match self.start {
                        Start::Latest if !self.begun => partition.next,
                        _ => partition.first,
                    },
                    handed: 0,
                    begun: 0,
                });
                if at.next < partition.first {
                    tracing::warn!(
                        topic = &*topic.name,
                        partition = partition.number,
                        from = at.next,
                        to = partition.first,
                        "retention took records before consumer {} read them",
                        self.claim.consumer
                    );
                    at.next = partition.first;
                }
                let until = at.handed.max(at.next + u64::from(at.begun > 0));
                let times = at.begun.max(u32::from(at.handed > at.next));
                at.handed = until;
                at.begun = times + 1;
                self.known.insert(place, self.parts.len());
                self.parts.push(Part {
                    key: PartitionKey::of(&topic.name, partition.number),
                    topic: topic.name.clone(),
                    id: topic.id,
                    number: partition.number,
                    cursor: at.next,
                    at,
                    again: (until, times),
                });
            }
        }
        Ok(())
    }

    /// Begins to read what comes next, of partitions in turn until there is enough.
    fn read(&mut self, demand: &Demand<'_>) {
        let count = self.parts.len();
        let wanted: Vec<_> = (0..count)
            .map(|step| (self.turn + step) % count)
            .filter(|part| !demand.paused.contains(&self.parts[*part].key))
            .map(|part| {
                let of = &self.parts[part];
                (part, of.topic.clone(), of.id, of.number, of.cursor)
            })
            .collect();
        self.turn = if count == 0 {
            0
        } else {
            (self.turn + 1) % count
        };
        let (log, epoch) = (self.log.clone(), self.epoch);
        let (mut records, mut bytes) = (demand.records, demand.bytes);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            for (part, topic, id, number, from) in wanted {
                if records == 0 || bytes == 0 {
                    break;
                }
                let found = log.read((&topic, id), number, from, records, bytes)?;
                records -= found.len();
                let size = found.iter().map(|record| record.weight()).sum();
                bytes = bytes.saturating_sub(size);
                if !found.is_empty() {
                    all.push(Read {
                        part,
                        from,
                        epoch,
                        records: found,
                    });
                }
            }
            Ok(all)
        }));
    }

    /// Waits for what is being read. Nothing is lost if this is dropped.
    async fn finished(&mut self) -> Result<Vec<Read>, AdapterError> {
        let Some(reading) = &mut self.reading else {
            return Ok(Vec::new());
        };
        let result = reading.await;
        self.reading = None;
        result.map_err(|error| {
            AdapterError::new(
                crate::AdapterErrorKind::Io,
                format!("reading the log ended by itself: {error}"),
            )
        })?
    }

    fn hand_out(&mut self, reads: Vec<Read>) -> Batch {
        let mut batch = Batch::default();
        for read in reads {
            let part = &mut self.parts[read.part];
            if read.epoch != self.epoch || read.from != part.cursor {
                continue;
            }
            for record in read.records {
                let offset = record.offset;
                part.cursor = offset + 1;
                batch.bytes_read += record.weight() as u64;
                batch.items.push(Item {
                    token: AckToken((read.part as u64) << OFFSET_BITS | offset),
                    partition: part.key,
                    position: offset,
                    redelivered: if offset < part.again.0 {
                        part.again.1
                    } else {
                        0
                    },
                    content: Ok(record),
                });
            }
            part.at.handed = part.at.handed.max(part.cursor);
        }
        batch
    }

    async fn pulled(&mut self, demand: Demand<'_>) -> Result<Pulled, AdapterError> {
        loop {
            if self.versions.has_changed().unwrap_or(false) {
                self.discover()?;
            }
            if self.reading.is_none() {
                self.read(&demand);
            }
            let all = demand.paused.is_empty();
            let reads = self.finished().await?;
            let stale = reads.iter().any(|read| read.epoch != self.epoch);
            let batch = self.hand_out(reads);
            if !batch.items.is_empty() {
                return Ok(Pulled::Batch(batch));
            }
            if stale || self.versions.has_changed().unwrap_or(false) {
                continue;
            }
            if all && !self.follow && !self.is_behind()? {
                return Ok(Pulled::End);
            }
            // Another commit, or another demand, may bring something.
            if self.versions.changed().await.is_err() {
                return Ok(Pulled::End);
            }
            self.versions.mark_changed();
        }
    }

    /// Whether there is anything to hand out: a read with other pauses may have found nothing.
    fn is_behind(&self) -> Result<bool, AdapterError> {
        let topics = self.log.topics()?;
        let next = |part: &Part| {
            let topic = topics.iter().find(|topic| topic.id == part.id)?;
            let own = topic
                .partitions
                .iter()
                .find(|own| own.number == part.number)?;
            Some(own.records > 0 && own.next > part.cursor)
        };
        for part in &self.parts {
            let place = (&part.topic, part.id);
            if next(part) == Some(true)
                && !self
                    .log
                    .read(place, part.number, part.cursor, 1, 1)?
                    .is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn advance(&mut self, ends: &[(usize, u64)]) {
        for (part, end) in ends {
            let part = &mut self.parts[*part];
            if *end > part.at.next {
                part.at.next = *end;
                part.at.begun = 0;
            }
        }
    }

    /// Notes positions in the background; with what comes meanwhile, until nothing does.
    fn note(&mut self, positions: impl IntoIterator<Item = Position>) {
        let mut waiting = self.notes.waiting();
        for at in positions {
            waiting.positions.insert((at.topic, at.partition), at);
        }
        if std::mem::replace(&mut waiting.busy, true) {
            return;
        }
        drop(waiting);
        let (log, notes) = (self.log.clone(), self.notes.clone());
        let consumer = self.claim.consumer.clone();
        self.noting = Some(tokio::task::spawn_blocking(move || {
            notes.write(&log, &consumer);
        }));
    }

    async fn noted(&mut self) -> Result<(), AdapterError> {
        if let Some(noting) = self.noting.take() {
            noting.await.map_err(|error| {
                AdapterError::new(
                    crate::AdapterErrorKind::Io,
                    format!("noting a position ended by itself: {error}"),
                )
            })?;
        }
        self.notes.failure()
    }
}

/// Positions that are to be noted: one commit at a time, for all that came while the one before was made.
#[derive(Default)]
struct Notes(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    positions: HashMap<(u32, u32), Position>,
    /// Somebody writes them down.
    busy: bool,
    failed: Option<AdapterError>,
}

impl Notes {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, log: &Log, consumer: &Arc<str>) {
        loop {
            let positions = {
                let mut waiting = self.waiting();
                if waiting.positions.is_empty() {
                    waiting.busy = false;
                    return;
                }
                std::mem::take(&mut waiting.positions)
            };
            let own = positions.values().cloned();
            let written = log.commit(&Append {
                positions: own.map(|at| (consumer.clone(), at)).collect(),
                ..Append::default()
            });
            if let Err(error) = written {
                let mut waiting = self.waiting();
                for (place, at) in positions {
                    waiting.positions.entry(place).or_insert(at);
                }
                waiting.failed = Some(error);
                // The next acknowledgement says so, and begins again.
                waiting.busy = false;
                return;
            }
        }
    }

    fn failure(&self) -> Result<(), AdapterError> {
        self.waiting().failed.take().map_or(Ok(()), Err)
    }
}

fn split(token: AckToken) -> (usize, u64) {
    let offset = token.0 & ((1 << OFFSET_BITS) - 1);
    ((token.0 >> OFFSET_BITS) as usize, offset)
}

/// The partitions of these tokens, each with the offset after its last token.
fn ends(tokens: &[AckToken]) -> Vec<(usize, u64)> {
    let mut ends: Vec<(usize, u64)> = Vec::new();
    for token in tokens {
        let (part, offset) = split(*token);
        match ends.last_mut() {
            // Neighbours are mostly of one partition.
            Some((of, end)) if *of == part => *end = (*end).max(offset + 1),
            _ => ends.push((part, offset + 1)),
        }
    }
    ends.sort_unstable();
    ends.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = later.1;
        }
        same
    });
    ends
}

impl Source for EmbeddedSource {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(self.pulled(demand))
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            let ends = ends(tokens);
            self.advance(&ends);
            let touched = ends.iter();
            let positions: Vec<Position> = touched
                .map(|(part, _)| self.parts[*part].at.clone())
                .collect();
            let failed = self.notes.failure();
            self.note(positions);
            failed
        })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        _delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.epoch += 1;
        for token in tokens {
            let (part, offset) = split(*token);
            let part = &mut self.parts[part];
            if offset < part.cursor {
                let times = part.again.1.max(u32::from(part.again.0 > offset));
                part.again = (part.at.handed, times + 1);
                part.cursor = offset;
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn positions(&mut self, tokens: &[AckToken]) -> Option<Positions> {
        let ends = ends(tokens);
        let positions = ends.into_iter().map(|(part, end)| Position {
            next: end,
            begun: 0,
            ..self.parts[part].at.clone()
        });
        Some(Positions::new(Handed {
            log: self.log.clone(),
            consumer: self.claim.consumer.clone(),
            positions: positions.collect(),
        }))
    }

    fn committed(&mut self, tokens: &[AckToken]) {
        self.advance(&ends(tokens));
    }

    fn lag(&self) -> BoxFuture<'static, Result<Option<Lag>, AdapterError>> {
        let (log, topics) = (self.log.clone(), self.topics.clone());
        let consumer = self.claim.consumer.clone();
        Box::pin(blocking(move || log.lag(&consumer, &topics).map(Some)))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            self.noted().await?;
            for part in &mut self.parts {
                // Nothing is in flight any more: whoever reads next begins here for the first time.
                part.at.handed = part.at.next;
                part.at.begun = 0;
            }
            let positions: Vec<Position> = self.parts.iter().map(|part| part.at.clone()).collect();
            self.note(positions);
            self.noted().await
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ends_are_what_follows_the_last_token_of_each_partition(tokens in prop::collection::vec((0..4_u64, 0..50_u64), 0..40)) {
            let mut expected = std::collections::BTreeMap::new();
            for (part, offset) in &tokens {
                let end = expected.entry(*part as usize).or_insert(0);
                *end = (offset + 1).max(*end);
            }
            let tokens: Vec<AckToken> = tokens.iter().map(|(part, offset)| AckToken(part << OFFSET_BITS | offset)).collect();
            prop_assert_eq!(ends(&tokens), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
