//! The program as users meet it: arguments, files and pipes in; output, messages and exit codes out.

mod admin;
mod bad_configuration;
mod bad_records;
mod explain;
mod generate;
mod help;
mod inspect;
mod matching;
mod metrics;
mod running;
mod signing;
mod support;
mod topics;
