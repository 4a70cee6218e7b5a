//! The group `growth`: what a record costs as one thing grows and all else stays, and what modules and instances take of memory.
//!
//! One scenario for each thing that grows; a variant's name begins with how much of it there is, from which `cargo xtask plot` draws a line. Beside each, in
//! turns, runs the floor with the same bytes, which tells a cost of the engine from one of the guest or of memory itself.

use std::sync::Arc;

use etl_orchestrator::Record;
use etl_tests::bench::{Bench, Target};

use crate::engine::Engine;
use crate::floor::Floor;
use crate::own_lanes;
use crate::resident::{self, Kind};
use crate::workload::{self, BATCH, MODULE};

/// Bytes of a batch, at most: what is larger would meet the guest's limit of memory instead.
const BATCH_BYTES: usize = 4 << 20;

/// One engine and one floor over the same records, of which a call takes all.
fn beside_floor(
    bench: &mut Bench,
    variant: &str,
    configuration: &str,
    stages: usize,
    records: &[Arc<Record>],
) -> Result<(), String> {
    let mut engine = Engine::start(configuration)?;
    engine.copies_all(records, stages)?;
    let mut floor = Floor::new(MODULE)?;
    let frame = workload::frame(records);
    bench.against_floor(
        variant,
        records.len(),
        Target::default(),
        || engine.process_batch(records),
        || (0..stages).for_each(|_| floor.call(&frame)),
    );
    Ok(())
}

/// Runs `growth_value_bytes`.
pub fn value_bytes(bench: &mut Bench) -> Result<(), String> {
    let configuration = workload::pipeline("single", 1, "");
    for bytes in [
        16,
        64,
        256,
        1 << 10,
        4 << 10,
        16 << 10,
        64 << 10,
        256 << 10,
        1 << 20,
    ] {
        let count = (BATCH_BYTES / bytes).clamp(1, BATCH);
        let records = workload::records_of(count, bytes);
        let variant = format!("{bytes} bytes, batches of {count}");
        beside_floor(bench, &variant, &configuration, 1, &records)?;
    }
    Ok(())
}

/// Runs `growth_stages`.
pub fn stages(bench: &mut Bench) -> Result<(), String> {
    let records = workload::records(BATCH);
    for stages in [1, 2, 3, 4, 6, 8, 12, 16] {
        let configuration = workload::pipeline("many", stages, "");
        let variant = format!("{stages} stages");
        beside_floor(bench, &variant, &configuration, stages, &records)?;
    }
    Ok(())
}

/// Runs `growth_pipelines`.
pub fn pipelines(bench: &mut Bench) -> Result<(), String> {
    let records = workload::records(BATCH);
    for pipelines in [1, 10, 100, 1_000, 10_000, 100_000] {
        let variant = format!("{pipelines} pipelines");
        let configuration = workload::one_of(pipelines);
        beside_floor(bench, &variant, &configuration, 1, &records)?;
    }
    Ok(())
}

/// Runs `growth_batch`.
pub fn batch(bench: &mut Bench) -> Result<(), String> {
    let configuration = workload::pipeline("single", 1, "");
    for count in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024] {
        let variant = format!("{count} records in a batch");
        beside_floor(
            bench,
            &variant,
            &configuration,
            1,
            &workload::records(count),
        )?;
    }
    Ok(())
}

/// Runs `growth_lanes`: as many as there are processors, and twice as many.
pub fn lanes(bench: &mut Bench) -> Result<(), String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts = vec![1];
    while counts.last().is_some_and(|most| *most < 2 * processors) {
        counts.extend(counts.last().map(|most| most * 2));
    }
    own_lanes::growth(bench, &counts)
}

/// Runs `growth_modules` and `growth_instances`: seconds are those of making one, memory is beyond that of an empty process.
fn memory(bench: &mut Bench, kind: Kind, what: &str, counts: &[usize]) -> Result<(), String> {
    let empty = resident::measure(Kind::Empty, 0)?;
    for &count in counts {
        let found = resident::measure(kind, count)?;
        let each = found.seconds * 1e9 / count as f64;
        bench.observed(&format!("{count} {what}"), each, &[each], 0.0);
        let taken = found.resident_kib - empty.resident_kib;
        bench.figure("MiB resident", taken / 1024.0, None);
        bench.figure("KiB resident for each", taken / count as f64, None);
    }
    Ok(())
}

/// Runs `growth_modules`.
pub fn modules(bench: &mut Bench) -> Result<(), String> {
    memory(bench, Kind::Modules, "modules", &[1, 4, 16, 64])
}

/// Runs `growth_instances`.
pub fn instances(bench: &mut Bench) -> Result<(), String> {
    let counts = [1, 10, 100, 1_000, 10_000, 50_000];
    memory(bench, Kind::Instances, "instances", &counts)
}
