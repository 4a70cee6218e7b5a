//! Scenarios of the orchestrator's own lanes, as asynchronous callers meet them: `async_batch`, `latency` and `overload`.
//!
//! The load of the last two is *open*: records are offered at times that were set before, whatever became of those before them, and a latency
//! counts from the time at which its record was to be offered. A generator that is held up therefore adds to the latencies instead of
//! hiding them. One lane runs, and the generator spins beside it on a thread of its own, so that both have a core where there are two.
//!
//! `latency` has a floor of its own kind: two threads that hand numbers to each other at the same pace and do nothing else ([`bare`]). Where the host of a
//! virtual machine takes its processors away for some milliseconds, they see it too, and nothing that runs there can do better.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use etl_config::{LoadOptions, Loaded, load_text};
use etl_orchestrator::{Options, Orchestrator, Outcome, ProcessError, Record};
use etl_tests::bench::measure::waited_ns;
use etl_tests::bench::statistics::quantile;
use etl_tests::bench::{Bench, Target};

use crate::{floor, workload};

/// Records of one asynchronous batch.
const ASYNC_BATCH: usize = 256;

/// Batches that a caller keeps under way.
const UNDER_WAY: usize = 8;

/// Records in flight while the most that goes through is measured.
const DEPTH: usize = 32;

/// An open load goes on for so long before its latencies count.
const WARM_UP: Duration = Duration::from_millis(300);

/// What may be in flight under overload.
const IN_FLIGHT: u64 = 1_024;

/// The topic of class 3.
const BACKGROUND: &str = "sensors.background";

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Outcome, ProcessError>> + 'a>>;

fn loaded(configuration: &str) -> Result<Loaded, String> {
    let options = LoadOptions::isolated().modules_dir(floor::modules_dir());
    load_text("scenario.toml", configuration, &options).map_err(|report| report.to_string())
}

fn start(configuration: &str, lanes: usize) -> Result<Arc<Orchestrator>, String> {
    let mut options = Options::default();
    options.lanes = Some(lanes);
    Orchestrator::start(loaded(configuration)?, options).map_err(|report| report.to_string())
}

/// Batches through the orchestrator's own lanes, beside a lane on the caller's thread; and two lanes beside one.
pub fn async_batch(bench: &mut Bench) -> Result<(), String> {
    let configuration = workload::pipeline("single", 1, "");
    let (one, two) = (start(&configuration, 1)?, start(&configuration, 2)?);
    let mut lane = one.lane();
    // No record is in two batches that are under way: threads would meet at its count of references, as they do not where records come and go.
    let records = workload::records(ASYNC_BATCH * (UNDER_WAY + 1));
    let batches: Vec<&[Arc<Record>]> = records.chunks(ASYNC_BATCH).collect();
    let target = |ratio| Target {
        ratio: Some(ratio),
        ..Target::default()
    };
    let mut turn = 0;
    let mut flow = Flow::start(&one, &batches)?;
    bench.against_floor(
        "batches of 256, one lane",
        ASYNC_BATCH,
        target(1.0 / 0.9),
        || flow.next(),
        || {
            turn += 1;
            drop(lane.process_batch(batches[turn % batches.len()]));
        },
    );
    bench.floor_is("the caller's");
    let (mut flow_of_two, mut flow_of_one) =
        (Flow::start(&two, &batches)?, Flow::start(&one, &batches)?);
    drop(flow);
    bench.against_floor(
        "batches of 256, two lanes",
        ASYNC_BATCH,
        target(1.0 / 1.8),
        || flow_of_two.next(),
        || flow_of_one.next(),
    );
    bench.floor_is("one lane");
    Ok(())
}

/// The same with so many lanes, each beside one lane: `growth_lanes`.
pub fn growth(bench: &mut Bench, counts: &[usize]) -> Result<(), String> {
    let configuration = workload::pipeline("single", 1, "");
    let one = start(&configuration, 1)?;
    let records = workload::records(ASYNC_BATCH * (UNDER_WAY + 1));
    let batches: Vec<&[Arc<Record>]> = records.chunks(ASYNC_BATCH).collect();
    for &lanes in counts {
        let many = start(&configuration, lanes)?;
        let (mut flow_of_many, mut flow_of_one) =
            (Flow::start(&many, &batches)?, Flow::start(&one, &batches)?);
        bench.against_floor(
            &format!("{lanes} lanes"),
            ASYNC_BATCH,
            Target::default(),
            || flow_of_many.next(),
            || flow_of_one.next(),
        );
        bench.floor_is("one lane");
    }
    Ok(())
}

