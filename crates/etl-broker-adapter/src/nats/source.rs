//! Reads a stream through a durable pull consumer.
//!
//! A task of its own (`pump`) asks the server for as many records as there is room for, tells it of records that take longer than
//! its ack wait, and sends acknowledgements until the server has confirmed them. What was given out is kept by its sequence until then: a
//! record that the server gives out again meanwhile, because it was paused or restarted, is recognised and not processed twice.
//!
//! A subject is a partition. Records of one come in the order of the stream; those that another worker had and lost come when the server
//! gives them out again, which is later. A record that comes for the fourth time is suspected of killing workers: it is given out alone, when
//! nothing else is in hand, and as long as there are such records the server is asked for one at a time, so that neighbours are
//! not counted among the suspects.
//!
//! A consumer that was deleted is made again from the last position that is known to be acknowledged: nothing is lost, and what was done
//! since is recognised as far as this worker did it. A stream that was deleted ends the run.

mod pump;
mod reply;
mod state;
mod stretches;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use tokio::task::JoinHandle;

use super::connection::Connection;
use super::reading::Reading;
use super::stream;
use super::url::NatsUrl;
use crate::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Demand, Lag, PartitionKey, Pulled,
    Source,
};
use pump::Pump;
use state::{SEQUENCES, Shared};

/// Records in hand at once, acknowledged ones not counted.
const PREFETCH: usize = 8_192;

/// How long closing waits for the server's last words.
const CLOSE: Duration = Duration::from_secs(5);

/// A stream of NATS JetStream, read through a durable pull consumer.
pub struct NatsSource {
    url: NatsUrl,
    shared: Arc<Shared>,
    link: Option<Link>,
}

/// What lasts as long as a connection.
struct Link {
    stream: Stream,
    /// When it was made.
    created: i128,
    consumer: String,
    reading: Reading,
    pump: JoinHandle<()>,
}

impl NatsSource {
    /// Connects, finds the stream and the consumer, and begins to read. `create`: a stream that is missing is made.
    ///
    /// # Errors
    ///
    /// Nobody answers, the credentials are refused, there is no such stream, the consumer is for another purpose.
    pub async fn open(url: NatsUrl, create: bool) -> Result<Self, AdapterError> {
        let shared = Arc::new(Shared::new(url.prefetch.unwrap_or(PREFETCH)));
        let mut source = Self {
            url,
            shared,
            link: None,
        };
        source.connect(create).await?;
        Ok(source)
    }

    async fn connect(&mut self, create: bool) -> Result<(), AdapterError> {
        self.unlink();
        let connection = Connection::open(&self.url, "source").await?;
        let stream = stream::stream(&connection, &self.url, create).await?;
        let created = stream.cached_info().created.unix_timestamp_nanos();
        let next = stream.cached_info().state.last_sequence.saturating_add(1);
        if next >= SEQUENCES {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!(
                    "{}: the next record of the stream `{}` has the sequence {next}, and only those below {SEQUENCES} can be read: copy its records to a stream that begins at a lower one",
                    self.url,
                    stream.cached_info().config.name
                ),
            ));
        }
        // A stream that was deleted and made again has other records under the same numbers.
        let from = self.shared.state().begin(created);
        let info = stream::consumer(&stream, &self.url, from).await?;
        let name = info.name.clone();
        let config = &info.config;
        let mut patterns = config.filter_subjects.clone();
        patterns.extend(Some(config.filter_subject.clone()).filter(|own| !own.is_empty()));
        if patterns.is_empty() {
            patterns = stream.cached_info().config.subjects.clone();
        }
        let reading = Reading {
            stream: info.stream_name.clone(),
            created,
            patterns,
            prefix: self.url.prefix.clone(),
        };
        let pump = Pump::begin(connection, &self.url, info, created, self.shared.clone()).await?;
        self.link = Some(Link {
            stream,
            created,
            consumer: name,
            reading,
            pump: tokio::spawn(pump.run()),
        });
        Ok(())
    }

    /// What it reads, for the sinks of its run.
    pub(crate) fn reading(&self) -> Option<Reading> {
        self.link.as_ref().map(|link| link.reading.clone())
    }

    fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.pump.abort();
        }
    }
}

impl Drop for NatsSource {
    fn drop(&mut self) {
        self.unlink();
    }
}

impl Source for NatsSource {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            loop {
                let news = self.shared.news.notified();
                let wait = {
                    let mut state = self.shared.state();
                    let items = state.take(&demand);
                    if !items.is_empty() {
                        return Ok(Pulled::Batch(Batch {
                            items,
                            bytes_read: std::mem::take(&mut state.bytes_read),
                        }));
                    }
                    if let Some(error) = state.failure.take() {
                        return Err(error);
                    }
                    state.next_ready()
                };
                match wait {
                    Some(ready) => {
                        tokio::select! {
                            () = news => {}
                            () = tokio::time::sleep_until(ready) => {}
                        }
                    }
                    None => news.await,
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.shared.state().acknowledge(tokens);
        self.shared.work.notify_one();
        self.shared.news.notify_one();
        Box::pin(async { Ok(()) })
    }

    /// They stay with this worker, which gives them out again in their order: the server would put them behind what comes after them.
    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.shared.state().give_back(tokens, delay);
        self.shared.news.notify_one();
        Box::pin(async { Ok(()) })
    }

    fn lag(&self) -> BoxFuture<'static, Result<Option<Lag>, AdapterError>> {
        let Some(link) = &self.link else {
            return Box::pin(async { Ok(None) });
        };
        let (stream, consumer, url) =
            (link.stream.clone(), link.consumer.clone(), self.url.clone());
        let (shared, created) = (self.shared.clone(), link.created);
        Box::pin(async move {
            let info = stream.consumer_info(&consumer).await;
            let info = info.map_err(|error| stream::unanswered(&url, "the lag", &error))?;
            // A consumer that is deleted is made again from here.
            let floor = info.ack_floor.stream_sequence;
            shared.state().move_floor(created, floor);
            Ok(Some(Lag {
                records: info.num_pending + info.num_ack_pending as u64,
                partitions: Vec::new(),
            }))
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async move {
            self.connect(false).await?;
            Ok(true)
        })
    }

    /// Waits until the server has confirmed what was acknowledged, and gives what is in hand to other workers at once.
    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            let Some(mut link) = self.link.take() else {
                return Ok(());
            };
            self.shared.state().closing = true;
            self.shared.work.notify_one();
            if tokio::time::timeout(CLOSE, &mut link.pump).await.is_err() {
                link.pump.abort();
            }
            let mut state = self.shared.state();
            match (state.unconfirmed(), state.failure.take()) {
                (0, _) => Ok(()),
                (_, Some(error)) => Err(error),
                (some, None) => Err(AdapterError::new(
                    AdapterErrorKind::Unavailable,
                    format!(
                        "{}: the server did not confirm {some} acknowledgements; these records may come again",
                        self.url
                    ),
                )),
            }
        })
    }
}

/// The partition of a subject in a stream that was made then. With both, so that message ids made of it are of this stream alone: one that is deleted and made again has other records
/// under the same numbers.
pub(super) fn partition(stream: &str, created: i128, subject: &str) -> PartitionKey {
    PartitionKey::of(&format!("{stream} {created} {subject}"), 0)
}
