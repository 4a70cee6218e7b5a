//! What the engine costs beside a client that only copies, with the same library against the same brokers. Measured when it is asked for:
//! `cargo test --workspace --features etl-broker-adapter/kafka --test kafka -- --ignored --nocapture throughput`.
//!
//! Both read a topic from its beginning and write each record to another one, with an idempotent producer, and store a position when what comes before it is
//! safe. The brokers are a mock in this process, and the same for both, so their work is in both figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource};
use etl_broker_adapter::{Runner, RunnerOptions, Sink};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use super::cluster::{Cluster, outputs};

const PARTITIONS: u32 = 16;
/// A mock keeps 5 MiB of a partition.
const EACH: u32 = 12_000;
const RECORDS: u32 = PARTITIONS * EACH;
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Of all threads of this process, the brokers' included.
    processor: Duration,
}

fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("is there");
    let (_, fields) = stat.rsplit_once(')').expect("has a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|own| own.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 10)
}

async fn filled() -> Cluster {
    let cluster = Cluster::start(&[("in", PARTITIONS as i32), ("out", PARTITIONS as i32)]);
    let mut sink = cluster.sink("").await;
    for partition in 0..PARTITIONS {
        let record = |number: u32| {
            let mut record = Record::new("in", format!("{number:0256}"));
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

fn plain(brokers: &str) -> Cost {
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
        begun.get_or_insert_with(|| (Instant::now(), processor()));
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
    let (wall, before) = begun.expect("something came");
    Cost {
        wall: wall.elapsed(),
        processor: processor() - before,
    }
}

async fn engine(cluster: &Cluster) -> Cost {
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let engine = Orchestrator::start(loaded, Options::default()).expect("starts");
    let source = KafkaSource::open(cluster.url("/in?group=engine"), false, false).await;
    let sink = KafkaSink::open(cluster.url("/out"), KafkaSinkOptions::default()).await;
    let (source, sink) = (source.expect("opens"), sink.expect("opens"));
    let runner = Runner::new(
        engine,
        Box::new(source),
        Box::new(sink),
        None,
        RunnerOptions::default(),
    );
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let run = tokio::spawn(runner.run());
    while counters.read().records_in == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (wall, before) = (Instant::now(), processor());
    while counters.read().records_out < u64::from(RECORDS) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cost = Cost {
        wall: wall.elapsed(),
        processor: processor() - before,
    };
    stop.stop();
    run.await.expect("ends").expect("ends well");
    cost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, of a minute or more"]
async fn throughput() {
    let mut costs: [Vec<Cost>; 2] = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // Brokers of their own for each, so that neither finds what the other one left.
        let cluster = filled().await;
        let brokers = cluster.mock.bootstrap_servers();
        let copy = tokio::task::spawn_blocking(move || plain(&brokers)).await;
        costs[0].push(copy.expect("ends"));
        drop(cluster);
        let cluster = filled().await;
        costs[1].push(engine(&cluster).await);
        for (name, costs) in ["plain", "engine"].iter().zip(&costs) {
            let cost = costs[round];
            println!(
                "{round} {name:6}: {:7.0} records/s, {:5.2} µs of processor time a record",
                f64::from(RECORDS) / cost.wall.as_secs_f64(),
                cost.processor.as_secs_f64() * 1e6 / f64::from(RECORDS)
            );
        }
    }
    let median = |costs: &[Cost], of: fn(&Cost) -> Duration| {
        let mut costs: Vec<Duration> = costs.iter().map(of).collect();
        costs.sort();
        costs[costs.len() / 2].as_secs_f64()
    };
    for (name, of) in [
        (
            "wall clock",
            (|cost: &Cost| cost.wall) as fn(&Cost) -> Duration,
        ),
        ("processor", |cost: &Cost| cost.processor),
    ] {
        let ratio = median(&costs[1], of) / median(&costs[0], of);
        println!("{name}: the engine takes {ratio:.2} × the plain client's (medians of {ROUNDS})");
    }
}
