//! Opens what a run reads and writes, together: what is one place is opened once, and commits in one transaction where it can.

use std::sync::Arc;

use crate::embedded::{EmbeddedSink, EmbeddedSource, Log, OpenOptions};
use crate::file::{FileSink, FileSource, refuse_same_file, same_output};
#[cfg(feature = "nats")]
use crate::nats::{NatsSink, NatsSource};
use crate::{AdapterError, AdapterErrorKind, AdapterUrl, Sink, Source};

/// What to open.
#[derive(Debug, Clone)]
pub struct RunUrls {
    /// Where records come from.
    pub from: AdapterUrl,
    /// Where they go.
    pub to: AdapterUrl,
    /// Where dead letters go; `None`: with the others.
    pub dead_letters: Option<AdapterUrl>,
    /// Make places that do not exist.
    pub create: bool,
    /// The longest line that is read from a file.
    pub max_line_bytes: usize,
}

/// What a [`Runner`](crate::Runner) needs.
pub struct Opened {
    /// Where records come from.
    pub source: Box<dyn Source>,
    /// Where they go.
    pub sink: Box<dyn Sink>,
    /// Where dead letters go, if that is elsewhere.
    pub dead_letters: Option<Box<dyn Sink>>,
    /// Outputs and position are one transaction: for [`RunnerOptions::atomic`](crate::RunnerOptions::atomic).
    pub atomic: bool,
}

/// Opens everything; outputs last, and they keep what they hold until something is written. On a tokio runtime.
///
/// # Errors
///
/// One of them cannot be opened, or two of them cannot be used together.
pub async fn open(urls: &RunUrls) -> Result<Opened, AdapterError> {
    let outputs = || std::iter::once(&urls.to).chain(&urls.dead_letters);
    for to in outputs() {
        refuse_same_file(&urls.from, to)?;
    }
    #[cfg(feature = "kafka")]
    refuse_half_a_pair(urls)?;
    let apart = urls.dead_letters.as_ref();
    let apart = apart.filter(|url| !same_output(url, &urls.to));
    let source_log = log_of(&urls.from, urls.create).await?;
    let source: Box<dyn Source> = match &urls.from {
        AdapterUrl::Embedded(url) => {
            let log = source_log.clone().ok_or_else(no_log)?;
            let url = url.clone();
            let open =
                move || EmbeddedSource::open(log, &url.consumer, url.topics, url.start, url.follow);
            Box::new(blocking(open).await?)
        }
        #[cfg(feature = "nats")]
        AdapterUrl::Nats(url) => Box::new(NatsSource::open((**url).clone(), urls.create).await?),
        #[cfg(feature = "kafka")]
        AdapterUrl::Kafka(url) => {
            let atomic = kafka_pair(urls);
            Box::new(crate::kafka::KafkaSource::open(url.clone(), urls.create, atomic).await?)
        }
        from => Box::new(FileSource::open(from, Some(urls.max_line_bytes))?),
    };
    let (sink, log) = sink_to(&urls.to, urls, source_log.as_ref(), false).await?;
    // What is one file now could not be told from two while it did not exist.
    let dead_letters = match apart {
        Some(url) if !same_output(url, &urls.to) => {
            Some(sink_to(url, urls, source_log.as_ref(), true).await?.0)
        }
        _ => None,
    };
    let atomic = match (&source_log, &log) {
        (Some(source), Some(sink)) => Arc::ptr_eq(source, sink),
        _ => kafka_pair(urls),
    };
    Ok(Opened {
        source,
        sink,
        dead_letters,
        atomic,
    })
}

async fn log_of(url: &AdapterUrl, create: bool) -> Result<Option<Arc<Log>>, AdapterError> {
    let AdapterUrl::Embedded(url) = url else {
        return Ok(None);
    };
    let dir = url.dir.clone();
    let open = move || Log::open(&dir, OpenOptions { create });
    blocking(open).await.map(Some)
}

