//! `embedded:DIR`: durable topics in a folder, with no server. A log of topics and partitions in one [redb](https://docs.rs/redb) database.
//!
//! Every commit is on the disk when it returns (or, where the URL says `durability=none`, with the next one that is). Records that a run writes
//! and the position of its source are one transaction where both are in the same folder: each record then comes out exactly once, whatever dies when.
//!
//! One process at a time has a folder open; within it, sources and sinks share one [`Log`].

mod chunk;
mod error;
mod log;
mod model;
mod place;
mod rows;
mod sink;
mod source;
mod system;
mod tail;
mod url;

pub use log::{Log, OpenOptions};
pub use model::{Append, Partition, Position, Retention, Topic};
pub use sink::EmbeddedSink;
pub use source::EmbeddedSource;
pub use tail::{EmbeddedFollow, EmbeddedQueue, EmbeddedTail};
pub use url::{EmbeddedUrl, Start, TopicPatterns};
