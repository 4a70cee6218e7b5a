//! The thread that polls: it brings records to the desk, and answers the group.
//!
//! librdkafka does everything in calls of `poll`: records, rebalances, errors. A consumer that does not call it for minutes is thrown out of its group. So a thread
//! calls it all the time, whether or not anybody takes what comes. As much waits on the desk as may: it waits a moment for room, which costs nothing. Nobody takes any for longer: what waits is
//! paused with the brokers, and polling goes on. Pausing right away would throw away, each time, what librdkafka has fetched ahead.
//!
//! **Rebalances.** What is assigned is taken at once. What is revoked is put to the source, which finishes and acknowledges what is in flight of it and only then
//! gives it up: until then the group waits, as long as `max.poll.interval.ms`.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::client::{log, of_code};
use super::desk::{Desk, Place, Room};
use super::mapping;
use super::url::KafkaUrl;
use crate::AdapterErrorKind;

/// How long a call of `poll` waits.
const POLL: Duration = Duration::from_millis(100);

/// How long is waited for room before pausing.
const ROOM: Duration = Duration::from_secs(1);

/// Records after which the source is woken, also while more are there.
const WAKE_EVERY: usize = 256;

pub(super) struct Context {
    pub(super) url: KafkaUrl,
    pub(super) desk: Arc<Desk>,
}

pub(super) type Poll = BaseConsumer<Context>;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.failed(code, reason);
        }
    }
}

impl Context {
    /// What librdkafka reports. Most of it passes and it goes on by itself: that is logged. What does not, or leaves nobody to read from, is the source's to say.
    fn failed(&self, code: Code, reason: &str) {
        let error = of_code(&self.url, "cannot read", code);
        let passes = error.kind() == AdapterErrorKind::Unavailable;
        if code == Code::PollExceeded {
            tracing::warn!("the group took our partitions away because polling stood still");
        } else if passes && code != Code::AllBrokersDown {
            tracing::debug!(%code, reason, "kafka");
        } else {
            self.desk.failed(error);
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let places = places(list);
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(partitions = ?places, "assigned");
                self.desk.assigned(&places);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
                    _ => consumer.assign(list),
                }
            }
            _ => {
                let lost = consumer.assignment_lost();
                tracing::info!(partitions = ?places, lost, "revoked");
                match self.desk.revoked(&places, lost) {
                    true => give_up(consumer, &places),
                    // The source does, once what is in flight is safe.
                    false => Ok(()),
                }
            }
        };
        if let Err(error) = done {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            self.desk
                .failed(of_code(&self.url, "cannot take part in the group", code));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) => {}
            // There was nothing to commit.
            Err(KafkaError::ConsumerCommit(Code::NoOffset)) => {}
            Err(error) => {
                tracing::warn!(%error, "positions were not committed; they are with the next ones, or their records come again");
            }
        }
    }
}

/// Tells the group that these are not read here any more. What is stored of them is committed before.
pub(super) fn give_up(consumer: &Poll, places: &[Place]) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&list(places)),
        _ => consumer.unassign(),
    }
}

pub(super) fn list(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    let elements = list.elements();
    let places = elements.iter();
    places
        .map(|own| (own.topic().into(), own.partition()))
        .collect()
}

/// Offsets to commit, as librdkafka takes them.
pub(super) fn offsets<'a>(
    next: impl Iterator<Item = (&'a str, i32, u64)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in next {
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

/// Polls until the desk is closed, then leaves the group.
pub(super) fn run(consumer: Arc<Poll>, desk: &Desk) {
    let mut unseen = 0;
    loop {
        match desk.room(ROOM) {
            Room::Closing => break,
            Room::Free(places) if places.is_empty() => {}
            Room::Free(places) => note(consumer.resume(&list(&places)), "resumed"),
            Room::Stuck(places) => {
                tracing::debug!(partitions = ?places, "nobody takes what was fetched, so no more is");
                note(consumer.pause(&list(&places)), "paused");
            }
        }
        // What is there already is gathered before the source is woken.
        loop {
            let polled = consumer.poll(Duration::ZERO);
            let polled = match polled {
                Some(polled) => polled,
                None => {
                    if std::mem::take(&mut unseen) > 0 {
                        desk.wake();
                    }
                    match consumer.poll(POLL) {
                        Some(polled) => polled,
                        None => break,
                    }
                }
            };
            match polled {
                Ok(message) => {
                    let full = put(desk, &message);
                    unseen += 1;
                    if full || unseen >= WAKE_EVERY {
                        unseen = 0;
                        desk.wake();
                        break;
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    desk.at_end(partition);
                    break;
                }
                Err(KafkaError::MessageConsumptionFatal(_)) => {
                    let fatal = consumer.client().fatal_error();
                    let (code, reason) = fatal.unwrap_or((Code::Fatal, String::new()));
                    let error = of_code(&consumer.context().url, "cannot read", code);
                    tracing::error!(%code, reason, "kafka");
                    desk.failed(error.permanent());
                    break;
                }
                Err(error) => {
                    if let Some(code) = error.rdkafka_error_code() {
                        consumer.context().failed(code, "while reading");
                    }
                    break;
                }
            }
        }
    }
    // The group waits for what the source was told to give up and did not, and so would the end of the membership.
    let places = desk.release_all();
    if !places.is_empty() {
        note(give_up(&consumer, &places), "given up");
    }
    // Dropped by the last who holds it, which ends the membership.
    drop(consumer);
}

fn put(desk: &Desk, message: &BorrowedMessage<'_>) -> bool {
    // Of a partition that is on its way out: its next reader gets it.
    let Some((slot, topic)) = desk.slot(message.topic(), message.partition()) else {
        return false;
    };
    let offset = mapping::position(message.offset());
    desk.put(slot, offset, mapping::record(message, &topic))
}

/// A partition that has just gone cannot be paused, and need not be.
fn note(result: KafkaResult<()>, what: &str) {
    if let Err(error) = result {
        tracing::debug!(%error, "partitions could not be {what}");
    }
}
