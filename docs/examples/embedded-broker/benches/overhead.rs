//! What the engine on its produce path costs a broker: `cargo bench --workspace --bench overhead -- [--records N] [--json FILE]`.
//!
//! Brokers are processes of their own, and only their processor time counts, the kernel's work for them included: not that of the publisher and the subscriber,
//! which are here. Four ways take turns, so that what else the machine does meets all of them: no engine; an engine in which nothing is selected; one
//! module that keeps every record; and one that copies it (`bench-copy`, which `cargo xtask guests` builds). Medians of the rounds are compared.

use std::error::Error;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn Error + Send + Sync>;

const ROUNDS: usize = 5;
const BYTES: usize = 256;
/// The kernel counts processor time in these.
const TICK: Duration = Duration::from_millis(10);

/// Keeps whatever it is given.
const KEEP: &str = r#"(module
  (memory (export "memory") 16)
  (func (export "etl_alloc_v1") (param i32) (result i32) i32.const 1024)
  (func (export "etl_process_v1") (param i32 i32) (result i64) i64.const 0))"#;

/// What is on the produce path.
struct Way {
    name: &'static str,
    /// The module, and the topics that it sees; none: no engine.
    engine: Option<(&'static str, &'static str)>,
}

impl Way {
    /// The length of what comes out.
    fn comes_out(&self) -> usize {
        match self.engine {
            // So that nothing passes unseen, it leaves out the last byte.
            Some(("bench-copy", _)) => BYTES - 1,
            _ => BYTES,
        }
    }
}

const WAYS: [Way; 4] = [
    Way {
        name: "no engine",
        engine: None,
    },
    Way {
        name: "nothing selected",
        engine: Some(("keep", "other.")),
    },
    Way {
        name: "module that keeps",
        engine: Some(("keep", "orders.")),
    },
    Way {
        name: "module that copies",
        engine: Some(("bench-copy", "orders.")),
    },
];

/// What one round of a way took.
#[derive(Clone, Copy)]
struct Cost {
    /// Nanoseconds of the broker's processor time for a record.
    processor: f64,
    rate: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1))
    };
    let records: usize = match after("--records") {
        Some(count) => count.parse()?,
        None => 1_000_000,
    };
    let folder = tempfile::tempdir()?;
    let configurations = WAYS
        .iter()
        .map(|way| configuration(folder.path(), way))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut costs = vec![Vec::new(); WAYS.len()];
    for round in 1..=ROUNDS {
        for ((way, configuration), costs) in WAYS.iter().zip(&configurations).zip(&mut costs) {
            let cost = one(records, way.comes_out(), configuration.as_deref())?;
            eprintln!(
                "round {round}, {}: {:.0} ns of processor time a record, {:.0} records/s",
                way.name, cost.processor, cost.rate
            );
            costs.push(cost);
        }
    }
    report(records, &costs, after("--json").map(Path::new))
}

/// Writes a way's configuration and its module.
fn configuration(folder: &Path, way: &Way) -> Result<Option<PathBuf>, Failure> {
    let Some((module, topics)) = way.engine else {
        return Ok(None);
    };
    let modules = folder.join("modules");
    std::fs::create_dir_all(&modules)?;
    let bytes = match module {
        "keep" => wat::parse_str(KEEP)?,
        _ => {
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/guests");
            let file = built.join(format!("{module}.wasm"));
            std::fs::read(&file)
                .map_err(|error| format!("{}: {error}: run `cargo xtask guests`", file.display()))?
        }
    };
    std::fs::write(modules.join(format!("{module}.wasm")), bytes)?;
    let file = folder.join(format!("{}.toml", way.name.replace(' ', "-")));
    let text = format!(
        "pipeline_id = \"overhead\"\nstages = [{{ priority = 0, modules = [{{ module_id = \"{module}\", \
         topic_filters = [{{ filter_type = \"Prefix\", pattern = \"{topics}\" }}] }}] }}]\n"
    );
    std::fs::write(&file, text)?;
    Ok(Some(file))
}

