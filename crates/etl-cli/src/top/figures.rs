//! What the API says, made into what is shown: rates out of two answers, and the state of each pipeline and module.
//!
//! Everything that grows is a count since the process began. A count that went back is of a process that began anew: then there is no rate
//! until the next answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::arguments::Sort;

/// One answer of the API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub at_ms: u64,
    pub generation: u64,
    pub is_ready: bool,
    pub state: String,
    pub reasons: Vec<Reason>,
    pub lanes: u64,
    pub in_flight: u64,
    pub records_in: u64,
    pub records_out: u64,
    pub dead_lettered: u64,
    pub instances: u64,
    pub memory_bytes: u64,
    pub process_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub pipelines: BTreeMap<String, Counts>,
    pub modules: BTreeMap<String, Counts>,
}

/// Why all is not well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reason {
    pub pipeline: Option<String>,
    pub module: Option<String>,
    pub message: String,
}

/// What is counted of one pipeline or module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub records_in: u64,
    pub records_out: u64,
    pub errors: u64,
    pub dead_lettered: u64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    /// Of modules.
    pub instances: Option<u64>,
    /// Of modules: a circuit that is not closed.
    pub circuit: Option<String>,
}

impl Answer {
    /// Reads the answers of `/api/v1/statistics` and `/api/v1/health`. None where they are not what they should be.
    pub fn read(statistics: &Value, health: &Value) -> Option<Self> {
        let number = |name: &str| statistics[name].as_u64();
        let reasons = health["reasons"].as_array()?.iter().map(|reason| {
            let text = |name: &str| reason[name].as_str().map(str::to_owned);
            Reason {
                pipeline: text("pipeline"),
                module: text("module"),
                message: text("message").unwrap_or_default(),
            }
        });
        let waiting = health["waiting"].as_array().into_iter().flatten();
        let waiting = waiting.filter_map(Value::as_str).map(|text| Reason {
            pipeline: None,
            module: None,
            message: format!("waiting: {text}"),
        });
        let counted = |name: &str, errors: &[&str]| -> Option<BTreeMap<String, Counts>> {
            let entries = statistics[name].as_object()?.iter();
            Some(
                entries
                    .map(|(id, entry)| (id.clone(), counts(entry, errors)))
                    .collect(),
            )
        };
        let mut modules = counted("modules", &["failed"])?;
        for circuit in statistics["circuits"].as_array().into_iter().flatten() {
            let (module, state) = (circuit["module"].as_str()?, circuit["state"].as_str()?);
            if state != "Closed"
                && let Some(counts) = modules.get_mut(module)
            {
                counts.circuit = Some(state.to_owned());
            }
        }
        Some(Self {
            at_ms: number("time_unix_ms")?,
            generation: number("generation")?,
            is_ready: statistics["ready"].as_bool()?,
            state: health["state"].as_str()?.to_owned(),
            reasons: waiting.chain(reasons).collect(),
            lanes: number("lanes").unwrap_or_default(),
            in_flight: number("in_flight_records").unwrap_or_default(),
            records_in: number("records_in")?,
            records_out: number("records_out")?,
            dead_lettered: number("dead_lettered")?,
            instances: number("instances").unwrap_or_default(),
            memory_bytes: number("instance_memory_bytes").unwrap_or_default(),
            process_bytes: number("process_memory_bytes"),
            cpu_seconds: statistics["process_cpu_seconds"].as_f64(),
            pipelines: counted("pipelines", &["dead_lettered", "stopped", "skipped"])?,
            modules,
        })
    }
}

fn counts(entry: &Value, errors: &[&str]) -> Counts {
    let number = |name: &str| entry[name].as_u64().unwrap_or_default();
    Counts {
        records_in: number("records_in"),
        records_out: number("records_out"),
        errors: errors.iter().map(|name| number(name)).sum(),
        dead_lettered: number("dead_lettered"),
        p50: entry["p50_seconds"].as_f64(),
        p99: entry["p99_seconds"].as_f64(),
        instances: entry["instances"].as_u64(),
        circuit: None,
    }
}

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub answer: Answer,
    pub in_rate: Option<f64>,
    pub out_rate: Option<f64>,
    pub dead_rate: Option<f64>,
    /// Processors in use.
    pub cpu: Option<f64>,
    pub pipelines: Vec<Row>,
    pub modules: Vec<Row>,
}

/// One pipeline or module.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub counts: Counts,
    pub in_rate: Option<f64>,
    pub out_rate: Option<f64>,
    pub error_rate: Option<f64>,
    /// `ok`, or the first reason why not.
    pub state: String,
}

