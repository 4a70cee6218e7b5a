//! `budget`: how the nanoseconds of a record are spent, line by line: each variant does one part of what the whole does, in batches of 64.
//!
//! Parts that are measured alone find the caches warmer and the compiler freer than in the whole, so their sum is less than it. `docs/performance.md`
//! reads them as a budget; `cargo xtask profile budget` shows the whole from the inside.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use etl_abi::{Verdict, request, response::ResponseReader};
use etl_orchestrator::{Reply, TransformFor, View};
use etl_tests::bench::{Bench, Target};

use crate::conditions;
use crate::engine::Engine;
use crate::floor::Floor;
use crate::workload::{self, BATCH, CONDITION, MODULE, TOPIC};

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let none = Target::default();
    let records = workload::records(BATCH);

    let elsewhere = workload::pipeline("elsewhere", 1, "").replace(TOPIC, "another.topic");
    let mut passes = Engine::start(&elsewhere)?;
    bench.alone("lookup and outcome: nothing selected", BATCH, none, || {
        passes.process_batch(&records);
    });

    let mut holds = conditions::one(CONDITION_FIELD, &records[0].value)?;
    bench.alone(
        "conditions: one, on a field of the payload",
        1,
        none,
        || {
            black_box(holds());
        },
    );

    let views: Vec<View> = records.iter().cloned().map(View::new).collect();
    let length = request::encoded_len(&views).map_err(|error| error.to_string())?;
    let mut frame = vec![0; length];
    bench.alone("frame: written", BATCH, none, || {
        let written = request::encode(black_box(&views), black_box(&mut frame));
        black_box(written).expect("the frame has room");
    });

    let mut floor = Floor::new(MODULE)?;
    bench.alone(
        "call: the frame copied in, the guest, the answer copied out",
        BATCH,
        none,
        || floor.call(&frame),
    );

    let answer = floor.answer().to_vec();
    bench.alone("verdict: the answer checked and read", BATCH, none, || {
        let verdicts =
            ResponseReader::parse(black_box(&answer), BATCH).expect("the guest answered");
        for verdict in verdicts.iter() {
            if let Verdict::SetValue(value) = verdict {
                black_box(value);
            }
        }
    });

    let answered = Bytes::from_static(b"as it is");
    let function = TransformFor::new(move |_| {
        let answered = answered.clone();
        Arc::new(move |_: &View| Reply::Value(answered.clone()))
    });
    let mut merges = Engine::native(&workload::pipeline("single", 1, ""), function)?;
    bench.alone(
        "lookup, merge, metrics and outcome: a function that answers at once",
        BATCH,
        none,
        || merges.process_batch(&records),
    );

    bench.alone("metrics: one reading of the clock", 1, none, || {
        black_box(Instant::now());
    });
    bench.alone(
        "spans: one look whether anybody listens, a stage or a call each",
        1,
        none,
        || {
            black_box(tracing::enabled!(tracing::Level::DEBUG));
        },
    );

    let mut whole = Engine::start(&workload::pipeline("single", 1, ""))?;
    whole.copies(1)?;
    bench.alone("the whole, one module", BATCH, none, || {
        whole.process_batch(&records);
    });
    let mut whole = Engine::start(&workload::pipeline("single", 1, CONDITION))?;
    whole.copies(1)?;
    bench.alone("the whole, one module and a condition", BATCH, none, || {
        whole.process_batch(&records);
    });
    Ok(())
}

/// The field that [`CONDITION`] asks for.
const CONDITION_FIELD: &str = "$.reading.celsius";