/// A broker in a process of its own; it ends with this.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(configuration: Option<&Path>) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedded-broker"));
        command.arg("127.0.0.1:0").args(configuration);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let mut this = Self {
            child,
            address: String::new(),
        };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no standard output")?).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening on ");
        this.address = address.ok_or("the broker did not start")?.to_owned();
        Ok(this)
    }

    /// Its user and system time so far.
    fn processor(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks
            .map(str::parse::<u32>)
            .sum::<Result<u32, std::num::ParseIntError>>()?;
        Ok(TICK * ticks)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes and receives, after a tenth of it that does not count.
fn one(records: usize, length: usize, configuration: Option<&Path>) -> Result<Cost, Failure> {
    let broker = Broker::start(configuration)?;
    let mut subscriber = TcpStream::connect(&broker.address)?;
    subscriber.write_all(b"SUB orders.new\n")?;
    // Its own message coming back says that the subscription is in force.
    subscriber.write_all(b"PUB orders.new 5\nready")?;
    let mut received = BufReader::with_capacity(1 << 16, subscriber);
    receive(&mut received)?;
    let publisher = TcpStream::connect(&broker.address)?;
    pass(&publisher, &mut received, records / 10, length)?;
    let (begun, before) = (Instant::now(), broker.processor()?);
    pass(&publisher, &mut received, records, length)?;
    let (used, wall) = (broker.processor()? - before, begun.elapsed());
    Ok(Cost {
        processor: used.as_nanos() as f64 / records as f64,
        rate: records as f64 / wall.as_secs_f64(),
    })
}

fn pass(
    to: &TcpStream,
    from: &mut impl BufRead,
    records: usize,
    length: usize,
) -> Result<(), Failure> {
    let to = to.try_clone()?;
    let publisher = std::thread::spawn(move || -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, to);
        let value = [b'x'; BYTES];
        for _ in 0..records {
            writeln!(out, "PUB orders.new {BYTES}")?;
            out.write_all(&value)?;
        }
        out.flush()
    });
    for _ in 0..records {
        if receive(from)? != length {
            return Err("a record came out with another length".into());
        }
    }
    publisher.join().map_err(|_| "the publisher broke")??;
    Ok(())
}

fn receive(from: &mut impl BufRead) -> Result<usize, Failure> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let length = line.trim_end().rsplit(' ').next().unwrap_or_default();
    let length: usize = length.parse()?;
    std::io::copy(&mut from.take(length as u64), &mut std::io::sink())?;
    Ok(length)
}

fn report(records: usize, costs: &[Vec<Cost>], json: Option<&Path>) -> Result<(), Failure> {
    let sorted = |costs: &[Cost], figure: fn(&Cost) -> f64| {
        let mut figures: Vec<f64> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let median = |figures: &[f64]| figures[figures.len() / 2];
    let floor = median(&sorted(&costs[0], |cost| cost.processor));
    println!("{records} records of {BYTES} bytes a round, medians of {ROUNDS} rounds");
    println!(
        "{:<20}{:>14}{:>20}{:>12}{:>14}",
        "", "ns a record", "least to most", "more", "records/s"
    );
    let mut results = Vec::new();
    for (way, costs) in WAYS.iter().zip(costs) {
        let processor = sorted(costs, |cost| cost.processor);
        let rate = median(&sorted(costs, |cost| cost.rate));
        let (least, most) = (processor[0], processor[processor.len() - 1]);
        let more = (median(&processor) / floor - 1.0) * 100.0;
        println!(
            "{:<20}{:>14.0}{:>20}{:>10.1} %{:>14.0}",
            way.name,
            median(&processor),
            format!("{least:.0} to {most:.0}"),
            more,
            rate
        );
        results.push(serde_json::json!({
            "scenario": "embedded_broker",
            "variant": way.name,
            "processor_ns_per_record": median(&processor),
            "processor_ns_low": least,
            "processor_ns_high": most,
            "more_percent": more,
            "records_per_second": rate,
        }));
    }
    if let Some(file) = json {
        let all = serde_json::json!({ "records": records, "rounds": ROUNDS, "results": results });
        std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n")
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}
