//! What lies between the thread that polls and the source that gives out: records of each partition that wait, and those that were given out.
//!
//! An assigned partition has a **slot**, which it keeps until it is taken away; a token is the slot's number and the offset, so a token of an earlier
//! assignment means nothing. Where offsets go back (the topic was made anew, or lost its end), the partition gets another slot, as those are other
//! records. Records that were given out are kept until they are acknowledged (they are shared with the engine, not copied): so given
//! back ones are given out again from here, in order, without asking a broker, and a position never passes a record that is not safe.
//!
//! Nothing here waits or calls librdkafka.

mod state;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etl_orchestrator::Record;
use tokio::sync::Notify;

use crate::{AckToken, AdapterError, Batch, Demand, InvalidRecord, Item, PartitionKey};

/// Records that may wait to be given out, of all partitions that are not paused. Then polling pauses.
const RECORDS: usize = 8_192;

/// The same in bytes.
const BYTES: usize = 16 << 20;

/// Records of one partition in a row, so that others get their turn within one batch.
const IN_A_ROW: usize = 64;

/// Bits of a token that are the offset: 281 million million records a partition.
const OFFSET_BITS: u32 = 48;

type Content = Result<Arc<Record>, InvalidRecord>;

struct Fetched {
    offset: u64,
    given_before: u32,
    content: Content,
}

impl Fetched {
    fn weight(&self) -> usize {
        match &self.content {
            Ok(record) => record.weight(),
            Err(invalid) => invalid.bytes.len(),
        }
    }
}

struct Given {
    fetched: Fetched,
    safe: bool,
}

struct Slot {
    topic: Arc<str>,
    partition: i32,
    key: PartitionKey,
    waiting: VecDeque<Fetched>,
    given: VecDeque<Given>,
    /// The next offset to commit, once anything is safe.
    next: Option<u64>,
    /// Given back, to come again no earlier.
    held: Option<Instant>,
    /// librdkafka fetches no more of it for now.
    paused: bool,
    /// It is about to be taken away.
    going: bool,
    /// The highest offset that came.
    last: Option<u64>,
    /// Nothing is behind what came, for now.
    at_end: bool,
}

/// A partition, as librdkafka names it.
pub(super) type Place = (Arc<str>, i32);

/// A partition and the next offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) slot: u16,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: u64,
}

/// Partitions that are taken away.
#[derive(Debug, Clone)]
pub(super) struct Going {
    pub(super) places: Vec<Place>,
    /// A partition may be ours again before these have gone.
    slots: Vec<u16>,
    told: bool,
    pub(super) keys: Vec<PartitionKey>,
    /// Somebody else may have them already.
    pub(super) lost: bool,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<u16, Slot>,
    by_topic: HashMap<String, HashMap<i32, u16>>,
    next_slot: u16,
    /// After which the next batch begins.
    last: u16,
    /// Told to the source or not, until it has released them.
    going: Vec<Going>,
    error: Option<AdapterError>,
    /// To be said once with an empty batch: it works again.
    works_again: bool,
    /// What waits in slots that are not paused.
    records: usize,
    bytes: usize,
    closing: bool,
}

/// What the source finds.
pub(super) enum Found {
    Batch(Batch),
    Going(Going),
    Error(AdapterError),
    /// Nothing; before then nothing comes by itself.
    Nothing(Option<Instant>),
}

/// What the polling thread finds.
pub(super) enum Room {
    /// Poll. These are to be fetched again before.
    Free(Vec<Place>),
    /// Too much waits, and nobody took any for a while: these are to be paused, and then polled on.
    Stuck(Vec<Place>),
    Closing,
}

#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Something came.
    came: Notify,
    /// Something was taken.
    taken: Condvar,
}

