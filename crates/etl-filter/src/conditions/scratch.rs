//! What evaluating writes on: owned by the caller, one for each thread, reused from record to record.

use regex_automata::meta::Cache;

use super::path::Tape;
use super::reader::{Desk, Reading, Spot, reads_alike};

/// Working memory for evaluating conditions, and what is known of the record at hand.
///
/// Begin each record with [`begin_record`](Self::begin_record); say when a part of it changes. Results are remembered until
/// then, for all groups together. Once every buffer has grown to its size nothing is allocated, except by paths that
/// are not singular. A scratch serves any [`ConditionSet`](super::ConditionSet); handing it to another one than before makes it start anew.
///
/// **A record that was not begun is taken for the one before.** A set sees a record only through [`RecordView`](super::RecordView) and cannot
/// tell two of them apart: what it has found out once it does not ask again.
///
/// ```
/// # use etl_filter::conditions::*;
/// # struct Sized(usize);
/// # impl RecordView for Sized {
/// #     fn header(&self, _: &str) -> Option<&[u8]> { None }
/// #     fn value(&self) -> &[u8] { &[] }
/// #     fn length(&self) -> usize { self.0 }
/// #     fn timestamp(&self) -> Option<i64> { None }
/// # }
/// # let mut builder = ConditionSetBuilder::new();
/// # let large = builder.add(vec![Condition::new(ConditionKind::MessageSize, Operator::GreaterThan, 100)]);
/// # let set = builder.build()?;
/// let mut scratch = ConditionScratch::new();
/// scratch.begin_record(0);
/// assert!(set.evaluate(large, &Sized(101), &mut scratch));
/// // Forgotten, and so this is still about the first:
/// assert!(set.evaluate(large, &Sized(1), &mut scratch));
/// scratch.begin_record(0);
/// assert!(!set.evaluate(large, &Sized(1), &mut scratch));
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Debug, Default)]
pub struct ConditionScratch {
    /// The set that the rest is about.
    pub(super) set: u64,
    /// Counts beginnings and changes.
    clock: u64,
    pub(super) headers: u64,
    pub(super) payload: u64,
    /// Of what singular paths lead to. A payload that changed behind what was read of it leaves this as it is.
    pub(super) fields: u64,
    /// How many bytes of the payload were read for that.
    pub(super) looked_at: usize,
    pub(super) time: u64,
    pub(super) now: i64,
    /// For each predicate: twice the epoch of its answer, plus the answer.
    pub(super) answers: Vec<u64>,
    pub(super) readings: Vec<Reading>,
    pub(super) desk: Desk,
    pub(super) tape: Tape,
    pub(super) tape_epoch: u64,
    pub(super) tape_is_json: bool,
    pub(super) text: Vec<u8>,
    pub(super) caches: Caches,
    pub(super) counts: ConditionCounts,
}

/// What the regular expressions of a set work with: tens of kilobytes each, which know nothing of a record.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub set: u64,
    pub list: Vec<Option<Box<Cache>>>,
}

impl Caches {
    /// Makes room for the expressions of a set.
    #[cold]
    pub fn fit(&mut self, set: u64, regexes: usize) {
        self.set = set;
        self.list.clear();
        self.list.resize_with(regexes, || None);
    }

    fn bytes(&self) -> usize {
        let caches = self.list.iter().flatten();
        let caches = caches.map(|cache| size_of::<Cache>() + cache.memory_usage());
        self.list.capacity() * size_of::<usize>() + caches.sum::<usize>()
    }
}

/// An epoch that does not come: half of what a number holds, since an answer stands beside it.
const NEVER: u64 = u64::MAX >> 1;

/// What evaluating met, since the scratch was made or the counts were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionCounts {
    /// Predicates evaluated, each at most once a record unless the record changed.
    pub evaluated: u64,
    /// Of these: nothing there. No such header or field, no timestamp.
    pub missing: u64,
    /// Of these: the payload is not JSON, as far as it had to be read.
    pub not_json: u64,
    /// Of these: something is there that cannot be compared with the constant, such as a string with a number.
    pub ill_typed: u64,
    /// Of these: a query that selected more than any sensible payload holds was given up.
    pub abandoned: u64,
    /// Passes over a payload.
    pub payload_passes: u64,
}