type Outcomes = Pin<Box<dyn Future<Output = Result<Vec<Outcome>, ProcessError>> + Send>>;

/// A caller that always has so many batches under way.
struct Flow<'a> {
    orchestrator: &'a Orchestrator,
    batches: &'a [&'a [Arc<Record>]],
    given: usize,
    under_way: VecDeque<Outcomes>,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Flow<'a> {
    fn start(
        orchestrator: &'a Orchestrator,
        batches: &'a [&'a [Arc<Record>]],
    ) -> Result<Self, String> {
        let mut flow = Self {
            orchestrator,
            batches,
            given: 0,
            under_way: VecDeque::new(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .map_err(|error| error.to_string())?,
        };
        (0..UNDER_WAY).for_each(|_| flow.give());
        Ok(flow)
    }

    fn give(&mut self) {
        let batch = self.batches[self.given % self.batches.len()];
        self.given += 1;
        let outcomes = self.orchestrator.submit_batch(batch).expect("open");
        self.under_way.push_back(Box::pin(outcomes));
    }

    /// Gives another batch and waits for the oldest.
    fn next(&mut self) {
        self.give();
        if let Some(oldest) = self.under_way.pop_front() {
            let outcomes = self.runtime.block_on(oldest).expect("running");
            assert_eq!(outcomes.len(), ASYNC_BATCH);
        }
    }
}

/// Half of what goes through, offered at even times: how long a record takes. Once in peace, and once with ten reloads a second that
/// each change what the module is told, so that it is instantiated anew.
pub fn latency(bench: &mut Bench) -> Result<(), String> {
    let configuration = |version: u64| {
        let settings =
            format!("\ninstance_config = {{ custom_config = {{ version = {version} }} }}");
        workload::pipeline("single", 1, &settings)
    };
    let orchestrator = start(&configuration(0), 1)?;
    let records = workload::records(workload::BATCH);
    let most = saturate(&orchestrator, &records, Duration::from_millis(500))?;
    let streams = [Stream {
        records: &records,
        interval: 2e9 / most,
        waits: true,
    }];
    let time = bench.time();
    let bare = bare(2e9 / most, 1e9 / most, time);
    let quiet = open_loop(&orchestrator, &streams, time)?;
    quiet.keep(bench, "half load", 0);
    judge(bench, &quiet, &bare, &[(0.99, 50.0), (0.999, 1_000.0)]);

    let stop = AtomicBool::new(false);
    let reloading = std::thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            let mut reloads = 0;
            while !stop.load(Ordering::Relaxed) {
                reloads += 1;
                orchestrator
                    .reload(loaded(&configuration(reloads))?)
                    .map_err(|report| report.to_string())?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok::<u64, String>(reloads)
        });
        let observed = open_loop(&orchestrator, &streams, time);
        stop.store(true, Ordering::Relaxed);
        let reloads = reloads.join().map_err(|_| "the reloads panicked")??;
        Ok::<_, String>((observed?, reloads))
    });
    let (observed, reloads) = reloading?;
    observed.keep(bench, "half load, ten reloads a second", 0);
    judge(bench, &observed, &bare, &[(0.999, 5_000.0)]);
    bench.figure("reloads", reloads as f64, None);
    Ok(())
}

/// Figures of the variant kept last, beside what two bare threads see: where those miss a bound too, it says nothing of the engine.
fn judge(bench: &mut Bench, observed: &Observed, bare: &[f64], bounds: &[(f64, f64)]) {
    for &(share, most) in bounds {
        let name = format!("p{} µs", share * 100.0);
        let floor = quantile(bare, share) / 1e3;
        bench.figure(&name, observed.quantile_us(0, share), Some(most));
        bench.figure(&format!("{name} of two bare threads"), floor, None);
        if floor > most {
            bench.distrust(format!(
                "two threads that only hand numbers over see a p{} of {floor:.0} µs here",
                share * 100.0
            ));
        }
    }
}

