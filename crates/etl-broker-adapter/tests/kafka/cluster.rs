//! A mock cluster for a test, and what tests do again and again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource, KafkaUrl};
use etl_broker_adapter::{
    AckToken, AdapterError, Demand, Item, Origin, Output, Outputs, PartitionKey, Pulled, Sink,
    Source,
};
use etl_orchestrator::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long anything may take before a test gives up. Far more than it takes on a machine with nothing else to do.
pub const LONG: Duration = Duration::from_secs(90);

pub struct Cluster {
    pub mock: MockCluster<'static, DefaultProducerContext>,
}

impl Cluster {
    /// Three brokers with these topics, so many partitions each.
    pub fn start(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(3).expect("starts");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 3)
                .expect("is created");
        }
        Self { mock }
    }

    /// `rest` follows the brokers: `/topic?group=g`.
    pub fn url(&self, rest: &str) -> KafkaUrl {
        url(&self.mock.bootstrap_servers(), rest)
    }

    pub async fn source(&self, rest: &str) -> KafkaSource {
        let source = KafkaSource::open(self.url(rest), false, false).await;
        source.expect("opens")
    }

    pub async fn sink(&self, rest: &str) -> KafkaSink {
        let sink = KafkaSink::open(self.url(rest), KafkaSinkOptions::default()).await;
        sink.expect("opens")
    }

    /// What the group has committed of each partition.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.mock.bootstrap_servers());
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("is made");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, LONG).expect("is known");
        let offsets = committed
            .elements()
            .into_iter()
            .map(|own| match own.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
        offsets.collect()
    }

    /// Writes `count` records, their number as value, to partition `number % partitions` of the topic.
    pub async fn fill(&self, topic: &str, partitions: u32, count: u32) {
        let mut sink = self.sink("").await;
        let records = (0..count).map(|number| numbered(topic, number % partitions, number));
        write(&mut sink, records.collect())
            .await
            .expect("is written");
    }
}

/// A mock waits for members of a group as long as their session lasts, less a second, each time that one comes or goes. So it is kept short.
pub fn url(brokers: &str, rest: &str) -> KafkaUrl {
    let mark = if rest.contains('?') { '&' } else { '?' };
    let session = match rest.contains("session.timeout.ms") {
        true => "",
        false => "session.timeout.ms=4000&heartbeat.interval.ms=500",
    };
    let text = format!("kafka://{brokers}{rest}{mark}{session}");
    KafkaUrl::parse(&text).expect("is a URL")
}

pub fn numbered(topic: &str, partition: u32, number: u32) -> Record {
    let mut record = Record::new(topic, number.to_string());
    record.partition = partition;
    record
}

pub fn number(item: &Item) -> u32 {
    let value = record(item).value.clone();
    let text = std::str::from_utf8(&value).expect("a number");
    text.parse().expect("a number")
}

pub fn record(item: &Item) -> &Arc<Record> {
    item.content.as_ref().expect("a record")
}

pub fn outputs(records: Vec<Record>) -> Outputs {
    let outputs = records
        .into_iter()
        .enumerate()
        .map(|(position, record)| Output {
            origin: Origin {
                partition: PartitionKey::of(&record.topic, record.partition),
                position: position as u64,
                index: 0,
            },
            record: Arc::new(record),
        });
    outputs.collect()
}

/// Writes and confirms. Answers which were refused, and why.
pub async fn write(
    sink: &mut dyn Sink,
    records: Vec<Record>,
) -> Result<Vec<(usize, String)>, AdapterError> {
    sink.write(outputs(records)).await?;
    let refused = sink.confirm().await?.into_iter();
    Ok(refused
        .map(|refused| (refused.index, refused.reason))
        .collect())
}

pub fn demand(paused: &HashSet<PartitionKey>) -> Demand<'_> {
    Demand {
        records: 1_000,
        bytes: 16 << 20,
        paused,
    }
}

/// Waits for the next batch that is not empty; fails the test where there is something else.
pub async fn pull(source: &mut dyn Source) -> Vec<Item> {
    let none = HashSet::new();
    loop {
        let pulled = tokio::time::timeout(LONG, source.pull(demand(&none))).await;
        match pulled.expect("something comes").expect("can be read") {
            Pulled::Batch(batch) if batch.items.is_empty() => {}
            Pulled::Batch(batch) => return batch.items,
            other => panic!("{other:?} instead of records"),
        }
    }
}

/// Pulls until there are so many.
pub async fn read(source: &mut dyn Source, count: usize) -> Vec<Item> {
    let mut items = Vec::new();
    while items.len() < count {
        items.extend(pull(source).await);
    }
    items
}

/// Whether nothing comes for a moment.
pub async fn is_quiet(source: &mut dyn Source) -> bool {
    let none = HashSet::new();
    let pulled = tokio::time::timeout(Duration::from_millis(1_500), source.pull(demand(&none)));
    pulled.await.is_err()
}

pub fn tokens(items: &[Item]) -> Vec<AckToken> {
    items.iter().map(|item| item.token).collect()
}
