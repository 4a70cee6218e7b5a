//! From a topic of Kafka to another one. Brokers are librdkafka's mock cluster in this process, new ones for each pass, and their work is in both figures.
//!
//! Both ways read a topic from its beginning and write each record to another one, with an idempotent producer, and store a position when what comes before it
//! is safe. Wall clock and processor time differ here: the plain client works on one thread, a run on several.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource};
use etl_broker_adapter::{Opened, Sink};
use etl_orchestrator::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::{BYTES, Clock, Cost, Failure, Places, Way, run_until};

#[allow(dead_code, reason = "tests need more of it")]
#[path = "../../tests/kafka/cluster.rs"]
mod cluster;

use cluster::{Cluster, outputs};

const PARTITIONS: u32 = 16;
/// A mock keeps 5 MiB of a partition.
const EACH: u32 = 12_000;
const RECORDS: u32 = PARTITIONS * EACH;

/// A cluster for each pass, so that none finds what another one left.
pub struct Brokers;

impl Places for Brokers {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn records(&self) -> usize {
        RECORDS as usize
    }

    async fn pass(&mut self, way: Way) -> Result<Cost, Failure> {
        let cluster = filled().await;
        match way {
            Way::Plain => {
                let brokers = cluster.mock.bootstrap_servers();
                tokio::task::spawn_blocking(move || plain(&brokers)).await?
            }
            Way::Nothing | Way::Module => engine(way, &cluster).await,
        }
    }
}

async fn filled() -> Cluster {
    let cluster = Cluster::start(&[("in", PARTITIONS as i32), ("out", PARTITIONS as i32)]);
    let mut sink = cluster.sink("").await;
    for partition in 0..PARTITIONS {
        let record = |number: u32| {
            let mut record = Record::new("in", format!("{number:0BYTES$}"));
            record.partition = partition;
            record.key = Some(number.to_string().into());
            record
        };
        sink.write(outputs((0..EACH).map(record).collect()))
            .await
            .expect("is written");
        sink.confirm().await.expect("is safe");
    }
    cluster
}

/// The next offset of each partition of the source before which everything is safe: reports of a partition come in order.
#[derive(Default)]
struct Safe([AtomicI64; PARTITIONS as usize]);

struct Reports(Arc<Safe>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        assert!(result.is_ok());
        let (partition, offset) = (opaque >> 40, opaque & ((1 << 40) - 1));
        self.0.0[partition].store(offset as i64 + 1, Ordering::Relaxed);
    }
}

fn plain(brokers: &str) -> Result<Cost, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let mut own = config.clone();
    own.set("group.id", "plain")
        .set("auto.offset.reset", "earliest");
    own.set("enable.auto.offset.store", "false");
    own.set("partition.assignment.strategy", "cooperative-sticky");
    let consumer: BaseConsumer = own.create().expect("is made");
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    let safe = Arc::new(Safe::default());
    let producer: BaseProducer<Reports> = config
        .create_with_context(Reports(safe.clone()))
        .expect("is made");
    let store = || {
        let mut list = TopicPartitionList::new();
        for (partition, next) in safe.0.iter().enumerate() {
            let next = next.load(Ordering::Relaxed);
            if next > 0 {
                let next = Offset::Offset(next);
                list.add_partition_offset("in", partition as i32, next)
                    .expect("is a place");
            }
        }
        consumer.store_offsets(&list).expect("are stored");
    };
    consumer.subscribe(&["in"]).expect("subscribes");
    let (mut begun, mut count) = (None, 0);
    while count < RECORDS {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        if begun.is_none() {
            begun = Some(Clock::start()?);
        }
        let opaque = (message.partition() as usize) << 40 | message.offset() as usize;
        let mut record = BaseRecord::with_opaque_to("out", opaque).partition(message.partition());
        record.payload = message.payload();
        record.key = message.key();
        record.timestamp = message.timestamp().to_millis();
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(10));
        }
        count += 1;
        if count % 256 == 0 {
            producer.poll(Duration::ZERO);
            store();
        }
    }
    producer.flush(Duration::from_secs(60)).expect("is safe");
    store();
    begun.ok_or("nothing came")?.read()
}

async fn engine(way: Way, cluster: &Cluster) -> Result<Cost, Failure> {
    let source = KafkaSource::open(cluster.url("/in?group=engine"), false, false).await?;
    let sink = KafkaSink::open(cluster.url("/out"), KafkaSinkOptions::default()).await?;
    let opened = Opened {
        source: Box::new(source),
        sink: Box::new(sink),
        dead_letters: None,
        atomic: false,
    };
    run_until(crate::engine(way)?, opened, RECORDS as usize).await
}
