//! Secrets in configurations: where they may stand, who sees them, and who says where they are.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use etl_config::{
    Edit, EditText, LoadOptions, Loaded, Secret, SecretError, SecretSettings, SecretSource,
    load_text,
};
use serde_json::{Value, json};
use support::{DB, Secrets};

fn document(settings: &Value) -> String {
    json!({ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [
        { "module_id": "m", "instance_config": { "custom_config": settings } }] }] })
    .to_string()
}

fn options() -> LoadOptions {
    LoadOptions::isolated()
        .variable("REGION", "eu-1")
        .secrets(Arc::new(Secrets))
}

fn settings(loaded: &Loaded) -> &etl_config::CustomConfig {
    &loaded.config.pipelines[0].stages[0].modules[0]
        .instance
        .custom_config
}

#[test]
fn the_module_is_given_the_secret_and_nobody_else_sees_it() {
    let written = json!({
        "b": ["${REGION}", { "url": "db://${secret:DB}@${REGION}/$${x}" }],
        "a": "${secret:DB}",
        "plain": { "number": 1.5, "null": null },
    });
    let loaded = load_text("p.json", &document(&written), &options()).expect("loads");
    let revealed = settings(&loaded).reveal_json().expect("JSON");
    let revealed: Value = serde_json::from_slice(&revealed).expect("JSON");
    let expected = json!({
        "b": ["eu-1", { "url": format!("db://{DB}@eu-1/${{x}}") }],
        "a": DB,
        "plain": { "number": 1.5, "null": null },
    });
    assert_eq!(revealed, expected);
    let secrets = settings(&loaded).secrets();
    assert!(secrets.len() == 2 && secrets.iter().all(|secret| secret.reveal() == DB));
    let shown = settings(&loaded).shown();
    assert_eq!(shown["b"][1]["url"], "db://${secret:DB}@eu-1/${x}");
    assert_eq!(
        loaded.pipeline_as_written("p").expect("is there")["stages"][0]["modules"][0]["instance_config"]
            ["custom_config"],
        written
    );
    for printed in [format!("{loaded:?}"), format!("{loaded:#?}")] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn settings_without_secrets_are_as_they_were_written() {
    let written = json!({ "z": 1, "a": [true, "text", { "x": 12_345_678_901_234_567_u64 }] });
    let loaded = load_text("p.json", &document(&written), &options()).expect("loads");
    let revealed = settings(&loaded).reveal_json().expect("JSON");
    assert_eq!(*revealed, serde_json::to_vec(&written).expect("JSON"));
    assert!(!settings(&loaded).is_empty());
    let loaded = load_text("p.json", &document(&json!({})), &options()).expect("loads");
    assert!(settings(&loaded).is_empty());
}

#[test]
fn another_value_is_another_configuration() {
    #[derive(Debug)]
    struct Other;

    impl SecretSource for Other {
        fn secrets(&self, _: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError> {
            Ok([("DB".to_owned(), Secret::new("new".to_owned()))].into())
        }

        fn open_file(
            &self,
            _: &SecretSettings,
            _: &Path,
            bytes: Vec<u8>,
        ) -> Result<Vec<u8>, SecretError> {
            Ok(bytes)
        }
    }

    let document = document(&json!({ "a": "${secret:DB}" }));
    let load = |options: &LoadOptions| load_text("p.json", &document, options).expect("loads");
    let (one, same) = (load(&options()), load(&options()));
    assert_eq!(one.config, same.config);
    let other = load(&LoadOptions::isolated().secrets(Arc::new(Other)));
    assert_ne!(one.config, other.config);
    assert_eq!(settings(&one).shown(), settings(&other).shown());
}

#[test]
fn a_secret_stands_nowhere_else() {
    for (document, path) in [
        (
            json!({ "pipeline_id": "${secret:DB}", "stages": [] }),
            "pipelines[0].pipeline_id",
        ),
        (
            json!({ "pipelines": [], "modules_dir": "${secret:DB}" }),
            "modules_dir",
        ),
        (
            json!({ "secrets": { "key": "env:${secret:DB}" } }),
            "secrets.key",
        ),
    ] {
        let report = load_text("p.json", &document.to_string(), &options()).expect_err("fails");
        let problem = report
            .problems()
            .iter()
            .find(|problem| problem.message() == "a secret may stand only in `custom_config`")
            .unwrap_or_else(|| panic!("{report}"));
        assert_eq!(problem.path().to_string(), path);
        assert!(!report.to_string().contains("hunter2"), "{report}");
    }
    // Without anybody who keeps secrets there are none.
    let document = document(&json!({ "a": "${secret:DB}" }));
    let report = load_text("p.json", &document, &LoadOptions::isolated()).expect_err("fails");
    assert_eq!(
        report.problems()[0].message(),
        "secrets cannot be read here"
    );
}

/// Remembers which settings it was asked with.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<SecretSettings>>);

impl SecretSource for Asked {
    fn secrets(&self, settings: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError> {
        self.0.lock().expect("no panic").push(settings.clone());
        Ok([("DB".to_owned(), Secret::new("x".to_owned()))].into())
    }

    fn open_file(
        &self,
        _: &SecretSettings,
        _: &Path,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SecretError> {
        Ok(bytes)
    }
}

#[test]
fn the_configuration_says_where_secrets_are_unless_that_is_settled() {
    let asked = Arc::new(Asked::default());
    let options = LoadOptions::isolated()
        .variable("HOME", "/h")
        .secrets(asked.clone());
    let pipeline = document(&json!({ "a": "${secret:DB}", "b": "${secret:DB}" }));
    let whole = |secrets: Value| {
        let pipeline: Value = serde_json::from_str(&pipeline).expect("JSON");
        json!({ "pipelines": [pipeline], "secrets": secrets }).to_string()
    };
    let section = json!({ "file": "${HOME}/s", "key": "file:k" });
    let loaded = load_text("etc/etl.json", &whole(section.clone()), &options).expect("loads");
    let expected = SecretSettings::in_file("/h/s").key("file:etc/k".parse().ok());
    assert_eq!(loaded.config.secrets, expected);
    // An edit goes by what is in force.
    let edit = Edit::ReplacePipeline(EditText::new("p.json", pipeline.clone()));
    loaded.edited(&[edit], &options).expect("edits");
    let wrapped = format!("{{ \"etl\": {} }}", whole(section.clone()));
    load_text("etc/etl.json", &wrapped, &options).expect("loads");
    // A pipeline alone has them beside it.
    load_text("etc/p.json", &pipeline, &options).expect("loads");
    let beside = SecretSettings::in_file("etc/etl.secrets");
    // What comes from others says nothing.
    let settled = SecretSettings::in_file("mine");
    let theirs = options.clone().secret_settings(settled.clone());
    let loaded = load_text("etc/etl.json", &whole(section), &theirs).expect("loads");
    assert_eq!(loaded.config.secrets, settled);
    // Each load asks once, however many secrets are named; one that names none does not ask.
    load_text("p.json", &document(&json!({ "a": "${HOME}" })), &options).expect("loads");
    let asked = asked.0.lock().expect("no panic").clone();
    let expected = [
        expected.clone(),
        expected.clone(),
        expected,
        beside,
        settled,
    ];
    assert_eq!(asked, expected);
}

#[test]
fn what_is_wrong_with_the_section_is_told_once_and_the_key_is_not() {
    let text = r#"{ "secrets": { "key": "0123456789abcdef", "fiel": "x" } }"#;
    let report = load_text("etl.json", text, &options()).expect_err("fails");
    let messages: Vec<&str> = report
        .problems()
        .iter()
        .map(etl_config::Problem::message)
        .collect();
    assert_eq!(messages.len(), 2, "{report}");
    assert!(
        messages[0].contains("does not say where a key comes from"),
        "{report}"
    );
    assert_eq!(messages[1], "unknown field `fiel`");
}
