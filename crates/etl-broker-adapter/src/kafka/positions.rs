//! What is asked about the positions of a group: whether they may still be committed, whether they were, how far they are behind.
//!
//! Questions to the brokers are asked by a client of its own, a [`Probe`]: the member itself could not leave the group while one waits for its answer.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};

use super::client::Asker;
use super::desk::{Desk, Next, Place};
use super::poller::Poll;
use super::url::KafkaUrl;
use crate::{AdapterError, Lag, Positions};

/// The positions of one lot, as a [`KafkaSink`](super::KafkaSink) commits them.
pub(super) struct KafkaPositions {
    desk: Arc<Desk>,
    consumer: Weak<Poll>,
    pub(super) probe: Arc<Probe>,
    /// `None`: they were gone before this was asked.
    next: Option<Vec<Next>>,
}

impl KafkaPositions {
    pub(super) fn new(
        desk: Arc<Desk>,
        consumer: Weak<Poll>,
        probe: Arc<Probe>,
        next: Option<Vec<Next>>,
    ) -> Self {
        Self {
            desk,
            consumer,
            probe,
            next,
        }
    }

    /// Who we are in the group now; `None`: nobody any more.
    fn member(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.upgrade()?.group_metadata()
    }

    /// Whether nobody else can have these records.
    fn is_ours(&self) -> bool {
        let lost = self
            .consumer
            .upgrade()
            .is_none_or(|own| own.assignment_lost());
        let owns = |next: &Next| self.desk.owns(next.slot);
        !lost && self.next.as_ref().is_some_and(|next| next.iter().all(owns))
    }

    /// What is to be committed.
    pub(super) fn next(&self) -> &[Next] {
        self.next.as_deref().unwrap_or_default()
    }
}

/// Which lots may be committed, and as whom.
pub(super) struct Standing {
    pub(super) member: Option<ConsumerGroupMetadata>,
    /// For each lot.
    pub(super) ours: Vec<bool>,
}

/// Asks who we are first, and then what is ours: a partition that goes after that goes in a later generation of the group, and the brokers refuse
/// positions that come in the name of this one. The other way round they could come in the name of the later one. Blocking.
pub(super) fn standing(lots: &[Positions]) -> Standing {
    let lots = lots.iter().map(Positions::get::<KafkaPositions>);
    let newest = lots
        .clone()
        .rev()
        .flatten()
        .find_map(|own| Some((own, own.member()?)));
    let Some((newest, member)) = newest else {
        return Standing {
            member: None,
            ours: lots.map(|_| false).collect(),
        };
    };
    let ours =
        |own: &KafkaPositions| Weak::ptr_eq(&own.consumer, &newest.consumer) && own.is_ours();
    Standing {
        member: Some(member),
        ours: lots.map(|own| own.is_some_and(ours)).collect(),
    }
}

/// Asks the brokers about a group that it is no member of.
pub(super) struct Probe {
    url: KafkaUrl,
    asker: Mutex<Option<Arc<Asker>>>,
}

impl Probe {
    pub(super) fn new(url: KafkaUrl) -> Self {
        let asker = Mutex::new(None);
        Self { url, asker }
    }

    fn asker(&self) -> Result<Arc<Asker>, AdapterError> {
        let mut asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = &*asker {
            return Ok(asker.clone());
        }
        let new = Arc::new(Asker::of_group(&self.url)?);
        *asker = Some(new.clone());
        Ok(new)
    }

    /// What the group has committed. Blocking.
    pub(super) fn committed(&self, places: &[Place]) -> Result<Vec<Option<u64>>, AdapterError> {
        self.asker()?.committed(places)
    }

    /// How many records of the partitions on the desk are not acknowledged; `None`: the source was closed meanwhile. Blocking.
    pub(super) fn lag(&self, desk: &Desk) -> Result<Option<Lag>, AdapterError> {
        let asker = self.asker()?;
        let mut known = desk.unsafe_from();
        let unknown = known.iter().filter(|(_, from)| from.is_none());
        let unknown: Vec<Place> = unknown.map(|(place, _)| place.clone()).collect();
        if !unknown.is_empty() {
            let mut committed = asker.committed(&unknown)?.into_iter();
            for (_, from) in known.iter_mut().filter(|(_, from)| from.is_none()) {
                *from = committed.next().flatten();
            }
        }
        let mut lag = Lag::default();
        for ((topic, partition), from) in known {
            if desk.is_closing() {
                return Ok(None);
            }
            let (low, high) = match asker.bounds(&topic, partition) {
                Ok(bounds) => bounds,
                // It has just gone.
                Err(_) if desk.slot(&topic, partition).is_none() => continue,
                Err(error) => return Err(error),
            };
            let begin = if self.url.latest { high } else { low };
            let from = from.and_then(|from| i64::try_from(from).ok());
            let from = from.unwrap_or(begin);
            let records = u64::try_from(high - from.max(low)).unwrap_or_default();
            lag.records += records;
            lag.partitions
                .push((format!("{topic}/{partition}").into(), records));
        }
        Ok(Some(lag))
    }
}
