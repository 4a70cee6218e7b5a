//! What tools ask of a server: which subjects there are, what is in a stream, take that out.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{Config as PullConfig, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::{Config as StreamConfig, Info, Stream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::connection::{Connection, causes};
use super::url::NatsUrl;
use super::{NatsSink, mapping, source, stream, subjects};
use crate::embedded::{Retention, TopicPatterns};
use crate::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Broker, Demand, From, Item, Pulled,
    Sink, Source, TopicInfo, TopicSettings,
};

/// A server, or one stream on it.
pub struct NatsBroker {
    url: NatsUrl,
    connection: Connection,
    create: bool,
}

impl NatsBroker {
    /// Connects. `create`: a stream that is missing is made when it is written to.
    ///
    /// # Errors
    ///
    /// Nobody answers, or the credentials are refused.
    pub async fn open(url: NatsUrl, create: bool) -> Result<Self, AdapterError> {
        let connection = Connection::open(&url, "tool").await?;
        Ok(Self {
            url,
            connection,
            create,
        })
    }

    async fn topics_of(&self, info: &Info) -> Result<Vec<TopicInfo>, AdapterError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            stream::unanswered(&self.url, "the subjects", error)
        };
        let name = &info.config.name;
        let found = self.connection.jetstream.get_stream(name).await;
        let found = found.map_err(|error| failed(&error))?;
        let counts = found.info_with_subjects(">").await;
        let counts = counts.map_err(|error| failed(&error))?;
        let counts: Vec<(String, usize)> =
            counts.try_collect().await.map_err(|error| failed(&error))?;
        let prefix = self.url.prefix.as_deref();
        let known = |subject: String, count: usize| {
            let topic = match prefix {
                Some(prefix) => subject.strip_prefix(prefix)?.to_owned(),
                None => subject,
            };
            Some(TopicInfo {
                name: topic,
                partitions: 0,
                records: Some(count as u64),
                bytes: None,
                keeps: keeps(&info.config),
            })
        };
        let topics = counts
            .into_iter()
            .filter_map(|(subject, count)| known(subject, count));
        Ok(topics.collect())
    }

    async fn tail_of(
        &self,
        topics: TopicPatterns,
        from: From,
        follow: bool,
        take_out: bool,
    ) -> Result<NatsTail, AdapterError> {
        let stream = stream::stream(&self.connection, &self.url, false).await?;
        let state = &stream.cached_info().state;
        let deliver_policy = match from {
            From::Beginning => DeliverPolicy::All,
            From::End => DeliverPolicy::New,
            From::Offset(offset) => DeliverPolicy::ByStartSequence {
                start_sequence: offset.max(1),
            },
            From::Last(count) => DeliverPolicy::ByStartSequence {
                start_sequence: (state.last_sequence + 1).saturating_sub(count).max(1),
            },
        };
        let mut filters = self.url.filters();
        let config = PullConfig {
            deliver_policy,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: Duration::from_secs(60),
            filter_subject: if filters.len() == 1 {
                filters.remove(0)
            } else {
                String::new()
            },
            filter_subjects: filters,
            ..PullConfig::default()
        };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            stream::unanswered(&self.url, "the stream's records", error)
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| failed(&error))?;
        let is_empty = consumer.cached_info().num_pending == 0;
        let name = consumer.cached_info().name.clone();
        let messages = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok(NatsTail {
            url: self.url.clone(),
            stream,
            consumer: name,
            messages,
            topics,
            follow,
            take_out,
            received: 0,
            quiet: 0,
            at_the_end: is_empty && !follow,
        })
    }
}

impl Broker for NatsBroker {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>, AdapterError>> {
        Box::pin(async move {
            let infos: Vec<Info> = if self.url.name().is_some() {
                let stream = stream::stream(&self.connection, &self.url, false).await?;
                vec![stream.cached_info().clone()]
            } else {
                let listed: Result<Vec<Info>, _> =
                    self.connection.jetstream.streams().try_collect().await;
                listed.map_err(|error| stream::unanswered(&self.url, "the streams", &error))?
            };
            let mut topics = Vec::new();
            for info in &infos {
                topics.extend(self.topics_of(info).await?);
            }
            topics.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(topics)
        })
    }

