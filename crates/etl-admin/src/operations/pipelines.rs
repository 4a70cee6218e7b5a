//! Pipelines: listed, read, made, replaced, taken away, switched on and off.

use etl_config::{Edit, EditText, Loaded};
use serde_json::{Value, json};

use super::{edit, invalid, tagged};
use crate::call::Call;
use crate::http::Answer;
use crate::site::Site;

pub(crate) fn list(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let generation = site.orchestrator.generation();
    let pipelines = site.orchestrator.pipelines();
    let pipelines: Vec<Value> = pipelines
        .iter()
        .filter(|pipeline| call.reaches(&pipeline.id))
        .map(|pipeline| {
            json!({
                "id": pipeline.id,
                "name": pipeline.name,
                "order": pipeline.order,
                "enabled": pipeline.enabled,
                "modules": pipeline.modules,
            })
        })
        .collect();
    let value = json!({ "generation": generation, "pipelines": pipelines });
    Ok(tagged(generation, &value))
}

pub(crate) fn get(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    let generation = site.orchestrator.generation();
    let document = site
        .orchestrator
        .read_configuration(generation, |loaded| loaded.pipeline_as_written(id))
        .flatten();
    let document = document.ok_or_else(|| unknown(id))?;
    let value = json!({ "generation": generation, "pipeline": document });
    Ok(tagged(generation, &value))
}

pub(crate) fn put(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    let ending = if call.is_toml() { "toml" } else { "json" };
    let text = EditText::new(format!("{id}.{ending}"), call.text()?);
    // Read by itself first, because an edit finds its place by the id in the document, and that must be the one that was asked for.
    let read = etl_config::load_text(&text.name, &text.text, &site.host.load_options());
    let read = read.map_err(|report| invalid(&report))?;
    match read.config.pipelines.as_slice() {
        [pipeline] if pipeline.id == id => {}
        [pipeline] => {
            let detail = format!(
                "the document is of the pipeline {:?}, not {id:?}",
                pipeline.id
            );
            return Err(Answer::problem(422, detail));
        }
        _ => {
            return Err(Answer::problem(
                422,
                "the document is not that of one pipeline",
            ));
        }
    }
    edit(site, call, |loaded| {
        Ok(vec![if has(loaded, id) {
            Edit::ReplacePipeline(text.clone())
        } else {
            Edit::AddPipeline(text.clone())
        }])
    })
}

pub(crate) fn delete(site: &Site, call: &Call) -> Result<Answer, Answer> {
    by_id(site, call, Edit::RemovePipeline)
}

pub(crate) fn enable(site: &Site, call: &Call) -> Result<Answer, Answer> {
    by_id(site, call, Edit::EnablePipeline)
}

pub(crate) fn disable(site: &Site, call: &Call) -> Result<Answer, Answer> {
    by_id(site, call, Edit::DisablePipeline)
}

/// An edit of a pipeline that is there.
fn by_id(site: &Site, call: &Call, make: fn(String) -> Edit) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    edit(site, call, |loaded| {
        if has(loaded, id) {
            Ok(vec![make(id.to_owned())])
        } else {
            Err(unknown(id))
        }
    })
}

fn has(loaded: &Loaded, id: &str) -> bool {
    let mut pipelines = loaded.config.pipelines.iter();
    pipelines.any(|pipeline| pipeline.id == id)
}

fn unknown(id: &str) -> Answer {
    Answer::problem(404, format!("no pipeline is called {id:?}"))
}
