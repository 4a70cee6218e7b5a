//! Runs the examples of `docs/semantics.md`: alone, in one batch, traced, and through an orchestrator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    Change, Clock, Delta, FailureKind, Lane, LaneContext, NewRecord, Options, Orchestrator,
    Outcome, Progress, Record, Reply, Transform, TransformError, TransformFor, View,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

const PAGE: &str = include_str!("../../../docs/semantics.md");

/// One example: a configuration and what it makes of records.
#[derive(Debug, Default)]
struct Example {
    line: usize,
    config: String,
    records: Vec<Line>,
    out: Vec<Line>,
    dead_letters: Vec<Line>,
    counts: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    topic: String,
    headers: Vec<String>,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    topic: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn line(text: &str) -> Line {
    let written: Written<'_> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let raw = written.value.get();
    let value = serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned());
    Line {
        topic: written.topic,
        headers: written.headers,
        value,
    }
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, text)) = lines.next() {
        let Some(kind) = text.strip_prefix("```").filter(|kind| !kind.is_empty()) else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, text)| text)
            .take_while(|text| *text != "```")
            .collect();
        if kind == "toml" {
            examples.push(Example {
                line: number + 1,
                config: block.join("\n"),
                ..Example::default()
            });
            continue;
        }
        let example = examples.last_mut().expect("a configuration comes first");
        let records = || block.iter().map(|text| line(text)).collect();
        match kind {
            "ndjson in" => example.records = records(),
            "ndjson out" => example.out = records(),
            "ndjson dead letters" => example.dead_letters = records(),
            "json counts" => example.counts = serde_json::from_str(&block.concat()).expect("JSON"),
            other => panic!("line {}: what is a block of `{other}`?", number + 1),
        }
    }
    examples
}

/// A module of the page, by its name.
struct Named {
    name: String,
    clock: Clock,
    calls: Mutex<HashMap<u64, u32>>,
}

impl Named {
    fn reply(&self, record: &View) -> Reply {
        let module = |message: &str, retryable| {
            Reply::Fail(TransformError::new(FailureKind::Module, message).retryable(retryable))
        };
        let mark = |mark: &str| {
            Reply::Change(Delta::from_iter([Change::AddHeader(
                "path".into(),
                mark.to_owned().into(),
            )]))
        };
        let emit = |count: usize| {
            let record = || {
                Change::Emit(Box::new(NewRecord {
                    value: "extra".into(),
                    ..NewRecord::default()
                }))
            };
            Reply::Change((0..count).map(|_| record()).collect())
        };
        let (word, rest) = self.name.split_once('-').unwrap_or((&self.name, ""));
        match (word, rest) {
            ("mark", mark_as) => mark(mark_as),
            ("set", what) => {
                let (field, value) = what.split_once('-').expect("set-field-value");
                let patch = serde_json::json!({ field: value }).to_string();
                Reply::Change(Delta::from_iter([Change::MergePatch(patch.into())]))
            }
            ("write", text) => Reply::Value(text.to_owned().into()),
            ("rename", _) => Reply::Change(Delta::from_iter([Change::SetTopic("renamed".into())])),
            ("keep", _) => Reply::Keep,
            ("drop", _) => Reply::Drop,
            ("emit", "") => emit(1),
            ("emit", "many") => emit(5),
            ("fail", "") => module("it always fails", false),
            ("fail", "if-bad") if record.value() == "bad" => module("bad", false),
            ("fail", "if-bad") => Reply::Keep,
            ("broken", _) => module("not now", true),
            ("flaky", _) => {
                let mut calls = self.calls.lock().expect("not poisoned");
                let calls = calls.entry(record.original().offset).or_default();
                *calls += 1;
                if *calls <= 2 {
                    module("not yet", true)
                } else {
                    mark("flaky")
                }
            }
            ("slow", _) => mark("slow"),
            other => panic!("the page does not say what {other:?} does"),
        }
    }
}

impl Transform for Named {
    fn call(
        &self,
        _: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) {
        for record in records {
            if self.name == "slow" {
                let left = deadline.saturating_duration_since(self.clock.now());
                let work = Duration::from_millis(80);
                self.clock.advance(work.min(left));
                if left < work {
                    replies.push(Reply::Fail(TransformError::new(
                        FailureKind::Timeout,
                        "stopped at its deadline",
                    )));
                    continue;
                }
            }
            replies.push(self.reply(record));
        }
    }
}

impl Example {
    fn orchestrator(&self, clock: &Clock) -> Arc<Orchestrator> {
        let loaded = load_text("etl.toml", &self.config, &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("line {}: {}", self.line, report.render(false)));
        let mut options = Options::default();
        options.lanes = Some(1);
        options.clock = clock.clone();
        let clock = clock.clone();
        options.transforms = Some(TransformFor::new(move |usage| {
            Arc::new(Named {
                name: usage.module_id.clone(),
                clock: clock.clone(),
                calls: Mutex::default(),
            })
        }));
        Orchestrator::start(loaded, options)
            .unwrap_or_else(|report| panic!("line {}: {}", self.line, report.render(false)))
    }

