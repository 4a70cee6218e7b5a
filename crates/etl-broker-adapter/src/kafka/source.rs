//! Reads topics in a consumer group: at least once, each partition in its order.
//!
//! **Positions.** What is acknowledged, from the beginning of what is in flight of its partition and without a gap, is stored with librdkafka, which
//! commits it every second, when a partition goes and when the source is closed. With a sink of the same cluster that was opened as its pair, the sink's transactions commit them instead.
//!
//! **Redelivery.** Kafka does not count deliveries. Records that were given back here are counted; those of an earlier process, or of another
//! member, come as if for the first time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::client::{Asker, blocking, config, create, create_topic, failed, missing};
use super::desk::{Desk, Found, Next, Place};
use super::poller::{Context, Poll, give_up, offsets, run};
use super::positions::{KafkaPositions, Probe};
use super::url::KafkaUrl;
use crate::{
    AckToken, AdapterError, AdapterErrorKind, BoxFuture, Demand, Lag, PartitionKey, Positions,
    Pulled, Revocation, Source,
};

/// How long closing waits for those who look at the membership for a moment.
const OTHERS: Duration = Duration::from_secs(5);

/// How long what is in flight of a partition that goes may take to be finished.
const WITHIN: Duration = Duration::from_secs(30);

/// Topics of Kafka, read in a consumer group.
pub struct KafkaSource {
    url: KafkaUrl,
    desk: Arc<Desk>,
    consumer: Option<Arc<Poll>>,
    poller: Option<JoinHandle<()>>,
    /// Asks beside the membership, so that no question holds up its end.
    probe: Arc<Probe>,
    atomic: bool,
}

impl KafkaSource {
    /// Asks for the topics, and joins the group. `create`: topics that are missing are made. `atomic`: positions are committed by the
    /// transactions of a [`KafkaSink`](super::KafkaSink), and only records of finished transactions are read.
    ///
    /// # Errors
    ///
    /// Nobody answers, the credentials are refused, a topic is missing, a setting is one that librdkafka refuses.
    pub async fn open(
        url: KafkaUrl,
        create_topics: bool,
        atomic: bool,
    ) -> Result<Self, AdapterError> {
        if url.topics.is_empty() {
            return Err(AdapterError::new(
                AdapterErrorKind::InvalidUrl,
                format!(
                    "{url}: it names no topic to read: write kafka://HOST:PORT/TOPIC, or /^EXPRESSION for every topic that it matches"
                ),
            ));
        }
        let isolation = url.setting("isolation.level").filter(|_| atomic);
        if let Some(other) = isolation.filter(|level| *level != "read_committed") {
            return Err(AdapterError::new(
                AdapterErrorKind::InvalidUrl,
                format!(
                    "{url}: exactly once needs `isolation.level=read_committed`, not `{other}`: records of transactions that were given up would be read, and positions that are about to move"
                ),
            ));
        }
        check_topics(&url, create_topics).await?;
        let desk = Arc::new(Desk::default());
        let (joining, context) = (
            url.clone(),
            Context {
                url: url.clone(),
                desk: desk.clone(),
            },
        );
        let consumer: Poll = blocking(move || {
            let own = [
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("auto.commit.interval.ms", "1000"),
                ("topic.metadata.refresh.interval.ms", "30000"),
            ];
            let mut fixed = vec![
                ("group.id", &*joining.group),
                ("enable.auto.commit", if atomic { "false" } else { "true" }),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "false"),
                (
                    "auto.offset.reset",
                    if joining.latest { "latest" } else { "earliest" },
                ),
            ];
            if atomic {
                fixed.push(("isolation.level", "read_committed"));
            }
            let consumer: Poll = create(&joining, &config(&joining, &own, &fixed), context)?;
            let topics: Vec<&str> = joining.topics.iter().map(String::as_str).collect();
            consumer
                .subscribe(&topics)
                .map_err(|error| failed(&joining, "cannot subscribe", &error))?;
            Ok(consumer)
        })
        .await?;
        let consumer = Arc::new(consumer);
        let poller = {
            let (consumer, desk) = (consumer.clone(), desk.clone());
            let thread = std::thread::Builder::new().name("etl-kafka".to_owned());
            thread.spawn(move || {
                // The desk is told even of a panic in a client's callback: a source that silently reads nothing would be worse.
                let ended =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(consumer, &desk)));
                if ended.is_err() {
                    let message = "the thread that reads from Kafka panicked";
                    desk.failed(AdapterError::new(AdapterErrorKind::Io, message).permanent());
                }
            })
        };
        let poller =
            poller.map_err(|error| AdapterError::from_io("cannot start a thread", error))?;
        Ok(Self {
            probe: Arc::new(Probe::new(url.clone())),
            url,
            desk,
            consumer: Some(consumer),
            poller: Some(poller),
            atomic,
        })
    }

    fn consumer(&self) -> Result<&Arc<Poll>, AdapterError> {
        self.consumer.as_ref().ok_or_else(|| {
            AdapterError::new(
                AdapterErrorKind::Closed,
                format!("{}: it was closed", self.url),
            )
        })
    }

    fn store(&self, next: &[Next]) -> Result<(), AdapterError> {
        let next = next
            .iter()
            .map(|next| (&*next.topic, next.partition, next.offset));
        let stored = offsets(next).and_then(|list| match list.count() {
            0 => Ok(()),
            _ => self
                .consumer
                .as_ref()
                .map_or(Ok(()), |consumer| consumer.store_offsets(&list)),
        });
        if let Err(error) = stored {
            // One of them has just been taken away, so its records come again elsewhere; the others are stored.
            tracing::debug!(%error, "a position was not stored");
        }
        Ok(())
    }

    fn leave(&mut self) -> (Option<JoinHandle<()>>, Option<Arc<Poll>>) {
        self.desk.close();
        (self.poller.take(), self.consumer.take())
    }
}

