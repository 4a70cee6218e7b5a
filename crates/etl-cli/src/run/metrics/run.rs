//! What the run has done and what it waits for, as metrics: the runner counts, and this hands the counts over when somebody asks.

use std::sync::{Arc, OnceLock};

use etl_broker_adapter::{Counters, Role, Status};
use metrics::{Counter, Gauge, counter, gauge};

/// The run that is measured: there is none until everything is open.
#[derive(Clone, Default)]
pub struct Watched(Arc<OnceLock<Seen>>);

struct Seen {
    counters: Arc<Counters>,
    status: Arc<Status>,
    outcomes: [Counter; 7],
    in_flight_records: Gauge,
    in_flight_bytes: Gauge,
    lag: Gauge,
    waiting: [Gauge; 3],
}

const OUTCOMES: [&str; 7] = [
    "in",
    "redelivered",
    "out",
    "dropped",
    "dead_lettered",
    "refused",
    "given_back",
];

impl Watched {
    /// From now on this one.
    pub fn watch(&self, counters: Arc<Counters>, status: Arc<Status>) {
        let seen = Seen {
            counters,
            status,
            outcomes: OUTCOMES
                .map(|outcome| counter!("etl_run_records_total", "outcome" => outcome)),
            in_flight_records: gauge!("etl_run_in_flight_records"),
            in_flight_bytes: gauge!("etl_run_in_flight_bytes"),
            lag: gauge!("etl_run_lag_records"),
            waiting: Role::ALL.map(|role| gauge!("etl_run_waiting", "role" => role.name())),
        };
        // A process has one run.
        let _ = self.0.set(seen);
    }

    /// Hands the present figures to the recorder.
    pub fn publish(&self) {
        let Some(seen) = self.0.get() else { return };
        let counts = seen.counters.read();
        let figures = [
            counts.records_in,
            counts.redelivered,
            counts.records_out,
            counts.dropped,
            counts.dead_lettered,
            counts.refused,
            counts.given_back,
        ];
        for (counter, figure) in seen.outcomes.iter().zip(figures) {
            counter.absolute(figure);
        }
        seen.in_flight_records.set(counts.in_flight_records as f64);
        seen.in_flight_bytes.set(counts.in_flight_bytes as f64);
        let lag = seen.counters.lag();
        seen.lag.set(lag.map_or(0.0, |lag| lag.records as f64));
        for (role, gauge) in Role::ALL.into_iter().zip(&seen.waiting) {
            gauge.set(f64::from(u8::from(seen.status.is_waiting(role))));
        }
    }

    /// What is waited for, each in a sentence.
    pub fn waiting(&self) -> Vec<String> {
        let waiting = self.0.get().map(|seen| seen.status.waiting());
        let waiting = waiting.unwrap_or_default();
        waiting.iter().map(ToString::to_string).collect()
    }
}
