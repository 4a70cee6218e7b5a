//! `single_module`: one module that copies its input, 256-byte values, record by record and in batches of 64.
//!
//! The subject is a lane of the engine, from record to outcome. The floor has its frames ready and calls the guest with them.

use etl_tests::bench::{Bench, Target};

use crate::engine::Engine;
use crate::floor::Floor;
use crate::workload::{self, BATCH};

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let mut engine = Engine::start(&workload::pipeline("single", 1, ""))?;
    let mut floor = Floor::new(workload::MODULE)?;
    engine.copies(1)?;

    let records = workload::records(BATCH);
    let frames: Vec<Vec<u8>> = records
        .iter()
        .map(|record| workload::frame(std::slice::from_ref(record)))
        .collect();
    let (mut turn, mut floor_turn) = (0, 0);
    let target = Target {
        ratio: Some(2.0),
        records_per_second: Some(3.5e6),
        ..Target::default()
    };
    bench.against_floor(
        "per record",
        1,
        target,
        || {
            engine.process(&records[turn % BATCH]);
            turn += 1;
        },
        || {
            floor.call(&frames[floor_turn % BATCH]);
            floor_turn += 1;
        },
    );

    let frame = workload::frame(&records);
    let target = Target {
        ratio: Some(2.0),
        records_per_second: Some(10e6),
        ..Target::default()
    };
    bench.against_floor(
        "batch of 64",
        BATCH,
        target,
        || engine.process_batch(&records),
        || floor.call(&frame),
    );
    Ok(())
}
