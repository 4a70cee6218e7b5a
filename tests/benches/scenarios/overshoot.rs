//! `interrupt_overshoot`: how long after its deadline a guest that does not return is stopped.
//!
//! From the deadline to the error in the caller's hands: the watchdog's sleep, the fault in the guest, and the way out of it.

use std::time::{Duration, Instant};

use etl_pool::{FailureKind, Pool, PoolOptions};
use etl_tests::bench::Bench;
use etl_tests::bench::measure::waited_ns;
use etl_tests::bench::statistics::quantile;

use crate::pool::{Lane, RECORD, kernel};

/// Time that a guest gets.
const TIME: Duration = Duration::from_millis(3);

/// Ways of not returning: name, further fields, and what a call does.
const WAYS: [(&str, &str, &str); 7] = [
    ("empty loop", "", "(loop $l (br $l))"),
    ("br_table", "", "(loop $l (br_table $l $l (i32.const 1)))"),
    (
        "endless calls",
        "(func $f (nop))",
        "(loop $l (call $f) (br $l))",
    ),
    (
        "mutual recursion",
        "(func $f (param $n i32) (if (local.get $n) (then (call $g (i32.sub (local.get $n) (i32.const 1))))))
         (func $g (param $n i32) (if (local.get $n) (then (call $f (i32.sub (local.get $n) (i32.const 1))))))",
        "(loop $l (call $f (i32.const 1000)) (br $l))",
    ),
    (
        "a loop that reads bytes",
        "",
        "(loop $l (local.set $a (i32.add (local.get $a) (i32.load8_u (i32.and (local.get $i) (i32.const 65535))))) \
         (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $l))",
    ),
    (
        "memory.fill of 48 MiB",
        "",
        "(drop (memory.grow (i32.const 800))) (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 50331648)) (br $l))",
    ),
    (
        "memory.copy of 24 MiB",
        "",
        "(drop (memory.grow (i32.const 800))) (loop $l (memory.copy (i32.const 25165825) (i32.const 0) (i32.const 25165824)) (br $l))",
    ),
];

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let pool = Pool::new(PoolOptions::default()).map_err(|error| error.to_string())?;
    let time = bench.time() / WAYS.len() as u32;
    let mut all = Vec::new();
    let waited = waited_ns();
    let start = Instant::now();
    for (name, fields, work) in WAYS {
        let mut lane = Lane::new(&pool, &kernel(fields, work)?, etl_pool::Isolation::Instance)?;
        let until = Instant::now() + time;
        let mut overshoots = Vec::new();
        while overshoots.is_empty() || Instant::now() < until {
            let deadline = Instant::now() + TIME;
            let outcome = lane.shelves.call(&lane.template, &[RECORD], deadline);
            let overshoot = Instant::now().saturating_duration_since(deadline);
            match outcome {
                Err(error) if error.kind() == FailureKind::Timeout => {
                    overshoots.push(overshoot.as_secs_f64() * 1e9);
                }
                other => return Err(format!("{name}: {other:?}")),
            }
        }
        all.extend(overshoots);
    }
    let waited = (waited_ns() - waited) / (start.elapsed().as_secs_f64() * 1e9);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    bench.observed("seven ways of not returning", mean, &all, waited);
    bench.figure("p50 µs", quantile(&all, 0.5) / 1e3, Some(1_000.0));
    bench.figure("p99 µs", quantile(&all, 0.99) / 1e3, Some(10_000.0));
    bench.figure("guests stopped", all.len() as f64, None);
    Ok(())
}
