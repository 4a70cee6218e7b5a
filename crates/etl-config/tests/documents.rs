//! Documents that must load, and what they become.

use std::time::Duration;

use etl_config::{
    Config, ErrorHandling, FilterKind, FilterTree, LoadOptions, Operator, Subject, load, load_text,
};

fn read(name: &str, text: &str) -> Config {
    load_text(name, text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{report}"))
        .config
}

#[test]
fn the_two_documents_of_the_requirements_load_as_they_stand() {
    let Some(data) = std::env::var_os("ETL_TEST_DATA") else {
        println!("skipped: the two documents of the requirements: set ETL_TEST_DATA");
        return;
    };
    let folder = std::path::Path::new(&data).join("pipelines");
    let enrichment = load(
        folder.join("message-enrichment-pipeline.json"),
        &LoadOptions::isolated(),
    )
    .unwrap_or_else(|report| panic!("{report}"));
    let lints: Vec<String> = enrichment
        .warnings
        .iter()
        .map(|warning| warning.path().to_string())
        .collect();
    assert_eq!(
        lints,
        ["pipelines[0].stages[2].modules[0].topic_filters[0].pattern"]
    );
    let pipeline = &enrichment.config.pipelines[0];
    assert_eq!(pipeline.id, "message-enrichment-pipeline");
    assert_eq!(pipeline.error_handling, ErrorHandling::SkipModule);
    assert_eq!(pipeline.timeout, Duration::from_secs(5));
    let validator = &pipeline.stages[0].modules[0];
    assert_eq!(validator.instance.memory_limit_bytes, 64 << 20);
    assert_eq!(validator.instance.cache_ttl, Some(Duration::from_secs(300)));
    assert_eq!(
        validator.instance.custom_config.shown()["schema_validation"],
        true
    );
    assert_eq!(
        validator.conditions[0].subject,
        Subject::Header("content-type".into())
    );
    let formatter = &pipeline.stages[2].modules[0];
    let FilterTree::Any(filters) = &formatter.filter else {
        panic!("{:?}", formatter.filter)
    };
    let FilterTree::Leaf(every) = &filters[0] else {
        panic!("{filters:?}")
    };
    assert_eq!(
        (every.kind, every.pattern.as_str()),
        (FilterKind::Wildcard, "*")
    );

    let iot = load(
        folder.join("iot-sensor-processing.json"),
        &LoadOptions::isolated(),
    )
    .unwrap_or_else(|report| panic!("{report}"));
    assert!(iot.warnings.is_empty(), "{:?}", iot.warnings);
    let ids: Vec<&str> = iot
        .config
        .modules
        .iter()
        .map(|module| module.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "sensor-data-validator",
            "temperature-converter",
            "pressure-normalizer"
        ]
    );
    assert_eq!(
        iot.config.modules[0].file,
        folder.join("modules/sensor-data-validator.wasm")
    );
    assert_eq!(
        iot.config.pipelines[0].stages[1].modules[1].conditions[0].operator,
        Operator::GreaterThan
    );
}

#[test]
fn nothing_is_a_configuration_with_every_default() {
    for (name, text) in [
        ("a.toml", ""),
        ("a.json", "{}"),
        ("a.toml", "[etl]"),
        ("a", ""),
    ] {
        let config = read(name, text);
        assert_eq!(
            config,
            read("a.toml", "[engine]\n[instance_pool]\n[dead_letter]\n"),
            "{name}: {text}"
        );
        assert_eq!(config.engine.lanes, None);
        assert_eq!(config.engine.max_emitted_per_record, 1024);
        assert_eq!(config.dead_letter.topic.render("a"), "a.dlq");
        assert_eq!(config.instance_pool.max_pool_size, 1024);
        assert_eq!(config.modules_dir, std::path::Path::new("modules"));
    }
}
