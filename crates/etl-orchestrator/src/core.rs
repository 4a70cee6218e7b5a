//! What a lane owns and every run on it uses: instances, working memory, counters, the clock and the dice.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use etl_filter::conditions::ConditionScratch;

use crate::clock::Clock;
use crate::delta::Change;
use crate::lane::LaneContext;
use crate::run::{BACKOFF_BASE, BACKOFF_CAP, Chosen};
use crate::stats::{LaneCounters, TotalCounters};
use crate::transform::Reply;
use crate::view::View;

pub(crate) struct Core {
    pub(crate) context: LaneContext,
    pub(crate) counters: LaneCounters,
    pub(crate) conditions: Conditions,
    /// Room for what a call answers, reused.
    pub(crate) replies: Vec<Reply>,
    /// Room for the places of those that a module is called for, reused.
    pub(crate) chosen: Chosen,
    clock: Clock,
    dice: Dice,
}

impl Core {
    pub(crate) fn new(
        context: LaneContext,
        counters: LaneCounters,
        clock: Clock,
        seed: Option<u64>,
    ) -> Self {
        let dice = Dice(seed.unwrap_or_else(|| RandomState::new().hash_one(0)) | 1);
        Self {
            context,
            counters,
            conditions: Conditions::default(),
            replies: Vec::new(),
            chosen: Chosen::new(),
            clock,
            dice,
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How long to wait after this many attempts: anything up to a bound that doubles each time (exponential, full jitter).
    pub(crate) fn backoff(&mut self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        let bound = (BACKOFF_BASE * (1 << doublings)).min(BACKOFF_CAP);
        let nanoseconds = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.dice.below(nanoseconds))
    }

    /// The trace of a record in the sense of W3C Trace Context, or a new one, by which a dead letter and a line of the log find
    /// each other.
    pub(crate) fn trace_of(&mut self, view: &View) -> String {
        let given = view
            .headers()
            .first("traceparent")
            .and_then(|value| std::str::from_utf8(value).ok());
        match given {
            Some(given) => given.to_owned(),
            None => format!("{:016x}{:016x}", self.dice.next(), self.dice.next()),
        }
    }
}

/// A small generator (xorshift64*), for waits and trace ids; nothing depends on its being unpredictable.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

/// Records beyond this number in one run share a scratch, and are read anew for every module.
pub(crate) const MAX_SCRATCHES: usize = 256;

/// What conditions know about each record of the run at hand, so that a payload is read once and not once a module.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    scratches: Vec<ConditionScratch>,
    used: usize,
    /// Which of them has what regular expressions work with.
    equipped: usize,
    unix_ms: i64,
}

/// Which parts of a record changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) value: bool,
    pub(crate) headers: bool,
    pub(crate) timestamp: bool,
}

impl Touched {
    pub(crate) const VALUE: Self = Self {
        value: true,
        headers: false,
        timestamp: false,
    };

    pub(crate) fn by(change: &Change) -> Self {
        match change {
            Change::SetValue(_) | Change::MergePatch(_) => Self::VALUE,
            Change::AddHeader(..) | Change::SetHeader(..) | Change::RemoveHeader(_) => Self {
                headers: true,
                ..Self::default()
            },
            Change::SetTimestamp(_) | Change::ClearTimestamp => Self {
                timestamp: true,
                ..Self::default()
            },
            Change::SetKey(_) | Change::ClearKey | Change::SetTopic(_) | Change::Emit(_) => {
                Self::default()
            }
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            value: self.value || other.value,
            headers: self.headers || other.headers,
            timestamp: self.timestamp || other.timestamp,
        }
    }
}

impl Conditions {
    /// Forgets every record. What their conditions met is counted only now, a run late.
    pub(crate) fn begin(&mut self, unix_ms: i64, totals: &TotalCounters) {
        let (mut not_json, mut ill_typed, mut abandoned) = (0, 0, 0);
        // Those beyond `MAX_SCRATCHES` share the one after the last.
        for scratch in self.scratches.iter_mut().take(self.used + 1) {
            let counts = scratch.take_counts();
            not_json += counts.not_json;
            ill_typed += counts.ill_typed;
            abandoned += counts.abandoned;
        }
        totals.conditions_not_json.add(not_json);
        totals.conditions_ill_typed.add(ill_typed);
        totals.conditions_abandoned.add(abandoned);
        self.used = 0;
        self.unix_ms = unix_ms;
    }

