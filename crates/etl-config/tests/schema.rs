//! The schema against a validator of its own, and against the loader.
//!
//! Loader and schema are one description, so what is tested is that it says what was meant: good documents pass, each planted
//! mistake is refused by both, and the few things that a schema cannot say are listed with what the loader makes of them.

use etl_config::{LoadOptions, load_text, schema};
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).expect("the schema is one")
}

fn loads(document: &Value) -> bool {
    load_text("a.json", &document.to_string(), &LoadOptions::isolated()).is_ok()
}

/// A pipeline with every field.
fn full() -> Value {
    json!({
        "$schema": "etl.schema.json",
        "pipeline_id": "p", "name": "P", "description": "d", "enabled": true, "order": -1,
        "global_timeout_ms": 5000, "max_retries": 3, "error_handling": "SendToDeadLetter",
        "dead_letter_topic": "failed.{topic}", "memory_budget_bytes": 134_217_728,
        "stages": [{
            "priority": 0, "parallel_execution": true, "stage_timeout_ms": 100, "continue_on_error": true, "merge_policy": "strict",
            "modules": [
                {
                    "module_id": "m", "filter_logic": "all", "isolation": "batch",
                    "topic_filters": [{ "filter_type": "Regex", "pattern": "a", "case_sensitive": false, "negate": true }],
                    "conditional_rules": [
                        { "condition_type": "PayloadField", "field_path": "$.a", "operator": "Equals", "value": null, "negate": true },
                        { "condition_type": "MessageSize", "operator": "LessThan", "value": 9 },
                    ],
                    "instance_config": {
                        "memory_limit_bytes": 65_536, "execution_timeout_ms": 1, "max_concurrent_instances": 1,
                        "enable_caching": true, "cache_ttl_seconds": 1, "custom_config": { "anything": [1, { "goes": null }] },
                    },
                    "circuit_breaker": { "failure_rate": 0.5, "window_ms": 1, "min_calls": 1, "open_ms": 1, "half_open_probes": 1 },
                },
                { "module_id": "n", "filter": { "all": [{ "not": { "filter_type": "Mqtt", "pattern": "a/#" } }, { "any": [{ "filter_type": "Nats", "pattern": ">" }] }] } },
            ],
        }],
    })
}

fn configuration() -> Value {
    json!({
        "engine": { "lanes": 2, "max_in_flight_records": 10, "max_in_flight_bytes": 65_536, "max_emitted_per_record": 0, "ageing_ms": 1 },
        "instance_pool": {
            "max_pool_size": 1, "warmup_instances": 0, "idle_timeout_seconds": 1, "creation_rate_limit": 1,
            "max_total_memory_bytes": 65_536, "cache_dir": "cache", "cache_max_bytes": 1_048_576,
        },
        "modules_dir": "wasm",
        "modules": [{
            "id": "m", "path": "m.wasm", "sha256": "00".repeat(32),
            "canary": {
                "path": "m2.wasm", "sha256": "11".repeat(32), "mode": "shadow", "percent": 1, "max_error_increase": 0.5, "min_samples": 1,
            },
        }],
        "dead_letter": { "topic": "{topic}.failed" },
        "security": { "trusted_keys": ["22".repeat(32)] },
        "pipelines": [full()],
    })
}

