//! The alerts as a rules file for Prometheus.

use std::fmt::Write;

use etl_orchestrator::alerts;

/// The rules file.
pub fn rules() -> String {
    let mut text = String::from(
        "# Written by `etl generate prometheus-rules`.\ngroups:\n  - name: etl\n    rules:\n",
    );
    for alert in alerts() {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}m\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          description: {}\n",
            alert.name,
            quoted(&alert.expression),
            alert.minutes,
            alert.severity.name(),
            quoted(alert.summary),
            quoted(alert.advice),
        );
    }
    text
}

/// A scalar of YAML that holds anything on one line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
