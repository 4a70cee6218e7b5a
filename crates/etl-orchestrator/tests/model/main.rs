//! A naive interpreter in lockstep with the engine, over made-up configurations, records and failures, in every way of calling.
//!
//! `ETL_MODEL_CASES` sets the number of configurations; `ETL_MODEL_SEED` runs one of them alone.

mod interpreter;
mod merging;
mod script;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etl_config::{Config, LoadOptions, Loaded, load_text};
use etl_orchestrator::{
    Clock, Headers, Lane, Options, Orchestrator, Outcome, Progress, Record, TransformFor,
};
use interpreter::{Expected, Letter, interpret};
use script::{Attempts, Dice, Plain, transform};
use serde_json::{Value, json};

const TOPICS: [&str; 4] = ["t.one", "t.two", "u.one", "none"];

fn configuration(dice: &mut Dice) -> String {
    let hour = 3_600_000;
    let mut scripts = 0;
    let pipelines: Vec<Value> = (0..=dice.below(2))
        .map(|number| {
            let stages: Vec<Value> = (0..=dice.below(2))
                .map(|_| {
                    let parallel = dice.chance(40);
                    let modules: Vec<Value> = (0..=dice.below(2))
                        .map(|_| {
                            scripts += 1;
                            let mut module = json!({
                                "module_id": format!("m{scripts}"),
                                "instance_config": { "execution_timeout_ms": hour, "custom_config": { "script": dice.next() >> 11 } },
                            });
                            if dice.chance(40) {
                                module["topic_filters"] =
                                    json!([{ "filter_type": "Prefix", "pattern": dice.pick(&["t.", "u.", "t.one", "never"]) }]);
                            }
                            if dice.chance(25) {
                                module["conditional_rules"] = if dice.chance(50) {
                                    json!([{ "condition_type": "HeaderValue", "field_path": "h", "operator": "Equals", "value": "1" }])
                                } else {
                                    json!([{ "condition_type": "PayloadField", "field_path": "$.a", "operator": "Equals", "value": 1 }])
                                };
                            }
                            module
                        })
                        .collect();
                    let mut stage = json!({
                        "priority": dice.below(3),
                        "parallel_execution": parallel,
                        "continue_on_error": dice.chance(40),
                        "modules": modules,
                    });
                    if parallel && dice.chance(40) {
                        stage["merge_policy"] = json!("strict");
                    }
                    stage
                })
                .collect();
            json!({
                "pipeline_id": format!("p{}", (number + 1) % 3),
                "order": dice.below(2),
                "enabled": dice.chance(90),
                "global_timeout_ms": hour,
                "max_retries": dice.below(3),
                "error_handling": dice.pick(&["StopPipeline", "SkipModule", "RetryWithBackoff", "SendToDeadLetter"]),
                "stages": stages,
            })
        })
        .collect();
    let cap = dice.pick(&[1, 4, 1024]);
    json!({ "engine": { "max_emitted_per_record": cap }, "pipelines": pipelines }).to_string()
}

fn record(dice: &mut Dice, offset: u64) -> Plain {
    Plain {
        topic: dice.pick(&TOPICS).to_owned(),
        partition: u32::try_from(dice.below(2)).expect("small"),
        offset,
        key: dice.chance(80).then(|| offset.to_string()),
        value: if dice.chance(85) {
            json!({ "a": dice.below(3), "b": { "c": 1 }, "offset": offset }).to_string()
        } else {
            format!("plain text {offset}")
        },
        headers: if dice.chance(50) {
            vec![("h".into(), dice.below(2).to_string())]
        } else {
            Vec::new()
        },
        timestamp: dice.chance(50).then_some(1),
    }
}

fn real(plain: &Plain) -> Arc<Record> {
    Arc::new(Record {
        partition: plain.partition,
        offset: plain.offset,
        key: plain.key.clone().map(Into::into),
        headers: plain.headers.iter().cloned().collect::<Headers>(),
        timestamp: plain.timestamp,
        ..Record::new(plain.topic.as_str(), plain.value.clone())
    })
}

