//! The demo's folder is what its README says: a configuration without a warning, modules that the repository builds, and records of known origin.
//!
//! What the records become is for `cargo xtask demo` to show; it fails where its stories are no longer in the data.

use std::fs;
use std::path::PathBuf;

use etl_config::{LoadOptions, load};

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path)
}

#[test]
fn the_configuration_loads_without_a_warning() {
    let loaded = load(
        repository("docs/examples/demo"),
        &LoadOptions::isolated().deny_warnings(true),
    );
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    let pipelines: Vec<&str> = loaded
        .config
        .pipelines
        .iter()
        .map(|pipeline| pipeline.id.as_str())
        .collect();
    assert_eq!(pipelines, ["earthquakes", "sensors"]);
}

#[test]
fn its_modules_are_examples_of_this_repository() {
    let loaded = load(repository("docs/examples/demo"), &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{report}"));
    let examples: Vec<String> = fs::read_dir(repository("docs/examples"))
        .expect("the examples can be listed")
        .flatten()
        .filter_map(|folder| fs::read_to_string(folder.path().join("Cargo.toml")).ok())
        .collect();
    let stages = loaded
        .config
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.stages);
    for module in stages.flat_map(|stage| &stage.modules) {
        let name = format!("name = \"{}\"\n", module.module_id);
        assert!(
            examples.iter().any(|manifest| manifest.contains(&name)),
            "no example is called {}",
            module.module_id
        );
    }
}

#[test]
fn its_records_are_few_and_their_source_is_named() {
    let records = fs::read_to_string(repository("docs/examples/demo/data/records.ndjson"))
        .expect("the records are there");
    let events = records
        .lines()
        .filter(|line| line.starts_with("{\"topic\":\"seismic."))
        .count();
    assert_eq!((events, records.lines().count()), (200, 211));
    let page =
        fs::read_to_string(repository("docs/examples/demo/README.md")).expect("the page is there");
    assert!(page.contains("United States Geological Survey") && page.contains("public domain"));
}
