//! `admin_load`: what it costs the records that operators look on and change things.
//!
//! Two clients read statistics and pipelines over HTTP, thousands of times a second together, and a third makes a change a second, each of which
//! is a swap that is written down and synced. A lane on this thread handles batches meanwhile; rounds with the load and without it take turns. The
//! server and the clients need processors of their own, and where there are but two they take time from the lane that no engine could give
//! back: what is judged is therefore the processor time of the lane's thread for each record, as the scheduler counts it. What passed by the
//! clock, and how many processors all other threads took, stand beside it.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etl_admin::{Admin, AdminOptions, Asked, Host, NewEntry, Role, Scope, Store};
use etl_config::{LoadOptions, Loaded, Report, load_text};
use etl_orchestrator::{Options, Orchestrator};
use etl_tests::bench::Bench;
use etl_tests::bench::measure::waited_ns;
use etl_tests::bench::pin::Pinned;
use etl_tests::bench::statistics::quantile;

use crate::{floor, workload};

/// Of one round, with the load or without it: long enough for a change.
const ROUND: Duration = Duration::from_secs(1);
const LEAST_PAIRS: usize = 4;
/// The lane works for so long before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// Clients that read, and how often each does.
const READERS: u64 = 2;
const READS_A_SECOND: u64 = 2_000;
/// What it may cost.
const MOST: f64 = 1.02;

struct Program(String);

impl Program {
    fn options() -> LoadOptions {
        LoadOptions::isolated().modules_dir(floor::modules_dir())
    }
}

impl Host for Program {
    fn load(&self) -> Result<Loaded, Report> {
        load_text("scenario.toml", &self.0, &Self::options())
    }

    fn load_options(&self) -> LoadOptions {
        Self::options()
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn explain(&self, _asked: Asked<'_>) -> Result<String, String> {
        Err("nobody asks".to_owned())
    }
}

/// What the clients do, as long as they are told to.
#[derive(Default)]
struct Load {
    is_on: AtomicBool,
    is_over: AtomicBool,
    reads: AtomicU64,
    changes: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Asks the same things in turns, so many times a second while the load is on.
    fn client(&self, address: &str, requests: &[String], a_second: u64, counter: &AtomicU64) {
        let pause = Duration::from_secs(1) / a_second as u32;
        let mut stream = None;
        let mut due = Instant::now();
        let mut turn = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            if !self.is_on.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                due = Instant::now();
                continue;
            }
            if due > now {
                std::thread::sleep(due - now);
            }
            due += pause;
            let request = &requests[turn % requests.len()];
            turn += 1;
            match asked(&mut stream, address, request) {
                Some(200) => counter.fetch_add(1, Ordering::Relaxed),
                _ => self.failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    }
}

/// The status of an answer, on a connection that stays.
fn asked(stream: &mut Option<TcpStream>, address: &str, request: &str) -> Option<u16> {
    let mut connection = match stream.take() {
        Some(connection) => connection,
        None => TcpStream::connect(address).ok()?,
    };
    connection.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    let mut block = [0; 16 << 10];
    let head = loop {
        let count = connection
            .read(&mut block)
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&block[..count]);
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut left = (head + length.parse::<usize>().ok()?).checked_sub(bytes.len())?;
    while left > 0 {
        let count = connection
            .read(&mut block)
            .ok()
            .filter(|count| *count > 0)?;
        left = left.checked_sub(count)?;
    }
    *stream = Some(connection);
    Some(status)
}

/// Nanoseconds for which this thread has run, from Linux's scheduler.
fn ran_ns() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut words = statistics.split_whitespace();
    words
        .next()
        .and_then(|ran| ran.parse().ok())
        .unwrap_or(f64::NAN)
}

/// The same of all threads of this process together, those that have ended among them; to a hundredth of a second.
fn all_ran_ns() -> f64 {
    let statistics = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = statistics.rsplit(')').next().unwrap_or_default();
    let words: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok());
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) * 1e7
}