/// Says at once what the group would only find out by and by.
async fn check_topics(url: &KafkaUrl, create_topics: bool) -> Result<(), AdapterError> {
    let asked = url.clone();
    let absent = blocking(move || {
        let asker = Asker::new(&asked)?;
        let mut absent = Vec::new();
        let named = asked.topics.iter().filter(|topic| !topic.starts_with('^'));
        for topic in named {
            if asker.partitions(topic)?.is_none() {
                absent.push(topic.clone());
            }
        }
        if absent.is_empty() && asked.topics.iter().all(|topic| topic.starts_with('^')) {
            // An expression may match nothing yet; that somebody answers is worth knowing.
            asker.topics()?;
        }
        Ok(absent)
    })
    .await?;
    for topic in absent {
        if !create_topics {
            return Err(missing(url, &topic));
        }
        create_topic(url, &topic, None).await?;
    }
    Ok(())
}

impl Source for KafkaSource {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            loop {
                match self.desk.take(&demand) {
                    Found::Batch(batch) => return Ok(Pulled::Batch(batch)),
                    Found::Error(error) => return Err(error),
                    Found::Going(going) => {
                        return Ok(Pulled::Revoked(Revocation {
                            partitions: going.keys,
                            within: if going.lost { Duration::ZERO } else { WITHIN },
                        }));
                    }
                    Found::Nothing(None) => self.desk.came().await,
                    Found::Nothing(Some(until)) => {
                        // Whichever comes first; the desk is looked at again in either case.
                        let _ = tokio::time::timeout_at(until.into(), self.desk.came()).await;
                    }
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            let next = self.desk.safe(tokens);
            self.store(&next)
        })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.desk.give_back(tokens, delay);
        Box::pin(async { Ok(()) })
    }

    fn release<'a>(
        &'a mut self,
        partitions: &'a [PartitionKey],
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            let places: Vec<Place> = self.desk.released(partitions);
            if places.is_empty() {
                return Ok(());
            }
            let (consumer, url) = (self.consumer()?.clone(), self.url.clone());
            blocking(move || {
                give_up(&consumer, &places)
                    .map_err(|error| failed(&url, "cannot give partitions up", &error))
            })
            .await
        })
    }

    fn positions(&mut self, tokens: &[AckToken]) -> Option<Positions> {
        let consumer = self.consumer.as_ref().filter(|_| self.atomic)?;
        Some(Positions::new(KafkaPositions::new(
            self.desk.clone(),
            Arc::downgrade(consumer),
            self.probe.clone(),
            self.desk.positions(tokens),
        )))
    }

    fn committed(&mut self, tokens: &[AckToken]) {
        self.desk.safe(tokens);
    }

    fn lag(&self) -> BoxFuture<'static, Result<Option<Lag>, AdapterError>> {
        let (desk, probe) = (self.desk.clone(), self.probe.clone());
        Box::pin(blocking(move || probe.lag(&desk)))
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        let url = self.url.clone();
        Box::pin(async move {
            // librdkafka connects again by itself; what is to be known is whether it could.
            blocking(move || Asker::new(&url)?.topics()).await?;
            self.desk.works_again();
            Ok(true)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        let (poller, consumer) = self.leave();
        Box::pin(blocking(move || {
            if let Some(poller) = poller {
                // A panic was reported when it happened.
                let _ = poller.join();
            }
            let until = Instant::now() + OTHERS;
            while let Some(consumer) = &consumer
                && Arc::strong_count(consumer) > 1
                && Instant::now() < until
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Leaving the group commits what is stored. The last who holds it does that, so it is us.
            drop(consumer);
            Ok(())
        }))
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        // The thread ends by itself; waiting for the brokers here could hold up whoever drops this.
        drop(self.leave());
    }
}