/// What came out, in the interpreter's words. JSON is compared by what it says, since only the engine keeps its text.
fn told(outcome: &Outcome) -> Expected {
    let plain = |record: &Arc<Record>| {
        let mut plain = script::plain(&etl_orchestrator::View::new(record.clone()));
        plain
            .headers
            .retain(|(name, _)| !name.starts_with("etl-dlq-"));
        normal(plain)
    };
    let letters = outcome.dead_letters.iter().map(|letter| {
        let header = |name: &str| {
            String::from_utf8_lossy(letter.record.headers.first(name).expect("a header"))
                .into_owned()
        };
        assert_eq!(header("etl-dlq-error"), letter.kind().name());
        assert_eq!(header("etl-dlq-pipeline"), *letter.pipeline);
        assert_eq!(header("etl-dlq-module"), *letter.module);
        Letter {
            record: plain(&letter.record),
            pipeline: letter.pipeline.to_string(),
            module: letter.module.to_string(),
            kind: letter.kind(),
            attempts: header("etl-dlq-attempts").parse().expect("a number"),
            copy: letter.copy,
        }
    });
    Expected {
        outputs: outcome
            .outputs
            .iter()
            .map(|output| plain(&output.to_record()))
            .collect(),
        dead_letters: letters.collect(),
        dropped: outcome.dropped,
        emitted: outcome.emitted,
        stopped: outcome.stopped,
        skipped: outcome.skipped,
        conflicts: outcome.conflicts,
        retries: outcome.retries,
    }
}

fn normal(mut plain: Plain) -> Plain {
    if let Ok(value) = serde_json::from_str::<Value>(&plain.value) {
        plain.value = value.to_string();
    }
    plain
}