/// Latencies, in nanoseconds, of numbers that one thread hands to another at even times and that the other holds for `work` nanoseconds each: an open
/// load on nothing.
fn bare(interval: f64, work: f64, time: Duration) -> Vec<f64> {
    let time = WARM_UP + time;
    let (handed, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let warm = WARM_UP.as_secs_f64() * 1e9;
    let mut latencies = Vec::with_capacity((time.as_secs_f64() * 1e9 / interval) as usize + 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = 0;
            while !stop.load(Ordering::Relaxed) {
                if handed.load(Ordering::Acquire) == taken {
                    std::hint::spin_loop();
                    continue;
                }
                let start = Instant::now();
                while (start.elapsed().as_secs_f64() * 1e9) < work {
                    std::hint::spin_loop();
                }
                taken += 1;
                done.store(taken, Ordering::Release);
            }
        });
        let start = Instant::now();
        let (mut offered, mut seen) = (0_u64, 0_u64);
        while start.elapsed() < time || seen < offered {
            let elapsed = start.elapsed();
            if elapsed < time && offered as f64 * interval <= elapsed.as_secs_f64() * 1e9 {
                offered += 1;
                handed.store(offered, Ordering::Release);
            }
            while seen < done.load(Ordering::Acquire) {
                let due = seen as f64 * interval;
                if due >= warm {
                    latencies.push(start.elapsed().as_secs_f64() * 1e9 - due);
                }
                seen += 1;
            }
            std::hint::spin_loop();
        }
        stop.store(true, Ordering::Relaxed);
    });
    latencies
}

/// Twice what goes through is offered: a tenth of it of class 0, which waits, the rest of class 3, which is sent away where there is no room.
pub fn overload(bench: &mut Bench) -> Result<(), String> {
    let urgent = workload::pipeline("urgent", 1, "");
    let background = workload::pipeline("background", 1, "")
        .replace("priority = 0", "priority = 3")
        .replace(workload::TOPIC, BACKGROUND);
    let orchestrator = start(
        &format!("[engine]\nmax_in_flight_records = {IN_FLIGHT}\n{urgent}{background}"),
        1,
    )?;
    let records = workload::records(workload::BATCH);
    let of_class_3: Vec<Arc<Record>> = records
        .iter()
        .map(|record| {
            Arc::new(Record {
                topic: BACKGROUND.into(),
                ..(**record).clone()
            })
        })
        .collect();
    let calibration = Duration::from_millis(500);
    let before = saturate(&orchestrator, &of_class_3, calibration)?;
    let class_0 = || Stream {
        records: &records,
        interval: 5e9 / before,
        waits: true,
    };
    let class_3 = Stream {
        records: &of_class_3,
        interval: 1e9 / (1.8 * before),
        waits: false,
    };
    let time = bench.time();
    let unloaded = open_loop(&orchestrator, &[class_0()], time)?;
    unloaded.keep(bench, "class 0 alone", 0);
    let loaded = open_loop(&orchestrator, &[class_0(), class_3], time)?;
    let after = saturate(&orchestrator, &of_class_3, calibration)?;
    loaded.keep(bench, "class 0, twice the load", 0);
    let times = loaded.quantile_us(0, 0.99) / unloaded.quantile_us(0, 0.99);
    bench.figure("p99, times that of class 0 alone", times, Some(2.0));
    bench.figure(
        "most in flight",
        loaded.in_flight as f64,
        Some(IN_FLIGHT as f64),
    );
    bench.figure("throughput before, times after", before / after, Some(1.1));
    loaded.keep(bench, "class 3, twice the load", 1);
    let seconds = loaded.time.as_secs_f64();
    bench.figure("sent away a second", loaded.refused as f64 / seconds, None);
    if loaded.latencies[1].is_empty() {
        return Err("class 3 made no progress".to_owned());
    }
    Ok(())
}

/// Records to offer, one after the other and again from the first.
struct Stream<'a> {
    records: &'a [Arc<Record>],
    /// Nanoseconds from one to the next.
    interval: f64,
    /// Whether it waits for room, or is sent away.
    waits: bool,
}

/// What became of an open load.
struct Observed {
    /// For each stream the nanoseconds from when a record was to be offered to its outcome, in the order of the outcomes.
    latencies: Vec<Vec<f64>>,
    refused: u64,
    /// The most records that were seen in flight.
    in_flight: u64,
    time: Duration,
    waited: f64,
}

impl Observed {
    fn quantile_us(&self, stream: usize, share: f64) -> f64 {
        quantile(&self.latencies[stream], share) / 1e3
    }

    /// A row whose rounds say how fast outcomes came, and whose calls are the latencies.
    fn keep(&self, bench: &mut Bench, variant: &str, stream: usize) {
        let latencies = &self.latencies[stream];
        let each = self.time.as_secs_f64() * 1e9 / latencies.len() as f64;
        bench.observed(variant, each, latencies, self.waited);
    }
}

