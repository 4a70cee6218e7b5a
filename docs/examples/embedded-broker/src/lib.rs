//! A small broker: publish and subscribe over TCP. What it does without the engine is [`server`]; how the engine comes in is [`engine`], and no more.
//!
//! ```text
//! SUB <topic>\n                    from then on this connection gets the topic's messages
//! PUB <topic> <length>\n<bytes>    publishes; each subscriber of the topic gets MSG <topic> <length>\n<bytes>
//! ```
#![forbid(unsafe_code)]

pub mod engine;
pub mod server;