struct Case {
    seed: u64,
    text: String,
    wild: u64,
    records: Vec<Arc<Record>>,
    expected: Vec<Expected>,
    attempts: Attempts,
    clock: Clock,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let text = configuration(&mut dice);
        let wild = dice.pick(&[0, 30, 80]);
        let config = load(&text).config;
        let records: Vec<Plain> = (0..1 + dice.below(24))
            .map(|offset| record(&mut dice, offset))
            .collect();
        let expected = records
            .iter()
            .map(|record| expectation(&config, wild, record))
            .collect();
        Self {
            seed,
            text,
            wild,
            records: records.iter().map(real).collect(),
            expected,
            attempts: Arc::new(Mutex::new(HashMap::new())),
            clock: Clock::manual(),
        }
    }

    fn orchestrator(&self, lanes: usize) -> Arc<Orchestrator> {
        self.attempts.lock().expect("not poisoned").clear();
        let (wild, attempts) = (self.wild, self.attempts.clone());
        let mut options = Options::default();
        options.lanes = Some(lanes);
        options.clock = self.clock.clone();
        options.transforms = Some(TransformFor::new(move |usage| {
            let script = usage.instance.custom_config.shown()["script"]
                .as_u64()
                .expect("a script");
            Arc::new(transform(script, wild, attempts.clone()))
        }));
        Orchestrator::start(load(&self.text), options).expect("a good configuration")
    }

    fn compare(&self, way: &str, outcomes: &[Outcome]) {
        assert_eq!(
            outcomes.len(),
            self.records.len(),
            "seed {} by {way}",
            self.seed
        );
        for ((record, outcome), expected) in self.records.iter().zip(outcomes).zip(&self.expected) {
            let told = told(outcome);
            assert!(
                told == *expected,
                "seed {} by {way}: {record:?}\n  gives    {told:?}\n  expected {expected:?}\n{}",
                self.seed,
                self.text
            );
            for output in &outcome.outputs {
                let output = output.to_record();
                assert!(
                    output != *record || Arc::ptr_eq(&output, record),
                    "seed {} by {way}: an unchanged record was copied",
                    self.seed
                );
            }
        }
    }

    fn finish(&self, lane: &mut Lane, progress: Progress) -> Outcome {
        let mut progress = progress;
        loop {
            match progress {
                Progress::Done(outcome) => return outcome,
                Progress::Deferred(deferred) => {
                    self.clock.advance(
                        deferred
                            .resume_at()
                            .saturating_duration_since(self.clock.now()),
                    );
                    progress = lane.resume(deferred);
                }
            }
        }
    }

    fn by_lane(&self) {
        let orchestrator = self.orchestrator(1);
        let mut lane = orchestrator.lane();
        let outcomes: Vec<Outcome> = self
            .records
            .iter()
            .map(|record| {
                let progress = lane.process(record);
                self.finish(&mut lane, progress)
            })
            .collect();
        self.compare("lane", &outcomes);
        for size in [1, 7, 64] {
            self.attempts.lock().expect("not poisoned").clear();
            let mut outcomes = Vec::new();
            for batch in self.records.chunks(size) {
                for progress in lane.process_batch(batch) {
                    outcomes.push(self.finish(&mut lane, progress));
                }
            }
            self.compare(&format!("batches of {size}"), &outcomes);
        }
        self.attempts.lock().expect("not poisoned").clear();
        let traced: Vec<Outcome> = self
            .records
            .iter()
            .map(|record| lane.process_traced(record).0)
            .collect();
        self.compare("tracing", &traced);
    }

    async fn by_orchestrator(&self, lanes: usize, size: usize) {
        let orchestrator = self.orchestrator(lanes);
        let mut outcomes = Vec::new();
        if size == 1 && lanes > 1 {
            let records = self.records.iter().cloned();
            let records = records.map(|record| orchestrator.process(record));
            for outcome in futures(records.collect()).await {
                outcomes.push(outcome.expect("running"));
            }
        } else {
            let batches = self
                .records
                .chunks(size)
                .map(|batch| orchestrator.process_batch(batch.to_vec()));
            for batch in futures(batches.collect()).await {
                outcomes.extend(batch.expect("running"));
            }
        }
        self.compare(&format!("{lanes} lanes, batches of {size}"), &outcomes);
        let stats = orchestrator.stats();
        assert_eq!(
            stats.queue,
            etl_orchestrator::QueueStats::default(),
            "nothing is left behind"
        );
        assert_eq!(stats.counts.totals.records_in, self.records.len() as u64);
        let out: usize = self
            .expected
            .iter()
            .map(|expected| expected.outputs.len())
            .sum();
        assert_eq!(stats.counts.totals.records_out, out as u64);
        orchestrator.shutdown().await;
    }
}

/// Runs them all at once.
async fn futures<T: Send + 'static>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, result) in pinned.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
        .into_iter()
        .map(|result| result.expect("ready"))
        .collect()
}

fn load(text: &str) -> Loaded {
    load_text("etl.json", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn expectation(config: &Config, wild: u64, record: &Plain) -> Expected {
    let mut expected = interpret(config, wild, record);
    expected.outputs = expected.outputs.into_iter().map(normal).collect();
    for letter in &mut expected.dead_letters {
        letter.record = normal(letter.record.clone());
    }
    expected
}

#[test]
fn the_engine_does_what_the_interpreter_does() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().expect("a number"))
    };
    let cases = number("ETL_MODEL_CASES").unwrap_or(1500);
    let seeds = match number("ETL_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..cases,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let mut records = 0;
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let case = Case::new(seed);
        case.by_lane();
        records += 5 * case.records.len();
        // Retries wait by a clock that somebody has to move.
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    case.clock.advance(Duration::from_millis(20));
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            // Of three configurations in a row, each number of lanes meets each size of batches.
            for (turn, lanes) in [1, 2, 8].into_iter().enumerate() {
                let size = [1, 7, 64][(usize::try_from(seed).expect("small") + turn) % 3];
                runtime.block_on(case.by_orchestrator(lanes, size));
            }
            stop.store(true, Ordering::Relaxed);
        });
        records += 3 * case.records.len();
    }
    println!(
        "{count} configurations, {records} records handled, {:.1?}",
        started.elapsed()
    );
}