    /// Makes the stream of the URL hold the subject, and the stream itself where there is none.
    fn create<'a>(
        &'a self,
        topic: &'a str,
        settings: TopicSettings,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            if settings.partitions > 1 {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!("{}: a subject has no partitions", self.url),
                ));
            }
            let subject = self.url.subject_of(topic);
            let mut url = self.url.clone();
            if url.filters().is_empty() {
                url.subjects.push(subject.clone());
            }
            let stream = stream::stream(&self.connection, &url, true).await?;
            let mut config = stream.cached_info().config.clone();
            let before = config.clone();
            if !config
                .subjects
                .iter()
                .any(|held| subjects::matches(held, &subject))
            {
                config.subjects.push(subject);
            }
            if let Some(retention) = settings.retention {
                let limit = |limit: u64| match i64::try_from(limit) {
                    Ok(0) | Err(_) => -1,
                    Ok(limit) => limit,
                };
                config.max_age = retention.age;
                config.max_bytes = limit(retention.bytes);
                config.max_messages = limit(retention.records);
                // Ids cannot be remembered for longer than records.
                if !config.max_age.is_zero() {
                    config.duplicate_window = config.duplicate_window.min(config.max_age);
                }
            }
            if config == before {
                return Ok(());
            }
            let updated = self.connection.jetstream.update_stream(config).await;
            updated.map_err(|error| {
                AdapterError::new(
                    AdapterErrorKind::Io,
                    format!(
                        "{}: the stream cannot be changed: {}",
                        self.url,
                        causes(&error)
                    ),
                )
            })?;
            Ok(())
        })
    }

    fn tail(
        &self,
        topics: &[String],
        from: From,
        follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let topics = match topics {
            [] => TopicPatterns::new(["*"]),
            topics => TopicPatterns::new(topics.iter().map(String::as_str)),
        };
        Box::pin(async move {
            let tail = self.tail_of(topics, from, follow, false).await?;
            Ok(Box::new(tail) as Box<dyn Source>)
        })
    }

    fn queue(&self, topic: &str) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let topics = TopicPatterns::new([topic]);
        Box::pin(async move {
            let queue = self.tail_of(topics, From::Beginning, false, true).await?;
            Ok(Box::new(queue) as Box<dyn Source>)
        })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async move {
            let sink = NatsSink::open(self.url.clone(), &super::once(), self.create).await?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }
}

/// Reads a stream by its sequence and moves nobody's position; as a queue it deletes what is acknowledged.
struct NatsTail {
    url: NatsUrl,
    stream: Stream,
    consumer: String,
    messages: Messages,
    topics: TopicPatterns,
    follow: bool,
    take_out: bool,
    /// How many records the consumer had given out with the last one that came.
    received: u64,
    /// How often it has been quiet since then.
    quiet: u32,
    at_the_end: bool,
}

/// How long nothing comes before it is asked whether there is anything: what there was may have been taken out.
const QUIET: Duration = Duration::from_secs(2);

/// How often it is quiet before records that were given out are taken for lost.
const MOST_QUIET: u32 = 5;

