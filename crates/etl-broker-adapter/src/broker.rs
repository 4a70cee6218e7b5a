//! What tools ask of the place that a URL names, beside reading and writing: which topics are there, what is in them, take that out.
//!
//! [`AdapterUrl::connect`] answers a [`Broker`]; an adapter implements what its place can do, and the rest says plainly that it cannot.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::embedded::{
    self, EmbeddedFollow, EmbeddedQueue, EmbeddedSink, EmbeddedTail, EmbeddedUrl, TopicPatterns,
};
use crate::file::{FileSink, FileSource, FileUrl};
use crate::{AdapterError, AdapterErrorKind, AdapterUrl, BoxFuture, Sink, Source};

/// A topic, as `etl topics` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 where it has none that are numbered.
    pub partitions: u32,
    /// Records that are there, where that is known.
    pub records: Option<u64>,
    /// Their bytes, where that is known.
    pub bytes: Option<u64>,
    /// What it keeps, in words: `7 days, 1 GiB`. Empty: everything.
    pub keeps: String,
}

/// What a new topic is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// Partitions; 0: as the broker does it by itself.
    pub partitions: u32,
    /// What it keeps; `None`: as it is, or as the broker does it by itself.
    pub retention: Option<embedded::Retention>,
}

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest that is there.
    Beginning,
    /// With what comes from now on.
    End,
    /// With this offset of each partition.
    Offset(u64),
    /// With so many before the end of each partition.
    Last(u64),
}

/// A place with topics.
///
/// An adapter outside of this crate may implement it; methods with a default may be added.
pub trait Broker: Send + Sync {
    /// Its URL, without anything secret.
    fn name(&self) -> String;

    /// The topics that are there, by name.
    ///
    /// # Errors
    ///
    /// It cannot be asked, or has no topics.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>, AdapterError>> {
        unsupported(self.name(), "has no topics that could be listed")
    }

    /// Makes a topic, or changes the one that is there.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    fn create<'a>(
        &'a self,
        topic: &'a str,
        settings: TopicSettings,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        let _ = (topic, settings);
        unsupported(self.name(), "has no topics that could be made")
    }

    /// Reads topics (names, in which `*` stands for anything; none: all) and moves nobody's position.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn tail(
        &self,
        topics: &[String],
        from: From,
        follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>>;

    /// Reads one topic to its present end; what is acknowledged is taken out of it, each record by itself and in any order. What is not stays.
    ///
    /// # Errors
    ///
    /// It cannot be read, or nothing can be taken out.
    fn queue(&self, topic: &str) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let _ = topic;
        unsupported(
            self.name(),
            "has no topics that records could be taken out of",
        )
    }

    /// Opens it to be written to.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>>;

    /// The same, for records whose topics are called as [`topics`](Self::topics) and [`tail`](Self::tail) call them: what the URL puts
    /// before each is there already.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    fn sink_beside(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        self.sink()
    }
}

fn unsupported<'a, T: Send + 'a>(
    name: String,
    what: &str,
) -> BoxFuture<'a, Result<T, AdapterError>> {
    let message = format!("{name} {what}");
    Box::pin(async move { Err(AdapterError::new(AdapterErrorKind::Unsupported, message)) })
}

impl AdapterUrl {
    /// Opens the place that it names. `create`: make it where it does not exist.
    ///
    /// # Errors
    ///
    /// It cannot be reached or opened.
    pub async fn connect(&self, create: bool) -> Result<Arc<dyn Broker>, AdapterError> {
        Ok(match self {
            Self::Standard | Self::File(_) => Arc::new(Lines(self.clone())),
            #[cfg(feature = "nats")]
            Self::Nats(url) => {
                Arc::new(crate::nats::NatsBroker::open((**url).clone(), create).await?)
            }
            Self::Embedded(url) => {
                let folder = Folder {
                    url: url.clone(),
                    create,
                    log: Mutex::default(),
                };
                folder.opened(create).await?;
                Arc::new(folder)
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(url) => {
                let broker = crate::kafka::KafkaBroker::open(url.clone(), create).await?;
                Arc::new(broker)
            }
        })
    }
}

/// A file, or a pipe, of record lines.
struct Lines(AdapterUrl);

impl Broker for Lines {
    fn name(&self) -> String {
        self.0.to_string()
    }

