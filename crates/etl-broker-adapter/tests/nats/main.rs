//! `nats://` against servers of its own: what a record becomes and comes back as, acknowledgements, several workers, and everything that can
//! happen to a server.

mod conformance;
mod desk;
mod errors;
mod faults;
mod fleet;
#[path = "../support/nats_server.rs"]
mod nats_server;
mod order;
mod records;
mod workers;
