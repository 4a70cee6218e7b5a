//! The fake: topics in memory, with what a real broker promises and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etl_orchestrator::Record;
use tokio::sync::watch;

use super::{Abilities, Place};
use crate::{
    AckToken, AdapterError, Batch, BoxFuture, Demand, Item, Lag, Outputs, PartitionKey, Pulled,
    Refused, Sink, Source,
};

/// The largest record that it takes.
const MAX_RECORD: usize = 4 << 20;

/// Topics in memory. Clones are the same topics.
#[derive(Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<(Arc<str>, u32), Vec<Arc<Record>>>,
    /// By consumer and partition: the next offset, and how often it was begun from.
    positions: HashMap<(String, PartitionKey), (u64, u32)>,
}

impl Memory {
    /// Without topics.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in a topic, by partition and in order.
    pub fn records(&self, topic: &str) -> Vec<Arc<Record>> {
        let state = self.state();
        let own = state
            .partitions
            .iter()
            .filter(|((name, _), _)| **name == *topic);
        own.flat_map(|(_, records)| records.iter().cloned())
            .collect()
    }
}

impl Place for Memory {
    fn source<'a>(
        &'a self,
        topics: &'a [&'a str],
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>> {
        let source = MemorySource {
            memory: self.clone(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            consumer: consumer.to_owned(),
            cursors: HashMap::new(),
            tokens: Vec::new(),
            versions: self.0.version.subscribe(),
        };
        Box::pin(async move { Ok(Box::new(source) as Box<dyn Source>) })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        let sink = MemorySink {
            memory: self.clone(),
            written: Vec::new(),
        };
        Box::pin(async move { Ok(Box::new(sink) as Box<dyn Sink>) })
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            max_record: Some(MAX_RECORD),
            ..Abilities::all()
        }
    }
}

struct MemorySink {
    memory: Memory,
    written: Vec<Arc<Record>>,
}

impl Sink for MemorySink {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        let records = outputs.iter().map(|output| output.record.clone());
        self.written.extend(records);
        Box::pin(async { Ok(()) })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        let mut refused = Vec::new();
        let mut state = self.memory.state();
        for (index, record) in self.written.drain(..).enumerate() {
            let weight = record.weight();
            if weight > MAX_RECORD {
                let reason = format!("it has {weight} bytes, over the limit of {MAX_RECORD}");
                refused.push(Refused { index, reason });
                continue;
            }
            let place = (record.topic.clone(), record.partition);
            let records = state.partitions.entry(place).or_default();
            records.push(Arc::new(Record {
                offset: records.len() as u64,
                ..(*record).clone()
            }));
        }
        drop(state);
        self.memory.0.version.send_modify(|version| *version += 1);
        Box::pin(async { Ok(refused) })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        self.written.clear();
        Box::pin(async { Ok(true) })
    }
}

struct MemorySource {
    memory: Memory,
    topics: Vec<String>,
    consumer: String,
    cursors: HashMap<PartitionKey, Cursor>,
    /// Of each token: partition and offset.
    tokens: Vec<(PartitionKey, u64)>,
    versions: watch::Receiver<u64>,
}

struct Cursor {
    next: u64,
    /// What lies before this came before, so often.
    again: (u64, u32),
}

impl MemorySource {
    fn take(&mut self, demand: Demand<'_>) -> Vec<Item> {
        let mut items = Vec::new();
        let mut state = self.memory.state();
        let State {
            partitions,
            positions,
        } = &mut *state;
        for ((topic, number), records) in partitions {
            let partition = PartitionKey::of(topic, *number);
            if !self.topics.iter().any(|own| **own == **topic) || demand.paused.contains(&partition)
            {
                continue;
            }
            let cursor = self.cursors.entry(partition).or_insert_with(|| {
                let place = (self.consumer.clone(), partition);
                let (next, begun) = positions.entry(place).or_default();
                *begun += 1;
                Cursor {
                    next: *next,
                    again: (if *begun > 1 { u64::MAX } else { 0 }, *begun - 1),
                }
            });
            let rest = records.iter().skip(cursor.next as usize);
            for record in rest.take(demand.records - items.len()) {
                self.tokens.push((partition, cursor.next));
                items.push(Item {
                    token: AckToken(self.tokens.len() as u64 - 1),
                    partition,
                    position: cursor.next,
                    redelivered: if cursor.next < cursor.again.0 {
                        cursor.again.1
                    } else {
                        0
                    },
                    content: Ok(record.clone()),
                });
                cursor.next += 1;
            }
        }
        items
    }
}

impl Source for MemorySource {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            loop {
                self.versions.mark_unchanged();
                let items = self.take(demand);
                if !items.is_empty() {
                    return Ok(Pulled::Batch(Batch {
                        items,
                        bytes_read: 0,
                    }));
                }
                if self.versions.changed().await.is_err() {
                    return Ok(Pulled::End);
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        let mut state = self.memory.state();
        for token in tokens {
            let (partition, offset) = self.tokens[token.0 as usize];
            let place = (self.consumer.clone(), partition);
            state.positions.insert(place, (offset + 1, 0));
        }
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        _delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        for token in tokens {
            let (partition, offset) = self.tokens[token.0 as usize];
            if let Some(cursor) = self.cursors.get_mut(&partition)
                && offset < cursor.next
            {
                cursor.again = (cursor.next, cursor.again.1 + 1);
                cursor.next = offset;
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn lag(&self) -> BoxFuture<'static, Result<Option<Lag>, AdapterError>> {
        let state = self.memory.state();
        let mut lag = Lag::default();
        for ((topic, number), records) in &state.partitions {
            if self.topics.iter().any(|own| **own == **topic) {
                let place = (self.consumer.clone(), PartitionKey::of(topic, *number));
                let at = state.positions.get(&place).map_or(0, |(next, _)| *next);
                lag.records += records.len() as u64 - at;
            }
        }
        Box::pin(async { Ok(Some(lag)) })
    }
}