#[test]
fn good_documents_pass_both() {
    let minimal = json!({ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "m" }] }] });
    for document in [
        json!({}),
        minimal,
        full(),
        configuration(),
        json!({ "etl": configuration(), "broker": { "listen": 1 } }),
    ] {
        let errors: Vec<String> = validator()
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        load_text("a.json", &document.to_string(), &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn the_two_documents_of_the_requirements_pass() {
    let Some(data) = std::env::var_os("ETL_TEST_DATA") else {
        println!("skipped: the two documents of the requirements: set ETL_TEST_DATA");
        return;
    };
    for name in [
        "iot-sensor-processing.json",
        "message-enrichment-pipeline.json",
    ] {
        let text =
            std::fs::read_to_string(std::path::Path::new(&data).join("pipelines").join(name))
                .expect(name);
        assert!(
            validator().is_valid(&serde_json::from_str(&text).expect(name)),
            "{name}"
        );
    }
}

#[test]
fn substitutions_may_stand_where_numbers_and_names_do() {
    let mut document = full();
    document["max_retries"] = json!("${RETRIES:2}");
    document["enabled"] = json!("${ON:true}");
    document["error_handling"] = json!("${STRATEGY:SkipModule}");
    document["stages"][0]["modules"][0]["circuit_breaker"]["failure_rate"] = json!("${RATE:0.25}");
    assert!(validator().is_valid(&document));
    let loaded = load_text("a.json", &document.to_string(), &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{report}"));
    let pipeline = &loaded.config.pipelines[0];
    assert_eq!((pipeline.max_retries, pipeline.enabled), (2, true));
    assert_eq!(
        pipeline.stages[0].modules[0]
            .circuit_breaker
            .as_ref()
            .map(|breaker| breaker.failure_rate),
        Some(0.25)
    );
}

/// Every object in a document, by its JSON pointer, but for `custom_config`, in which anything goes.
fn objects(document: &Value, pointer: &str, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => {
            found.push(pointer.to_owned());
            for (name, value) in fields.iter().filter(|(name, _)| *name != "custom_config") {
                objects(value, &format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn an_unknown_field_is_refused_in_every_table() {
    let validator = validator();
    let mut places = Vec::new();
    objects(&configuration(), "", &mut places);
    assert!(places.len() > 15, "{places:?}");
    for place in places {
        let mut document = configuration();
        document.pointer_mut(&place).expect(&place)["surprise"] = json!(1);
        assert!(
            !validator.is_valid(&document),
            "the schema takes a surprise at {place:?}"
        );
        assert!(
            !loads(&document),
            "the loader takes a surprise at {place:?}"
        );
    }
}

/// Every scalar in a document, by its JSON pointer.
fn scalars(document: &Value, pointer: &str, found: &mut Vec<String>) {
    match document {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "custom_config")
            .for_each(|(name, value)| scalars(value, &format!("{pointer}/{name}"), found)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| scalars(item, &format!("{pointer}/{index}"), found));
        }
        _ => found.push(pointer.to_owned()),
    }
}

#[test]
fn a_value_of_another_type_is_refused_in_every_field() {
    let validator = validator();
    let mut places = Vec::new();
    scalars(&configuration(), "", &mut places);
    assert!(places.len() > 45, "{places:?}");
    for place in places {
        for wrong in [json!([]), json!({})] {
            let mut document = configuration();
            *document.pointer_mut(&place).expect(&place) = wrong.clone();
            assert!(
                !validator.is_valid(&document),
                "the schema takes {wrong} at {place:?}"
            );
            assert!(!loads(&document), "the loader takes {wrong} at {place:?}");
        }
    }
}

#[test]
fn both_hold_to_the_same_bounds() {
    let validator = validator();
    let mut integers = Vec::new();
    scalars(&configuration(), "", &mut integers);
    let base = configuration();
    integers.retain(|place| {
        base.pointer(place).is_some_and(Value::is_i64) && !place.ends_with("/value")
    });
    assert!(integers.len() > 20, "{integers:?}");
    let probes: Vec<i64> = [
        0,
        1,
        2,
        100,
        101,
        1000,
        1024,
        100_000,
        65_535,
        65_536,
        3600,
        3_600_000,
        1 << 20,
        1 << 24,
        1 << 31,
        1 << 32,
        1 << 40,
    ]
    .into_iter()
    .flat_map(|edge: i64| [edge - 1, edge, edge + 1, -edge])
    .collect();
    for place in integers {
        for probe in &probes {
            let mut document = configuration();
            *document.pointer_mut(&place).expect(&place) = json!(probe);
            assert_eq!(
                validator.is_valid(&document),
                loads(&document),
                "{place} = {probe}"
            );
        }
    }
}

#[test]
fn required_fields_are_required() {
    let validator = validator();
    for (place, name) in [
        ("/pipelines/0", "pipeline_id"),
        ("/pipelines/0", "stages"),
        ("/pipelines/0/stages/0", "priority"),
        ("/pipelines/0/stages/0", "modules"),
        ("/pipelines/0/stages/0/modules/0", "module_id"),
        (
            "/pipelines/0/stages/0/modules/0/topic_filters/0",
            "filter_type",
        ),
        ("/pipelines/0/stages/0/modules/0/topic_filters/0", "pattern"),
        (
            "/pipelines/0/stages/0/modules/0/conditional_rules/0",
            "field_path",
        ),
        (
            "/pipelines/0/stages/0/modules/0/conditional_rules/0",
            "operator",
        ),
        (
            "/pipelines/0/stages/0/modules/0/conditional_rules/0",
            "value",
        ),
        ("/modules/0", "id"),
    ] {
        let mut document = configuration();
        document
            .pointer_mut(place)
            .and_then(Value::as_object_mut)
            .and_then(|fields| fields.remove(name))
            .expect(name);
        assert!(
            !validator.is_valid(&document),
            "the schema does without {place}/{name}"
        );
        assert!(!loads(&document), "the loader does without {place}/{name}");
    }
}

/// What takes more than a schema: the schema passes it, and the loader does not.
#[test]
fn the_loader_knows_more_than_the_schema() {
    let validator = validator();
    for (place, value) in [
        ("/pipelines/0/pipeline_id", json!("a/b")),
        (
            "/pipelines/0/stages/0/modules/0/conditional_rules/0/operator",
            json!("Matches"),
        ),
        ("/dead_letter/topic", json!("{tpoic}")),
    ] {
        let mut document = configuration();
        *document.pointer_mut(place).expect(place) = value;
        assert!(validator.is_valid(&document), "{place}");
        assert!(!loads(&document), "{place}");
    }
}

#[test]
fn every_field_is_described() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for (table, definition) in definitions {
        for (field, description) in definition["properties"].as_object().expect(table) {
            assert!(
                description["description"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.')),
                "{table}.{field}"
            );
        }
    }
}
