//! What is in flight: lots of records, in the order of their partition, each at some stage of its way.
//!
//! A **lot** is what one pull gave of one partition. Lots of a partition are written in their order and acknowledged in their order;
//! those of different partitions know nothing of each other. Nothing here waits or calls anybody: it is the runner's memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use etl_orchestrator::{Outcome, Record, View};

use crate::{AckToken, Origin, Output, PartitionKey};

/// A lot in flight. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LotId {
    pub(super) partition: PartitionKey,
    pub(super) number: u64,
}

/// One item of a lot.
pub(super) struct Slot {
    pub(super) token: AckToken,
    pub(super) position: u64,
    /// In place of what the engine would make of it.
    pub(super) letter: Option<Arc<Record>>,
}

/// Figures of a lot, counted when it is safe.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records_out: u64,
    pub(crate) dead_letters: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) stopped: u64,
    pub(crate) skipped: u64,
}

struct Lot {
    number: u64,
    slots: Vec<Slot>,
    bytes: usize,
    stage: Stage,
    /// Jobs that sinks have and have not confirmed.
    outputs_pending: u32,
    letters_pending: u32,
    tally: Tally,
}

enum Stage {
    /// The engine has it.
    Processing,
    /// Waits for its turn to be written.
    Processed(Written),
    /// The sinks have it.
    Sent,
}

/// What came of a lot, by where it goes.
pub(super) struct Written {
    pub(super) outputs: Vec<Output>,
    /// Dead letters, where they go elsewhere.
    pub(super) letters: Vec<Output>,
}

/// What can be handed to sinks now.
pub(super) enum Ready {
    Letters(LotId, Vec<Output>),
    /// With the tokens whose positions are committed with it: none where they are not.
    Outputs(LotId, Vec<Output>, Vec<AckToken>),
}

#[derive(Default)]
struct Partition {
    lots: VecDeque<Lot>,
    records: usize,
}

impl Partition {
    fn is_stuck(&self) -> bool {
        self.lots.iter().any(|lot| lot.letters_pending > 0)
    }
}

/// Everything in flight.
#[derive(Default)]
pub(super) struct Flow {
    partitions: HashMap<PartitionKey, Partition>,
    next: u64,
    records: usize,
    bytes: usize,
    /// Letters go to a sink of their own.
    letters_apart: bool,
    /// Positions are committed with the outputs, so letters that go elsewhere must be safe before.
    atomic: bool,
}