impl NatsTail {
    /// Waits for the next message; `None`: there is none any more.
    async fn next(&mut self) -> Result<Option<Message>, AdapterError> {
        loop {
            let next = if self.follow {
                Some(self.messages.next().await)
            } else {
                let waited = tokio::time::timeout(QUIET, self.messages.next()).await;
                waited.ok()
            };
            let next = match next {
                Some(next) => next,
                None => {
                    let info = self.stream.consumer_info(&self.consumer).await;
                    let info =
                        info.map_err(|error| stream::unanswered(&self.url, "the end", &error))?;
                    if info.num_pending > 0 {
                        continue;
                    }
                    // That answer may have overtaken records that were given out before it.
                    let given_out = info.delivered.consumer_sequence;
                    let missing = given_out.saturating_sub(self.received);
                    if missing == 0 {
                        return Ok(None);
                    }
                    self.quiet += 1;
                    if self.quiet >= MOST_QUIET {
                        return Err(AdapterError::new(
                            AdapterErrorKind::Unavailable,
                            format!(
                                "{}: {missing} records that the server gave out have not come",
                                self.url
                            ),
                        ));
                    }
                    continue;
                }
            };
            self.quiet = 0;
            return self.message(next).map(Some);
        }
    }

    fn message<E: std::error::Error + 'static>(
        &self,
        next: Option<Result<Message, E>>,
    ) -> Result<Message, AdapterError> {
        match next {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(stream::unanswered(
                &self.url,
                "the stream's records",
                &error,
            )),
            None => Err(AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!("{}: the connection to the server ended", self.url),
            )),
        }
    }

    fn take(&mut self, message: &Message, items: &mut Vec<Item>) -> Result<u64, AdapterError> {
        let info = message.info().map_err(|error| {
            AdapterError::new(AdapterErrorKind::Corrupt, format!("{}: {error}", self.url))
        })?;
        self.received = info.consumer_sequence;
        self.at_the_end = info.pending == 0 && !self.follow;
        let topic = mapping::topic(&message.subject, self.url.prefix.as_deref());
        let stored = info.published.unix_timestamp_nanos() / 1_000_000;
        let record = mapping::record(
            topic.into(),
            message.headers.as_ref(),
            message.payload.clone(),
            info.stream_sequence,
            i64::try_from(stored).ok(),
        );
        if !self.topics.matches(&record.topic) {
            return Ok(0);
        }
        let weight = record.weight() as u64;
        items.push(Item {
            token: AckToken(info.stream_sequence),
            partition: source::partition(
                info.stream,
                self.stream.cached_info().created.unix_timestamp_nanos(),
                &message.subject,
            ),
            position: info.stream_sequence,
            redelivered: 0,
            content: Ok(Arc::new(record)),
        });
        Ok(weight)
    }
}

impl Source for NatsTail {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            let mut batch = Batch::default();
            while batch.items.len() < demand.records.max(1)
                && (batch.bytes_read as usize) < demand.bytes.max(1)
            {
                if self.at_the_end {
                    break;
                }
                let message = if batch.items.is_empty() {
                    match self.next().await? {
                        Some(message) => message,
                        None => {
                            self.at_the_end = true;
                            break;
                        }
                    }
                } else {
                    match self.messages.next().now_or_never() {
                        Some(next) => self.message(next)?,
                        None => break,
                    }
                };
                batch.bytes_read += self.take(&message, &mut batch.items)?;
            }
            if batch.items.is_empty() && self.at_the_end {
                return Ok(Pulled::End);
            }
            Ok(Pulled::Batch(batch))
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            if !self.take_out {
                return Ok(());
            }
            for AckToken(sequence) in tokens {
                let deleted = self.stream.delete_message(*sequence).await;
                deleted.map_err(|error| {
                    AdapterError::new(
                        AdapterErrorKind::Io,
                        format!(
                            "{}: the record {sequence} cannot be taken out: {}",
                            self.url,
                            causes(&error)
                        ),
                    )
                })?;
            }
            Ok(())
        })
    }
}

/// `stream ORDERS: 3600 s, 1048576 bytes`.
fn keeps(config: &StreamConfig) -> String {
    let limit = |limit: i64| u64::try_from(limit).unwrap_or(0);
    let retention = Retention {
        age: config.max_age,
        bytes: limit(config.max_bytes),
        records: limit(config.max_messages),
    };
    let limits = retention.to_string();
    if limits.is_empty() {
        format!("stream {}", config.name)
    } else {
        format!("stream {}: {limits}", config.name)
    }
}