    fn input(&self) -> Vec<Arc<Record>> {
        let records = self.records.iter().enumerate();
        records
            .map(|(offset, line)| {
                Arc::new(Record {
                    offset: offset as u64,
                    ..Record::new(line.topic.as_str(), line.value.clone())
                })
            })
            .collect()
    }

    fn compare(&self, way: &str, outcomes: &[Outcome]) {
        let at = format!("docs/semantics.md:{} ({way})", self.line);
        let told = |record: &Arc<Record>| Line {
            topic: record.topic.to_string(),
            headers: record
                .headers
                .iter()
                .filter(|(name, _)| !name.starts_with("etl-dlq-"))
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
                .collect(),
            value: String::from_utf8_lossy(&record.value).into_owned(),
        };
        let out: Vec<Line> = outcomes
            .iter()
            .flat_map(|outcome| &outcome.outputs)
            .map(|output| told(&output.to_record()))
            .collect();
        assert_eq!(out, self.out, "{at}: out");
        let letters: Vec<Line> = outcomes
            .iter()
            .flat_map(|outcome| &outcome.dead_letters)
            .map(|letter| told(&letter.record))
            .collect();
        assert_eq!(letters, self.dead_letters, "{at}: dead letters");
        let sum = |field: fn(&Outcome) -> u32| outcomes.iter().map(field).sum::<u32>();
        let counts: Map<String, Value> = [
            ("dropped", sum(|outcome| outcome.dropped)),
            ("emitted", sum(|outcome| outcome.emitted)),
            ("stopped", sum(|outcome| outcome.stopped)),
            ("skipped", sum(|outcome| outcome.skipped)),
            ("conflicts", sum(|outcome| outcome.conflicts)),
            ("retries", sum(|outcome| outcome.retries)),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
        assert_eq!(counts, self.counts, "{at}: counts");
        for (record, outcome) in self.input().iter().zip(outcomes) {
            let _ = record;
            assert!(
                outcome.outputs.len() + outcome.dead_letters.len() + outcome.dropped as usize > 0,
                "{at}: a record vanished"
            );
        }
    }

    fn run(&self) {
        let clock = Clock::manual();
        let records = self.input();

        let mut lane = self.orchestrator(&clock).lane();
        let outcomes: Vec<Outcome> = records
            .iter()
            .map(|record| {
                let progress = lane.process(record);
                finish(&mut lane, &clock, progress)
            })
            .collect();
        self.compare("one by one", &outcomes);
        for (record, outcome) in records.iter().zip(&outcomes) {
            let output = outcome.outputs.first().map(View::to_record);
            assert!(
                output.is_none_or(|output| output != *record || Arc::ptr_eq(&output, record)),
                "line {}: an unchanged record was copied",
                self.line
            );
        }

        let mut lane = self.orchestrator(&clock).lane();
        let progress = lane.process_batch(&records);
        let outcomes: Vec<Outcome> = progress
            .into_iter()
            .map(|progress| finish(&mut lane, &clock, progress))
            .collect();
        self.compare("one batch", &outcomes);

        let orchestrator = self.orchestrator(&clock);
        let outcomes: Vec<Outcome> = records
            .iter()
            .map(|record| orchestrator.process_traced(record).0)
            .collect();
        self.compare("traced", &outcomes);

        let orchestrator = self.orchestrator(&clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Retries wait by a clock that somebody has to move; where modules take time they move it themselves.
            if !self.config.contains("slow") {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        clock.advance(Duration::from_millis(10));
                        std::thread::sleep(Duration::from_micros(200));
                    }
                });
            }
            let outcomes = runtime
                .block_on(orchestrator.process_batch(records.clone()))
                .expect("running");
            stop.store(true, Ordering::Relaxed);
            self.compare("orchestrator", &outcomes);
        });
    }
}

fn finish(lane: &mut Lane, clock: &Clock, mut progress: Progress) -> Outcome {
    loop {
        match progress {
            Progress::Done(outcome) => return outcome,
            Progress::Deferred(deferred) => {
                clock.advance(deferred.resume_at().saturating_duration_since(clock.now()));
                progress = lane.resume(deferred);
            }
        }
    }
}

#[test]
fn the_examples_of_the_page_run() {
    let examples = examples();
    assert!(
        examples.len() >= 30,
        "the page has {} examples",
        examples.len()
    );
    for example in &examples {
        assert!(
            !example.records.is_empty(),
            "line {}: an example without records",
            example.line
        );
        example.run();
    }
}

#[test]
fn a_wrong_page_is_found() {
    let mut example = examples().swap_remove(2);
    example.out[0].headers.swap(0, 1);
    assert!(std::panic::catch_unwind(|| example.run()).is_err());
}
