//! The suite that every adapter runs, over mock clusters; and over the brokers that `KAFKA_BOOTSTRAP` names, which must be empty ones.

use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::kafka::{KafkaSink, KafkaSinkOptions, KafkaSource, KafkaUrl};
use etl_broker_adapter::testing::{Abilities, CHECKS, Place, conformance};
use etl_broker_adapter::{AdapterError, BoxFuture, Sink, Source};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cluster::Cluster;

/// Topics that the suite uses.
const TOPICS: [&str; 8] = [
    "suite.a",
    "suite.in",
    "suite.b",
    "suite.large",
    "suite.p",
    "suite.x",
    "suite.y",
    "suite.z",
];

/// A group of its own at brokers that are somebody's.
struct Brokers {
    address: String,
    group: String,
    create: bool,
    /// More of the URL: `&batch.num.messages=1` and the like.
    settings: String,
}

impl Brokers {
    fn url(&self, topics: &[&str], consumer: &str) -> Result<KafkaUrl, AdapterError> {
        let group = format!("{}-{consumer}", self.group);
        let topics = topics.join(",");
        let make = "partitions=8&replication=1";
        let rest = format!("/{topics}?group={group}&{make}{}", self.settings);
        match self.create {
            true => KafkaUrl::parse(&format!("kafka://{}{rest}", self.address)),
            false => Ok(super::cluster::url(&self.address, &rest)),
        }
    }
}

impl Place for Brokers {
    fn source<'a>(
        &'a self,
        topics: &'a [&'a str],
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>> {
        Box::pin(async move {
            let url = self.url(topics, consumer)?;
            let source = KafkaSource::open(url, self.create, false).await?;
            Ok(Box::new(source) as Box<dyn Source>)
        })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async {
            let options = KafkaSinkOptions {
                create: self.create,
                ..KafkaSinkOptions::default()
            };
            let sink = KafkaSink::open(self.url(&[], "sink")?, options).await?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }

    fn abilities(&self) -> Abilities {
        let mut can = Abilities::all();
        // Kafka does not, and a group whose member died knows of nothing.
        can.counts_deliveries = false;
        can
    }
}

/// One cluster for each check, as topics of a mock cannot be emptied, and some checks at a time, as nearly all of what they do is to wait for a group. Clusters live until the end: a check is
/// moved to another thread, and a cluster cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mock() {
    let topics = TOPICS.map(|topic| (topic, 8));
    let mut clusters = Vec::new();
    let mut running = JoinSet::new();
    let at_once = Arc::new(Semaphore::new(5));
    for check in CHECKS {
        let cluster = Cluster::start(&topics);
        let place = Brokers {
            address: cluster.mock.bootstrap_servers(),
            group: "suite".to_owned(),
            create: false,
            settings: String::new(),
        };
        clusters.push(cluster);
        let at_once = at_once.clone();
        running.spawn(async move {
            let _turn = at_once.acquire().await;
            check.hold(&place).await;
        });
    }
    while let Some(check) = running.join_next().await {
        check.expect("holds");
    }
}

/// The topics are removed before each check, so these brokers should be nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real() {
    let Ok(address) = std::env::var("KAFKA_BOOTSTRAP") else {
        println!("skipped: Kafka brokers: set KAFKA_BOOTSTRAP to the address of one, host:port");
        return;
    };
    // More of the URL, as `batch.num.messages=1`, for servers that can do less than Kafka.
    let settings = std::env::var("KAFKA_SETTINGS").unwrap_or_default();
    let settings = settings
        .split_whitespace()
        .map(|one| format!("&{one}"))
        .collect::<String>();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &address);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("is made");
    let mut check = 0;
    conformance(async || {
        check += 1;
        // What the check before has dropped leaves its group first. A server may answer those who read a topic that is removed in ways that end the process (tansu 0.6.0 does).
        tokio::time::sleep(Duration::from_secs(2)).await;
        let removed = admin.delete_topics(&TOPICS, &AdminOptions::new()).await;
        removed.expect("is answered");
        // Brokers remove them in their own time.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let place = Brokers {
            address: address.clone(),
            group: format!("etl-suite-{}-{check}", std::process::id()),
            create: true,
            settings: settings.clone(),
        };
        for topic in TOPICS {
            let made =
                KafkaSource::open(place.url(&[topic], "made").expect("is a URL"), true, false);
            made.await.expect("is made").close().await.expect("closes");
        }
        place
    })
    .await;
}
