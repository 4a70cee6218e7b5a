//! Rounds: how often to call, when to look at the clock.
//!
//! A call can be as short as the clock itself, so throughput is timed over rounds of many calls and single calls are timed apart, a few hundred
//! after each round, less what reading the clock costs. Subject and floor take turns, and the order swaps with every round, so that neither
//! always runs on the caches the other left. While it is measured a thread stays on one processor, unless the scenario's work is done by others.

use std::time::{Duration, Instant};

use super::pin::Pinned;

const ROUND: Duration = Duration::from_millis(8);
const WARM_UP: Duration = Duration::from_millis(100);
const LEAST_ROUNDS: usize = 9;
const CALLS_A_ROUND: usize = 256;

/// What was measured of one contestant.
#[derive(Debug, Default)]
pub struct Measured {
    /// Nanoseconds a call, one figure a round.
    pub rounds: Vec<f64>,
    /// Nanoseconds of single calls.
    pub calls: Vec<f64>,
    /// The share of the time in which this thread was ready and another ran in its place; 0 where the system does not tell.
    pub waited: f64,
}

/// Measures both for about this time together, after a warm-up; on one processor, if `pin` says so.
pub fn in_turns(
    time: Duration,
    pin: bool,
    subject: &mut impl FnMut(),
    floor: &mut impl FnMut(),
) -> (Measured, Measured) {
    let _pinned = pin.then(Pinned::here);
    let clock = clock_cost();
    let (subject_calls, floor_calls) = (calls_for_a_round(subject), calls_for_a_round(floor));
    let (mut of_subject, mut of_floor) = (Measured::default(), Measured::default());
    let waited = waited_ns();
    let start = Instant::now();
    while of_subject.rounds.len() < LEAST_ROUNDS || start.elapsed() < time {
        if of_subject.rounds.len().is_multiple_of(2) {
            round(subject, subject_calls, clock, &mut of_subject);
            round(floor, floor_calls, clock, &mut of_floor);
        } else {
            round(floor, floor_calls, clock, &mut of_floor);
            round(subject, subject_calls, clock, &mut of_subject);
        }
    }
    of_subject.waited = (waited_ns() - waited) / nanoseconds(start.elapsed());
    of_floor.waited = of_subject.waited;
    (of_subject, of_floor)
}

/// Measures one for about this time, after a warm-up; on one processor, if `pin` says so.
pub fn alone(time: Duration, pin: bool, subject: &mut impl FnMut()) -> Measured {
    let _pinned = pin.then(Pinned::here);
    let clock = clock_cost();
    let calls = calls_for_a_round(subject);
    let mut measured = Measured::default();
    let waited = waited_ns();
    let start = Instant::now();
    while measured.rounds.len() < LEAST_ROUNDS || start.elapsed() < time {
        round(subject, calls, clock, &mut measured);
    }
    measured.waited = (waited_ns() - waited) / nanoseconds(start.elapsed());
    measured
}

fn round(call: &mut impl FnMut(), calls: u64, clock: f64, measured: &mut Measured) {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    measured
        .rounds
        .push(nanoseconds(start.elapsed()) / calls as f64);
    for _ in 0..CALLS_A_ROUND.min(calls as usize) {
        let start = Instant::now();
        call();
        measured
            .calls
            .push((nanoseconds(start.elapsed()) - clock).max(0.0));
    }
}

/// Warms up, and finds how many calls fill a round.
fn calls_for_a_round(call: &mut impl FnMut()) -> u64 {
    let start = Instant::now();
    let mut calls = 0_u64;
    let mut burst = 1_u64;
    while start.elapsed() < WARM_UP {
        for _ in 0..burst {
            call();
        }
        calls += burst;
        burst = (burst * 2).min(1 << 16);
    }
    let each = start.elapsed().as_secs_f64() / calls as f64;
    ((ROUND.as_secs_f64() / each) as u64).max(1)
}

/// What two readings of the clock in a row are apart.
fn clock_cost() -> f64 {
    let readings: Vec<f64> = (0..10_000)
        .map(|_| nanoseconds(Instant::now().elapsed()))
        .collect();
    super::statistics::quantile(&readings, 0.5)
}

/// Nanoseconds for which this thread has waited for a processor, from Linux's scheduler.
pub fn waited_ns() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    statistics
        .split_whitespace()
        .nth(1)
        .and_then(|waited| waited.parse().ok())
        .unwrap_or(0.0)
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::statistics::quantile;
    use std::hint::black_box;

    fn work(times: u64) {
        let mut sum = 0_u64;
        for number in 0..times * 2_000 {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
        black_box(sum);
    }

    /// Judged by the median of single calls: they are too short for other programs to run in between, whatever the machine does.
    #[test]
    fn three_times_the_work_takes_three_times_as_long() {
        let (triple, single) = in_turns(
            Duration::from_millis(300),
            true,
            &mut || work(3),
            &mut || {
                work(1);
            },
        );
        let ratio = quantile(&triple.calls, 0.5) / quantile(&single.calls, 0.5);
        assert!((2.4..3.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn both_run_equally_many_rounds_however_little_time_there_is() {
        let (subject, floor) = in_turns(Duration::ZERO, false, &mut || work(1), &mut || work(2));
        assert_eq!(
            (subject.rounds.len(), floor.rounds.len()),
            (LEAST_ROUNDS, LEAST_ROUNDS)
        );
        assert!(
            subject
                .rounds
                .iter()
                .chain(&floor.rounds)
                .all(|ns| *ns > 0.0)
        );
        assert_eq!(
            alone(Duration::ZERO, false, &mut || work(1)).rounds.len(),
            LEAST_ROUNDS
        );
    }
}
