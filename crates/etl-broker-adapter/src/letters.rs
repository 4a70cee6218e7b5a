//! Dead letters that no module caused: what was no record, what a sink refused, what was given out too often.
//!
//! They carry the same `etl-dlq-*` headers as the engine's own, as far as these apply, so whoever reads dead letters need not know who wrote them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use etl_orchestrator::{Headers, Record};

use crate::InvalidRecord;

/// The kinds in the header `etl-dlq-error`, beside the kinds of failures of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What the source gave is no record.
    InvalidRecord,
    /// The sink can never take it.
    Refused,
    /// It was given out too often and never acknowledged.
    TooManyDeliveries,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidRecord => "InvalidRecord",
            Self::Refused => "Refused",
            Self::TooManyDeliveries => "TooManyDeliveries",
        }
    }
}

/// Longest message in a header, in bytes; as for the engine's own dead letters.
const MAX_MESSAGE: usize = 1024;

/// What is left of the value of a dead letter that was itself refused.
const REDUCED_VALUE: usize = 1024;

/// Says how long a value was of which only the beginning is left.
const LENGTH: &str = "etl-dlq-length";

/// Of what was no record. Its value is what was read, as it was; where that is only the beginning, `etl-dlq-length` says
/// how long the whole was.
pub(crate) fn of_invalid(invalid: &InvalidRecord, topic: Arc<str>) -> Arc<Record> {
    let mut headers = Headers::new();
    let mut add = |name: &str, value: String| headers.add(name.into(), Bytes::from(value));
    add("etl-dlq-source", invalid.place.clone());
    add("etl-dlq-offset", invalid.offset.to_string());
    why(Cause::InvalidRecord, &invalid.message, &mut add);
    if invalid.length > invalid.bytes.len() as u64 {
        add(LENGTH, invalid.length.to_string());
    }
    Arc::new(Record {
        headers,
        offset: invalid.offset,
        ..Record::new(topic, invalid.bytes.clone())
    })
}

/// Of a record, as it is.
pub(crate) fn of_record(
    record: &Record,
    cause: Cause,
    message: &str,
    topic: Arc<str>,
) -> Arc<Record> {
    let kept = record.headers.iter();
    let kept = kept.filter(|(name, _)| !name.starts_with("etl-dlq-"));
    let mut headers: Headers = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut add = |name: &str, value: String| headers.add(name.into(), Bytes::from(value));
    add("etl-dlq-topic", record.topic.to_string());
    add("etl-dlq-partition", record.partition.to_string());
    add("etl-dlq-offset", record.offset.to_string());
    if let Some(timestamp) = record.timestamp {
        add("etl-dlq-timestamp", timestamp.to_string());
    }
    why(cause, message, &mut add);
    Arc::new(Record {
        topic,
        headers,
        ..record.clone()
    })
}

/// The header of a dead letter that holds only the beginning of its record.
pub const REDUCED: &str = "etl-dlq-reduced";

/// A dead letter that was refused, with as little as tells what happened: the `etl-dlq-*` headers and the beginning of the value. `None`: it was
/// reduced already, and there is nothing more to leave out.
pub(crate) fn reduced(letter: &Record, reason: &str) -> Option<Arc<Record>> {
    if letter.headers.first(REDUCED).is_some() {
        return None;
    }
    let kept = letter.headers.iter();
    let kept = kept.filter(|(name, _)| name.starts_with("etl-dlq-"));
    let mut headers: Headers = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.add(REDUCED.into(), clipped(reason).to_owned().into());
    headers.set(LENGTH.into(), letter.value.len().to_string().into());
    let beginning = letter.value.len().min(REDUCED_VALUE);
    Some(Arc::new(Record {
        key: None,
        value: letter.value.slice(..beginning),
        headers,
        ..letter.clone()
    }))
}

fn why(cause: Cause, message: &str, add: &mut impl FnMut(&str, String)) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    add("etl-dlq-error", cause.name().to_owned());
    add("etl-dlq-message", clipped(message).to_owned());
    add("etl-dlq-failed-at", now.as_millis().to_string());
}

fn clipped(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}
