//! The suite that every adapter runs: over the fake, over folders of topics, and, as far as it applies, over files.

use etl_broker_adapter::embedded::{
    EmbeddedSink, EmbeddedSource, Log, OpenOptions, Start, TopicPatterns,
};
use etl_broker_adapter::file::{FileSink, FileSource, FileUrl};
use etl_broker_adapter::testing::{Abilities, Memory, Place, conformance};
use etl_broker_adapter::{AdapterError, AdapterUrl, BoxFuture, Sink, Source};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conformance(async || Memory::new()).await;
}

struct Folder(TempDir);

impl Folder {
    fn log(&self) -> Result<std::sync::Arc<Log>, AdapterError> {
        Log::open(self.0.path(), OpenOptions { create: true })
    }
}

impl Place for Folder {
    fn source<'a>(
        &'a self,
        topics: &'a [&'a str],
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>> {
        Box::pin(async move {
            let topics = TopicPatterns::new(topics.iter().copied());
            let source =
                EmbeddedSource::open(self.log()?, consumer, topics, Start::Earliest, true)?;
            Ok(Box::new(source) as Box<dyn Source>)
        })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async { Ok(Box::new(EmbeddedSink::new(self.log()?, "", true)) as Box<dyn Sink>) })
    }

    fn abilities(&self) -> Abilities {
        let mut can = Abilities::all();
        can.max_record = Some(64 << 20);
        can
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    conformance(async || Folder(tempfile::tempdir().expect("a folder for the test"))).await;
}

/// One file: whatever is written is read from its beginning.
struct Lines(TempDir);

impl Lines {
    fn url(&self) -> AdapterUrl {
        AdapterUrl::File(FileUrl::new(self.0.path().join("records")))
    }
}

impl Place for Lines {
    fn source<'a>(
        &'a self,
        _topics: &'a [&'a str],
        _consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>> {
        Box::pin(async { Ok(Box::new(FileSource::open(&self.url(), None)?) as Box<dyn Source>) })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async { Ok(Box::new(FileSink::create(&self.url())?) as Box<dyn Sink>) })
    }

    fn abilities(&self) -> Abilities {
        let mut can = Abilities::all();
        can.redelivers = false;
        can.partitions = false;
        can.pauses = false;
        can.lag = false;
        can
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file() {
    conformance(async || Lines(tempfile::tempdir().expect("a folder for the test"))).await;
}
