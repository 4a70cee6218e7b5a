//! `kafka://`: Kafka and what speaks its protocol, by librdkafka. Feature `kafka`.
//!
//! - [`KafkaUrl`] says which brokers, topics and group (`url`), `client` makes clients of it and words their errors.
//! - [`KafkaSource`] reads topics in a consumer group. A thread of its own polls (`poller`) and fills the `desk`, from which the source
//!   gives out; so the group never waits for a slow sink.
//! - [`KafkaSink`] writes with an idempotent producer, or in transactions together with the positions of a source (`together`, `transaction`, `positions`); `reports` is what the brokers said.
//! - [`KafkaBroker`] is what tools ask for, and `tail` reads for them outside of any group.
//!
//! What a record is on either side is settled in `mapping` alone. `unsafe` is nowhere here: librdkafka is reached through rdkafka's safe calls.

mod broker;
mod client;
mod desk;
mod mapping;
mod poller;
mod positions;
mod reports;
mod sink;
mod source;
mod tail;
mod transaction;
mod url;

pub use broker::KafkaBroker;
pub use sink::{KafkaSink, KafkaSinkOptions};
pub use source::KafkaSource;
pub use url::KafkaUrl;

/// Whether these two name the same brokers.
pub fn is_same_cluster(one: &KafkaUrl, other: &KafkaUrl) -> bool {
    let sorted = |url: &KafkaUrl| {
        let mut servers = url.servers.clone();
        servers.sort();
        servers
    };
    sorted(one) == sorted(other)
}

/// Whether outputs and positions of these two go into one transaction: it was asked for, and they are the same cluster.
pub fn is_pair(from: &KafkaUrl, to: &KafkaUrl) -> bool {
    (from.exactly_once || to.exactly_once) && is_same_cluster(from, to)
}
