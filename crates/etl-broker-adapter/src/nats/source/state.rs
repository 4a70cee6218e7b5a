//! What is in hand: waiting to be given out, given out, acknowledged and not yet confirmed.
//!
//! A token is the sequence in the stream, and above that which stream: one that is deleted and made again has other records under the same
//! numbers, and what was given out of the old one must not acknowledge them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use etl_orchestrator::Record;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::stretches::Stretches;
use crate::{AckToken, AdapterError, Demand, Item, PartitionKey};

/// A record that was given out so often before is handled alone.
pub(super) const SUSPECT: u32 = 3;

/// Stretches of sequences that are remembered as done although older ones are not. Beyond it the oldest are forgotten, and may be done again if the
/// consumer is deleted.
const REMEMBERED: usize = 262_144;

/// Bits of a token that are the sequence: 281 million million records a stream.
const SEQUENCE_BITS: u32 = 48;

/// The first sequence that no token can hold.
pub(super) const SEQUENCES: u64 = 1 << SEQUENCE_BITS;

/// Bytes in hand, beyond which no more are asked for.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// What the source and its pump share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something for `pull`: records, room for a suspect, a failure.
    pub(super) news: Notify,
    /// Something for the pump: acknowledgements, room, the end.
    pub(super) work: Notify,
    pub(super) prefetch: usize,
}

