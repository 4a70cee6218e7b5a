//! Opens what a run reads and writes, together: what is one place is opened once, and commits in one transaction where it can.

use std::sync::Arc;

use etl_config::TopicTemplate;

use crate::embedded::{EmbeddedSink, EmbeddedSource, Log, OpenOptions};
use crate::file::{FileSink, FileSource, refuse_same_file, refuse_to_forget, same_output};
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
    /// The topic of dead letters that no module caused, by the topic of the record.
    pub dead_letter_topic: TopicTemplate,
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
        refuse_to_forget(&urls.from, to)?;
    }
    #[cfg(feature = "kafka")]
    refuse_half_a_pair(urls)?;
    let apart = urls.dead_letters.as_ref();
    let apart = apart.filter(|url| !same_output(url, &urls.to));
    #[cfg_attr(
        not(feature = "nats"),
        expect(unused_mut, reason = "only NATS says what it reads")
    )]
    let mut seen = Seen {
        log: log_of(&urls.from, urls.create).await?,
        ..Seen::default()
    };
    let source: Box<dyn Source> = match &urls.from {
        AdapterUrl::Embedded(url) => {
            let log = seen.log.clone().ok_or_else(no_log)?;
            let url = url.clone();
            let open =
                move || EmbeddedSource::open(log, &url.consumer, url.topics, url.start, url.follow);
            Box::new(blocking(open).await?)
        }
        #[cfg(feature = "nats")]
        AdapterUrl::Nats(url) => {
            let source = NatsSource::open((**url).clone(), urls.create).await?;
            seen.reading = source.reading();
            Box::new(source)
        }
        #[cfg(feature = "kafka")]
        AdapterUrl::Kafka(url) => {
            let atomic = kafka_pair(urls);
            Box::new(crate::kafka::KafkaSource::open(url.clone(), urls.create, atomic).await?)
        }
        from => Box::new(FileSource::open(from, Some(urls.max_line_bytes))?),
    };
    let carries = match apart {
        Some(_) => Part::Outputs,
        None => Part::Both,
    };
    let (sink, log) = sink_to(&urls.to, urls, &seen, carries).await?;
    // What is one file now could not be told from two while it did not exist.
    let dead_letters = match apart {
        Some(url) if !same_output(url, &urls.to) => {
            Some(sink_to(url, urls, &seen, Part::Letters).await?.0)
        }
        _ => None,
    };
    let atomic = match (&seen.log, &log) {
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

/// What the sinks need to know of the source.
#[derive(Default)]
struct Seen {
    log: Option<Arc<Log>>,
    #[cfg(feature = "nats")]
    reading: Option<crate::nats::reading::Reading>,
}

/// What of a run goes to a sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Outputs,
    Letters,
    Both,
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
    seen: &Seen,
    part: Part,
) -> Result<(Box<dyn Sink>, Option<Arc<Log>>), AdapterError> {
    #[cfg(feature = "kafka")]
    if let AdapterUrl::Kafka(to) = url {
        let options = kafka_options(to, urls, part == Part::Letters);
        let sink = crate::kafka::KafkaSink::open(to.clone(), options);
        return Ok((Box::new(sink.await?), None));
    }
    let _ = part;
    let log = log_of(url, urls.create).await?;
    let sink: Box<dyn Sink> = match (url, &log) {
        (AdapterUrl::Embedded(url), Some(log)) => {
            let mut sink = EmbeddedSink::new(log.clone(), &url.prefix, url.durable);
            if let (AdapterUrl::Embedded(from), Some(source)) = (&urls.from, &seen.log)
                && Arc::ptr_eq(source, log)
            {
                sink = sink.reading(from.topics.clone());
            }
            Box::new(sink)
        }
        #[cfg(feature = "nats")]
        (AdapterUrl::Nats(url), _) => {
            let name = source_name(&urls.from, seen.log.as_ref());
            let mut sink = NatsSink::open((**url).clone(), &name, urls.create).await?;
            if let Some(reading) = &seen.reading {
                let carries = crate::nats::reading::Carries {
                    outputs: part != Part::Letters,
                    letters: (part != Part::Outputs).then_some(&urls.dead_letter_topic),
                };
                sink = sink.reading(reading.clone(), carries).await?;
            }
            Box::new(sink)
        }
        (url, _) => Box::new(FileSink::create(url)?),
    };
    Ok((sink, log))
}

/// What positions of this source belong to, for a sink that tells by them what it has already: the same after a restart where positions are.
#[cfg(feature = "nats")]
fn source_name(from: &AdapterUrl, log: Option<&Arc<Log>>) -> String {
    match (from, log) {
        (AdapterUrl::Nats(url), _) => url.source_name(),
        // Moved elsewhere it is the same; another one in its folder is not.
        (AdapterUrl::Embedded(url), Some(log)) => {
            format!("etl-{:x}-{}", log.identity(), url.consumer)
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
