//! Scenarios with more or less than one module: `pass_through`, `three_stage`, `conditional_three_stage` and `thousand_pipelines`.

use etl_tests::bench::{Bench, Target};

use crate::engine::Engine;
use crate::floor::Floor;
use crate::workload::{self, BATCH, CONDITION, MODULE};

/// The topic is seen and nothing selects it.
pub fn pass_through(bench: &mut Bench) -> Result<(), String> {
    let mut engine = Engine::start(
        &workload::pipeline("elsewhere", 1, "").replace(workload::TOPIC, "another.topic"),
    )?;
    let records = workload::records(BATCH);
    let target = Target {
        ns_per_record: Some(50.0),
        ..Target::default()
    };
    let mut turn = 0;
    bench.alone("per record", 1, target, || {
        engine.process(&records[turn % BATCH]);
        turn += 1;
    });
    bench.alone("batch of 64", BATCH, target, || {
        engine.process_batch(&records);
    });
    Ok(())
}

/// Three stages, each with the module that copies.
pub fn three_stage(bench: &mut Bench) -> Result<(), String> {
    let target = Target {
        ratio: Some(2.0),
        records_per_second: Some(4e6),
        ..Target::default()
    };
    stages(bench, "", target)
}

/// The same with a JSON condition on each stage, all of which hold.
pub fn conditional_three_stage(bench: &mut Bench) -> Result<(), String> {
    let target = Target {
        records_per_second: Some(2e6),
        ..Target::default()
    };
    stages(bench, CONDITION, target)
}

fn stages(bench: &mut Bench, condition: &str, target: Target) -> Result<(), String> {
    let mut engine = Engine::start(&workload::pipeline("three", 3, condition))?;
    engine.copies(3)?;
    let mut floor = Floor::new(MODULE)?;
    let records = workload::records(BATCH);
    let frame = workload::frame(&records);
    let three_calls = || (0..3).for_each(|_| floor.call(&frame));
    bench.against_floor(
        "batch of 64",
        BATCH,
        target,
        || engine.process_batch(&records),
        three_calls,
    );
    Ok(())
}

/// One pipeline among a thousand applies; what it is compared with is that pipeline alone.
pub fn thousand_pipelines(bench: &mut Bench) -> Result<(), String> {
    let applies = workload::pipeline("single", 1, "");
    let many = workload::one_of(1_000);
    let (mut engine, mut alone) = (Engine::start(&many)?, Engine::start(&applies)?);
    engine.copies(1)?;
    let records = workload::records(BATCH);
    // Nine tenths of the speed is ten ninths of the time.
    let target = Target {
        ratio: Some(1.0 / 0.9),
        ..Target::default()
    };
    let (mut turn, mut alone_turn) = (0, 0);
    bench.against_floor(
        "per record",
        1,
        target,
        || {
            engine.process(&records[turn % BATCH]);
            turn += 1;
        },
        || {
            alone.process(&records[alone_turn % BATCH]);
            alone_turn += 1;
        },
    );
    bench.against_floor(
        "batch of 64",
        BATCH,
        target,
        || engine.process_batch(&records),
        || alone.process_batch(&records),
    );
    Ok(())
}