impl Row {
    /// Whether all is well with it.
    pub fn is_well(&self) -> bool {
        self.state == "ok"
    }
}

impl Figures {
    /// What two answers come to, the later one first. Without an earlier one there are no rates.
    pub fn of(answer: Answer, before: Option<&Answer>) -> Self {
        let seconds = before
            .and_then(|before| answer.at_ms.checked_sub(before.at_ms))
            .filter(|passed| *passed > 0)
            .map(|passed| passed as f64 / 1_000.0);
        // A process that began anew counts from nothing, and nothing of it can be compared.
        let before = before.filter(|before| before.records_in <= answer.records_in);
        let rate = |now: u64, then: Option<u64>| -> Option<f64> {
            Some(now.checked_sub(then?)? as f64 / seconds?)
        };
        let rows = |now: &BTreeMap<String, Counts>,
                    then: Option<&BTreeMap<String, Counts>>,
                    of: fn(&Reason) -> Option<&String>|
         -> Vec<Row> {
            now.iter()
                .map(|(name, counts)| {
                    // What was not there before has counted from nothing since.
                    let none = Counts::default();
                    let then = then.map(|then| then.get(name).unwrap_or(&none));
                    let mut reasons = answer.reasons.iter();
                    let reason = reasons.find(|reason| of(reason) == Some(name));
                    let state = match (&counts.circuit, reason) {
                        (Some(circuit), _) => format!("circuit {}", circuit.to_lowercase()),
                        (None, Some(reason)) => reason.message.clone(),
                        (None, None) => "ok".to_owned(),
                    };
                    Row {
                        name: name.clone(),
                        in_rate: rate(counts.records_in, then.map(|then| then.records_in)),
                        out_rate: rate(counts.records_out, then.map(|then| then.records_out)),
                        error_rate: rate(counts.errors, then.map(|then| then.errors)),
                        counts: counts.clone(),
                        state,
                    }
                })
                .collect()
        };
        let cpu = before.and_then(|before| {
            let used = answer.cpu_seconds? - before.cpu_seconds?;
            Some((used / seconds?).max(0.0))
        });
        Self {
            in_rate: rate(answer.records_in, before.map(|before| before.records_in)),
            out_rate: rate(answer.records_out, before.map(|before| before.records_out)),
            dead_rate: rate(
                answer.dead_lettered,
                before.map(|before| before.dead_lettered),
            ),
            cpu,
            pipelines: rows(
                &answer.pipelines,
                before.map(|before| &before.pipelines),
                |reason| reason.pipeline.as_ref(),
            ),
            modules: rows(
                &answer.modules,
                before.map(|before| &before.modules),
                |reason| reason.module.as_ref(),
            ),
            answer,
        }
    }

    /// As `--json` prints it.
    pub fn to_json(&self) -> Value {
        let rows = |rows: &[Row]| -> Value {
            let rows = rows.iter().map(|row| {
                let mut value = json!({
                    "records_in": row.counts.records_in,
                    "records_out": row.counts.records_out,
                    "errors": row.counts.errors,
                    "dead_lettered": row.counts.dead_lettered,
                    "in_per_second": row.in_rate,
                    "out_per_second": row.out_rate,
                    "errors_per_second": row.error_rate,
                    "p50_seconds": row.counts.p50,
                    "p99_seconds": row.counts.p99,
                    "state": row.state,
                });
                if let Some(instances) = row.counts.instances {
                    value["instances"] = instances.into();
                }
                (row.name.clone(), value)
            });
            Value::Object(rows.collect())
        };
        let answer = &self.answer;
        let reasons: Vec<&str> = answer
            .reasons
            .iter()
            .map(|reason| reason.message.as_str())
            .collect();
        json!({
            "time_unix_ms": answer.at_ms,
            "generation": answer.generation,
            "ready": answer.is_ready,
            "state": answer.state,
            "reasons": reasons,
            "in_flight_records": answer.in_flight,
            "records_in": answer.records_in,
            "records_out": answer.records_out,
            "dead_lettered": answer.dead_lettered,
            "in_per_second": self.in_rate,
            "out_per_second": self.out_rate,
            "dead_lettered_per_second": self.dead_rate,
            "instances": answer.instances,
            "instance_memory_bytes": answer.memory_bytes,
            "process_memory_bytes": answer.process_bytes,
            "cpus": self.cpu,
            "pipelines": rows(&self.pipelines),
            "modules": rows(&self.modules),
        })
    }
}