impl Flow {
    pub(super) fn new(letters_apart: bool, atomic: bool) -> Self {
        Self {
            letters_apart,
            atomic,
            ..Self::default()
        }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Takes in a lot that the engine is about to get.
    pub(super) fn begin(
        &mut self,
        partition: PartitionKey,
        slots: Vec<Slot>,
        bytes: usize,
    ) -> LotId {
        let number = self.next;
        self.next += 1;
        self.records += slots.len();
        self.bytes += bytes;
        let of = self.partitions.entry(partition).or_default();
        of.records += slots.len();
        of.lots.push_back(Lot {
            number,
            slots,
            bytes,
            stage: Stage::Processing,
            outputs_pending: 0,
            letters_pending: 0,
            tally: Tally::default(),
        });
        LotId { partition, number }
    }

    fn lot(&mut self, id: LotId) -> Option<&mut Lot> {
        let lots = &mut self.partitions.get_mut(&id.partition)?.lots;
        let index = lots
            .binary_search_by_key(&id.number, |lot| lot.number)
            .ok()?;
        lots.get_mut(index)
    }

    /// Takes the engine's answer. `false`: there are fewer outcomes than records. A lot that is no longer known was revoked.
    pub(super) fn processed(&mut self, id: LotId, outcomes: Vec<Outcome>) -> bool {
        let apart = self.letters_apart;
        let Some(lot) = self.lot(id) else { return true };
        let mut outcomes = outcomes.into_iter();
        let mut outputs = Vec::with_capacity(lot.slots.len());
        let mut letters = Vec::new();
        for slot in &mut lot.slots {
            let origin = |index| Origin {
                partition: id.partition,
                position: slot.position,
                index,
            };
            let mut new_letters = Vec::from_iter(slot.letter.take());
            if new_letters.is_empty() {
                let Some(outcome) = outcomes.next() else {
                    return false;
                };
                lot.tally.dropped += u64::from(outcome.dropped);
                lot.tally.stopped += u64::from(outcome.stopped);
                lot.tally.skipped += u64::from(outcome.skipped);
                lot.tally.records_out += outcome.outputs.len() as u64;
                let views = outcome.outputs.into_iter().map(View::into_record);
                outputs.extend(views.zip(0..).map(|(record, index)| Output {
                    record,
                    origin: origin(index),
                }));
                new_letters.extend(outcome.dead_letters.into_iter().map(|letter| letter.record));
            }
            lot.tally.dead_letters += new_letters.len() as u64;
            let new_letters = new_letters.into_iter().zip(Origin::FIRST_DEAD_LETTER..);
            let new_letters = new_letters.map(|(record, index)| Output {
                record,
                origin: origin(index),
            });
            if apart {
                letters.extend(new_letters);
            } else {
                outputs.extend(new_letters);
            }
        }
        lot.stage = Stage::Processed(Written { outputs, letters });
        true
    }

    /// What of this partition has its turn now, in order.
    pub(super) fn advance(&mut self, partition: PartitionKey) -> Vec<Ready> {
        let mut ready = Vec::new();
        let Some(of) = self.partitions.get_mut(&partition) else {
            return ready;
        };
        for lot in &mut of.lots {
            let id = LotId {
                partition,
                number: lot.number,
            };
            let written = match &mut lot.stage {
                Stage::Processing => break,
                Stage::Sent => continue,
                Stage::Processed(written) => written,
            };
            if !written.letters.is_empty() {
                lot.letters_pending += 1;
                ready.push(Ready::Letters(id, std::mem::take(&mut written.letters)));
            }
            if self.atomic && lot.letters_pending > 0 {
                break;
            }
            let outputs = std::mem::take(&mut written.outputs);
            if self.atomic || !outputs.is_empty() {
                lot.outputs_pending += 1;
                let tokens = match self.atomic {
                    true => lot.slots.iter().map(|slot| slot.token).collect(),
                    false => Vec::new(),
                };
                ready.push(Ready::Outputs(id, outputs, tokens));
            }
            lot.stage = Stage::Sent;
        }
        ready
    }

    /// More letters of a lot go to the sink for them, because the other one refused their records.
    pub(super) fn add_letters(&mut self, id: LotId) -> bool {
        let lot = self.lot(id);
        lot.map(|lot| lot.letters_pending += 1).is_some()
    }

    /// A sink has confirmed a job of this lot.
    pub(super) fn confirmed(&mut self, id: LotId, was_letters: bool, refused: u64) {
        if let Some(lot) = self.lot(id) {
            if was_letters {
                lot.letters_pending -= 1;
            } else {
                lot.outputs_pending -= 1;
            }
            lot.tally.refused += refused;
            // They are dead letters now.
            lot.tally.records_out -= refused;
            lot.tally.dead_letters += refused;
        }
    }

    /// Takes out what of this partition is safe, from its beginning: tokens to acknowledge, and what to count.
    pub(super) fn take_safe(
        &mut self,
        partition: PartitionKey,
        tokens: &mut Vec<AckToken>,
        tallies: &mut Vec<Tally>,
    ) {
        let Some(of) = self.partitions.get_mut(&partition) else {
            return;
        };
        while let Some(lot) = of.lots.pop_front_if(|lot| {
            matches!(lot.stage, Stage::Sent) && lot.outputs_pending == 0 && lot.letters_pending == 0
        }) {
            of.records -= lot.slots.len();
            self.records -= lot.slots.len();
            self.bytes -= lot.bytes;
            tokens.extend(lot.slots.iter().map(|slot| slot.token));
            tallies.push(lot.tally);
        }
        if of.lots.is_empty() {
            self.partitions.remove(&partition);
        }
    }

    /// Takes out everything of a partition, safe or not.
    pub(super) fn drop_partition(&mut self, partition: PartitionKey) -> Vec<AckToken> {
        let Some(of) = self.partitions.remove(&partition) else {
            return Vec::new();
        };
        self.records -= of.records;
        self.bytes -= of.lots.iter().map(|lot| lot.bytes).sum::<usize>();
        let slots = of.lots.into_iter().flat_map(|lot| lot.slots);
        slots.map(|slot| slot.token).collect()
    }

    /// Takes out everything.
    pub(super) fn drop_all(&mut self) -> Vec<AckToken> {
        let partitions: Vec<PartitionKey> = self.partitions.keys().copied().collect();
        let tokens = partitions.into_iter().flat_map(|p| self.drop_partition(p));
        tokens.collect()
    }

    pub(super) fn holds(&self, partition: PartitionKey) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Whether dead letters of this partition are not safe yet.
    pub(super) fn is_stuck(&self, partition: PartitionKey) -> bool {
        let of = self.partitions.get(&partition);
        of.is_some_and(Partition::is_stuck)
    }

    /// Partitions of which no more shall be pulled: those that have as much in flight as is still free for all (so that, whatever is stuck, there is
    /// room for the others), and, while the sink for dead letters is away, those that wait for it.
    pub(super) fn paused(
        &self,
        most: usize,
        letters_away: bool,
        paused: &mut HashSet<PartitionKey>,
    ) {
        paused.clear();
        let free = most.saturating_sub(self.records);
        if free > self.records && !letters_away {
            return;
        }
        let stuck = |of: &Partition| letters_away && of.is_stuck();
        let full = self.partitions.iter();
        let full = full.filter(|(_, of)| of.records >= free || stuck(of));
        paused.extend(full.map(|(partition, _)| *partition));
    }
}
