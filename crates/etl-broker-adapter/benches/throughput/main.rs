//! What the engine costs between a source and a sink: `cargo bench -p etl-broker-adapter --bench throughput -- [--records N]`.
//!
//! Three ways from a folder of topics to another, and from file to file, in turn: **plain** (the same source and sink with nothing between them but two tasks
//! and a queue), the **runner** with an engine in which nothing is selected, and with one **module** that copies every record (`bench-copy`, which
//! `cargo xtask guests` builds). Each round is timed whole, opening and closing included; the median of the rounds counts.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_broker_adapter::{
    AckToken, AdapterError, AdapterUrl, Demand, Opened, Origin, Output, Outputs, Pulled, RunUrls,
    Runner, RunnerOptions, open,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};
use tokio::sync::mpsc;

const ROUNDS: usize = 5;
const BATCH: usize = 256;
/// Batches that are written before a confirmation, at most, as the runner does it.
const BATCHES_A_CONFIRMATION: usize = 64;

const MODULE: &str = r#"
pipeline_id = "copy"
stages = [{ priority = 0, modules = [{ module_id = "bench-copy" }] }]
"#;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--records");
    let records: usize = arguments
        .nth(1)
        .map_or(Ok(500_000), |count| count.parse())?;
    let records = records.div_ceil(BATCH) * BATCH;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(records))
}

async fn measure(records: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    for scheme in ["embedded", "file"] {
        let from = folder.path().join(format!("{scheme}-from"));
        fill(scheme, &from, records).await?;
        let mut times: [Vec<Duration>; 3] = Default::default();
        for round in 0..ROUNDS {
            for (way, times) in times.iter_mut().enumerate() {
                let to = folder.path().join(format!("{scheme}-{round}-{way}"));
                let begun = Instant::now();
                let opened = opened(scheme, &from, &to, &format!("{round}-{way}")).await?;
                let passed = match way {
                    0 => plain(opened).await?,
                    1 => run(opened, "", &guests).await?,
                    _ => run(opened, MODULE, &guests).await?,
                };
                times.push(begun.elapsed());
                assert_eq!(passed, records, "every record passed");
                remove(&to)?;
            }
        }
        let [plain, nothing, module] = times.map(median);
        let rate = |time: Duration| records as f64 / time.as_secs_f64();
        println!("{scheme}: {records} records of 256 bytes, median of {ROUNDS}");
        println!("  plain           {:>9.0} records/s", rate(plain));
        for (name, time) in [("nothing selected", nothing), ("one module", module)] {
            let cost = (time.as_secs_f64() / plain.as_secs_f64() - 1.0) * 100.0;
            println!(
                "  {name:<16}{:>9.0} records/s, {cost:+.1} % of time",
                rate(time)
            );
        }
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

fn url(scheme: &str, path: &Path, settings: &str) -> Result<AdapterUrl, AdapterError> {
    let settings = if scheme == "embedded" { settings } else { "" };
    format!("{scheme}:{}{settings}", path.display()).parse()
}

async fn opened(
    scheme: &str,
    from: &Path,
    to: &Path,
    consumer: &str,
) -> Result<Opened, AdapterError> {
    open(&RunUrls {
        from: url(scheme, from, &format!("?consumer={consumer}"))?,
        to: url(scheme, to, "")?,
        dead_letters: None,
        create: true,
        max_line_bytes: 1 << 20,
        dead_letter_topic: Default::default(),
    })
    .await
}

async fn fill(scheme: &str, path: &Path, records: usize) -> Result<(), Failure> {
    let broker = url(scheme, path, "")?.connect(true).await?;
    let mut sink = broker.sink().await?;
    let value: bytes::Bytes = format!("\"{}\"", "x".repeat(254)).into();
    let topic: Arc<str> = "bench.in".into();
    let origin = Origin {
        partition: Default::default(),
        position: 0,
        index: 0,
    };
    for _ in 0..records.div_ceil(BATCH) {
        let record = Arc::new(Record::new(topic.clone(), value.clone()));
        sink.write(vec![Output { record, origin }; BATCH].into())
            .await?;
    }
    sink.confirm().await?;
    sink.finish().await?;
    Ok(())
}

/// The same source and the same sink, with nothing between them.
async fn plain(opened: Opened) -> Result<usize, Failure> {
    let (mut source, mut sink) = (opened.source, opened.sink);
    let (to_sink, mut queue) = mpsc::channel::<(Vec<AckToken>, Outputs)>(BATCHES_A_CONFIRMATION);
    let (confirmed, mut acks) = mpsc::unbounded_channel();
    let writing = tokio::spawn(async move {
        let mut batches = Vec::new();
        while queue.recv_many(&mut batches, BATCHES_A_CONFIRMATION).await > 0 {
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
        records: BATCH,
        bytes: 64 << 20,
        paused: &paused,
    };
    let mut passed = 0;
    while let Pulled::Batch(batch) = source.pull(demand).await? {
        let tokens = batch.items.iter().map(|item| item.token).collect();
        passed += batch.items.len();
        let output = |item: etl_broker_adapter::Item| {
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

async fn run(opened: Opened, configuration: &str, guests: &Path) -> Result<usize, Failure> {
    let load = LoadOptions::isolated().modules_dir(guests);
    let loaded = load_text("etl.toml", configuration, &load)?;
    let mut engine = Options::default();
    engine.lanes = Some(1);
    let engine = Orchestrator::start(loaded, engine)?;
    let mut options = RunnerOptions::default();
    options.batch = BATCH;
    let runner = Runner::new(engine, opened.source, opened.sink, None, options);
    let counters = runner.counters();
    runner.run().await?;
    Ok(counters.read().records_out as usize)
}