/// The rows whose names hold a text, whatever its case, in this order.
pub fn chosen<'a>(rows: &'a [Row], filter: &str, sort: Sort, is_reversed: bool) -> Vec<&'a Row> {
    let filter = filter.to_lowercase();
    let mut rows: Vec<&Row> = rows
        .iter()
        .filter(|row| row.name.to_lowercase().contains(&filter))
        .collect();
    let most = |left: Option<f64>, right: Option<f64>| {
        right.unwrap_or(-1.0).total_cmp(&left.unwrap_or(-1.0))
    };
    rows.sort_by(|left, right| {
        let order = match sort {
            Sort::Name => std::cmp::Ordering::Equal,
            Sort::In => most(left.in_rate, right.in_rate),
            Sort::Out => most(left.out_rate, right.out_rate),
            Sort::Errors => most(left.error_rate, right.error_rate)
                .then(right.counts.errors.cmp(&left.counts.errors)),
            Sort::Latency => most(left.counts.p99, right.counts.p99),
        };
        order.then_with(|| left.name.cmp(&right.name))
    });
    if is_reversed {
        rows.reverse();
    }
    rows
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two answers a second apart: one pipeline is busy, another one fails.
    pub fn answers() -> (Answer, Answer) {
        let at = |time: u64, busy: u64, failed: u64| {
            let statistics = json!({
                "generation": 7, "time_unix_ms": time, "ready": true, "lanes": 2,
                "records_in": busy + failed, "records_out": busy, "dead_lettered": failed,
                "in_flight_records": 12, "instances": 3, "instance_memory_bytes": 3 << 20,
                "process_memory_bytes": 87 << 20, "process_cpu_seconds": busy as f64 / 10_000.0,
                "pipelines": {
                    "orders": { "records_in": busy, "records_out": busy, "p50_seconds": 0.000_012, "p99_seconds": 0.000_4 },
                    "audit": { "records_in": failed, "records_out": 0, "dead_lettered": failed, "p50_seconds": 0.5, "p99_seconds": 1.25 },
                },
                "modules": {
                    "enrich": { "records_in": busy, "records_out": busy, "failed": 0, "instances": 2, "p50_seconds": 0.000_01, "p99_seconds": 0.000_3 },
                    "check": { "records_in": failed, "records_out": 0, "failed": failed, "instances": 1, "p50_seconds": null, "p99_seconds": null },
                },
                "circuits": [{ "pipeline": "audit", "module": "check", "state": "Open" }],
            });
            let health = json!({ "state": "degraded", "reasons": [
                { "alert": "EtlPipelineFailing", "pipeline": "audit", "module": null, "message": "Every record of pipeline audit fails." },
            ] });
            Answer::read(&statistics, &health).expect("is an answer")
        };
        (at(1_000, 50_000, 10), at(2_000, 62_345, 13))
    }

    #[test]
    fn rates_are_differences() {
        let (before, after) = answers();
        let figures = Figures::of(after.clone(), Some(&before));
        assert_eq!(figures.in_rate, Some(12_348.0));
        assert_eq!(figures.dead_rate, Some(3.0));
        let audit = &figures.pipelines[0];
        assert_eq!(
            (audit.name.as_str(), audit.error_rate),
            ("audit", Some(3.0))
        );
        assert_eq!(audit.state, "Every record of pipeline audit fails.");
        assert_eq!(figures.modules[0].state, "circuit open");
        assert!(figures.modules[1].is_well());
        assert!((figures.cpu.expect("is known") - 1.2345).abs() < 1e-9);
        // One answer alone, or one of another process, makes no rate.
        assert_eq!(Figures::of(after.clone(), None).in_rate, None);
        let again = Figures::of(before, Some(&after));
        assert_eq!((again.in_rate, again.pipelines[0].in_rate), (None, None));
    }

    #[test]
    fn rows_are_chosen_and_sorted() {
        let (before, after) = answers();
        let figures = Figures::of(after, Some(&before));
        let names = |filter: &str, sort: Sort, is_reversed: bool| -> Vec<String> {
            let rows = chosen(&figures.pipelines, filter, sort, is_reversed);
            rows.into_iter().map(|row| row.name.clone()).collect()
        };
        assert_eq!(names("", Sort::Name, false), ["audit", "orders"]);
        assert_eq!(names("", Sort::In, false), ["orders", "audit"]);
        assert_eq!(names("", Sort::In, true), ["audit", "orders"]);
        assert_eq!(names("", Sort::Errors, false), ["audit", "orders"]);
        assert_eq!(names("ORD", Sort::Latency, false), ["orders"]);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        assert_eq!(Answer::read(&json!({}), &json!({})), None);
        assert_eq!(Answer::read(&json!([1]), &json!({ "reasons": [] })), None);
    }
}
