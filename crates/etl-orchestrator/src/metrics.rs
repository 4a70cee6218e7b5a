//! The metrics: one list of them, and how they get to whoever collects.
//!
//! [`METRICS`] is the only place where a metric is named. The rules for alerts, the dashboard and the page on operations are held to it.
//!
//! Lanes count for themselves ([`crate::stats`]), so a record costs no lookup of a label and no locked instruction for any of this. Now
//! and then, at every scrape as a rule, [`Orchestrator::publish_metrics`](crate::Orchestrator::publish_metrics) adds the lanes up and
//! hands the sums to the recorder that the process has installed for the `metrics` crate. Labels are names of the configuration and
//! constants, never anything out of a record. What a new configuration does not have any more is let go.

mod publish;
mod series;

pub(crate) use publish::Publisher;

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations in seconds, in the buckets of [`Histogram`](crate::Histogram).
    Histogram,
}

/// A metric: its name, its labels and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, as Prometheus shows it.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels,
        help,
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Histogram,
        labels,
        help,
    }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    counter(
        "etl_pipeline_records_total",
        &["pipeline", "outcome"],
        "Records by what became of them in a pipeline: forwarded, stopped (undone, so that its input went on), dropped, dead_lettered.",
    ),
    histogram(
        "etl_pipeline_duration_seconds",
        &["pipeline"],
        "For each record that left a pipeline: what its module calls cost and its retries waited.",
    ),
    histogram(
        "etl_stage_duration_seconds",
        &["pipeline", "priority"],
        "The same for one stage.",
    ),
    counter(
        "etl_dead_letters_total",
        &["pipeline", "module", "kind"],
        "Dead letters by what failed, copies of records that went on included.",
    ),
    counter(
        "etl_module_calls_total",
        &["module", "outcome"],
        "Records by what a module did with them: kept, changed, dropped, failed. A retry counts again.",
    ),
    histogram(
        "etl_module_duration_seconds",
        &["module"],
        "Each call of a module, of one record or of a batch.",
    ),
    counter(
        "etl_module_errors_total",
        &["module", "kind"],
        "Failed calls by kind: Timeout, Trap, MemoryLimit, InvalidOutput, Module, PoolExhausted, CircuitOpen.",
    ),
    counter(
        "etl_module_cache_total",
        &["module", "result"],
        "Records that were looked for in a module's result cache: hit, miss.",
    ),
    gauge(
        "etl_module_counter",
        &["module", "counter"],
        "What a module counts by itself, with the host function etl.counter, since it was loaded with its configuration.",
    ),
    gauge(
        "etl_pool_instances",
        &["module", "state"],
        "Instances of a module: alive, and how many are allowed at once.",
    ),
    histogram(
        "etl_pool_wait_seconds",
        &["module"],
        "How long a call waited for an instance where none was warm: for a place within the budgets, and until it was made.",
    ),
    gauge(
        "etl_instance_memory_bytes",
        &["module"],
        "Memory of a module's instances: linear memory, tables, and what is kept to put them back.",
    ),
    gauge(
        "etl_circuit_state",
        &["module"],
        "The worst of a module's circuit breakers: 0 closed, 1 half-open, 2 open.",
    ),
    counter(
        "etl_canary_records_total",
        &["module", "version", "outcome"],
        "While a new version of a module is on trial, records by version (stable, canary, shadow) and outcome: ok, failed; of a shadow also different and skipped.",
    ),
    counter(
        "etl_instances_created_total",
        &[],
        "Instances that were made.",
    ),
    counter(
        "etl_instances_destroyed_total",
        &[],
        "Instances that are gone: failed, idle for too long, or of a module that is no longer used.",
    ),
    gauge(
        "etl_instance_memory_limit_bytes",
        &[],
        "Memory that all instances may have together.",
    ),
    histogram(
        "etl_filter_duration_seconds",
        &[],
        "Matching a topic that was not remembered against every rule.",
    ),
    counter(
        "etl_condition_errors_total",
        &["kind"],
        "Conditions that met something that they could not decide on, and so did not hold: not_json, ill_typed, abandoned.",
    ),
    gauge(
        "etl_queue_records",
        &["class"],
        "Records that wait for a lane, by the priority of their next stage: 0, 1-2, 3+.",
    ),
    counter(
        "etl_reloads_total",
        &["result"],
        "Changes of the configuration: applied, refused.",
    ),
    gauge(
        "etl_config_generation",
        &[],
        "The generation of the configuration in force; 1 is the first.",
    ),
    counter(
        "etl_run_records_total",
        &["outcome"],
        "Records of a run from a source to a sink: in, redelivered among them, out, dropped, dead_lettered, refused (that the sink can never take), given_back.",
    ),
    gauge(
        "etl_run_in_flight_records",
        &[],
        "Records that were read and are not safe yet.",
    ),
    gauge("etl_run_in_flight_bytes", &[], "Their bytes."),
    gauge(
        "etl_run_lag_records",
        &[],
        "Records of the source that are there and not acknowledged, where the source can tell.",
    ),
    gauge(
        "etl_run_waiting",
        &["role"],
        "1 while a run waits for something that is away: source, sink, dead_letters.",
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        "Processor time that the process has used, user and system.",
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        "Memory of the process that is in RAM.",
    ),
];

impl Metric {
    /// The metric of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// Whether it is about the process or its run and not about the engine: the program measures it.
    #[must_use]
    pub fn is_of_process(&self) -> bool {
        self.name.starts_with("process_") || self.name.starts_with("etl_run_")
    }

    /// Tells the recorder that the process has installed of every metric, once.
    pub fn describe_all() {
        ::metrics::with_recorder(|recorder| {
            for metric in METRICS {
                let (name, help) = (metric.name.into(), metric.help.into());
                let unit = None;
                match metric.kind {
                    MetricKind::Counter => recorder.describe_counter(name, unit, help),
                    MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
                    MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
                }
            }
        });
    }
}
