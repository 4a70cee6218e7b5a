//! Where the engine meets the world.
//!
//! - [`Source`] and [`Sink`] are what a broker implements, and [`Runner`] moves records from one through the engine
//!   to the other: a record is acknowledged when all that came of it is safe, and not before.
//! - `file:PATH` and `-` ([`AdapterUrl`]) are record lines ([`mod@line`]) in files and pipes; `embedded:DIR` is [durable topics](embedded) in a folder;
//!   `kafka://` (feature `kafka`) is topics of Kafka.
//! - [`open()`] opens what a run needs, [`Broker`] is what tools ask of a place beside that.
//! - [`Interceptor`] is for a broker that links the engine and owns its threads: records in, a [`Disposition`] out.
//!
//! This crate knows nothing of modules, stages or filters: it sees records go in and outcomes come out.
#![forbid(unsafe_code)]

mod broker;
mod counters;
pub mod embedded;
mod error;
pub mod file;
mod interceptor;
#[cfg(feature = "kafka")]
pub mod kafka;
mod letters;
pub mod line;
#[cfg(feature = "nats")]
pub mod nats;
mod open;
mod runner;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod servers;
mod sink;
mod source;
mod status;
pub mod testing;
mod url;

pub use broker::{Broker, From, TopicInfo, TopicSettings};
pub use counters::{Counters, Counts};
pub use error::{AdapterError, AdapterErrorKind};
pub use interceptor::{Disposition, Interceptor};
pub use letters::REDUCED;
pub use open::{Opened, RunUrls, open};
pub use runner::{Backoff, Ended, Runner, RunnerOptions, StopHandle};
pub use sink::{Origin, Output, Outputs, Refused, Sink};
pub use source::{
    AckToken, Batch, BoxFuture, Demand, InvalidRecord, Item, Lag, PartitionKey, Positions, Pulled,
    REDELIVERED, Revocation, Source,
};
pub use status::{Role, Status, Waiting};
pub use url::AdapterUrl;
