//! What the engine costs between a source and a sink: `cargo bench --workspace --bench throughput -- [--only ADAPTER] [--records N] [--json FILE]`,
//! with `--features etl-broker-adapter/kafka` for Kafka too.
//!
//! Three ways from one place to another take turns, so that what else the machine does meets all of them. **plain** is a client of the same library that
//! only copies: reads, writes, and acknowledges what is safe. For topics in a folder, and for files, that library is this crate: its source and sink with two
//! tasks and a queue between them. The other two are whole runs: one in which **nothing** is **selected**, and one with a module that copies every record
//! (`bench-copy`, which `cargo xtask guests` builds). Engines are started, and modules compiled, before the clock is. Medians of the rounds are compared;
//! the aim is at most 15 % more time than plain.

mod folders;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
mod table;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_broker_adapter::{Counters, Opened, Runner, RunnerOptions};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator};
use table::Table;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 9;
/// Of a record's value.
const BYTES: usize = 256;

const MODULE: &str = r#"
pipeline_id = "copy"
stages = [{ priority = 0, modules = [{ module_id = "bench-copy" }] }]
"#;

/// From one place to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Nothing,
    Module,
}

impl Way {
    const ALL: [Self; 3] = [Self::Plain, Self::Nothing, Self::Module];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain client",
            Self::Nothing => "nothing selected",
            Self::Module => "one module",
        }
    }
}

/// What one pass took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Of all threads of this process.
    processor: Duration,
}

/// Begins when it is made.
struct Clock(Instant, Duration);

impl Clock {
    fn start() -> Result<Self, Failure> {
        Ok(Self(Instant::now(), processor()?))
    }

    fn read(&self) -> Result<Cost, Failure> {
        Ok(Cost {
            wall: self.0.elapsed(),
            processor: processor()? - self.1,
        })
    }
}

fn processor() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks
        .map(str::parse::<u64>)
        .sum::<Result<u64, std::num::ParseIntError>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Two places that records go between.
trait Places {
    fn name(&self) -> &'static str;

    fn records(&self) -> usize;

    /// Takes every record through once, in this way.
    async fn pass(&mut self, way: Way) -> Result<Cost, Failure>;
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1))
    };
    let records: usize = after("--records").map_or(Ok(500_000), |count| count.parse())?;
    let only = after("--only").map(String::as_str).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let tables = runtime.block_on(measure(records, only))?;
    table::write(&tables, after("--json").map(Path::new))
}

async fn measure(records: usize, only: &str) -> Result<Vec<Table>, Failure> {
    let is_wanted = |name: &str| name.starts_with(only);
    let mut tables = Vec::new();
    for scheme in ["embedded", "file"] {
        if is_wanted(scheme) {
            tables.push(rounds(&mut folders::Folders::fill(scheme, records).await?).await?);
        }
    }
    #[cfg(feature = "nats")]
    if is_wanted("nats")
        && let Some(mut streams) = nats::Streams::fill(records).await?
    {
        tables.push(rounds(&mut streams).await?);
    }
    #[cfg(feature = "kafka")]
    if is_wanted("kafka") {
        tables.push(rounds(&mut kafka::Brokers).await?);
    }
    Ok(tables)
}

async fn rounds(places: &mut impl Places) -> Result<Table, Failure> {
    let mut table = Table::new(places.name(), places.records());
    for _ in 0..ROUNDS {
        for way in Way::ALL {
            let cost = places.pass(way).await?;
            table.add(way, cost);
        }
    }
    table.print();
    Ok(table)
}

/// The engine of a way that has one, ready to go.
fn engine(way: Way) -> Result<Arc<Orchestrator>, Failure> {
    let configuration = match way {
        Way::Module => MODULE,
        Way::Plain | Way::Nothing => "",
    };
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let load = LoadOptions::isolated().modules_dir(guests);
    let loaded = load_text("etl.toml", configuration, &load)?;
    let mut options = Options::default();
    options.lanes = Some(1);
    Ok(Orchestrator::start(loaded, options)?)
}

/// A run that does not end by itself: the clock starts with the first record, and stops when so many are safe.
#[cfg(any(feature = "nats", feature = "kafka"))]
async fn run_until(
    engine: Arc<Orchestrator>,
    opened: Opened,
    records: usize,
) -> Result<Cost, Failure> {
    let runner = runner(engine, opened);
    let (stop, counters) = (runner.stop_handle(), runner.counters());
    let run = tokio::spawn(runner.run());
    let reached = async |count: fn(&Counters) -> u64, goal: u64| {
        while count(&counters) < goal && !run.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    reached(|counters| counters.read().records_in, 1).await;
    let clock = Clock::start()?;
    reached(|counters| counters.read().records_out, records as u64).await;
    let cost = clock.read()?;
    stop.stop();
    run.await??;
    Ok(cost)
}

fn runner(engine: Arc<Orchestrator>, opened: Opened) -> Runner {
    let options = RunnerOptions::default();
    Runner::new(engine, opened.source, opened.sink, None, options)
}
