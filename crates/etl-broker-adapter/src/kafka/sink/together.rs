//! Outputs and positions in one transaction: all of it, or nothing.
//!
//! **By lots.** Each write is a lot of one partition, and brings its positions. A lot whose partition was taken away meanwhile comes again, to whoever has the partition then, which
//! may be this very source, for which it is another lot. So what came of it is not to be committed: the transaction is aborted, and the other lots are written again without it. What is
//! ours is asked once everything has been delivered, and all of that is committed in the name of who we were then ([`standing`]): if the group has moved on, the brokers refuse it, and
//! the transaction is aborted.
//!
//! **In doubt.** A call that ends a transaction and is not answered well may have ended it. Then a new producer with the same name begins, which the brokers only let it when they have
//! brought the old transaction to an end, and the group is asked for its positions: they are either where the transaction puts them, and its outputs are there too, or they
//! are not, and all of it is written again. Until that is known nothing is written.

use std::collections::HashMap;
use std::sync::Arc;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::producer::{Producer, PurgeConfig};

use super::super::client::blocking;
use super::super::desk::Place;
use super::super::positions::{KafkaPositions, Probe, standing};
use super::super::transaction::{self, Offsets, TRANSACTION, of_transaction, repeat};
use super::KafkaSink;
use crate::{AdapterError, AdapterErrorKind, Positions, Refused};

/// What would tell whether a transaction was committed.
pub(super) struct Doubt {
    positions: Offsets,
    /// `None`: it had no positions.
    probe: Option<Arc<Probe>>,
}

impl KafkaSink {
    pub(super) async fn begin(&mut self) -> Result<(), AdapterError> {
        if self.open || !self.options.transactions {
            return Ok(());
        }
        let (producer, url) = (self.producer()?, self.url.clone());
        blocking(move || {
            producer
                .begin_transaction()
                .map_err(|error| of_transaction(&url, "cannot begin a transaction", &error))
        })
        .await?;
        self.open = true;
        Ok(())
    }

    pub(super) async fn abort(&mut self) -> Result<(), AdapterError> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let (producer, url) = (self.producer()?, self.url.clone());
        blocking(move || {
            producer.purge(PurgeConfig::default().queue().inflight());
            repeat(|| producer.abort_transaction(TRANSACTION))
                .map_err(|error| of_transaction(&url, "cannot abort a transaction", &error))
        })
        .await
    }

    /// Outputs in a transaction without positions, but for those that were refused.
    pub(super) async fn commit_alone(&mut self) -> Result<Vec<Refused>, AdapterError> {
        if std::mem::take(&mut self.done) {
            self.begin_anew();
            return Ok(Vec::new());
        }
        self.begin().await?;
        let refused = self.reports().await?;
        self.end(Doubt {
            positions: Vec::new(),
            probe: None,
        })
        .await?;
        self.begin_anew();
        Ok(refused)
    }

    /// Outputs with their positions: those of each write, in order.
    pub(super) async fn commit_together(
        &mut self,
        lots: Vec<Positions>,
    ) -> Result<Vec<Refused>, AdapterError> {
        if std::mem::take(&mut self.done) {
            self.begin_anew();
            return Ok(Vec::new());
        }
        if lots.len() != self.written.len() {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!(
                    "{}: {} lots were written and positions of {} are to be committed",
                    self.url,
                    self.written.len(),
                    lots.len()
                ),
            ));
        }
        let mut kept = vec![true; lots.len()];
        loop {
            let refused = self.reports().await?;
            let asked = lots.clone();
            let standing = blocking(move || Ok(standing(&asked))).await?;
            if kept != standing.ours {
                kept = standing.ours;
                tracing::debug!("partitions went before what came of them was committed");
                self.abort().await?;
                self.write_again(&kept).await?;
                continue;
            }
            if !refused.is_empty() {
                self.abort().await?;
                self.begin_anew();
                return Ok(refused);
            }
            if let Some(member) = standing.member {
                self.commit(&lots, &kept, member).await?;
            }
            self.begin_anew();
            return Ok(Vec::new());
        }
    }

    /// Writes what was written since the last confirmation once more, without lots that are not kept. The runner knows each record by its number, so the numbers stay.
    async fn write_again(&mut self, kept: &[bool]) -> Result<(), AdapterError> {
        let written = std::mem::take(&mut self.written);
        self.begin_anew();
        for (outputs, kept) in written.into_iter().zip(kept) {
            self.written.push(outputs.clone());
            match kept {
                true => self.send(&outputs).await?,
                false => self.count += outputs.len(),
            }
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        lots: &[Positions],
        kept: &[bool],
        member: ConsumerGroupMetadata,
    ) -> Result<(), AdapterError> {
        let mut furthest: HashMap<Place, u64> = HashMap::new();
        let mut probe = None;
        let kept = lots.iter().zip(kept).filter(|(_, kept)| **kept);
        for own in kept.filter_map(|(lot, _)| lot.get::<KafkaPositions>()) {
            probe = Some(own.probe.clone());
            for next in own.next() {
                let place = (next.topic.clone(), next.partition);
                let furthest = furthest.entry(place).or_default();
                *furthest = (*furthest).max(next.offset);
            }
        }
        if furthest.is_empty() {
            return Ok(());
        }
        // Positions move also where nothing came of their records.
        self.begin().await?;
        let positions = Offsets::from_iter(furthest);
        let (producer, url, sent) = (self.producer()?, self.url.clone(), positions.clone());
        blocking(move || transaction::send_offsets(&producer, &url, &sent, &member)).await?;
        self.end(Doubt { positions, probe }).await
    }

    async fn end(&mut self, doubt: Doubt) -> Result<(), AdapterError> {
        let (producer, url) = (self.producer()?, self.url.clone());
        self.doubt = Some(doubt);
        blocking(move || transaction::end(&producer, &url)).await?;
        self.doubt = None;
        self.open = false;
        Ok(())
    }

    /// Finds out how the transaction in doubt ended. The producer that began it is gone.
    pub(super) async fn settle(&mut self) -> Result<(), AdapterError> {
        let Some(Doubt { positions, probe }) = &self.doubt else {
            return Ok(());
        };
        let (asked, positions) = (probe.clone(), positions.clone());
        let committed = blocking(move || {
            let Some(probe) = asked else {
                return Ok(None);
            };
            let places: Vec<Place> = positions.iter().map(|(place, _)| place.clone()).collect();
            let found = probe.committed(&places)?.into_iter();
            // Where somebody else has a partition by now and went past that, what came of these records is there all the same.
            let reached = |(found, (_, next)): (Option<u64>, &(Place, u64))| {
                found.is_some_and(|found| found >= *next)
            };
            Ok(Some(found.zip(&positions).all(reached)))
        })
        .await?;
        if committed.is_none() {
            tracing::warn!(
                "{}: nobody answered when a transaction was to end, and it may have: its records are written again",
                self.url
            );
        }
        self.done = committed.unwrap_or(false);
        self.doubt = None;
        Ok(())
    }
}
