//! `admin_load`: what it costs the records that operators look on and change things.
//!
//! Two clients read statistics and pipelines over HTTP, thousands of times a second together, and a third makes a change a second, each of which
//! is a swap that is written down and synced. A lane on this thread handles batches meanwhile; rounds with the load, without it, and beside other
//! work take turns.
//!
//! The server and the clients take processors' time that no engine could give back, so the lane has one to itself, as a broker's thread would, and
//! everything else of this program is kept to the others. Compared is the processor time of the lane's thread, as the scheduler counts it; time by the
//! clock stands beside it. Where two processors are halves of one core, whatever runs on the other half makes this one slower: the third kind of round
//! has a thread that does nothing but take as much of a processor as the server and its clients did. What is judged is the load against that; against
//! an idle machine it is shown.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
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
const LEAST_TURNS: usize = 6;
/// The lane works for so long before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// Clients that read, and how often each does.
const READERS: u64 = 2;
const READS_A_SECOND: u64 = 2_000;
/// What it may cost.
const MOST: f64 = 1.02;
/// Kinds of rounds.
const WITHOUT: u64 = 0;
const WITH: u64 = 1;
const BESIDE: u64 = 2;

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
    /// Which kind of round it is.
    kind: AtomicU64,
    is_over: AtomicBool,
    /// Of a processor, in thousandths: what the load took, and so what other work takes.
    share: AtomicU64,
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
            if self.kind.load(Ordering::Relaxed) != WITH {
                std::thread::sleep(Duration::from_millis(5));
                // In the middle of the time between two, so that a round has its part of them.
                due = Instant::now() + pause / 2;
                continue;
            }
            if due > now {
                // Not for longer: the round may end meanwhile.
                std::thread::sleep((due - now).min(Duration::from_millis(5)));
                continue;
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

impl Load {
    /// Takes a processor's time and does nothing with it, while that is wanted.
    fn other_work(&self) {
        const TURN: Duration = Duration::from_millis(1);
        while !self.is_over.load(Ordering::Relaxed) {
            if self.kind.load(Ordering::Relaxed) != BESIDE {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let busy = TURN * self.share.load(Ordering::Relaxed) as u32 / 1000;
            let start = Instant::now();
            while start.elapsed() < busy {
                std::hint::spin_loop();
            }
            std::thread::sleep(TURN.saturating_sub(busy));
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

/// The processors that this thread may use.
fn processors() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap_or_default().trim().split(',');
    let numbers = ranges.flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => first..last + 1,
            _ => 0..0,
        }
    });
    numbers.map(|number| number.to_string()).collect()
}

/// Keeps every other thread of this process off a processor.
fn keep_others_off(all: &[String], processor: &str) -> Result<(), String> {
    let others: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|other| *other != processor)
        .collect();
    let own = std::fs::read_link("/proc/thread-self").map_err(|error| error.to_string())?;
    let threads = std::fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?;
    for thread in threads.flatten() {
        if Some(&*thread.file_name()) == own.file_name() {
            continue;
        }
        // A thread that has ended meanwhile is in nobody's way.
        let _ = Command::new("taskset")
            .args(["--cpu-list", "--pid", &others.join(",")])
            .arg(thread.file_name())
            .output();
    }
    Ok(())
}

/// What a round came to.
#[derive(Default)]
struct Rounds {
    /// Nanoseconds a record: of the lane's thread, and by the clock.
    ran: Vec<f64>,
    clock: Vec<f64>,
    /// Processors that all other threads took.
    others: Vec<f64>,
    /// Nanoseconds of single batches.
    calls: Vec<f64>,
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
        scope.spawn(|| load.other_work());
        let measured = measure(bench, &orchestrator, &load);
        load.is_over.store(true, Ordering::Relaxed);
        measured
    })
}

fn measure(bench: &mut Bench, orchestrator: &Arc<Orchestrator>, load: &Load) -> Result<(), String> {
    let mut lane = orchestrator.lane();
    let records = workload::records(workload::BATCH);
    let all = processors();
    let pinned = Pinned::here();
    if let Ok(pinned) = &pinned {
        keep_others_off(&all, pinned.processor())?;
    }
    let mut round = |time: Duration, into: &mut Rounds| {
        let (ran, all, start) = (ran_ns(), all_ran_ns(), Instant::now());
        let mut count = 0;
        while start.elapsed() < time {
            // The clock is looked at twice in a thousand records.
            let begun = Instant::now();
            black_box(lane.process_batch(black_box(&records)));
            into.calls.push(begun.elapsed().as_secs_f64() * 1e9);
            for _ in 0..15 {
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
    let mut rounds: [Rounds; 3] = std::array::from_fn(|_| Rounds::default());
    let waited = waited_ns();
    let start = Instant::now();
    let mut under_load = Duration::ZERO;
    for turn in 0.. {
        if turn >= LEAST_TURNS && start.elapsed() >= bench.time() {
            break;
        }
        // The other work comes after the load that it is measured by; each kind comes first, second and last.
        let order = match turn % 3 {
            0 => [WITHOUT, WITH, BESIDE],
            1 => [WITH, BESIDE, WITHOUT],
            _ => [WITH, WITHOUT, BESIDE],
        };
        for kind in order {
            load.kind.store(kind, Ordering::Relaxed);
            // What is under way when the load ends is not of the next round.
            std::thread::sleep(Duration::from_millis(50));
            let begun = Instant::now();
            let of_kind = &mut rounds[kind as usize];
            round(ROUND, of_kind);
            if kind == WITH {
                under_load += begun.elapsed() + Duration::from_millis(50);
                let share = of_kind.others.last().copied().unwrap_or(0.0);
                let share = (share.min(1.0) * 1000.0) as u64;
                load.share.store(share, Ordering::Relaxed);
            }
        }
    }
    load.kind.store(WITHOUT, Ordering::Relaxed);
    let waited = (waited_ns() - waited) / (start.elapsed().as_secs_f64() * 1e9);
    drop(pinned);
    let failed = load.failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(format!(
            "{failed} requests were not answered as they should be"
        ));
    }
    let [without, with, beside] = rounds;
    let times = |with: &[f64], without: &[f64]| {
        let pairs = with.iter().zip(without);
        let ratios: Vec<f64> = pairs.map(|(with, without)| with / without).collect();
        quantile(&ratios, 0.5)
    };
    let middle = |rounds: &[f64]| quantile(rounds, 0.5);
    let seconds = under_load.as_secs_f64();
    for (name, rounds, waited) in [
        ("without load", &without, waited),
        // Who waits for a processor here waits for the others of this program: it is part of what is measured, and no reason for doubt.
        ("beside other work", &beside, 0.0),
        ("under load", &with, 0.0),
    ] {
        bench.observed(name, middle(&rounds.clock), &rounds.calls, waited);
        bench.figure("processor ns a record", middle(&rounds.ran), None);
        bench.figure("processors of all others", middle(&rounds.others), None);
    }
    bench.figure(
        "processor time, times that beside other work",
        times(&with.ran, &beside.ran),
        Some(MOST),
    );
    for (name, value) in [
        (
            "processor time, times that without",
            times(&with.ran, &without.ran),
        ),
        (
            "time by the clock, times that without",
            times(&with.clock, &without.clock),
        ),
        (
            "reads a second",
            load.reads.load(Ordering::Relaxed) as f64 / seconds,
        ),
        (
            "changes a second",
            load.changes.load(Ordering::Relaxed) as f64 / seconds,
        ),
    ] {
        bench.figure(name, value, None);
    }
    Ok(())
}
