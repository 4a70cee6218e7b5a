//! `etl generate`: the files, word for word, and that they name nothing that is not measured.

use etl_orchestrator::{METRICS, Metric};
use serde_json::Value;

use crate::support::{Desk, golden};

/// The words that begin like a metric, without the endings that histograms add.
fn metrics_in(text: &str) -> Vec<&str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("etl_") || word.starts_with("process_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending))
                .unwrap_or(word)
        })
        .collect()
}

#[test]
fn the_rules() {
    let said = Desk::new()
        .etl(&["generate", "prometheus-rules"])
        .ends_with(0);
    golden("prometheus-rules.yml", &said.stdout);
    let named = metrics_in(&said.stdout);
    assert!(named.len() > 9);
    for name in named {
        assert!(Metric::named(name).is_some(), "{name}");
    }
    // The alerts that the requirements ask for, by what they are about.
    for alert in [
        "EtlPipelineSlow",
        "EtlModuleErrors",
        "EtlInstancePoolExhausted",
        "EtlInstanceMemoryHigh",
        "EtlPipelineFailing",
        "EtlModuleNotResponding",
        "EtlConditionErrors",
        "EtlResourceLimitBreached",
    ] {
        assert!(
            said.stdout.contains(&format!("- alert: {alert}\n")),
            "{alert}"
        );
    }
    let rules: Value = serde_yaml::from_str(&said.stdout).expect("YAML");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), etl_orchestrator::alerts().len());
    for (rule, alert) in rules.iter().zip(etl_orchestrator::alerts()) {
        assert_eq!(rule["alert"], alert.name);
        assert_eq!(rule["expr"], alert.expression);
        assert_eq!(rule["annotations"]["description"], alert.advice);
        assert_eq!(rule["labels"]["severity"], alert.severity.name());
    }
}

#[test]
fn the_dashboard() {
    let said = Desk::new()
        .etl(&["generate", "grafana-dashboard"])
        .ends_with(0);
    golden("grafana-dashboard.json", &said.stdout);
    let dashboard: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert_eq!(panels.len(), METRICS.len());
    for (panel, metric) in panels.iter().zip(METRICS) {
        assert_eq!(panel["title"], metric.name);
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            assert_eq!(metrics_in(expression), [metric.name]);
        }
    }
}
