//! Work whose instructions are counted: `cargo xtask bench --guard` runs this under valgrind, with few and with many rounds, and takes the difference.
//!
//! A count does not depend on what else the machine does, so it shows a change of a few hundredths where a time shows none. Each piece of work is
//! prepared, done once, and then done as often as is asked; the records of a round are printed.

use std::hint::black_box;

use etl_filter::RuleSet;

use crate::engine::Engine;
use crate::filter::workload::Workload;
use crate::workload::{self, BATCH, CONDITION};
use crate::{conditions, floor::Floor};

/// Work: its name, and what prepares it and does it so often. Answers the records of a round.
type Work = (&'static str, fn(u64) -> Result<usize, String>);

const WORK: [Work; 7] = [
    ("filter_uncached, 1000 rules", filter),
    ("conditions_three_fields, 256 B", three_conditions),
    ("pass_through, batch of 64", |rounds| {
        let elsewhere =
            workload::pipeline("elsewhere", 1, "").replace(workload::TOPIC, "another.topic");
        engine(&elsewhere, rounds)
    }),
    ("single_module, batch of 64", |rounds| {
        engine(&workload::pipeline("single", 1, ""), rounds)
    }),
    ("conditional_three_stage, batch of 64", |rounds| {
        engine(&workload::pipeline("three", 3, CONDITION), rounds)
    }),
    ("single_module, record by record", |rounds| {
        let mut engine = Engine::start(&workload::pipeline("single", 1, ""))?;
        let records = workload::records(BATCH);
        for _ in 0..=rounds {
            records.iter().for_each(|record| engine.process(record));
        }
        Ok(BATCH)
    }),
    ("the floor, batch of 64", |rounds| {
        let mut floor = Floor::new(workload::MODULE)?;
        let frame = workload::frame(&workload::records(BATCH));
        (0..=rounds).for_each(|_| floor.call(&frame));
        Ok(BATCH)
    }),
];

/// Does the work of this name, or says which there is where the name is empty.
pub fn run(name: &str, rounds: u64) -> Result<(), String> {
    if name.is_empty() {
        WORK.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let (_, work) = WORK
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("no work is called `{name}`"))?;
    println!("{}", work(rounds)?);
    Ok(())
}

fn engine(configuration: &str, rounds: u64) -> Result<usize, String> {
    let mut engine = Engine::start(configuration)?;
    let records = workload::records(BATCH);
    (0..=rounds).for_each(|_| engine.process_batch(&records));
    Ok(BATCH)
}

fn filter(rounds: u64) -> Result<usize, String> {
    let workload = Workload::new(1_000, 42);
    let mut builder = RuleSet::builder();
    builder.extend(workload.filters.iter().cloned());
    let set = builder.build().map_err(|error| error.to_string())?;
    let mut scratch = set.scratch();
    let topics = &workload.topics[..BATCH];
    for _ in 0..=rounds {
        for topic in topics {
            black_box(set.matches(black_box(topic), &mut scratch).len());
        }
    }
    Ok(BATCH)
}

fn three_conditions(rounds: u64) -> Result<usize, String> {
    let mut evaluate = conditions::evaluation(256)?;
    for _ in 0..=rounds {
        for _ in 0..BATCH {
            black_box(evaluate());
        }
    }
    Ok(BATCH)
}
