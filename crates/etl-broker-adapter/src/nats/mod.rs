//! `nats://`: streams of NATS JetStream, read through durable pull consumers and written to by subject.
//!
//! Subjects are topics. What of a record goes where in a message is in `mapping.rs`; what a URL may say is in [`NatsUrl`].

mod connection;
pub mod fleet;
mod mapping;
mod sink;
mod source;
mod stream;
mod subjects;
mod url;

pub use sink::NatsSink;
pub use source::NatsSource;
pub use url::NatsUrl;
