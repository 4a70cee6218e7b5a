//! What a user writes after `--from` and `--to`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::embedded::EmbeddedUrl;
use crate::file::FileUrl;
#[cfg(feature = "nats")]
use crate::nats::NatsUrl;
use crate::{AdapterError, AdapterErrorKind};

/// Where records come from or go to.
///
/// ```
/// use etl_broker_adapter::AdapterUrl;
///
/// let url: AdapterUrl = "file:orders.ndjson".parse()?;
/// assert_eq!(url.to_string(), "file:orders.ndjson");
/// let error = "mqtt://broker".parse::<AdapterUrl>().unwrap_err();
/// assert!(error.to_string().contains("unknown scheme `mqtt`"));
/// # Ok::<(), etl_broker_adapter::AdapterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterUrl {
    /// `-`: standard input or standard output, one record a line.
    Standard,
    /// `file:PATH`: a file of record lines.
    File(FileUrl),
    /// `embedded:DIR`: a folder of topics.
    Embedded(EmbeddedUrl),
    /// `nats://HOST:PORT/STREAM`: a stream of NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(Box<NatsUrl>),
    /// `kafka://HOST:PORT/TOPIC`: topics of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(crate::kafka::KafkaUrl),
}

impl AdapterUrl {
    /// The path, where the URL names a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(url) => Some(&url.path),
            _ => None,
        }
    }
}

impl FromStr for AdapterUrl {
    type Err = AdapterError;

    fn from_str(text: &str) -> Result<Self, AdapterError> {
        let invalid = |message: String| AdapterError::new(AdapterErrorKind::InvalidUrl, message);
        if text == "-" {
            return Ok(Self::Standard);
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(invalid(format!(
                "`{text}` is not a URL: write `file:{text}` for a file, or `-` for standard input and output"
            )));
        };
        #[cfg(feature = "nats")]
        if ["nats", "tls"].contains(&scheme) {
            return NatsUrl::parse(text).map(Box::new).map(Self::Nats);
        }
        if scheme == "kafka" {
            return kafka(text);
        }
        if !["file", "embedded"].contains(&scheme) {
            let nats = if cfg!(feature = "nats") {
                " `nats://HOST:PORT/STREAM`,"
            } else {
                ""
            };
            return Err(invalid(format!(
                "unknown scheme `{scheme}` in `{text}`: there are `file:PATH`, `embedded:DIR`,{nats} `kafka://HOST:PORT/TOPIC` and `-` for standard input and output"
            )));
        }
        let path = match rest.strip_prefix("//") {
            None => rest,
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(relative) => {
                return Err(invalid(format!(
                    "`{text}` names a host: write `{scheme}:{relative}` for a path from here, or `{scheme}:/{relative}` for one from the root"
                )));
            }
        };
        if scheme == "embedded" {
            return EmbeddedUrl::parse(path, text).map(Self::Embedded);
        }
        FileUrl::parse(path, text).map(Self::File)
    }
}

#[cfg(feature = "kafka")]
fn kafka(text: &str) -> Result<AdapterUrl, AdapterError> {
    crate::kafka::KafkaUrl::parse(text).map(AdapterUrl::Kafka)
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &str) -> Result<AdapterUrl, AdapterError> {
    Err(AdapterError::new(
        AdapterErrorKind::Unsupported,
        "this program was built without Kafka: build it with `cargo install --path crates/etl-cli --features kafka`, which needs make and a C compiler",
    ))
}

impl fmt::Display for AdapterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("-"),
            Self::File(url) => url.fmt(f),
            Self::Embedded(url) => url.fmt(f),
            #[cfg(feature = "nats")]
            Self::Nats(url) => url.fmt(f),
            #[cfg(feature = "kafka")]
            Self::Kafka(url) => url.fmt(f),
        }
    }
}
