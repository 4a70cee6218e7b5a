//! `kafka://` over TCP, against the mock cluster of librdkafka: brokers that speak the protocol, keep what they are sent, run consumer
//! groups and transactions, and fail as they are told to. What a mock cannot show (a compacted topic, aborted records kept
//! from readers, topics that are created) is tried against the brokers that `KAFKA_BOOTSTRAP` names, if it names any.

mod cluster;
mod conformance;
mod errors;
mod groups;
mod real;
mod records;
mod runs;
mod tools;
mod transactions;