impl Desk {
    /// One whose tokens are none of the other's.
    pub(super) fn after(other: &Self) -> Self {
        let desk = Self::default();
        desk.state().next_slot = other.state().next_slot;
        desk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// Lets the source look.
    pub(super) fn wake(&self) {
        self.came.notify_one();
    }

    pub(super) fn assigned(&self, places: &[Place]) {
        let mut state = self.state();
        for (topic, partition) in places {
            state.begin(topic, *partition, false);
        }
    }

    /// Notes that these are taken away. `true`: nothing of them is in flight, so they can go at once and were forgotten.
    pub(super) fn revoked(&self, places: &[Place], lost: bool) -> bool {
        let mut state = self.state();
        let numbers = state.numbers(places);
        let mut in_flight = false;
        for number in &numbers {
            state.drop_waiting(*number);
            if let Some(slot) = state.slots.get_mut(number) {
                slot.going = true;
                in_flight |= !slot.given.is_empty();
            }
        }
        if !in_flight || state.closing {
            state.forget(&numbers);
            return true;
        }
        let keys = numbers.iter().filter_map(|number| state.slots.get(number));
        let going = Going {
            places: places.to_vec(),
            keys: keys.map(|slot| slot.key).collect(),
            slots: numbers,
            told: false,
            lost,
        };
        state.going.push(going);
        drop(state);
        self.wake();
        false
    }

    /// The source has finished with revocations that these belong to. Answers which partitions the group still waits for.
    pub(super) fn released(&self, partitions: &[PartitionKey]) -> Vec<Place> {
        self.gone(|going| going.told && going.keys.iter().any(|key| partitions.contains(key)))
    }

    /// The source finishes nothing any more. Answers which partitions the group still waits for.
    pub(super) fn release_all(&self) -> Vec<Place> {
        self.gone(|_| true)
    }

    fn gone(&self, which: impl Fn(&Going) -> bool) -> Vec<Place> {
        let mut state = self.state();
        let mut places = Vec::new();
        for going in state
            .going
            .extract_if(.., |going| which(going))
            .collect::<Vec<_>>()
        {
            state.forget(&going.slots);
            places.extend(going.places);
        }
        drop(state);
        self.taken.notify_one();
        places
    }

    /// The slot of a partition, and its topic's name to share; `None`: it is not ours any more.
    pub(super) fn slot(&self, topic: &str, partition: i32) -> Option<(u16, Arc<str>)> {
        let state = self.state();
        let number = *state.by_topic.get(topic)?.get(&partition)?;
        let slot = state.slots.get(&number).filter(|slot| !slot.going)?;
        Some((number, slot.topic.clone()))
    }

    /// Adds what was fetched. `true`: as much waits as may.
    pub(super) fn put(&self, mut slot: u16, offset: u64, content: Content) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(before) = state.slots.get(&slot)
            && before.last.is_some_and(|last| last >= offset)
        {
            let (topic, partition, paused) =
                (before.topic.clone(), before.partition, before.paused);
            tracing::warn!(
                topic = &*topic,
                partition,
                offset,
                last = before.last,
                "offsets went back: the topic was made anew, or lost its end"
            );
            state.forget(&[slot]);
            slot = state.begin(&topic, partition, paused);
        }
        if let Some(slot) = state.slots.get_mut(&slot).filter(|slot| !slot.going) {
            slot.last = Some(offset);
            slot.at_end = false;
            let fetched = Fetched {
                offset,
                given_before: 0,
                content,
            };
            if !slot.paused {
                state.records += 1;
                state.bytes += fetched.weight();
            }
            slot.waiting.push_back(fetched);
        }
        state.is_full()
    }

    /// Nothing is behind what came of partitions of this number.
    pub(super) fn at_end(&self, partition: i32) {
        let mut state = self.state();
        let slots = state.slots.values_mut();
        for slot in slots.filter(|slot| slot.partition == partition) {
            slot.at_end = true;
        }
        drop(state);
        self.wake();
    }

    /// Whether everything that there is of a partition was given out.
    pub(super) fn is_exhausted(&self, (topic, partition): &Place) -> bool {
        let state = self.state();
        let of_topic = state.by_topic.get(&**topic);
        let number = of_topic.and_then(|of_topic| of_topic.get(partition));
        let slot = number.and_then(|number| state.slots.get(number));
        slot.is_some_and(|slot| slot.at_end && slot.waiting.is_empty())
    }

    /// Ends the run of the source with this, or has it wait.
    pub(super) fn failed(&self, error: AdapterError) {
        let mut state = self.state();
        // What is worst stays.
        if state.error.as_ref().is_none_or(AdapterError::is_retryable) {
            state.error = Some(error);
        }
        drop(state);
        self.wake();
    }

    /// It was asked, and answered.
    pub(super) fn works_again(&self) {
        let mut state = self.state();
        state.error = state.error.take().filter(|error| !error.is_retryable());
        state.works_again = true;
        drop(state);
        self.wake();
    }

    /// Whether to poll; waits for `wait` at the most.
    pub(super) fn room(&self, wait: Duration) -> Room {
        let mut state = self.state();
        if state.is_full() && !state.closing {
            let (after, timeout) = self
                .taken
                .wait_timeout_while(state, wait, |state| state.is_full() && !state.closing)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            if timeout.timed_out() && !state.closing {
                return Room::Stuck(state.pause_waiting());
            }
        }
        match state.closing {
            true => Room::Closing,
            false => Room::Free(state.resume_empty()),
        }
    }

    pub(super) fn close(&self) {
        self.state().closing = true;
        self.taken.notify_one();
    }

