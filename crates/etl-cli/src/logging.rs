//! The log: lines on standard error, at the level that `--log` or `ETL_LOG` asks for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts it. Called once, before anything can log.
pub fn start(filter: &EnvFilterText) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would tell of a line that could not be written where that line could not be written, and panic.
        .log_internal_errors(false)
        .init();
}

/// A filter that has been found to be well-formed.
#[derive(Debug, Clone)]
pub struct EnvFilterText(String);

impl std::str::FromStr for EnvFilterText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }
}
