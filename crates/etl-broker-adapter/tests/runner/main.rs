//! The runner between sources and sinks that note what is asked of them.

mod desk;
mod flow;
mod letters;
