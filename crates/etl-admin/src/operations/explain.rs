//! Questions: what a topic selects, what becomes of a record, whether a configuration can be used.

use etl_orchestrator::Orchestrator;
use serde_json::Value;

use super::changed_meanwhile;
use crate::answer::{Answer, JSON};
use crate::call::Call;
use crate::site::{Asked, Site};

pub(crate) fn topic(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let topic = call.query("topic").unwrap_or_default();
    let explained = site.host.explain(Asked::Topic(topic));
    let explained = explained.map_err(|error| Answer::problem(422, error))?;
    let mut value: Value = serde_json::from_str(&explained)
        .map_err(|error| Answer::problem(500, error.to_string()))?;
    if let Some(pipelines) = value.get_mut("pipelines").and_then(Value::as_array_mut) {
        pipelines.retain(|pipeline| pipeline["id"].as_str().is_some_and(|id| call.reaches(id)));
    }
    Ok(Answer::json(&value))
}

pub(crate) fn record(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let explained = site.host.explain(Asked::Record(&call.body));
    // As it came, so that numbers keep their digits.
    let text = explained.map_err(|error| Answer::problem(422, error))?;
    Ok(Answer::new(JSON, text))
}

pub(crate) fn validate(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let name = if call.is_toml() {
        "document.toml"
    } else {
        "document.json"
    };
    let generation = site.orchestrator.generation();
    let present = site.orchestrator.read_configuration(generation, |loaded| {
        let config = &loaded.config;
        let pool = &config.instance_pool;
        let cache = (pool.cache_dir.clone(), pool.cache_max_bytes);
        (config.modules_dir.clone(), config.security.clone(), cache)
    });
    let (modules_dir, security, cache) = present.ok_or_else(changed_meanwhile)?;
    let mut options = site.host.load_options();
    options.modules_dir.get_or_insert(modules_dir);
    let report = etl_config::load_text(name, call.text()?, &options)
        .and_then(|mut loaded| {
            // A module that may not run here may not be tried here either.
            if security.trusted_keys.is_some() {
                loaded.config.security = security;
            }
            // Compiled modules are written, and old ones removed: in no folder that a document names.
            let pool = &mut loaded.config.instance_pool;
            (pool.cache_dir, pool.cache_max_bytes) = cache;
            Orchestrator::check(&loaded)
        })
        .map_or_else(|report| report, etl_config::Report::new);
    Ok(Answer::json(&report.to_json()))
}
