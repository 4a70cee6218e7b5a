//! The calls of a transaction, and what their errors mean: nearly always, begin again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer, ThreadedProducer};

use super::client::{failed, of_code};
use super::desk::Place;
use super::poller::offsets;
use super::reports::Reports;
use super::url::KafkaUrl;
use crate::{AdapterError, AdapterErrorKind};

/// How long a call about a transaction may take.
pub(super) const TRANSACTION: Duration = Duration::from_secs(30);

/// How often such a call is repeated at once, if it was not that which took the time.
const REPEATS: u32 = 5;

/// Positions that belong to a transaction, by partition.
pub(super) type Offsets = Vec<(Place, u64)>;

/// Makes positions part of the transaction that is open. Blocking.
pub(super) fn send_offsets(
    producer: &ThreadedProducer<Reports>,
    url: &KafkaUrl,
    next: &Offsets,
    member: &ConsumerGroupMetadata,
) -> Result<(), AdapterError> {
    let failed = |error: &KafkaError| of_transaction(url, "cannot commit positions", error);
    let list = next
        .iter()
        .map(|((topic, partition), next)| (&**topic, *partition, *next));
    let list = offsets(list).map_err(|error| failed(&error))?;
    repeat(|| producer.send_offsets_to_transaction(&list, member, TRANSACTION))
        .map_err(|error| failed(&error))
}

/// Ends the transaction that is open. After an error nobody knows whether it was committed. Blocking.
pub(super) fn end(
    producer: &ThreadedProducer<Reports>,
    url: &KafkaUrl,
) -> Result<(), AdapterError> {
    repeat(|| producer.commit_transaction(TRANSACTION))
        .map_err(|error| of_transaction(url, "cannot commit a transaction", &error))
}

/// Calls again what can be called again.
pub(super) fn repeat(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut repeats = 0;
    let until = Instant::now() + TRANSACTION;
    loop {
        match call() {
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && repeats < REPEATS && Instant::now() < until =>
            {
                repeats += 1;
            }
            result => return result,
        }
    }
}

/// What to do about a transaction that failed: nearly always, begin again.
pub(super) fn of_transaction(url: &KafkaUrl, doing: &str, error: &KafkaError) -> AdapterError {
    let KafkaError::Transaction(inner) = error else {
        return failed(url, doing, error);
    };
    let code = inner.code();
    if is_fenced(code) {
        return fenced(url);
    }
    let error = of_code(url, doing, code);
    if error.kind() == AdapterErrorKind::Io && (inner.is_retriable() || inner.txn_requires_abort())
    {
        return error.with_kind(AdapterErrorKind::Unavailable);
    }
    error
}

pub(super) fn is_fenced(code: Code) -> bool {
    matches!(code, Code::ProducerFenced | Code::Fenced)
}

pub(super) fn fenced(url: &KafkaUrl) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::InUse,
        format!(
            "{url}: another process writes with the same transactional.id, so this one was shut out. Give each process an id of its own, or set none"
        ),
    )
}

/// Kafka wants an id that no other living process has. One that died leaves its transaction to time out.
pub(super) fn unique_id(group: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = now.map_or(0, |now| now.as_nanos());
    format!("{group}-{:x}-{nanoseconds:x}", std::process::id())
}
