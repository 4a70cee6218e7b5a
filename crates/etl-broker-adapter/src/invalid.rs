//! A line that is no record becomes a dead letter that says where it stood and what is wrong with it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use etl_orchestrator::{Headers, Record};

use crate::InvalidRecord;

/// The kind in the header `etl-dlq-error`, beside the kinds of failures of modules.
const KIND: &str = "InvalidRecord";

/// Longest message in a header, in bytes; as for the engine's own dead letters.
const MAX_MESSAGE: usize = 1024;

/// The dead letter. Its value is what was read, as it was; where that is only the beginning, `etl-dlq-length` says
/// how long the whole was.
pub(crate) fn dead_letter(invalid: &InvalidRecord, topic: &Arc<str>) -> Arc<Record> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let message = &invalid.message[..invalid.message.floor_char_boundary(MAX_MESSAGE)];
    let mut headers = Headers::new();
    let mut add = |name: &str, value: String| headers.add(name.into(), Bytes::from(value));
    add("etl-dlq-source", invalid.place.clone());
    add("etl-dlq-offset", invalid.offset.to_string());
    add("etl-dlq-error", KIND.to_owned());
    add("etl-dlq-message", message.to_owned());
    if invalid.length > invalid.bytes.len() as u64 {
        add("etl-dlq-length", invalid.length.to_string());
    }
    add("etl-dlq-failed-at", now.as_millis().to_string());
    Arc::new(Record {
        headers,
        offset: invalid.offset,
        ..Record::new(topic.clone(), invalid.bytes.clone())
    })
}
