//! A record as a message of Kafka, and back: topic, partition, offset, key, value, headers and timestamp are kept as they are.
//!
//! A record always has a value; Kafka's messages may have none, and in compacted topics that means "deleted". So a message without a value comes in as a record
//! with an empty one and the header [`TOMBSTONE`], and a record with that header and an empty value goes out without value. A header
//! without a value comes in as one with an empty value.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use etl_orchestrator::{Headers, Record};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};

use crate::InvalidRecord;

/// The header of a record that was a message without a value.
pub(super) const TOMBSTONE: &str = "etl-tombstone";

/// How much of a message that is no record is kept.
const KEPT: usize = 4 << 10;

/// The record in a message, or why it is none.
pub(super) fn record(
    message: &BorrowedMessage<'_>,
    topic: &Arc<str>,
) -> Result<Arc<Record>, InvalidRecord> {
    // rdkafka panics at a header whose name is not UTF-8. One such message must not end the reading of all.
    let headers = catch_unwind(AssertUnwindSafe(|| headers(message)));
    let value = message.payload();
    let (partition, offset) = (place(message.partition()), position(message.offset()));
    let Ok(mut headers) = headers else {
        let bytes = value.unwrap_or_default();
        return Err(InvalidRecord {
            place: format!("{topic}/{partition}:{offset}"),
            message: "the name of a header is not UTF-8".to_owned(),
            bytes: Bytes::copy_from_slice(&bytes[..bytes.len().min(KEPT)]),
            length: bytes.len() as u64,
            offset,
        });
    };
    if value.is_none() {
        headers.set(TOMBSTONE.into(), Bytes::new());
    }
    Ok(Arc::new(Record {
        topic: topic.clone(),
        partition,
        offset,
        key: message.key().map(Bytes::copy_from_slice),
        value: value.map_or_else(Bytes::new, Bytes::copy_from_slice),
        headers,
        timestamp: message.timestamp().to_millis(),
    }))
}

fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let mut headers = Headers::new();
    if let Some(list) = message.headers() {
        for header in list.iter() {
            let value = header.value.map_or_else(Bytes::new, Bytes::copy_from_slice);
            headers.add(header.key.into(), value);
        }
    }
    headers
}

/// Neither is ever negative in a message that was read.
pub(super) fn place(partition: i32) -> u32 {
    partition.try_into().unwrap_or_default()
}

pub(super) fn position(offset: i64) -> u64 {
    offset.try_into().unwrap_or_default()
}

/// What is written of a record, beside its key.
pub(super) struct Written<'a> {
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<OwnedHeaders>,
}

/// What is written of a record, or why Kafka cannot carry it.
pub(super) fn written(record: &Record) -> Result<Written<'_>, String> {
    let tombstone = record.value.is_empty() && record.headers.first(TOMBSTONE).is_some();
    let mut headers = None;
    for (name, value) in record.headers.iter() {
        if tombstone && **name == *TOMBSTONE {
            continue;
        }
        if name.contains('\0') {
            return Err(format!(
                "the name of header `{}` has a zero byte, which ends a name in Kafka's clients",
                name.escape_debug()
            ));
        }
        let list = headers
            .take()
            .unwrap_or_else(|| OwnedHeaders::new_with_capacity(record.headers.len()));
        headers = Some(list.insert(Header {
            key: name,
            value: Some(&**value),
        }));
    }
    Ok(Written {
        value: (!tombstone).then_some(&*record.value),
        headers,
    })
}
