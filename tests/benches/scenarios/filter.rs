//! `filter_uncached` and `filter_cached`: which of many topic rules match a topic.
//!
//! The rules are those of etl-filter's own workload: 30 % exact, 20 % prefix, 10 % suffix, 10 % contains, 20 % wildcard, 10 % regex; every topic is asked anew.
//! Beside it, in turns, what else one would do, up to the number of rules at which it can still be built in seconds and in a gigabyte.

#[path = "../../../crates/etl-filter/tests/support/workload.rs"]
pub mod workload;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use etl_filter::{Kind, RuleSet};
use etl_orchestrator::Record;
use etl_tests::bench::{Bench, Target};

use crate::engine::Engine;
use crate::workload::{BATCH, TOPIC, pipeline, records};
use workload::{Scan, Workload};

/// Numbers of rules, with the nanoseconds and bytes that they should cost at most.
const SIZES: [(usize, Target); 5] = [
    (100, NONE),
    (1_000, NONE),
    (10_000, most(500.0)),
    (100_000, most(1_000.0)),
    (1_000_000, most(3_000.0)),
];
/// Bytes a rule beside the text of its pattern, from 10,000 rules on.
const BYTES_A_RULE: f64 = 64.0;
/// Seconds in which the most rules should be built, on two processors.
const BUILD_SECONDS: f64 = 5.0;

/// Up to how many rules the others are asked: beyond that their expressions take minutes to build, and gigabytes.
const SCAN_UP_TO: usize = 10_000;
const GLOBSET_UP_TO: usize = 1_000;
const REGEX_SET_UP_TO: usize = 1_000;

const NONE: Target = Target {
    ratio: None,
    records_per_second: None,
    ns_per_record: None,
};

const fn most(nanoseconds: f64) -> Target {
    Target {
        ns_per_record: Some(nanoseconds),
        ..NONE
    }
}

/// Each topic once, then again from the first.
struct Topics<'a> {
    all: &'a [String],
    next: Cell<usize>,
}

impl<'a> Topics<'a> {
    fn next(&self) -> &'a str {
        let next = self.next.get();
        self.next.set((next + 1) % self.all.len());
        black_box(&self.all[next])
    }
}

/// Runs `filter_uncached`.
pub fn uncached(bench: &mut Bench) -> Result<(), String> {
    for (rules, target) in SIZES {
        let workload = Workload::new(rules, 42);
        let mut builder = RuleSet::builder();
        builder.extend(workload.filters.iter().cloned());
        let start = Instant::now();
        let set = builder.build().map_err(|error| error.to_string())?;
        let build_seconds = start.elapsed().as_secs_f64();
        drop(builder);
        let stats = set.stats();
        let mut scratch = set.scratch();
        let (ours, theirs) = (topics(&workload), topics(&workload));
        let mut subject = || {
            black_box(set.matches(ours.next(), &mut scratch).len());
        };
        let name = format!("{rules} rules");
        bench.alone(&name, 1, target, &mut subject);
        let bytes = (stats.memory_bytes - stats.pattern_bytes) as f64 / rules as f64;
        let is_judged = target.ns_per_record.is_some();
        bench.figure("bytes a rule", bytes, is_judged.then_some(BYTES_A_RULE));
        let is_largest = rules == 1_000_000;
        bench.figure(
            "seconds to build",
            build_seconds,
            is_largest.then_some(BUILD_SECONDS),
        );

        if rules <= SCAN_UP_TO {
            let scans: Vec<Scan> = workload.filters.iter().map(Scan::new).collect();
            agree(&set, &workload, &|topic| {
                scans.iter().filter(|scan| scan.matches(topic)).count()
            })?;
            bench.beside(
                "linear scan",
                &format!("{name}, beside a linear scan"),
                NONE,
                &mut subject,
                || {
                    let topic = theirs.next();
                    black_box(scans.iter().filter(|scan| scan.matches(topic)).count());
                },
            );
        }
        if rules <= GLOBSET_UP_TO {
            let mut builder = globset::GlobSetBuilder::new();
            for filter in &workload.filters {
                if filter.kind() != Kind::Regex {
                    builder.add(workload::glob(filter));
                }
            }
            let globs = builder.build().map_err(|error| error.to_string())?;
            let mut found = Vec::new();
            bench.beside(
                "globset",
                &format!("{name}, beside globset without the expressions"),
                NONE,
                &mut subject,
                || globs.matches_into(theirs.next(), black_box(&mut found)),
            );
        }
        if rules <= REGEX_SET_UP_TO {
            let expressions = workload.filters.iter().map(workload::expression);
            let regexes = regex::RegexSetBuilder::new(expressions)
                .size_limit(1 << 30)
                .dfa_size_limit(1 << 28)
                .build()
                .map_err(|error| error.to_string())?;
            agree(&set, &workload, &|topic| {
                regexes.matches(topic).iter().count()
            })?;
            bench.beside(
                "regex set",
                &format!("{name}, beside a regex set"),
                NONE,
                &mut subject,
                || {
                    black_box(regexes.matches(theirs.next()).iter().count());
                },
            );
        }
    }
    Ok(())
}

fn topics(workload: &Workload) -> Topics<'_> {
    Topics {
        all: &workload.topics,
        next: Cell::new(0),
    }
}

/// Whether another way finds as many rules, on a few topics: else there is nothing to compare.
fn agree(set: &RuleSet, workload: &Workload, other: &dyn Fn(&str) -> usize) -> Result<(), String> {
    let mut scratch = set.scratch();
    for topic in workload.topics.iter().take(50) {
        let (ours, theirs) = (set.matches(topic, &mut scratch).len(), other(topic));
        if ours != theirs {
            return Err(format!("{ours} rules match `{topic}`, or is it {theirs}?"));
        }
    }
    Ok(())
}

/// Nanoseconds that looking up what a known topic selects should take at most.
const LOOKUP: f64 = 30.0;

/// Runs `filter_cached`: a lane that has seen these topics before, none of which selects anything. The lane has no way in but with a whole record, so
/// what a lookup takes is a difference: as many records, once of ever other topics and once all of the topic that the lane saw last, in turns.
pub fn cached(bench: &mut Bench) -> Result<(), String> {
    let start = || Engine::start(&pipeline("elsewhere", 1, "").replace(TOPIC, "another.topic"));
    let (mut engine, mut floor) = (start()?, start()?);
    let workload = Workload::new(1_000, 42);
    let of_one: Vec<Arc<Record>> = records(1_024)
        .iter()
        .map(|record| Arc::new(Record::clone(record)))
        .collect();
    let of_many: Vec<Arc<Record>> = of_one
        .iter()
        .zip(&workload.topics)
        .map(|(record, topic)| {
            Arc::new(Record {
                topic: topic.as_str().into(),
                ..Record::clone(record)
            })
        })
        .collect();
    let (mut turn, mut floor_turn) = (0, 0);
    bench.against_floor(
        "1,024 topics in turn, batches of 64",
        BATCH,
        NONE,
        || {
            engine.process_batch(&of_many[turn..turn + BATCH]);
            turn = (turn + BATCH) % of_many.len();
        },
        || {
            floor.process_batch(&of_one[floor_turn..floor_turn + BATCH]);
            floor_turn = (floor_turn + BATCH) % of_one.len();
        },
    );
    bench.floor_is("records of the topic seen last");
    let medians = bench
        .rows()
        .last()
        .and_then(|row| Some((row.subject.median, row.floor.as_ref()?.median)));
    if let Some((many, one)) = medians {
        bench.figure("nanoseconds for the lookup alone", many - one, Some(LOOKUP));
    }
    Ok(())
}
