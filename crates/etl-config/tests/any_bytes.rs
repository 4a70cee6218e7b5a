//! Whatever a file holds, loading it gives a configuration or a report, and both can be shown.

use etl_config::{LoadOptions, load, load_text};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Documents that are nearly right: real field names over values of any kind.
fn document() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "pipeline_id",
        "stages",
        "modules",
        "priority",
        "module_id",
        "topic_filters",
        "filter",
        "any",
        "all",
        "not",
        "filter_type",
        "pattern",
        "negate",
        "conditional_rules",
        "condition_type",
        "operator",
        "value",
        "instance_config",
        "custom_config",
        "engine",
        "lanes",
        "pipelines",
        "etl",
        "id",
        "sha256",
        "dead_letter",
        "topic",
        "circuit_breaker",
        "failure_rate",
        "$schema",
        "patern",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "Exact",
            "Regex",
            "*",
            "${HOME}",
            "$${",
            "${",
            "é${X:y}",
            "Equals",
            "MessageSize",
            "any"
        ])
        .prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn show(name: &str, text: &str) {
    match load_text(name, text, &LoadOptions::isolated()) {
        Ok(loaded) => {
            for path in loaded
                .config
                .pipelines
                .iter()
                .map(|pipeline| &pipeline.path)
            {
                let problem = loaded.problem(path, "found later", None, Some(3));
                assert!(problem.line().is_some());
            }
        }
        Err(report) => {
            assert!(report.has_errors());
            for problem in report.problems() {
                assert!(
                    problem
                        .line()
                        .is_some_and(|line| line >= 1 && line <= text.lines().count() + 1),
                    "{problem}"
                );
                assert!(!problem.message().is_empty());
            }
            assert!(report.render(true).len() >= report.problems().len());
            assert_eq!(
                report.to_json()["problems"].as_array().map(Vec::len),
                Some(report.problems().len())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_in_a_file(bytes in prop::collection::vec(any::<u8>(), 0..200), json in any::<bool>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(if json { "a.json" } else { "a.toml" });
        std::fs::write(&path, bytes).expect("a file");
        if let Err(report) = load(&path, &LoadOptions::isolated()) {
            prop_assert!(report.has_errors() && !report.to_string().is_empty());
        }
    }

    #[test]
    fn any_text(text in "(\\PC|[\\n\\r\\t\"'\\[\\]{}=.:$\\\\#,0-9])*") {
        show("a.json", &text);
        show("a.toml", &text);
        show("a", &text);
    }

    #[test]
    fn any_document(document in document()) {
        show("a.json", &document.to_string());
        show("a.json", &serde_json::to_string_pretty(&document).expect("it is JSON"));
        show("a.json", &json!({ "pipeline_id": "p", "stages": document }).to_string());
        show("a.json", &json!({ "pipeline_id": "p", "stages": [{ "priority": 1, "modules": [document] }] }).to_string());
        if let Ok(text) = toml::to_string(&document) {
            show("a.toml", &text);
        }
    }

    /// A good document that is cut anywhere is a report, never a smaller configuration.
    #[test]
    fn a_cut_document(cut in 1_usize..90) {
        let text = r#"{ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "m" }] }] }"#;
        prop_assume!(cut < text.len());
        prop_assert!(load_text("p.json", &text[..cut], &LoadOptions::isolated()).is_err());
    }
}
