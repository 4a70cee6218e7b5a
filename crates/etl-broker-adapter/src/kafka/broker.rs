//! What tools ask of a Kafka cluster: its topics, a new one, what is in them.

use std::sync::Arc;

use super::client::{Asker, blocking, create_topic};
use super::sink::{KafkaSink, KafkaSinkOptions};
use super::tail::KafkaTail;
use super::url::KafkaUrl;
use crate::{
    AdapterError, AdapterErrorKind, BoxFuture, Broker, From, Sink, Source, TopicInfo, TopicSettings,
};

/// Partitions up to which records are counted: each is a question to a broker.
const COUNTED: i32 = 1_000;

/// A Kafka cluster, for tools.
pub struct KafkaBroker {
    url: KafkaUrl,
    create: bool,
    asker: Arc<Asker>,
}

impl KafkaBroker {
    /// Finds out whether somebody answers. `create`: topics that are written to and missing are made.
    ///
    /// # Errors
    ///
    /// Nobody answers, the credentials are refused, a setting is one that librdkafka refuses.
    pub async fn open(url: KafkaUrl, create: bool) -> Result<Self, AdapterError> {
        let asked = url.clone();
        let asker = blocking(move || {
            let asker = Asker::new(&asked)?;
            asker.topics()?;
            Ok(Arc::new(asker))
        })
        .await?;
        Ok(Self { url, create, asker })
    }
}

impl Broker for KafkaBroker {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>, AdapterError>> {
        let asker = self.asker.clone();
        Box::pin(blocking(move || {
            let topics = asker.topics()?;
            let counted = topics.iter().map(|(_, partitions)| partitions).sum::<i32>() <= COUNTED;
            let mut infos = Vec::with_capacity(topics.len());
            for (name, partitions) in topics {
                let mut records = counted.then_some(0);
                for partition in 0..if counted { partitions } else { 0 } {
                    let (low, high) = asker.bounds(&name, partition)?;
                    records =
                        records.map(|sum| sum + u64::try_from(high - low).unwrap_or_default());
                }
                infos.push(TopicInfo {
                    name,
                    partitions: u32::try_from(partitions).unwrap_or_default(),
                    records,
                    ..TopicInfo::default()
                });
            }
            Ok(infos)
        }))
    }

    fn create<'a>(
        &'a self,
        topic: &'a str,
        settings: TopicSettings,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            if settings.retention.is_some() {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!(
                        "{}: what a topic keeps is set with the tools of your brokers",
                        self.url
                    ),
                ));
            }
            let partitions = i32::try_from(settings.partitions)
                .ok()
                .filter(|own| *own > 0);
            create_topic(&self.url, topic, partitions).await
        })
    }

    fn tail(
        &self,
        topics: &[String],
        from: From,
        follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let (url, asker, topics) = (self.url.clone(), self.asker.clone(), topics.to_vec());
        Box::pin(blocking(move || {
            let tail = KafkaTail::open(url, &asker, &topics, from, follow)?;
            Ok(Box::new(tail) as Box<dyn Source>)
        }))
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async {
            let options = KafkaSinkOptions {
                create: self.create,
                ..KafkaSinkOptions::default()
            };
            let sink = KafkaSink::open(self.url.clone(), options).await?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }
}
