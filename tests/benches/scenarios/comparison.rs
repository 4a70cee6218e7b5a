//! `comparison`: other ways to do the same work, each beside one yardstick: a loop over wasmer alone that calls the guest once for each record and module.
//!
//! All do this: a record of 256 bytes of JSON comes in; one stage or three, each with a module that copies the value without its last byte, perhaps a JSON
//! condition before each; one pipeline of one, or of a thousand. All run on this thread, one after the other, each in turns with the yardstick. What differs:
//!
//! - *engine*: a lane, from record to outcome, with everything it promises: limits, deadlines, checks of what guests say, failures kept apart, metrics.
//! - *description*: what the requirements describe ([`crate::naive`]).
//! - *wasmtime*: the guest alone, one call a record, stoppable by epochs, in a process of its own (built where the scenario is asked for by name).
//! - *engine, function*: the engine with a function of this program in place of the module: what is left of the cost without the sandbox.
//! - *loop in Rust*: a lookup of the topic, the conditions and the copy, with nothing around them.
//!
//! The yardstick itself promises nothing: its frames are ready, nothing is checked, and it cannot be stopped.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use etl_orchestrator::{Record, Reply, TransformFor, View};
use etl_tests::bench::{Bench, Target};
use sonic_rs::JsonValueTrait;

use crate::engine::Engine;
use crate::floor::{self, Floor};
use crate::naive::Naive;
use crate::wasmtime::{self, Other};
use crate::workload::{self, BATCH, CONDITION, MODULE, TOPIC};

struct Work {
    name: &'static str,
    stages: usize,
    condition: &'static str,
    pipelines: usize,
}

const WORK: [Work; 4] = [
    Work {
        name: "one module",
        stages: 1,
        condition: "",
        pipelines: 1,
    },
    Work {
        name: "three stages",
        stages: 3,
        condition: "",
        pipelines: 1,
    },
    Work {
        name: "three stages with conditions",
        stages: 3,
        condition: CONDITION,
        pipelines: 1,
    },
    Work {
        name: "one pipeline of a thousand",
        stages: 1,
        condition: "",
        pipelines: 1_000,
    },
];

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    for work in &WORK {
        let configuration = if work.pipelines == 1 {
            workload::pipeline("single", work.stages, work.condition)
        } else {
            workload::one_of(work.pipelines)
        };
        let records = workload::records(BATCH);
        let frames: Vec<Vec<u8>> = records
            .iter()
            .map(|record| workload::frame(std::slice::from_ref(record)))
            .collect();
        let mut raw = Floor::new(MODULE)?;
        let mut yardstick = || {
            for frame in &frames {
                (0..work.stages).for_each(|_| raw.call(frame));
            }
        };
        let mut measure = |way: &str, subject: &mut dyn FnMut()| {
            let variant = format!("{}: {way}", work.name);
            bench.against_floor(&variant, BATCH, Target::default(), subject, &mut yardstick);
            bench.floor_is("a loop over wasmer");
        };

        let mut engine = Engine::start(&configuration)?;
        engine.copies(work.stages)?;
        measure("engine, batches of 64", &mut || {
            engine.process_batch(&records);
        });
        measure("engine, record by record", &mut || {
            records.iter().for_each(|record| engine.process(record));
        });

        let naive = Naive::new(work.stages, !work.condition.is_empty(), work.pipelines - 1)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| error.to_string())?;
        let through = |record: &Arc<Record>| naive.process(Arc::clone(record));
        let copied = runtime.block_on(through(&records[0]))?;
        copies(&records[0], &copied.value, work.stages)?;
        measure("the description", &mut || {
            runtime.block_on(async {
                for record in &records {
                    black_box(through(record).await.expect("the guest copies"));
                }
            });
        });

        if wasmtime::is_built() && work.pipelines == 1 && work.condition.is_empty() {
            let mut other = Other::start(&floor::module_bytes(MODULE)?, &frames[0], false)?;
            measure("wasmtime, the guest alone", &mut || {
                other.turn(BATCH * work.stages);
            });
        }

        let function = TransformFor::new(|_| {
            Arc::new(|record: &View| {
                let value = record.value();
                Reply::Value(value[..value.len() - 1].to_vec().into())
            })
        });
        let mut native = Engine::native(&configuration, function)?;
        native.copies(work.stages)?;
        measure("engine, function instead of a module", &mut || {
            native.process_batch(&records);
        });

        let topics = HashMap::from([(TOPIC.to_owned(), work.stages)]);
        let conditional = !work.condition.is_empty();
        let copied =
            by_hand(&topics, conditional, &records[0]).ok_or("the loop selects nothing")?;
        copies(&records[0], &copied.value, work.stages)?;
        measure("loop in Rust", &mut || {
            for record in &records {
                black_box(by_hand(&topics, conditional, black_box(record)));
            }
        });
    }
    if !wasmtime::is_built() {
        println!(
            "skipped: wasmtime: `cargo xtask bench --scenario comparison` builds what it needs"
        );
    }
    Ok(())
}

fn copies(record: &Record, value: &[u8], stages: usize) -> Result<(), String> {
    if *value == record.value[..record.value.len() - stages] {
        Ok(())
    } else {
        Err("one of the ways does not copy".to_owned())
    }
}

/// The work and nothing else.
fn by_hand(
    topics: &HashMap<String, usize>,
    conditional: bool,
    record: &Arc<Record>,
) -> Option<Arc<Record>> {
    let stages = *topics.get(&*record.topic)?;
    let mut current = Arc::clone(record);
    for _ in 0..stages {
        if conditional {
            let celsius = sonic_rs::get(&current.value[..], ["reading", "celsius"]).ok()?;
            if celsius.as_f64().is_none_or(|celsius| celsius <= 10.0) {
                continue;
            }
        }
        let value = &current.value;
        current = Arc::new(Record {
            value: value[..value.len() - 1].to_vec().into(),
            ..Record::clone(&current)
        });
    }
    Some(current)
}