impl Shared {
    pub(super) fn new(prefetch: usize) -> Self {
        Self {
            state: Mutex::default(),
            news: Notify::new(),
            work: Notify::new(),
            prefetch,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more records may come.
    pub(super) fn room(&self) -> usize {
        let state = self.state();
        if state.bytes >= MOST_BYTES {
            return 0;
        }
        self.prefetch.saturating_sub(state.held.len())
    }
}

/// Everything by sequence in the stream.
#[derive(Default)]
pub(super) struct State {
    /// Not acknowledged.
    held: BTreeMap<u64, Held>,
    /// Of those, the ones that are not given out.
    waiting: BTreeSet<u64>,
    /// Weight of what is held.
    bytes: usize,
    /// Partitions that were given back, and when they come again.
    resting: HashMap<PartitionKey, Instant>,
    /// Acknowledged here, and not known to be confirmed: whom to tell.
    acked: BTreeMap<u64, Subject>,
    /// Those of `acked` that have not been sent on this connection.
    unsent: Vec<u64>,
    /// Acknowledged by this worker, above `floor`.
    done: Stretches,
    /// Everything up to here is acknowledged, by whomever.
    floor: Option<u64>,
    /// When the stream was made.
    created: Option<i128>,
    /// Grows when it is another stream: tokens of before mean nothing then.
    epoch: u16,
    /// Whether a suspect is given out, and nothing may be beside it.
    alone: bool,
    /// As long as suspects may come, the server is asked for one record at a time.
    pub(super) careful_until: Option<Instant>,
    pub(super) bytes_read: u64,
    pub(super) failure: Option<AdapterError>,
    pub(super) closing: bool,
}

/// A record in hand.
struct Held {
    record: Arc<Record>,
    partition: PartitionKey,
    /// By the server.
    redelivered: u32,
    /// Given out by this source, and given back.
    given_back: u32,
    reply: Subject,
    /// When the server last heard of it.
    heard: Instant,
}

/// A record as it came.
pub(super) struct Arrived {
    pub(super) sequence: u64,
    pub(super) record: Record,
    pub(super) partition: PartitionKey,
    pub(super) redelivered: u32,
    pub(super) reply: Subject,
}

impl State {
    /// A connection begins, to a stream that was made at this time. Answers from where a consumer that is missing shall read.
    pub(super) fn begin(&mut self, created: i128) -> Option<u64> {
        if self.created.is_some_and(|before| before != created) {
            // Its records are other records.
            *self = Self {
                epoch: self.epoch.wrapping_add(1),
                ..Self::default()
            };
        }
        self.created = Some(created);
        self.failure = None;
        self.unsent = self.acked.keys().copied().collect();
        self.floor.map(|floor| floor + 1)
    }

    /// Takes a record in.
    pub(super) fn arrive(&mut self, arrived: Arrived) {
        let Arrived {
            sequence,
            record,
            partition,
            redelivered,
            reply,
        } = arrived;
        let now = Instant::now();
        if let Some(held) = self.held.get_mut(&sequence) {
            // The server lost patience, or its memory: the record is in hand, and only the way to acknowledge it is new.
            held.reply = reply;
            held.heard = now;
            return;
        }
        if self.acked.contains_key(&sequence) || self.done.holds(sequence) {
            self.acked.insert(sequence, reply);
            self.unsent.push(sequence);
            return;
        }
        self.bytes_read += record.weight() as u64;
        self.bytes += record.weight();
        self.waiting.insert(sequence);
        let record = Arc::new(record);
        self.held.insert(
            sequence,
            Held {
                record,
                partition,
                redelivered,
                given_back: 0,
                reply,
                heard: now,
            },
        );
    }

    /// Gives out what is asked for, in the order of the stream.
    pub(super) fn take(&mut self, demand: &Demand<'_>) -> Vec<Item> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let given_out = self.held.len() - self.waiting.len();
        if self.alone && given_out > 0 {
            return Vec::new();
        }
        self.alone = false;
        let epoch = self.epoch;
        let mut items = Vec::new();
        let mut suspect = None;
        let mut bytes = 0;
        for sequence in &self.waiting {
            let Some(held) = self.held.get(sequence) else {
                continue;
            };
            if demand.paused.contains(&held.partition) || self.resting.contains_key(&held.partition)
            {
                continue;
            }
            if held.redelivered >= SUSPECT {
                if items.is_empty() && given_out == 0 {
                    suspect = Some(*sequence);
                }
                // Nothing overtakes it; it goes when its predecessors are done.
                break;
            }
            bytes += held.record.weight();
            items.push(item(epoch, *sequence, held));
            if items.len() >= demand.records || bytes >= demand.bytes {
                break;
            }
        }
        if let Some(sequence) = suspect
            && let Some(held) = self.held.get(&sequence)
        {
            items.push(item(epoch, sequence, held));
            self.alone = true;
        }
        for item in &items {
            self.waiting.remove(&item.position);
        }
        items
    }

    /// When a partition that was given back comes again.
    pub(super) fn next_ready(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    pub(super) fn acknowledge(&mut self, tokens: &[AckToken]) {
        for token in tokens {
            let Some(sequence) = self.sequence(*token) else {
                continue;
            };
            let Some(held) = self.held.remove(&sequence) else {
                continue;
            };
            self.bytes -= held.record.weight();
            self.waiting.remove(&sequence);
            self.acked.insert(sequence, held.reply);
            self.unsent.push(sequence);
            self.done.add(sequence);
        }
        self.done.forget_beyond(REMEMBERED);
    }

    /// The sequence of a token of this stream.
    fn sequence(&self, AckToken(token): AckToken) -> Option<u64> {
        let of_this = token >> SEQUENCE_BITS == u64::from(self.epoch);
        of_this.then_some(token & (SEQUENCES - 1))
    }

    /// They wait again, and with them what is given out behind them in their partitions.
    pub(super) fn give_back(&mut self, tokens: &[AckToken], delay: Duration) {
        let mut from: HashMap<PartitionKey, u64> = HashMap::new();
        for token in tokens {
            let sequence = self.sequence(*token);
            if let Some(sequence) = sequence
                && let Some(held) = self.held.get(&sequence)
            {
                let first = from.entry(held.partition).or_insert(sequence);
                *first = (*first).min(sequence);
            }
        }
        let until = Instant::now() + delay;
        for (sequence, held) in &mut self.held {
            let goes_back = from
                .get(&held.partition)
                .is_some_and(|first| sequence >= first);
            if goes_back && self.waiting.insert(*sequence) {
                held.given_back += 1;
            }
        }
        if !delay.is_zero() {
            self.resting
                .extend(from.into_keys().map(|partition| (partition, until)));
        }
    }

    /// Acknowledgements to be sent.
    pub(super) fn take_unsent(&mut self) -> Vec<(u64, Subject)> {
        let unsent = std::mem::take(&mut self.unsent);
        let replies = unsent.into_iter().filter_map(|sequence| {
            let reply = self.acked.get(&sequence)?;
            Some((sequence, reply.clone()))
        });
        replies.collect()
    }

    /// The server has confirmed these.
    pub(super) fn confirmed(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            self.acked.remove(sequence);
        }
    }

    /// The server has not confirmed these in time.
    pub(super) fn unconfirmed_again(&mut self, sequences: Vec<u64>) {
        self.unsent.extend(sequences);
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.acked.len()
    }

    /// Everything up to here is acknowledged.
    pub(super) fn set_floor(&mut self, floor: u64) {
        if self.floor.is_none_or(|before| floor > before) {
            self.floor = Some(floor);
            self.done.forget_to(floor);
        }
    }

    /// The same, of a stream that was made then.
    pub(super) fn move_floor(&mut self, created: i128, floor: u64) {
        if self.created == Some(created) {
            self.set_floor(floor);
        }
    }

    /// Whom to tell that work goes on: those that were last heard of before `then`.
    pub(super) fn in_progress(&mut self, then: Instant) -> Vec<Subject> {
        let now = Instant::now();
        let late = self.held.values_mut().filter(|held| held.heard <= then);
        late.map(|held| {
            held.heard = now;
            held.reply.clone()
        })
        .collect()
    }

    /// Everything that is in hand goes back to the server.
    pub(super) fn hand_back(&mut self) -> Vec<Subject> {
        self.waiting.clear();
        self.bytes = 0;
        std::mem::take(&mut self.held)
            .into_values()
            .map(|held| held.reply)
            .collect()
    }

    /// Whether there is a suspect in hand.
    pub(super) fn has_suspects(&self) -> bool {
        self.held.values().any(|held| held.redelivered >= SUSPECT)
    }
}

fn item(epoch: u16, sequence: u64, held: &Held) -> Item {
    Item {
        token: AckToken(u64::from(epoch) << SEQUENCE_BITS | sequence),
        partition: held.partition,
        position: sequence,
        redelivered: held.redelivered + held.given_back,
        content: Ok(held.record.clone()),
    }
}