    fn tail(
        &self,
        topics: &[String],
        from: From,
        follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        if from != From::Beginning || follow || !topics.is_empty() {
            return unsupported(
                self.name(),
                "is read from its beginning to its end, and whole",
            );
        }
        let url = match &self.0 {
            AdapterUrl::File(url) => AdapterUrl::File(FileUrl::new(&url.path)),
            other => other.clone(),
        };
        Box::pin(async move { Ok(Box::new(FileSource::open(&url, None)?) as Box<dyn Source>) })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async { Ok(Box::new(FileSink::create(&self.0)?) as Box<dyn Sink>) })
    }
}

/// A folder of topics. It is open to be looked into until something is written.
struct Folder {
    url: EmbeddedUrl,
    create: bool,
    log: Mutex<Option<Arc<embedded::Log>>>,
}

impl Folder {
    fn patterns(&self, topics: &[String]) -> TopicPatterns {
        match topics {
            [] if self.url.topics.is_default() => TopicPatterns::new(["*"]),
            [] => self.url.topics.clone(),
            topics => TopicPatterns::new(topics.iter().map(String::as_str)),
        }
    }

    /// The log; `whole`: to be written to.
    async fn opened(&self, whole: bool) -> Result<Arc<embedded::Log>, AdapterError> {
        let mut log = self.log.lock().await;
        if let Some(log) = log.as_ref().filter(|log| log.is_whole() || !whole) {
            return Ok(log.clone());
        }
        // Nobody can write to it while it is open to be looked into.
        *log = None;
        let (dir, create) = (self.url.dir.clone(), self.create);
        let open = move || match whole {
            true => embedded::Log::open(&dir, embedded::OpenOptions { create }),
            false => embedded::Log::look(&dir),
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.map_err(|error| {
            let message = format!("cannot open {}: {error}", self.url);
            AdapterError::new(AdapterErrorKind::Io, message)
        })??;
        *log = Some(opened.clone());
        Ok(opened)
    }

    fn sink_before<'a>(
        &'a self,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async move {
            let sink = EmbeddedSink::new(self.opened(true).await?, prefix, self.url.durable);
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }
}

impl Broker for Folder {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>, AdapterError>> {
        Box::pin(async {
            let info = |topic: embedded::Topic| TopicInfo {
                name: topic.name.to_string(),
                partitions: topic.partitions.len() as u32,
                records: Some(topic.partitions.iter().map(|own| own.records).sum()),
                bytes: Some(topic.partitions.iter().map(|own| own.bytes).sum()),
                keeps: topic.retention.to_string(),
            };
            let log = self.opened(false).await?;
            Ok(log.topics()?.into_iter().map(info).collect())
        })
    }

    fn create<'a>(
        &'a self,
        topic: &'a str,
        settings: TopicSettings,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            let log = self.opened(true).await?;
            log.create_topic(topic, settings.partitions, settings.retention)
        })
    }

    fn tail(
        &self,
        topics: &[String],
        from: From,
        follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let topics = self.patterns(topics);
        Box::pin(async move {
            Ok(match follow {
                true => Box::new(EmbeddedFollow::new(self.url.dir.clone(), topics, from))
                    as Box<dyn Source>,
                false => {
                    let log = self.opened(false).await?;
                    Box::new(EmbeddedTail::new(log, topics, from, false))
                }
            })
        })
    }

    fn queue(&self, topic: &str) -> BoxFuture<'_, Result<Box<dyn Source>, AdapterError>> {
        let topic = topic.to_owned();
        Box::pin(async move {
            let queue = EmbeddedQueue::new(self.opened(true).await?, &topic);
            Ok(Box::new(queue) as Box<dyn Source>)
        })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        self.sink_before(&self.url.prefix)
    }

    fn sink_beside(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        self.sink_before("")
    }
}
