//! The program as users meet it: arguments, files and pipes in; output, messages and exit codes out.

mod admin;
mod bad_configuration;
mod bad_records;
mod browser;
mod canary;
mod console;
mod dead_letters;
mod explain;
mod file_kills;
#[cfg(feature = "nats")]
mod fleet;
mod generate;
mod generations;
mod help;
mod inspect;
mod matching;
mod metrics;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_letters;
#[cfg(feature = "nats")]
#[path = "../../../etl-broker-adapter/tests/support/nats_server.rs"]
mod nats_server;
mod running;
mod secrets;
mod serving;
mod signing;
mod support;
mod terminal;
mod top;
mod top_screen;
mod topics;
mod unheard;
