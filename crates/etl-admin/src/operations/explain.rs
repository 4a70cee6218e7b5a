//! Questions: what a topic selects, what becomes of a record, whether a configuration can be used.

use etl_orchestrator::Orchestrator;
use serde_json::Value;

use crate::http::{Answer, JSON};
use crate::site::{Asked, Call, Site};

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
    let modules_dir = site
        .orchestrator
        .read_configuration(site.orchestrator.generation(), |loaded| {
            loaded.config.modules_dir.clone()
        });
    let mut options = site.host.load_options();
    if options.modules_dir.is_none() {
        options.modules_dir = modules_dir;
    }
    let report = etl_config::load_text(name, call.text()?, &options)
        .and_then(|loaded| Orchestrator::check(&loaded))
        .map_or_else(|report| report, etl_config::Report::new);
    Ok(Answer::json(&report.to_json()))
}
