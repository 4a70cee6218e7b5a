//! A Grafana dashboard: one panel for every metric, in the order of the list.

use etl_orchestrator::{METRICS, Metric, MetricKind};
use serde_json::{Value, json};

/// Panels side by side, of the 24 columns that Grafana has.
const COLUMNS: usize = 3;
const WIDTH: usize = 24 / COLUMNS;
const HEIGHT: usize = 8;

/// The dashboard.
pub fn dashboard() -> Value {
    let panels: Vec<Value> = METRICS
        .iter()
        .enumerate()
        .map(|(index, metric)| panel(index, metric))
        .collect();
    json!({
        "title": "ETL",
        "uid": "etl",
        "tags": ["etl"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "__inputs": [{
            "name": "DS_PROMETHEUS",
            "label": "Prometheus",
            "type": "datasource",
            "pluginId": "prometheus",
            "pluginName": "Prometheus",
        }],
        "templating": { "list": [
            variable("pipeline", "etl_pipeline_records_total"),
            variable("module", "etl_module_calls_total"),
        ] },
        "panels": panels,
    })
}

fn variable(label: &str, metric: &str) -> Value {
    json!({
        "name": label,
        "label": label,
        "type": "query",
        "datasource": { "type": "prometheus", "uid": "${DS_PROMETHEUS}" },
        "query": format!("label_values({metric}, {label})"),
        "refresh": 2,
        "includeAll": true,
        "allValue": ".*",
        "multi": true,
        "current": { "text": "All", "value": "$__all" },
    })
}

fn panel(index: usize, metric: &Metric) -> Value {
    let unit = match metric.name {
        name if name.ends_with("_bytes") => "bytes",
        name if name.ends_with("_seconds") => "s",
        "process_cpu_seconds_total" => "percentunit",
        _ if metric.kind == MetricKind::Counter => "ops",
        _ => "short",
    };
    let targets: Vec<Value> = queries(metric)
        .into_iter()
        .zip('A'..)
        .map(|((expression, legend), id)| {
            json!({ "refId": id.to_string(), "expr": expression, "legendFormat": legend })
        })
        .collect();
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": metric.name,
        "description": metric.help,
        "datasource": { "type": "prometheus", "uid": "${DS_PROMETHEUS}" },
        "gridPos": {
            "x": index % COLUMNS * WIDTH,
            "y": index / COLUMNS * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
        "targets": targets,
    })
}

/// The expressions of a metric's panel, each with what its lines are called.
fn queries(metric: &Metric) -> Vec<(String, String)> {
    let chosen: Vec<String> = ["pipeline", "module"]
        .into_iter()
        .filter(|label| metric.labels.contains(label))
        .map(|label| format!("{label}=~\"${label}\""))
        .collect();
    let chosen = if chosen.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", chosen.join(","))
    };
    let name = metric.name;
    let by = metric.labels.join(", ");
    let legend: Vec<String> = metric
        .labels
        .iter()
        .map(|label| format!("{{{{{label}}}}}"))
        .collect();
    let legend = legend.join(" ");
    match metric.kind {
        MetricKind::Counter => {
            vec![(
                format!("sum by ({by}) (rate({name}{chosen}[$__rate_interval]))"),
                legend,
            )]
        }
        MetricKind::Gauge => vec![(format!("sum by ({by}) ({name}{chosen})"), legend)],
        MetricKind::Histogram => {
            let by = if by.is_empty() {
                "le".to_owned()
            } else {
                format!("{by}, le")
            };
            [0.5, 0.95, 0.99]
                .into_iter()
                .map(|quantile| {
                    let expression = format!(
                        "histogram_quantile({quantile}, sum by ({by}) (rate({name}_bucket{chosen}[$__rate_interval])))"
                    );
                    (expression, format!("p{} {legend}", quantile * 100.0).trim().to_owned())
                })
                .collect()
        }
    }
}