    /// Takes what is there.
    pub(super) fn take(&self, demand: &Demand<'_>) -> Found {
        let mut state = self.state();
        if let Some(error) = state.error.take() {
            return Found::Error(error);
        }
        if let Some(going) = state.going.iter_mut().find(|going| !going.told) {
            going.told = true;
            return Found::Going(going.clone());
        }
        let found = state.take(demand);
        drop(state);
        if matches!(found, Found::Batch(_)) {
            self.taken.notify_one();
        }
        found
    }

    /// Takes note of what is safe, and answers what can be committed for it.
    pub(super) fn safe(&self, tokens: &[AckToken]) -> Vec<Next> {
        let mut state = self.state();
        let mut touched: Vec<u16> = Vec::new();
        for token in tokens {
            let (number, offset) = parts(*token);
            let Some(slot) = state.slots.get_mut(&number) else {
                continue;
            };
            if let Some(index) = slot.find(offset) {
                slot.given[index].safe = true;
            }
            if touched.last() != Some(&number) {
                touched.push(number);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|number| {
            let slot = state.slots.get_mut(number);
            slot.is_some_and(Slot::advance)
        });
        let next = touched.iter().filter_map(|number| {
            let slot = state.slots.get(number)?;
            Some(slot.next(*number, slot.next?))
        });
        next.collect()
    }

    /// What would be committed if these were safe; `None`: some of them mean nothing any more.
    pub(super) fn positions(&self, tokens: &[AckToken]) -> Option<Vec<Next>> {
        let state = self.state();
        let mut positions: BTreeMap<u16, u64> = BTreeMap::new();
        for token in tokens {
            let (number, offset) = parts(*token);
            let next = positions.entry(number).or_default();
            *next = (*next).max(offset + 1);
        }
        let next = positions.into_iter().map(|(number, offset)| {
            let slot = state.slots.get(&number)?;
            Some(slot.next(number, offset))
        });
        next.collect()
    }

    /// Whether this slot is still the same partition's, and nobody else can have that meanwhile.
    pub(super) fn owns(&self, slot: u16) -> bool {
        let state = self.state();
        let lost = |going: &Going| going.lost && going.slots.contains(&slot);
        state.slots.contains_key(&slot) && !state.going.iter().any(lost)
    }

    /// Whether the source was closed.
    pub(super) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Puts what was given out back in its place, to come again after `delay`.
    pub(super) fn give_back(&self, tokens: &[AckToken], delay: Duration) {
        let mut state = self.state();
        let mut from: BTreeMap<u16, u64> = BTreeMap::new();
        for token in tokens {
            let (number, offset) = parts(*token);
            let first = from.entry(number).or_insert(offset);
            *first = (*first).min(offset);
        }
        let held = (!delay.is_zero()).then(|| Instant::now() + delay);
        let state = &mut *state;
        for (number, offset) in from {
            let Some(slot) = state.slots.get_mut(&number) else {
                continue;
            };
            slot.held = held;
            while let Some(given) = slot
                .given
                .pop_back_if(|given| given.fetched.offset >= offset)
            {
                let mut fetched = given.fetched;
                fetched.given_before += 1;
                if !slot.paused {
                    state.records += 1;
                    state.bytes += fetched.weight();
                }
                slot.waiting.push_front(fetched);
            }
        }
        self.wake();
    }

    /// Assigned partitions, and the first offset of each that is not safe, where that is known.
    pub(super) fn unsafe_from(&self) -> Vec<(Place, Option<u64>)> {
        let state = self.state();
        let slots = state.slots.values().map(|slot| {
            let given = slot.given.front().map(|given| given.fetched.offset);
            let waiting = slot.waiting.front().map(|fetched| fetched.offset);
            let from = given.or(slot.next).or(waiting);
            ((slot.topic.clone(), slot.partition), from)
        });
        slots.collect()
    }
}

impl Slot {
    fn find(&self, offset: u64) -> Option<usize> {
        let key = |given: &Given| given.fetched.offset;
        self.given.binary_search_by_key(&offset, key).ok()
    }

    /// Forgets what is safe from the beginning on. `true`: there was something.
    fn advance(&mut self) -> bool {
        let before = self.next;
        while let Some(given) = self.given.pop_front_if(|given| given.safe) {
            self.next = Some(given.fetched.offset + 1);
        }
        self.next != before
    }

    fn next(&self, slot: u16, offset: u64) -> Next {
        Next {
            slot,
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
        }
    }

    fn place(&self) -> Place {
        (self.topic.clone(), self.partition)
    }
}

fn token(slot: u16, offset: u64) -> AckToken {
    AckToken(u64::from(slot) << OFFSET_BITS | offset & ((1 << OFFSET_BITS) - 1))
}

fn parts(token: AckToken) -> (u16, u64) {
    let slot = (token.0 >> OFFSET_BITS) as u16;
    (slot, token.0 & ((1 << OFFSET_BITS) - 1))
}

#[cfg(test)]
mod tests;
