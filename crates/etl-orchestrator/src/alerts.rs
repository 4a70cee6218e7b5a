//! What an operator wants to be woken for: the thresholds, and the rules that watch them from outside.
//!
//! Each alert stands once here, as an expression over the metrics for those who collect them, and once in `health`, computed in the
//! process itself; both read the same numbers.

/// A pipeline is slow if its 95th percentile takes longer.
pub(crate) const SLOW_SECONDS: f64 = 0.010;
/// A module is unwell if a larger part of its calls fails.
pub(crate) const ERROR_RATE: f64 = 0.05;
/// Memory is short if a larger part of what instances may have is taken.
pub(crate) const MEMORY_USED: f64 = 0.80;
/// Fewer records than this in the window say nothing about rates and percentiles.
pub(crate) const ENOUGH: u64 = 20;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody should look at it in working hours.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

impl Severity {
    /// The name in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// Its name in rules and in [`Reason`](crate::Reason)s.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is true while it holds, in PromQL over [`METRICS`](crate::METRICS).
    pub expression: String,
    /// For how many minutes it must hold.
    pub minutes: u32,
    /// What it says, in one sentence for everybody; `{{ $labels.… }}` as in Prometheus.
    pub summary: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => { $(pub(crate) const $name: &str = $text;)* };
}
names! {
    PIPELINE_SLOW = "EtlPipelineSlow",
    MODULE_ERRORS = "EtlModuleErrors",
    POOL_EXHAUSTED = "EtlInstancePoolExhausted",
    MEMORY_HIGH = "EtlInstanceMemoryHigh",
    PIPELINE_FAILING = "EtlPipelineFailing",
    MODULE_NOT_RESPONDING = "EtlModuleNotResponding",
    CONDITION_ERRORS = "EtlConditionErrors",
    LIMIT_BREACHED = "EtlResourceLimitBreached",
    RELOAD_REFUSED = "EtlReloadRefused",
}

