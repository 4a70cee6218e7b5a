//! What differs between two generations, field by field, without what should not be read in a log.
//!
//! Documents are compared as they were written, so what the environment gave is not there to begin with, and masked as for anybody who is
//! not an admin.

use std::collections::BTreeMap;

use etl_config::Loaded;
use etl_orchestrator::Orchestrator;
use serde_json::{Value, json};

use crate::masking;

/// Fields that are told; the others are counted.
const FIELDS: usize = 100;
/// Characters of a value that are told.
const CHARACTERS: usize = 200;
/// What a change from one generation to another was; `null` where one of them is not kept any more.
pub(crate) fn difference(orchestrator: &Orchestrator, from: u64, to: u64) -> Value {
    let Some(names) = orchestrator.difference(from, to) else {
        return Value::Null;
    };
    let documents = |generation: u64, ids: &[&String]| -> BTreeMap<String, Value> {
        let read = |loaded: &Loaded| {
            let written = ids.iter().filter_map(|id| {
                let document = loaded.pipeline_as_written(id)?;
                Some(((*id).clone(), document))
            });
            written.collect()
        };
        orchestrator
            .read_configuration(generation, read)
            .unwrap_or_default()
    };
    let touched: Vec<&String> = names
        .pipelines_added
        .iter()
        .chain(&names.pipelines_removed)
        .chain(&names.pipelines_changed)
        .collect();
    let (before, after) = (documents(from, &touched), documents(to, &touched));
    let (fields, more) = fields(&touched, &before, &after);
    let digests: BTreeMap<String, Option<String>> = orchestrator
        .modules()
        .into_iter()
        .filter(|module| {
            names.modules_added.contains(&module.id) || names.modules_changed.contains(&module.id)
        })
        .map(|module| (module.id, module.sha256.map(|sha256| sha256.to_string())))
        .collect();
    json!({
        "fields": fields,
        "more_fields": more,
        "modules_added": names.modules_added,
        "modules_removed": names.modules_removed,
        "modules_changed": names.modules_changed,
        "modules_sha256": digests,
        "settings_changed": names.settings_changed,
    })
}

/// The fields of these pipelines that differ, as many as are told, and how many there are beside them.
pub(crate) fn fields(
    touched: &[&String],
    before: &BTreeMap<String, Value>,
    after: &BTreeMap<String, Value>,
) -> (Vec<Value>, usize) {
    let mut fields = Vec::new();
    for &id in touched {
        let mut of_pipeline = Vec::new();
        compare("", before.get(id), after.get(id), &mut of_pipeline);
        for field in &mut of_pipeline {
            field["pipeline"] = id.as_str().into();
        }
        fields.append(&mut of_pipeline);
    }
    let more = fields.len().saturating_sub(FIELDS);
    fields.truncate(FIELDS);
    (fields, more)
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, fields: &mut Vec<Value>) {
    if before == after {
        return;
    }
    let children = |value: Option<&Value>| -> Option<BTreeMap<String, Value>> {
        match value {
            None => Some(BTreeMap::new()),
            Some(Value::Object(map)) => Some(map.clone().into_iter().collect()),
            Some(Value::Array(items)) => {
                let items = items.iter().cloned().enumerate();
                // Zeros before a number, so that the tenth comes after the ninth.
                Some(
                    items
                        .map(|(index, item)| (format!("{index:05}"), item))
                        .collect(),
                )
            }
            Some(_) => None,
        }
    };
    let is_scalar =
        |value: Option<&Value>| value.is_some_and(|value| !value.is_object() && !value.is_array());
    match (children(before), children(after)) {
        (Some(left), Some(right)) if !is_scalar(before) && !is_scalar(after) => {
            let names = left
                .keys()
                .chain(right.keys().filter(|name| !left.contains_key(*name)));
            for name in names {
                let index = name.parse::<usize>();
                let step = index.map_or(name.clone(), |index| index.to_string());
                let path = if path.is_empty() {
                    step
                } else {
                    format!("{path}.{step}")
                };
                compare(&path, left.get(name), right.get(name), fields);
            }
        }
        _ => fields.push(json!({
            "field": path,
            "before": shown(path, before),
            "after": shown(path, after),
        })),
    }
}

/// A value as it may be read in a log.
fn shown(path: &str, value: Option<&Value>) -> Value {
    let Some(value) = value else {
        return Value::Null;
    };
    if masking::is_private(path, value) {
        return masking::MASK.into();
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => return "(more)".into(),
        scalar => return scalar.clone(),
    };
    match text.char_indices().nth(CHARACTERS) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_differs_and_no_secret() {
        let before = json!({
            "name": "a", "stages": [{ "priority": 0, "modules": [1, 2] }],
            "custom_config": { "db": { "Password": "hunter2", "host": "h" }, "tokens": ["t0p"] },
        });
        let after = json!({
            "name": "a".repeat(300), "stages": [{ "priority": 1, "modules": [1] }, { "priority": 2 }],
            "custom_config": { "db": { "Password": "hunter3", "host": "${HOST}" }, "tokens": ["t0q"] },
        });
        let mut fields = Vec::new();
        compare("p", Some(&before), Some(&after), &mut fields);
        let text = Value::from(fields.clone()).to_string();
        for secret in ["hunter", "t0p", "t0q"] {
            assert!(!text.contains(secret), "{text}");
        }
        let names: Vec<&str> = fields
            .iter()
            .filter_map(|field| field["field"].as_str())
            .collect();
        let expected = [
            "p.custom_config.db.Password",
            "p.custom_config.db.host",
            "p.custom_config.tokens.0",
            "p.name",
            "p.stages.0.modules.1",
            "p.stages.0.priority",
            "p.stages.1.priority",
        ];
        assert_eq!(names, expected);
        assert_eq!(fields[1]["after"], "${HOST}");
        assert!(text.len() < 1500, "{text}");
        fields.clear();
        compare("p", Some(&after), Some(&after), &mut fields);
        assert!(fields.is_empty());
        compare("p", None, Some(&json!({ "a": [] , "b": 1 })), &mut fields);
        assert_eq!(
            fields,
            [json!({ "field": "p.b", "before": null, "after": 1 })]
        );
    }
}