impl ConditionScratch {
    /// An empty scratch, which grows as it is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last record. `now` is the time in Unix milliseconds, for [`MessageAge`](super::ConditionKind::MessageAge).
    pub fn begin_record(&mut self, now: i64) {
        self.now = now;
        self.clock += 1;
        self.headers = self.clock;
        self.time = self.clock;
        self.forget_payload();
    }

    /// The record's payload is another one now.
    pub fn payload_changed(&mut self) {
        self.clock += 1;
        self.forget_payload();
    }

    /// The record's payload was `before` and is `after` now. Where both begin alike, up to where the payload has been read, what was found
    /// there by singular paths is kept: a field that is added at the end costs no second reading of the front.
    ///
    /// ```
    /// # use etl_filter::conditions::*;
    /// # struct Payload(&'static str);
    /// # impl RecordView for Payload {
    /// #     fn header(&self, _: &str) -> Option<&[u8]> { None }
    /// #     fn value(&self) -> &[u8] { self.0.as_bytes() }
    /// #     fn length(&self) -> usize { self.0.len() }
    /// #     fn timestamp(&self) -> Option<i64> { None }
    /// # }
    /// # let mut builder = ConditionSetBuilder::new();
    /// # let warm = builder.add(vec![Condition::new(ConditionKind::payload("$.celsius"), Operator::GreaterThan, 20)]);
    /// # let set = builder.build()?;
    /// let (before, after) = (r#"{"celsius":21}"#, r#"{"celsius":21,"room":"kitchen"}"#);
    /// let mut scratch = ConditionScratch::new();
    /// scratch.begin_record(0);
    /// assert!(set.evaluate(warm, &Payload(before), &mut scratch));
    /// scratch.payload_replaced(before.as_bytes(), after.as_bytes());
    /// assert!(set.evaluate(warm, &Payload(after), &mut scratch));
    /// assert_eq!(scratch.counts().payload_passes, 1);
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn payload_replaced(&mut self, before: &[u8], after: &[u8]) {
        let (fields, looked_at) = (self.fields, self.looked_at);
        self.payload_changed();
        if reads_alike(looked_at, before, after) {
            (self.fields, self.looked_at) = (fields, looked_at);
        }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.answers.capacity() * size_of::<u64>()
            + self.readings.capacity() * size_of::<Reading>()
            + self.desk.bytes()
            + self.tape.bytes()
            + self.text.capacity()
            + self.caches.bytes()
    }

    /// Takes over from another scratch what regular expressions work with, and gives it what this one has. It says nothing of a record,
    /// and grows to tens of kilobytes for each expression: who has a scratch for each of many records hands it from one to the next.
    pub fn take_over(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.caches, &mut other.caches);
    }

    fn forget_payload(&mut self) {
        self.payload = self.clock;
        self.fields = self.clock;
        self.looked_at = 0;
        self.tape.release();
    }

    /// Headers of the record have been added, set or removed.
    pub fn headers_changed(&mut self) {
        self.clock += 1;
        self.headers = self.clock;
    }

    /// The record's timestamp is another one now.
    pub fn timestamp_changed(&mut self) {
        self.clock += 1;
        self.time = self.clock;
    }

    /// What has been met so far; counting goes on.
    #[must_use]
    pub fn counts(&self) -> ConditionCounts {
        self.counts
    }

    /// What has been met so far; counting starts again from zero.
    pub fn take_counts(&mut self) -> ConditionCounts {
        std::mem::take(&mut self.counts)
    }

    /// Where a path's value lies, if that has been read.
    #[inline]
    pub(super) fn known(&self, path: u32) -> Option<Spot> {
        let reading = self.readings[path as usize];
        (reading.epoch == self.fields).then_some(reading.spot)
    }

    /// Makes the scratch fit a set. What was known is forgotten.
    pub(super) fn attach(&mut self, set: u64, predicates: usize, paths: usize) {
        self.set = set;
        self.answers.clear();
        self.answers.resize(predicates, NEVER << 1);
        self.readings.clear();
        self.readings.resize(
            paths,
            Reading {
                epoch: NEVER,
                spot: Spot::Undecided,
            },
        );
        self.tape_epoch = NEVER;
        self.looked_at = 0;
    }
}
