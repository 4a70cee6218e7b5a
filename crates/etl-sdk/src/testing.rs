//! Runs a transform natively, as a host would: the record goes through a request frame, the answer comes back through a
//! response frame, and the changes are applied. What a test sees is what the next module would see.
//!
//! ```
//! use etl_sdk::prelude::*;
//! use etl_sdk::testing::{TestRecord, run};
//!
//! #[transform]
//! fn shout(record: &Record<'_>, out: &mut Output) -> Result<()> {
//!     out.set_value(record.text()?.to_uppercase());
//!     out.add_header("volume", "11");
//!     Ok(())
//! }
//!
//! let outcome = run(shout, TestRecord::new("greetings").value("hello"), ());
//! assert_eq!(outcome.text(), "HELLO");
//! assert_eq!(outcome.header("volume"), Some("11"));
//!
//! let outcome = run(shout, TestRecord::new("greetings").value([0xff]), ());
//! assert!(outcome.failure().unwrap().message.starts_with("the value is not UTF-8"));
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use etl_abi::response::ResponseReader;
use etl_abi::{Op, RecordFields, Verdict, request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Output;
use crate::guest::{self, Transform};

/// A record that owns its parts: what goes into a transform and what comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRecord {
    topic: String,
    partition: u32,
    offset: u64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    timestamp: Option<i64>,
    headers: Vec<(String, Vec<u8>)>,
}

impl TestRecord {
    /// An empty record of this topic.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            ..Self::default()
        }
    }

    /// With this value; `json!({..}).to_string()` gives one from JSON.
    #[must_use]
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = value.as_ref().to_vec();
        self
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// With this timestamp, Unix milliseconds.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// At this partition and offset.
    #[must_use]
    pub fn at(mut self, partition: u32, offset: u64) -> Self {
        (self.partition, self.offset) = (partition, offset);
        self
    }

    /// Records from lines such as `etl run` reads: `topic`, `key`, `headers`, `timestamp` and `value`. So a module can be tried on what was
    /// recorded elsewhere. The text of a value stays byte for byte.
    ///
    /// ```
    /// use etl_sdk::testing::TestRecord;
    ///
    /// let records = TestRecord::read_lines(r#"{"topic":"t","headers":{"a":"b"},"value":{ "n":1.10 }}"#)?;
    /// assert_eq!(records, [TestRecord::new("t").header("a", "b").value(r#"{ "n":1.10 }"#)]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the first line that is not such a record.
    pub fn read_lines(lines: &str) -> serde_json::Result<Vec<Self>> {
        #[derive(Deserialize)]
        struct Line<'a> {
            topic: String,
            key: Option<String>,
            #[serde(default)]
            headers: BTreeMap<String, String>,
            timestamp: Option<i64>,
            #[serde(borrow)]
            value: &'a RawValue,
        }

        let read = |line| {
            let line: Line<'_> = serde_json::from_str(line)?;
            let headers = line
                .headers
                .into_iter()
                .map(|(name, value)| (name, value.into_bytes()));
            Ok(Self {
                key: line.key.map(String::into_bytes),
                value: line.value.get().into(),
                timestamp: line.timestamp,
                headers: headers.collect(),
                ..Self::new(&line.topic)
            })
        };
        lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(read)
            .collect()
    }

    fn copy(record: &impl RecordFields) -> Self {
        let headers = (0..record.header_count()).map(|index| record.header(index));
        Self {
            topic: record.topic().to_owned(),
            partition: record.partition(),
            offset: record.offset(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().to_vec(),
            timestamp: record.timestamp(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
        }
    }
}

impl RecordFields for TestRecord {
    fn topic(&self) -> &str {
        &self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
    fn value(&self) -> &[u8] {
        &self.value
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
    fn header_count(&self) -> usize {
        self.headers.len()
    }
    fn header(&self, index: usize) -> (&str, &[u8]) {
        (&self.headers[index].0, &self.headers[index].1)
    }
}

/// A record as it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord(TestRecord);

impl OutputRecord {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.0.value
    }

    /// The value as text.
    ///
    /// # Panics
    /// Where it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0.value).expect("a value that is UTF-8")
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// Where it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.value).expect("a value that is JSON")
    }

    /// The timestamp, Unix milliseconds.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.0.timestamp
    }

    /// The first header of that name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0
            .headers
            .iter()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// All headers of that name that are UTF-8, in order.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let named = self.0.headers.iter().filter(|(found, _)| found == name);
        named
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
            .collect()
    }
}

/// Why a transform failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The module's own number for it.
    pub code: u32,
    /// For people.
    pub message: String,
    /// Whether the same record may succeed later.
    pub retryable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Kept,
    Changed,
    Dropped,
    Failed(Failed),
}

/// What became of a record: dereferences to the record as it goes on (as it came in, where it was kept, dropped or failed).
#[derive(Clone, Debug)]
pub struct Outcome {
    decision: Decision,
    record: OutputRecord,
    emitted: Vec<OutputRecord>,
}

impl Outcome {
    /// Whether the module had nothing to say about it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.decision == Decision::Kept
    }

    /// Whether it goes on with changes.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.decision == Decision::Changed
    }

    /// Whether it was dropped.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.decision == Decision::Dropped
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failed> {
        if let Decision::Failed(failed) = &self.decision {
            Some(failed)
        } else {
            None
        }
    }

    /// The records emitted behind it, in order.
    #[must_use]
    pub fn emitted(&self) -> &[OutputRecord] {
        &self.emitted
    }
}