/// What a round came to.
#[derive(Default)]
struct Rounds {
    /// Nanoseconds a record: of the lane's thread, and by the clock.
    ran: Vec<f64>,
    clock: Vec<f64>,
    /// Processors that all other threads took.
    others: Vec<f64>,
}

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let single = workload::pipeline("single", 1, "");
    let spare = single
        .replace("single", "spare")
        .replace(workload::TOPIC, "spare");
    let configuration = format!("{single}{spare}");
    let program = Program(configuration);
    let loaded = program.load().map_err(|report| report.to_string())?;
    let mut options = Options::default();
    options.lanes = Some(1);
    let orchestrator = Orchestrator::start(loaded, options).map_err(|report| report.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let token = Store::in_folder(folder.path()).create_token(NewEntry {
        name: "bench".to_owned(),
        role: Role::Admin,
        scope: Scope::new(Vec::new()),
        expires: None,
    });
    let token = token.map_err(|error| error.to_string())?.reveal();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let address = "127.0.0.1:0".parse().map_err(|_| "no address")?;
    let admin = runtime
        .block_on(Admin::bind(
            AdminOptions::new(address, folder.path()),
            orchestrator.clone(),
            program,
        ))
        .map_err(|error| error.to_string())?;
    let url = admin.url();
    let address = url.trim_start_matches("http://").to_owned();
    runtime.spawn(admin.run());

    let request = |what: &str| {
        format!(
            "{what} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
        )
    };
    let reads = ["GET /api/v1/statistics", "GET /api/v1/pipelines"].map(request);
    let changes =
        ["enable", "disable"].map(|verb| request(&format!("POST /api/v1/pipelines/spare/{verb}")));
    let load = Load::default();
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| load.client(&address, &reads, READS_A_SECOND, &load.reads));
        }
        scope.spawn(|| load.client(&address, &changes, 1, &load.changes));
        let measured = measure(bench, &orchestrator, &load);
        load.is_over.store(true, Ordering::Relaxed);
        measured
    })
}

fn measure(bench: &mut Bench, orchestrator: &Arc<Orchestrator>, load: &Load) -> Result<(), String> {
    let mut lane = orchestrator.lane();
    let records = workload::records(workload::BATCH);
    let pinned = Pinned::here();
    let mut round = |time: Duration, into: &mut Rounds| {
        let (ran, all, start) = (ran_ns(), all_ran_ns(), Instant::now());
        let mut count = 0;
        while start.elapsed() < time {
            // The clock is looked at once in a thousand records.
            for _ in 0..16 {
                black_box(lane.process_batch(black_box(&records)));
            }
            count += 16 * records.len();
        }
        let elapsed = start.elapsed().as_secs_f64() * 1e9;
        let own = ran_ns() - ran;
        into.ran.push(own / count as f64);
        into.clock.push(elapsed / count as f64);
        into.others
            .push(((all_ran_ns() - all - own) / elapsed).max(0.0));
    };
    round(WARM_UP, &mut Rounds::default());
    let (mut with, mut without) = (Rounds::default(), Rounds::default());
    let waited = waited_ns();
    let start = Instant::now();
    let mut under_load = Duration::ZERO;
    while with.ran.len() < LEAST_PAIRS || start.elapsed() < bench.time() {
        let is_first = with.ran.len().is_multiple_of(2);
        for is_on in [is_first, !is_first] {
            load.is_on.store(is_on, Ordering::Relaxed);
            // What is under way when the load ends is not of the next round.
            std::thread::sleep(Duration::from_millis(50));
            let begun = Instant::now();
            round(ROUND, if is_on { &mut with } else { &mut without });
            if is_on {
                under_load += begun.elapsed() + Duration::from_millis(50);
            }
        }
    }
    load.is_on.store(false, Ordering::Relaxed);
    let waited = (waited_ns() - waited) / (start.elapsed().as_secs_f64() * 1e9);
    drop(pinned);
    let failed = load.failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(format!(
            "{failed} requests were not answered as they should be"
        ));
    }
    let ratios = |with: &[f64], without: &[f64]| {
        let pairs = with.iter().zip(without);
        let ratios: Vec<f64> = pairs.map(|(with, without)| with / without).collect();
        quantile(&ratios, 0.5)
    };
    let middle = |rounds: &[f64]| quantile(rounds, 0.5);
    let seconds = under_load.as_secs_f64();
    bench.observed("without load", middle(&without.clock), &[], waited);
    bench.figure("processor ns a record", middle(&without.ran), None);
    // Who waits for a processor here waits for the clients: it is part of what is measured, and no reason for doubt.
    bench.observed("under load", middle(&with.clock), &[], 0.0);
    bench.figure("processor ns a record", middle(&with.ran), None);
    bench.figure(
        "processor time, times that without",
        ratios(&with.ran, &without.ran),
        Some(MOST),
    );
    bench.figure(
        "time by the clock, times that without",
        ratios(&with.clock, &without.clock),
        None,
    );
    bench.figure("processors of all others", middle(&with.others), None);
    bench.figure(
        "reads a second",
        load.reads.load(Ordering::Relaxed) as f64 / seconds,
        None,
    );
    bench.figure(
        "changes a second",
        load.changes.load(Ordering::Relaxed) as f64 / seconds,
        None,
    );
    Ok(())
}
