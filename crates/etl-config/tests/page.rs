//! The page on configuration: its examples load, and its tables say what the schema says.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use etl_config::{LoadOptions, load_text, schema};
use serde_json::Value;

fn page() -> String {
    read("docs/configuration.md")
}

fn read(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(page);
    fs::read_to_string(path).expect("the page is there")
}

#[test]
fn every_example_loads() {
    let loaded = load_examples(&page());
    assert!(loaded >= 5, "only {loaded} examples");
}

#[test]
fn the_pipeline_of_the_readme_loads() {
    // Its JSON is a record.
    let readme = read("README.md").replace("\n```json", "\n```record");
    assert_eq!(load_examples(&readme), 1);
}

/// Loads every example on a page, and says how many there are.
fn load_examples(page: &str) -> usize {
    let mut loaded = 0;
    for block in page
        .split("\n```")
        .collect::<Vec<_>>()
        .chunks(2)
        .filter_map(|pair| pair.get(1))
    {
        let (language, text) = block.split_once('\n').expect("a block has a first line");
        // A report is JSON too.
        if !matches!(language, "toml" | "json") || text.contains("\"problems\"") {
            continue;
        }
        let result = load_text(
            &format!("example.{language}"),
            text,
            &LoadOptions::isolated()
                .deny_warnings(true)
                .secrets(Arc::new(support::Secrets)),
        );
        result.unwrap_or_else(|report| panic!("{report}"));
        let parsed: Value = match language {
            "json" => serde_json::from_str(text).expect("it is JSON"),
            _ => toml::from_str(text).expect("it is TOML"),
        };
        assert!(
            jsonschema::draft202012::is_valid(&schema(), &parsed),
            "{text}"
        );
        loaded += 1;
    }
    loaded
}

/// The cells of every row of every table.
fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn every_field_stands_in_a_table_with_its_default() {
    let (page, schema) = (page(), schema());
    let rows = rows(&page);
    for (table, definition) in schema["$defs"].as_object().expect("definitions") {
        let required = definition["required"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for (field, description) in definition["properties"].as_object().expect(table) {
            if field == "$schema" {
                continue;
            }
            let default = match description.get("default") {
                Some(Value::String(text)) => format!("`{text}`"),
                Some(other) => format!("`{other}`"),
                None if required.contains(&Value::from(field.as_str())) => "required".to_owned(),
                None => String::new(),
            };
            let name = format!("`{field}`");
            let found = rows
                .iter()
                .any(|row| row[1] == name && (default.is_empty() || row[3] == default));
            assert!(found, "no row says that {field} of {table} is {default}");
        }
    }
}