impl Deref for Outcome {
    type Target = OutputRecord;

    fn deref(&self) -> &OutputRecord {
        &self.record
    }
}

/// Runs a transform over one record, with a `custom_config` as it would stand in a configuration; `()` for none.
///
/// # Panics
/// Where the transform panics or the config is refused (see [`config`] to test refusals).
#[must_use]
pub fn run<S>(transform: impl Transform<S>, record: TestRecord, config: impl Serialize) -> Outcome {
    run_batch(transform, vec![record], config).remove(0)
}

/// Runs a transform over a batch of records, as one call of the host would.
///
/// # Panics
/// Where the transform panics or the config is refused.
#[must_use]
pub fn run_batch<S, T: Transform<S>>(
    transform: T,
    records: Vec<TestRecord>,
    config: impl Serialize,
) -> Vec<Outcome> {
    let mut config =
        Some(self::config::<T::Config>(config).unwrap_or_else(|message| panic!("{message}")));
    let mut frame = vec![0; request::encoded_len(&records).expect("a frame below 4 GiB")];
    request::encode(&records, &mut frame).expect("room for the frame");
    let mut output = Output::new();
    let answer = guest::process(&frame, &mut config, &mut output, &transform).unwrap_or_default();
    if !answer.is_empty() {
        ResponseReader::parse(answer, records.len()).expect("a valid response");
    }
    let verdicts = ResponseReader::assume_valid(answer, records.len());
    records
        .into_iter()
        .enumerate()
        .map(|(index, record)| outcome(record, verdicts.verdict(index)))
        .collect()
}

/// Reads a config as a module does: for tests of which ones it takes.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct Config {
///     limit: f64,
/// }
///
/// let refused = etl_sdk::testing::config::<Config>(serde_json::json!({ "limit": "high" })).unwrap_err();
/// assert!(refused.starts_with("custom_config: invalid type: string \"high\", expected f64"));
/// ```
///
/// # Errors
/// The message of a config that does not fit.
pub fn config<C: serde::de::DeserializeOwned>(config: impl Serialize) -> Result<C, String> {
    guest::read_config(&serde_json::to_vec(&config).map_err(|error| error.to_string())?)
}

/// What was added to a counter on this thread so far.
#[must_use]
pub fn counted(name: &str) -> u64 {
    COUNTERS.with_borrow(|counters| counters.get(name).copied().unwrap_or_default())
}

thread_local! {
    static COUNTERS: RefCell<HashMap<String, u64>> = RefCell::default();
}

pub(crate) fn count(name: &str, count: u64) {
    COUNTERS.with_borrow_mut(|counters| *counters.entry(name.to_owned()).or_default() += count);
}

fn outcome(mut record: TestRecord, verdict: Verdict<'_>) -> Outcome {
    let mut emitted = Vec::new();
    let decision = match verdict {
        Verdict::Keep => Decision::Kept,
        Verdict::Drop => Decision::Dropped,
        Verdict::Fail(failure) => Decision::Failed(Failed {
            code: failure.code,
            message: failure.message.to_owned(),
            retryable: failure.retryable,
        }),
        Verdict::SetValue(value) => {
            record.value = value.to_vec();
            Decision::Changed
        }
        Verdict::Change(ops) => {
            ops.iter()
                .for_each(|op| apply(&mut record, &mut emitted, op));
            for new in emitted.iter_mut().filter(|new| new.0.topic.is_empty()) {
                new.0.topic.clone_from(&record.topic);
            }
            Decision::Changed
        }
    };
    Outcome {
        decision,
        record: OutputRecord(record),
        emitted,
    }
}

fn apply(record: &mut TestRecord, emitted: &mut Vec<OutputRecord>, op: Op<'_>) {
    match op {
        Op::SetValue(value) => record.value = value.to_vec(),
        Op::MergePatch(patch) => {
            // A value that is not JSON counts as null, as RFC 7396 has it for anything that is not an object.
            let mut value = serde_json::from_slice(&record.value).unwrap_or(Value::Null);
            merge(
                &mut value,
                serde_json::from_slice(patch).expect("a patch that is JSON"),
            );
            record.value = value.to_string().into_bytes();
        }
        Op::SetKey(key) => record.key = Some(key.to_vec()),
        Op::ClearKey => record.key = None,
        Op::SetTopic(topic) => topic.clone_into(&mut record.topic),
        Op::AddHeader { name, value } => record.headers.push((name.to_owned(), value.to_vec())),
        Op::SetHeader { name, value } => {
            let place = record
                .headers
                .iter()
                .position(|(found, _)| found == name)
                .unwrap_or(record.headers.len());
            record.headers.retain(|(found, _)| found != name);
            record
                .headers
                .insert(place, (name.to_owned(), value.to_vec()));
        }
        Op::RemoveHeader { name } => record.headers.retain(|(found, _)| found != name),
        Op::SetTimestamp(timestamp) => record.timestamp = Some(timestamp),
        Op::ClearTimestamp => record.timestamp = None,
        Op::Emit(new) => emitted.push(OutputRecord(TestRecord::copy(&new))),
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, change) in patch {
        match change {
            Value::Null => {
                target.remove(&name);
            }
            change => merge(target.entry(name).or_insert(Value::Null), change),
        }
    }
}