/// Offers records of every stream at their times, and looks for outcomes in between.
fn open_loop(
    orchestrator: &Orchestrator,
    streams: &[Stream<'_>],
    time: Duration,
) -> Result<Observed, String> {
    const LOOK: Duration = Duration::from_millis(20);
    let mut context = Context::from_waker(Waker::noop());
    let mut offered = vec![0_u64; streams.len()];
    let mut under_way: Vec<VecDeque<(f64, Waiting<'_>)>> =
        streams.iter().map(|_| VecDeque::new()).collect();
    let time = WARM_UP + time;
    // A list that grew in between would hold up the load.
    let room = |stream: &Stream<'_>| {
        let latencies = time.as_secs_f64() * 1e9 / stream.interval;
        Vec::with_capacity(latencies as usize + 1)
    };
    let mut latencies: Vec<Vec<f64>> = streams.iter().map(room).collect();
    let (mut refused, mut in_flight) = (0, 0);
    let warm = WARM_UP.as_secs_f64() * 1e9;
    let mut keep = |index: usize, start: Instant, due: f64| {
        if due >= warm {
            latencies[index].push(start.elapsed().as_secs_f64() * 1e9 - due);
        }
    };
    let waited = waited_ns();
    let start = Instant::now();
    let mut look = LOOK;
    loop {
        let elapsed = start.elapsed();
        let offering = elapsed < time;
        if streams.len() > 1 && elapsed > look {
            in_flight = in_flight.max(orchestrator.stats().queue.in_flight_records);
            look = elapsed + LOOK;
        }
        for (index, stream) in streams.iter().enumerate() {
            let due = offered[index] as f64 * stream.interval;
            if offering && due <= elapsed.as_secs_f64() * 1e9 {
                let record = &stream.records[offered[index] as usize % stream.records.len()];
                offered[index] += 1;
                let waiting: Option<Waiting<'_>> = if stream.waits {
                    Some(Box::pin(orchestrator.process(record.clone())))
                } else {
                    orchestrator
                        .try_process(record)
                        .ok()
                        .map(|future| Box::pin(future) as Waiting<'_>)
                };
                match waiting {
                    // The first look at it is what gives it to the orchestrator.
                    Some(mut waiting) => match waiting.as_mut().poll(&mut context) {
                        Poll::Ready(outcome) => {
                            outcome.map_err(|error| error.to_string())?;
                            keep(index, start, due);
                        }
                        Poll::Pending => under_way[index].push_back((due, waiting)),
                    },
                    None => refused += u64::from(due >= warm),
                }
            }
            // Outcomes of a partition come in order: the first is the next.
            while let Some((due, waiting)) = under_way[index].front_mut() {
                let Poll::Ready(outcome) = waiting.as_mut().poll(&mut context) else {
                    break;
                };
                outcome.map_err(|error| error.to_string())?;
                keep(index, start, *due);
                under_way[index].pop_front();
            }
        }
        if !offering && under_way.iter().all(VecDeque::is_empty) {
            break;
        }
        std::hint::spin_loop();
    }
    Ok(Observed {
        latencies,
        refused,
        in_flight,
        time: time - WARM_UP,
        waited: (waited_ns() - waited) / (start.elapsed().as_secs_f64() * 1e9),
    })
}

/// Records a second with always so many in flight: the most that goes through one by one.
fn saturate(
    orchestrator: &Orchestrator,
    records: &[Arc<Record>],
    time: Duration,
) -> Result<f64, String> {
    let mut context = Context::from_waker(Waker::noop());
    let mut under_way = VecDeque::new();
    let (mut given, mut done) = (0, 0_u64);
    let start = Instant::now();
    while start.elapsed() < time {
        while under_way.len() < DEPTH {
            let record: &Arc<Record> = &records[given % records.len()];
            given += 1;
            under_way.push_back(Box::pin(
                orchestrator
                    .try_process(record)
                    .map_err(|error| error.to_string())?,
            ));
        }
        while let Some(waiting) = under_way.front_mut() {
            let Poll::Ready(outcome) = waiting.as_mut().poll(&mut context) else {
                break;
            };
            outcome.map_err(|error| error.to_string())?;
            under_way.pop_front();
            done += 1;
        }
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    for mut waiting in under_way {
        while waiting.as_mut().poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
    }
    Ok(rate)
}
