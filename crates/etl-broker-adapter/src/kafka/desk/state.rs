//! What happens under the lock of the desk: slots that begin and end, and which of their records are given out next.

use super::*;

impl State {
    /// Answers the new slot.
    pub(super) fn begin(&mut self, topic: &Arc<str>, partition: i32, paused: bool) -> u16 {
        let mut number = self.next_slot;
        while self.slots.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        self.next_slot = number.wrapping_add(1);
        let of_topic = self.by_topic.entry(topic.to_string()).or_default();
        of_topic.insert(partition, number);
        let slot = Slot {
            topic: topic.clone(),
            partition,
            key: PartitionKey::of(topic, super::super::mapping::place(partition)),
            waiting: VecDeque::new(),
            given: VecDeque::new(),
            next: None,
            held: None,
            paused,
            going: false,
            last: None,
            at_end: false,
        };
        self.slots.insert(number, slot);
        number
    }

    pub(super) fn is_full(&self) -> bool {
        self.records >= RECORDS || self.bytes >= BYTES
    }

    pub(super) fn numbers(&self, places: &[Place]) -> Vec<u16> {
        let number = |(topic, partition): &Place| self.by_topic.get(&**topic)?.get(partition);
        places.iter().filter_map(number).copied().collect()
    }

    pub(super) fn drop_waiting(&mut self, number: u16) {
        if let Some(slot) = self.slots.get_mut(&number) {
            let weight: usize = slot.waiting.iter().map(Fetched::weight).sum();
            if !slot.paused {
                self.records -= slot.waiting.len();
                self.bytes -= weight;
            }
            slot.waiting.clear();
        }
    }

    pub(super) fn forget(&mut self, numbers: &[u16]) {
        for number in numbers {
            self.drop_waiting(*number);
            if let Some(slot) = self.slots.remove(number)
                && let Some(of_topic) = self.by_topic.get_mut(&*slot.topic)
                && of_topic.get(&slot.partition) == Some(number)
            {
                of_topic.remove(&slot.partition);
            }
        }
    }

    /// What waits in slots that are paused does not count, so that there is room for the others.
    pub(super) fn pause_waiting(&mut self) -> Vec<Place> {
        let mut paused = Vec::new();
        for slot in self.slots.values_mut() {
            if !slot.paused && !slot.going && !slot.waiting.is_empty() {
                slot.paused = true;
                paused.push(slot.place());
            }
        }
        let counted = self.slots.values().filter(|slot| !slot.paused);
        let counted = counted.flat_map(|slot| &slot.waiting);
        (self.records, self.bytes) = (0, 0);
        for fetched in counted {
            self.records += 1;
            self.bytes += fetched.weight();
        }
        paused
    }

    pub(super) fn resume_empty(&mut self) -> Vec<Place> {
        let mut resumed = Vec::new();
        for slot in self.slots.values_mut() {
            if slot.paused && !slot.going && slot.waiting.is_empty() {
                slot.paused = false;
                resumed.push(slot.place());
            }
        }
        resumed
    }

    pub(super) fn take(&mut self, demand: &Demand<'_>) -> Found {
        let now = Instant::now();
        let mut batch = Batch::default();
        let mut until: Option<Instant> = None;
        let mut bytes = 0;
        // Each slot once from the one after the last, then round again while there is room.
        let mut open: VecDeque<u16> = self
            .slots
            .range(self.last.saturating_add(1)..)
            .map(|(number, _)| *number)
            .collect();
        open.extend(self.slots.range(..=self.last).map(|(number, _)| *number));
        while let Some(number) = open.pop_front() {
            let Some(slot) = self.slots.get_mut(&number) else {
                continue;
            };
            if slot.going || slot.waiting.is_empty() || demand.paused.contains(&slot.key) {
                continue;
            }
            if let Some(held) = slot.held.filter(|held| *held > now) {
                until = Some(until.map_or(held, |until| until.min(held)));
                continue;
            }
            slot.held = None;
            self.last = number;
            for _ in 0..IN_A_ROW {
                if batch.items.len() >= demand.records || bytes >= demand.bytes {
                    batch.bytes_read = bytes as u64;
                    return Found::Batch(batch);
                }
                let Some(fetched) = slot.waiting.pop_front() else {
                    break;
                };
                let weight = fetched.weight();
                bytes += weight;
                if !slot.paused {
                    self.records -= 1;
                    self.bytes -= weight;
                }
                batch.items.push(Item {
                    token: token(number, fetched.offset),
                    partition: slot.key,
                    position: fetched.offset,
                    redelivered: fetched.given_before,
                    content: fetched.content.clone(),
                });
                slot.given.push_back(Given {
                    fetched,
                    safe: false,
                });
            }
            open.push_back(number);
        }
        if !batch.items.is_empty() || std::mem::take(&mut self.works_again) {
            batch.bytes_read = bytes as u64;
            return Found::Batch(batch);
        }
        Found::Nothing(until)
    }
}
