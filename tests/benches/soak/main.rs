//! The soak: `cargo xtask soak` builds this in release mode and runs it for minutes or hours.
//!
//! Real guests run in three pipelines of different urgency while everything goes wrong that can: guests that trap, loop, lie, refuse and never
//! free; modules replaced by other versions and by rubbish; configurations that are good and that cannot be built. Every record is
//! accounted for. It ends with a verdict on three questions: is each record where it should be, does memory stay, do latencies stay?

#![forbid(unsafe_code)]

mod guests;
mod load;
mod samples;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use etl_orchestrator::{Options, Orchestrator};
use etl_tests::bench::document::Circumstances;
use serde_json::json;

use guests::{Folder, TOPICS};
use load::{Books, PARTITIONS};
use samples::{Finding, Sample};

/// The options that `cargo xtask soak` forwards.
#[derive(Parser)]
struct Arguments {
    /// How long to run, in seconds
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u64,
    /// Write the samples and the verdict to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What was done to it.
#[derive(Default)]
struct Faults {
    reloads: u64,
    replaced: u64,
    refused: u64,
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let time = Duration::from_secs(arguments.seconds);
    let circumstances = Circumstances::now();
    println!(
        "{}, commit {}\nsoaking for {} s",
        circumstances.machine, circumstances.commit, arguments.seconds
    );
    let folder = Folder::new()?;
    let orchestrator = Orchestrator::start(folder.configuration(0)?, Options::default())
        .map_err(|report| report.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let (books, stop) = (Arc::new(Books::default()), Arc::new(AtomicBool::new(false)));
    let streams: Vec<_> = (0..TOPICS.len())
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
        .map(|(topic, partition)| {
            runtime.spawn(load::stream(
                orchestrator.clone(),
                books.clone(),
                topic,
                partition,
                stop.clone(),
            ))
        })
        .collect();
    let watched = std::thread::scope(|scope| {
        let faults = scope.spawn(|| {
            let faults = inject(&orchestrator, &folder, &stop);
            // Nothing is worth watching any more where it ended early.
            stop.store(true, Ordering::Relaxed);
            faults
        });
        let samples = watch(&orchestrator, &books, &stop, time);
        stop.store(true, Ordering::Relaxed);
        let faults = faults.join().map_err(|_| "the faults panicked")??;
        Ok::<_, String>((samples, faults))
    });
    let (samples, faults) = watched?;
    let mut findings = Vec::new();
    runtime.block_on(async {
        for stream in streams {
            if let Err(error) = stream.await {
                findings.push(Finding {
                    holds: false,
                    text: error.to_string(),
                });
            }
        }
        orchestrator.shutdown().await;
    });
    findings.extend(account(&orchestrator, &books));
    findings.extend(samples::judge(&samples, time));

    let holds = findings.iter().all(|finding| finding.holds);
    println!(
        "\n{} reloads, {} of them with another version of a module; {} bad modules and configurations, all refused",
        faults.reloads, faults.replaced, faults.refused
    );
    for Finding { holds, text } in &findings {
        println!("{} {text}", if *holds { "holds " } else { "BROKEN" });
    }
    if let Some(path) = &arguments.json {
        let document = json!({
            "machine": circumstances.machine,
            "commit": circumstances.commit,
            "seconds": arguments.seconds,
            "holds": holds,
            "findings": findings.iter().map(|finding| json!({ "holds": finding.holds, "text": finding.text })).collect::<Vec<_>>(),
            "reloads": faults.reloads,
            "replaced": faults.replaced,
            "refused": faults.refused,
            "samples": samples.iter().map(Sample::json).collect::<Vec<_>>(),
        });
        std::fs::write(path, format!("{document:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(holds)
}

/// A look every second, and a line for every twentieth of the time.
fn watch(
    orchestrator: &Orchestrator,
    books: &Books,
    stop: &AtomicBool,
    time: Duration,
) -> Vec<Sample> {
    println!(
        "\n{:>6}  {:>11}  {:>9}  {:>9}  {:>8}  {:>9}  {:>5}  {:>9}",
        "s", "records", "p50 µs", "p99 µs", "quiet ms", "RSS MiB", "files", "instances"
    );
    let start = Instant::now();
    let mut samples = Vec::new();
    // Since the last line.
    let mut longest = Duration::ZERO;
    let every = (time.as_secs() / 20).max(1);
    while start.elapsed() < time && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
        let seen = books.seen.load(Ordering::Relaxed);
        let instances = orchestrator.stats().instances;
        let sample = Sample::take(
            start,
            seen,
            instances,
            &books.take_latencies(),
            books.take_longest_quiet(),
        );
        longest = longest.max(sample.quiet);
        if (samples.len() as u64 + 1).is_multiple_of(every) {
            println!(
                "{:>6.0}  {:>11}  {:>9.0}  {:>9.0}  {:>8.0}  {:>9.1}  {:>5.0}  {:>9.0}",
                sample.at,
                sample.records,
                sample.p50_us,
                sample.p99_us,
                longest.as_secs_f64() * 1e3,
                samples::mebibytes(sample.rss_bytes),
                sample.files,
                sample.instances
            );
            longest = Duration::ZERO;
        }
        samples.push(sample);
    }
    samples
}

/// Four times a second something is done to it, until told to stop.
fn inject(
    orchestrator: &Orchestrator,
    folder: &Folder,
    stop: &AtomicBool,
) -> Result<Faults, String> {
    let mut faults = Faults::default();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let before = orchestrator.generation();
        let loaded = match round % 4 {
            0 => {
                folder.spoil()?;
                folder.configuration(round)?
            }
            1 => {
                folder.stamp(round)?;
                faults.replaced += 1;
                folder.configuration(round)?
            }
            2 => folder.bad_configuration()?,
            _ => folder.configuration(round)?,
        };
        let reloaded = orchestrator.reload(loaded);
        if round % 4 == 0 {
            folder.stamp(round)?;
        }
        match (round % 2 == 0, reloaded) {
            (true, Err(_)) if orchestrator.generation() == before => faults.refused += 1,
            (false, Ok(generation)) if generation == before + 1 => faults.reloads += 1,
            (bad, reloaded) => {
                return Err(format!(
                    "round {round}, bad: {bad}: the reload answered {reloaded:?}"
                ));
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(faults)
}

/// Whether the books of the streams and the counts of the orchestrator agree.
fn account(orchestrator: &Orchestrator, books: &Books) -> Vec<Finding> {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let wrong = books.wrong.lock().map_or_else(
        |_| vec!["a stream panicked".to_owned()],
        |wrong| wrong.clone(),
    );
    let stats = orchestrator.stats();
    let totals = &stats.counts.totals;
    let (sent, seen, late) = (count(&books.sent), count(&books.seen), count(&books.late));
    let mut findings: Vec<Finding> = wrong
        .into_iter()
        .map(|text| Finding { holds: false, text })
        .collect();
    findings.push(Finding {
        holds: sent == seen && sent == totals.records_in,
        text: format!(
            "records: {sent} sent, {} taken, {seen} came back, each once, in order, by one version",
            totals.records_in
        ),
    });
    findings.push(Finding {
        holds: count(&books.dead_letters) == totals.dead_lettered
            && count(&books.undone) == totals.stopped
            && count(&books.skipped) == totals.skipped,
        text: format!(
            "failures: {} dead letters, {} undone, {} skipped, {} retries, as the orchestrator counted them",
            totals.dead_lettered,
            totals.stopped,
            totals.skipped,
            count(&books.retries)
        ),
    });
    findings.push(Finding {
        holds: late * 1_000 <= sent,
        text: format!(
            "sound records that failed for want of time: {late} (at most one in a thousand)"
        ),
    });
    findings.push(Finding {
        holds: stats.queue.in_flight_records == 0 && stats.queue.in_flight_bytes == 0,
        text: format!(
            "in flight at the end: {} records, {} bytes",
            stats.queue.in_flight_records, stats.queue.in_flight_bytes
        ),
    });
    findings
}
