//! From a folder of topics to another, and from file to file. The source ends by itself, so a pass is timed whole, closing included.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etl_broker_adapter::{
    AckToken, AdapterError, AdapterUrl, Demand, Item, Opened, Origin, Output, Outputs, Pulled,
    RunUrls, RunnerOptions, open,
};
use etl_orchestrator::Record;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{BYTES, Clock, Cost, Failure, Places, Way, engine, runner};

/// Records that are written together where the source is filled.
const FILL: usize = 256;

/// A place that was filled, and room for others.
pub struct Folders {
    scheme: &'static str,
    records: usize,
    folder: TempDir,
    passes: usize,
}

impl Folders {
    pub async fn fill(scheme: &'static str, records: usize) -> Result<Self, Failure> {
        let this = Self {
            scheme,
            records: records.div_ceil(FILL) * FILL,
            folder: tempfile::tempdir()?,
            passes: 0,
        };
        let broker = this.url(&this.from(), "")?.connect(true).await?;
        let mut sink = broker.sink().await?;
        // Still JSON without the last byte, which the module leaves out: what is not is written to a file as base64, and a third longer.
        let value: bytes::Bytes = "7".repeat(BYTES).into();
        let topic: Arc<str> = "bench.in".into();
        let origin = Origin {
            partition: Default::default(),
            position: 0,
            index: 0,
        };
        for _ in 0..this.records / FILL {
            let record = Arc::new(Record::new(topic.clone(), value.clone()));
            sink.write(vec![Output { record, origin }; FILL].into())
                .await?;
        }
        sink.confirm().await?;
        sink.finish().await?;
        Ok(this)
    }

    fn from(&self) -> PathBuf {
        self.folder.path().join("from")
    }

    fn url(&self, path: &Path, settings: &str) -> Result<AdapterUrl, AdapterError> {
        let settings = match self.scheme {
            "embedded" => settings,
            _ => "",
        };
        format!("{}:{}{settings}", self.scheme, path.display()).parse()
    }

    async fn opened(&self, to: &Path) -> Result<Opened, AdapterError> {
        let consumer = format!("?consumer=pass-{}", self.passes);
        open(&RunUrls {
            from: self.url(&self.from(), &consumer)?,
            to: self.url(to, "")?,
            dead_letters: None,
            create: true,
            max_line_bytes: 1 << 20,
            dead_letter_topic: Default::default(),
        })
        .await
    }
}

impl Places for Folders {
    fn name(&self) -> &'static str {
        self.scheme
    }

    fn records(&self) -> usize {
        self.records
    }

    async fn pass(&mut self, way: Way) -> Result<Cost, Failure> {
        self.passes += 1;
        let to = self.folder.path().join(format!("to-{}", self.passes));
        let opened = self.opened(&to).await?;
        let engine = engine(way)?;
        let clock = Clock::start()?;
        let passed = match way {
            Way::Plain => plain(opened).await?,
            Way::Nothing | Way::Module => {
                let runner = runner(engine, opened);
                let counters = runner.counters();
                runner.run().await?;
                counters.read().records_out as usize
            }
        };
        let cost = clock.read()?;
        match to.is_dir() {
            true => std::fs::remove_dir_all(&to)?,
            false => std::fs::remove_file(&to)?,
        }
        match passed == self.records {
            true => Ok(cost),
            false => Err(format!("{passed} of {} records passed", self.records).into()),
        }
    }
}

/// The same source and the same sink, with nothing between them. It pulls as much at once as the runner, and has as much in flight: one half waits while
/// the other is written.
async fn plain(opened: Opened) -> Result<usize, Failure> {
    let (mut source, mut sink) = (opened.source, opened.sink);
    let options = RunnerOptions::default();
    let half = options.in_flight_records / options.batch / 2;
    let (to_sink, mut queue) = mpsc::channel::<(Vec<AckToken>, Outputs)>(half);
    let (confirmed, mut acks) = mpsc::unbounded_channel();
    let writing = tokio::spawn(async move {
        let mut batches = Vec::new();
        while queue.recv_many(&mut batches, half).await > 0 {
            let mut tokens = Vec::new();
            for (own, outputs) in batches.drain(..) {
                tokens.extend(own);
                sink.write(outputs).await?;
            }
            sink.confirm().await?;
            // The reader ends after this one.
            let _ = confirmed.send(tokens);
        }
        sink.finish().await
    });
    let paused = HashSet::new();
    let demand = Demand {
        records: options.batch,
        bytes: options.in_flight_bytes,
        paused: &paused,
    };
    let mut passed = 0;
    while let Pulled::Batch(batch) = source.pull(demand).await? {
        let tokens = batch.items.iter().map(|item| item.token).collect();
        passed += batch.items.len();
        let output = |item: Item| {
            let origin = Origin {
                partition: item.partition,
                position: item.position,
                index: 0,
            };
            item.content.ok().map(|record| Output { record, origin })
        };
        let outputs = batch.items.into_iter().filter_map(output).collect();
        to_sink.send((tokens, outputs)).await?;
        while let Ok(tokens) = acks.try_recv() {
            source.ack(&tokens).await?;
        }
    }
    drop(to_sink);
    while let Some(tokens) = acks.recv().await {
        source.ack(&tokens).await?;
    }
    writing.await??;
    source.close().await?;
    Ok(passed)
}
