//! The page on operations: its tables of metrics and alerts say what the lists in the code say.

use etl_orchestrator::{METRICS, MetricKind, alerts};

const PAGE: &str = include_str!("../../../docs/operations.md");

#[test]
fn every_metric_has_its_row() {
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `etl_") || line.starts_with("| `process_"))
        .collect();
    let expected: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let labels: Vec<String> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            let labels = if labels.is_empty() {
                "–".to_owned()
            } else {
                labels.join(", ")
            };
            format!(
                "| `{}` | {kind} | {labels} | {} |",
                metric.name, metric.help
            )
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_alert_has_its_row() {
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `Etl"))
        .collect();
    let expected: Vec<String> = alerts()
        .iter()
        .map(|alert| {
            format!(
                "| `{}` | {} | {} | {} |",
                alert.name,
                alert.severity.name(),
                alert.summary,
                alert.advice
            )
        })
        .collect();
    assert_eq!(rows, expected);
}