    /// The scratch of a record, which remembers its place.
    pub(crate) fn scratch(&mut self, place: &mut Option<u32>) -> &mut ConditionScratch {
        let index = *place.get_or_insert_with(|| {
            let index = self.used.min(MAX_SCRATCHES);
            self.used = (self.used + 1).min(MAX_SCRATCHES);
            if index == self.scratches.len() {
                self.scratches.push(ConditionScratch::new());
            }
            self.scratches[index].begin_record(self.unix_ms);
            index as u32
        }) as usize;
        // A lane asks about one record at a time, so one set of it is enough for all.
        if let Ok([before, now]) = self.scratches.get_disjoint_mut([self.equipped, index]) {
            now.take_over(before);
            self.equipped = index;
        }
        let scratch = &mut self.scratches[index];
        if index == MAX_SCRATCHES {
            scratch.begin_record(self.unix_ms);
        }
        scratch
    }

    /// A record changed, which had this value before.
    pub(crate) fn changed(
        &mut self,
        place: Option<u32>,
        before: &[u8],
        view: &View,
        touched: Touched,
    ) {
        if let Some(scratch) = place.and_then(|place| self.scratches.get_mut(place as usize)) {
            if touched.value {
                scratch.payload_replaced(before, view.value());
            }
            if touched.headers {
                scratch.headers_changed();
            }
            if touched.timestamp {
                scratch.timestamp_changed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::StatsHub;

    #[test]
    fn records_of_a_batch_share_what_expressions_work_with() {
        use etl_filter::conditions::{
            Condition, ConditionKind, ConditionSetBuilder, Operator, RecordView,
        };
        struct Payload(String);
        impl RecordView for Payload {
            fn header(&self, _: &str) -> Option<&[u8]> {
                None
            }
            fn value(&self) -> &[u8] {
                self.0.as_bytes()
            }
            fn length(&self) -> usize {
                self.0.len()
            }
            fn timestamp(&self) -> Option<i64> {
                None
            }
        }
        let mut builder = ConditionSetBuilder::new();
        let pattern = r"^(\w+ )+\w+\.$";
        let group = builder.add(vec![Condition::new(
            ConditionKind::payload("$.text"),
            Operator::Matches,
            pattern,
        )]);
        let set = builder.build().expect("the condition is sound");
        let mut conditions = Conditions::default();
        let mut taken = [0, 0];
        for (taken, records) in taken.iter_mut().zip([1, MAX_SCRATCHES + 5]) {
            conditions.begin(0, &TotalCounters::default());
            // Twice, as for two modules.
            let mut places = vec![None; records];
            for _ in 0..2 {
                for (number, place) in places.iter_mut().enumerate() {
                    let end = if number % 2 == 0 { "." } else { "" };
                    let record = Payload(format!("{{\"text\": \"ein Wörtchen {number}{end}\"}}"));
                    let scratch = conditions.scratch(place);
                    assert_eq!(set.evaluate(group, &record, scratch), number % 2 == 0);
                }
            }
            *taken = conditions
                .scratches
                .iter()
                .map(ConditionScratch::memory_bytes)
                .sum();
        }
        let [one, many] = taken;
        assert!(many < one * 3, "{one} bytes for a record, {many} for many");
    }

    #[test]
    fn waits_double_up_to_a_cap_and_use_their_whole_range() {
        let hub = Arc::new(StatsHub::default());
        let mut core = Core::new(LaneContext::default(), hub.lane(), Clock::system(), Some(7));
        for (attempts, bound) in [
            (1, 50),
            (2, 100),
            (3, 200),
            (9, 10_000),
            (4_000_000, 10_000),
        ] {
            let bound = Duration::from_millis(bound);
            let waits: Vec<Duration> = (0..1000).map(|_| core.backoff(attempts)).collect();
            assert!(waits.iter().all(|wait| *wait < bound));
            assert!(waits.iter().any(|wait| *wait < bound / 10));
            assert!(waits.iter().any(|wait| *wait > bound / 10 * 9));
        }
    }
}