async fn sink_to(
    url: &AdapterUrl,
    urls: &RunUrls,
    source: Option<&Arc<Log>>,
    for_letters: bool,
) -> Result<(Box<dyn Sink>, Option<Arc<Log>>), AdapterError> {
    #[cfg(feature = "kafka")]
    if let AdapterUrl::Kafka(to) = url {
        let sink = crate::kafka::KafkaSink::open(to.clone(), kafka_options(to, urls, for_letters));
        return Ok((Box::new(sink.await?), None));
    }
    let _ = for_letters;
    let log = log_of(url, urls.create).await?;
    let sink: Box<dyn Sink> = match (url, &log) {
        (AdapterUrl::Embedded(url), Some(log)) => {
            let mut sink = EmbeddedSink::new(log.clone(), &url.prefix, url.durable);
            if let (AdapterUrl::Embedded(from), Some(source)) = (&urls.from, source)
                && Arc::ptr_eq(source, log)
            {
                sink = sink.reading(from.topics.clone());
            }
            Box::new(sink)
        }
        #[cfg(feature = "nats")]
        (AdapterUrl::Nats(url), _) => {
            Box::new(NatsSink::open((**url).clone(), &source_name(&urls.from), urls.create).await?)
        }
        (url, _) => Box::new(FileSink::create(url)?),
    };
    Ok((sink, log))
}

/// What positions of this source belong to, for a sink that tells by them what it has already: the same after a restart where positions are.
#[cfg(feature = "nats")]
fn source_name(from: &AdapterUrl) -> String {
    match from {
        AdapterUrl::Nats(url) => url.source_name(),
        AdapterUrl::Embedded(url) => {
            let dir = std::path::absolute(&url.dir).unwrap_or_else(|_| url.dir.clone());
            let number = crate::PartitionKey::of(&dir.to_string_lossy(), 0);
            format!("etl-{:x}-{}", number.0, url.consumer)
        }
        // A file that is read again is sent again.
        _ => crate::nats::once(),
    }
}

/// Whether outputs and positions go into one transaction of Kafka.
fn kafka_pair(urls: &RunUrls) -> bool {
    match (&urls.from, &urls.to) {
        #[cfg(feature = "kafka")]
        (AdapterUrl::Kafka(from), AdapterUrl::Kafka(to)) => crate::kafka::is_pair(from, to),
        _ => false,
    }
}

/// Who asks for exactly once and cannot have it should know.
#[cfg(feature = "kafka")]
fn refuse_half_a_pair(urls: &RunUrls) -> Result<(), AdapterError> {
    let asks = |url: &AdapterUrl| matches!(url, AdapterUrl::Kafka(url) if url.exactly_once());
    if (asks(&urls.from) || asks(&urls.to)) && !kafka_pair(urls) {
        return Err(AdapterError::new(
            AdapterErrorKind::InvalidUrl,
            format!(
                "`exactly-once` needs both sides on one Kafka cluster, with the same brokers in both URLs; these are {} and {}",
                urls.from, urls.to
            ),
        ));
    }
    Ok(())
}

#[cfg(feature = "kafka")]
fn kafka_options(
    to: &crate::kafka::KafkaUrl,
    urls: &RunUrls,
    for_letters: bool,
) -> crate::kafka::KafkaSinkOptions {
    let reading = match &urls.from {
        AdapterUrl::Kafka(from) if crate::kafka::is_same_cluster(from, to) => {
            from.topics().to_vec()
        }
        _ => Vec::new(),
    };
    crate::kafka::KafkaSinkOptions {
        create: urls.create,
        dead_letters: for_letters,
        transactions: !for_letters && kafka_pair(urls),
        reading,
    }
}

fn no_log() -> AdapterError {
    AdapterError::new(AdapterErrorKind::Io, "the folder of topics was not opened")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AdapterError::new(
            AdapterErrorKind::Io,
            format!("opening ended by itself: {error}"),
        )),
    }
}
