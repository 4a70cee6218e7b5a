//! What is kept of a configuration, and the way back to one.
//!
//! ```text
//! name        the document whose folder relative paths begin in
//! settings    everything but pipelines and modules, as written
//! pipelines   their documents, as written, in their order
//! modules     id, file and sha256 (null where nothing uses it), and canary with the same and its terms, or null
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etl_config::{Canary, CanaryMode, Loaded};
use etl_orchestrator::ModuleEntry;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::hex;
use crate::audit;

/// What is kept of a configuration whose modules are these. `keep` keeps the bytes of one.
pub(super) fn of(
    loaded: &Loaded,
    entries: &[ModuleEntry],
    keep: impl Fn(&[u8]) -> Result<String, String>,
) -> Result<Value, String> {
    let pipelines = loaded.config.pipelines.iter();
    let pipelines: Vec<Value> = pipelines
        .map(|pipeline| loaded.pipeline_as_written(&pipeline.id).unwrap_or_default())
        .collect();
    let store = |file: &Path, sha256: Option<&str>| -> Result<(), String> {
        let Some(sha256) = sha256 else { return Ok(()) };
        match loaded.read_module(file) {
            Ok(bytes) if hex(&Sha256::digest(&bytes)) == sha256 => keep(&bytes).map(drop),
            // The file is another one already; that its bytes are not there is found by whoever wants them back.
            _ => Ok(()),
        }
    };
    let mut modules = Vec::new();
    for module in &loaded.config.modules {
        let entry = entries.iter().find(|entry| entry.id == module.id);
        let sha256 = entry.and_then(|entry| entry.sha256.as_deref());
        store(&module.file, sha256)?;
        let mut canary = Value::Null;
        if let Some(new) = &module.canary {
            let sha256 = entry.and_then(|entry| entry.canary_sha256.as_deref());
            store(&new.file, sha256)?;
            canary = terms(new, sha256);
        }
        modules.push(json!({
            "id": module.id,
            "file": absolute(&module.file),
            "sha256": sha256,
            "canary": canary,
        }));
    }
    let (name, settings) = loaded.settings_as_written();
    Ok(json!({
        "name": absolute(Path::new(&name)),
        "settings": settings,
        "pipelines": pipelines,
        "modules": modules,
    }))
}

fn terms(canary: &Canary, sha256: Option<&str>) -> Value {
    json!({
        "file": absolute(&canary.file),
        "sha256": sha256,
        "mode": if canary.mode == CanaryMode::Shadow { "shadow" } else { "canary" },
        "percent": canary.percent,
        "max_error_increase": canary.max_error_increase,
        "min_samples": canary.min_samples,
    })
}

/// The next process may run in another folder.
fn absolute(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.display().to_string()
}

/// The digests of the modules that it used, new versions among them.
pub(super) fn digests(content: &Value) -> impl Iterator<Item = &str> {
    let modules = content["modules"].as_array().into_iter().flatten();
    modules.flat_map(|module| {
        let both = [&module["sha256"], &module["canary"]["sha256"]];
        both.into_iter().filter_map(Value::as_str)
    })
}

/// One whole document that says all of it, and what it is called. `place` finds the file of a module with a digest; an error names one
/// whose bytes nobody has.
pub(super) fn document(
    content: &Value,
    place: impl Fn(&str, &str) -> Option<PathBuf>,
) -> Result<(String, String), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut modules = Vec::new();
    for module in content["modules"].as_array().into_iter().flatten() {
        let found = |of: &Value| -> Result<Value, String> {
            let file = text(&of["file"]);
            let Some(sha256) = of["sha256"].as_str() else {
                return Ok(json!({ "path": file }));
            };
            let path = place(&file, sha256).ok_or_else(|| text(&module["id"]))?;
            Ok(json!({ "path": path.display().to_string(), "sha256": sha256 }))
        };
        let mut declaration = found(module)?;
        declaration["id"] = module["id"].clone();
        if let Some(terms) = module["canary"].as_object() {
            let mut canary = found(&module["canary"])?;
            for name in ["mode", "percent", "max_error_increase", "min_samples"] {
                canary[name] = terms.get(name).cloned().unwrap_or_default();
            }
            declaration["canary"] = canary;
        }
        modules.push(declaration);
    }
    let mut document = content["settings"].clone();
    document["pipelines"] = content["pipelines"].clone();
    document["modules"] = modules.into();
    // The ending says what the text is, whatever the file was.
    let name = Path::new(&text(&content["name"])).with_extension("json");
    Ok((name.display().to_string(), document.to_string()))
}

/// What changed from one to the other.
pub(super) fn difference(before: &Value, after: &Value) -> Value {
    let named = |content: &Value, list: &str, id: &str| -> BTreeMap<String, Value> {
        let items = content[list].as_array().into_iter().flatten();
        items
            .map(|item| {
                (
                    item[id].as_str().unwrap_or_default().to_owned(),
                    item.clone(),
                )
            })
            .collect()
    };
    let sides = |list: &str, id: &str| {
        let (left, right) = (named(before, list, id), named(after, list, id));
        let keys = |of: &BTreeMap<String, Value>, is: &dyn Fn(&String) -> bool| -> Vec<String> {
            of.keys().filter(|&name| is(name)).cloned().collect()
        };
        let added = keys(&right, &|name| !left.contains_key(name));
        let removed = keys(&left, &|name| !right.contains_key(name));
        let changed = keys(&left, &|name| {
            right
                .get(name)
                .is_some_and(|other| left.get(name) != Some(other))
        });
        (left, right, [added, removed, changed])
    };
    let (left, right, pipelines) = sides("pipelines", "pipeline_id");
    let (_, _, modules) = sides("modules", "id");
    let touched: Vec<&String> = pipelines.iter().flatten().collect();
    let (fields, more) = audit::fields(&touched, &left, &right);
    json!({
        "fields": fields,
        "more_fields": more,
        "pipelines_added": pipelines[0],
        "pipelines_removed": pipelines[1],
        "pipelines_changed": pipelines[2],
        "modules_added": modules[0],
        "modules_removed": modules[1],
        "modules_changed": modules[2],
        "settings_changed": before["settings"] != after["settings"],
    })
}
