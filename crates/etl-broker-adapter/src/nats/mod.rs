//! `nats://`: streams of NATS JetStream, read through durable pull consumers and written to by subject.
//!
//! Subjects are topics. What of a record goes where in a message is in `mapping.rs`; what a URL may say is in [`NatsUrl`].

mod answers;
mod broker;
mod connection;
pub mod fleet;
mod mapping;
pub(crate) mod reading;
mod sink;
mod source;
mod stream;
mod subjects;
mod url;

pub use broker::NatsBroker;
pub use sink::NatsSink;
pub use source::NatsSource;
pub use url::NatsUrl;

/// Begins message ids that nobody may share: of what is sent once, and of a source that gives the same positions to other records another time.
pub(crate) fn once() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = now.map_or(0, |now| now.as_nanos());
    format!("once-{:x}-{nanoseconds:x}", std::process::id())
}