/// Every alert.
///
/// ```
/// let slow = etl_orchestrator::alerts().remove(0);
/// assert_eq!(slow.name, "EtlPipelineSlow");
/// assert!(slow.expression.ends_with("> 0.01"));
/// ```
#[must_use]
pub fn alerts() -> Vec<Alert> {
    let alert = |name, severity, minutes, expression: String, summary, advice| Alert {
        name,
        severity,
        expression,
        minutes,
        summary,
        advice,
    };
    let by_module = |metric: &str| format!("sum by (module) (rate({metric}[5m]))");
    let by_pipeline = |outcomes: &str| {
        format!(
            "sum by (pipeline) (rate(etl_pipeline_records_total{{outcome=~\"{outcomes}\"}}[5m]))"
        )
    };
    vec![
        alert(
            PIPELINE_SLOW,
            Severity::Warning,
            5,
            format!(
                "histogram_quantile(0.95, sum by (pipeline, le) (rate(etl_pipeline_duration_seconds_bucket[5m]))) > {SLOW_SECONDS}"
            ),
            "One record in twenty takes longer than 10 ms in pipeline {{ $labels.pipeline }}.",
            "etl_stage_duration_seconds and etl_module_duration_seconds say which stage and module it is.",
        ),
        alert(
            MODULE_ERRORS,
            Severity::Warning,
            5,
            format!(
                "{} / {} > {ERROR_RATE}",
                by_module("etl_module_calls_total{outcome=\"failed\"}"),
                by_module("etl_module_calls_total")
            ),
            "More than 5 % of the calls of module {{ $labels.module }} fail.",
            "etl_module_errors_total says how; the etl-dlq-* headers of its dead letters say why.",
        ),
        alert(
            POOL_EXHAUSTED,
            Severity::Critical,
            1,
            by_module("etl_module_errors_total{kind=\"PoolExhausted\"}") + " > 0",
            "Records fail because no instance of module {{ $labels.module }} can be had in time.",
            "Raise max_pool_size, max_concurrent_instances or max_total_memory_bytes, or use fewer lanes.",
        ),
        alert(
            MEMORY_HIGH,
            Severity::Warning,
            5,
            format!(
                "sum(etl_instance_memory_bytes) / max(etl_instance_memory_limit_bytes) > {MEMORY_USED}"
            ),
            "Module instances have more than 80 % of the memory that they may have.",
            "etl_instance_memory_bytes says whose it is; raise max_total_memory_bytes or lower memory_limit_bytes.",
        ),
        alert(
            PIPELINE_FAILING,
            Severity::Critical,
            2,
            format!(
                "{} > 0 unless {} > 0",
                by_pipeline("stopped|dead_lettered"),
                by_pipeline("forwarded|dropped")
            ),
            "Every record of pipeline {{ $labels.pipeline }} fails.",
            "etl_module_errors_total says which module; the last change of the configuration can be rolled back.",
        ),
        alert(
            MODULE_NOT_RESPONDING,
            Severity::Critical,
            1,
            format!(
                "max by (module) (etl_circuit_state) == 2 or ({} > 0 unless {} > 0)",
                by_module("etl_module_errors_total{kind=\"Timeout\"}"),
                by_module("etl_module_calls_total{outcome=~\"kept|changed|dropped\"}")
            ),
            "Module {{ $labels.module }} does not respond: its circuit is open, or every call runs out of time.",
            "While a circuit is open its pipelines do what error_handling says; a module that is slow needs a longer execution_timeout_ms or less work.",
        ),
        alert(
            CONDITION_ERRORS,
            Severity::Warning,
            5,
            "sum by (kind) (rate(etl_condition_errors_total{kind=\"abandoned\"}[5m])) > 0".to_owned(),
            "Conditions cannot be evaluated: a query selects more than any sensible payload holds.",
            "Such a condition counts as false. Make its field_path say more exactly what it wants.",
        ),
        alert(
            LIMIT_BREACHED,
            Severity::Warning,
            1,
            "sum by (module, kind) (rate(etl_module_errors_total{kind=~\"MemoryLimit|Timeout\"}[5m])) > 0".to_owned(),
            "Module {{ $labels.module }} goes over its limits ({{ $labels.kind }}).",
            "The record that does it is in the dead letter, where error_handling is SendToDeadLetter; else raise the limit or mend the module.",
        ),
        alert(
            RELOAD_REFUSED,
            Severity::Warning,
            0,
            "increase(etl_reloads_total{result=\"refused\"}[5m]) > 0".to_owned(),
            "A new configuration was refused; the one before it goes on.",
            "Whoever caused it was told everything that is wrong; etl validate tells it again.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{METRICS, Metric};

    /// The words of an expression that begin like a metric.
    fn metrics_of(expression: &str) -> Vec<&str> {
        expression
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .filter(|word| word.starts_with("etl_") || word.starts_with("process_"))
            .collect()
    }

    #[test]
    fn every_metric_of_an_expression_exists() {
        for alert in alerts() {
            let named = metrics_of(&alert.expression);
            assert!(!named.is_empty(), "{}", alert.name);
            for name in named {
                let base = name.strip_suffix("_bucket").unwrap_or(name);
                assert!(Metric::named(base).is_some(), "{}: {name}", alert.name);
            }
        }
        assert!(Metric::named("etl_nothing").is_none());
    }

    #[test]
    fn every_label_of_an_expression_exists() {
        for alert in alerts() {
            let labels: Vec<&str> = metrics_of(&alert.expression)
                .iter()
                .filter_map(|name| Metric::named(name.strip_suffix("_bucket").unwrap_or(name)))
                .flat_map(|metric| metric.labels)
                .copied()
                .collect();
            for (at, _) in alert.summary.match_indices("$labels.") {
                let rest = &alert.summary[at + 8..];
                let label = rest.split(' ').next().expect("a label");
                assert!(labels.contains(&label), "{}: {label}", alert.name);
            }
            for (at, _) in alert.expression.match_indices("=") {
                let before = &alert.expression[..at];
                let Some(label) = before
                    .rsplit(['{', ','])
                    .next()
                    .filter(|_| !before.ends_with(['=', ' ']))
                else {
                    continue;
                };
                assert!(labels.contains(&label), "{}: {label}", alert.name);
            }
        }
    }

    #[test]
    fn names_are_given_once() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.extend(alerts().iter().map(|alert| alert.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
