//! Pipelines: listed, read, made, replaced, taken away, switched on and off.

use etl_config::{Edit, EditText, Loaded, Pipeline, Stage};
use serde_json::{Value, json};

use super::{changed_meanwhile, edit, invalid, tagged};
use crate::access::Role;
use crate::answer::Answer;
use crate::call::Call;
use crate::masking;
use crate::site::Site;

pub(crate) fn list(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let generation = site.orchestrator.generation();
    let pipelines = site.orchestrator.read_configuration(generation, |loaded| {
        let pipelines = loaded.config.pipelines.iter();
        let mut pipelines: Vec<_> = pipelines.filter(|own| call.reaches(&own.id)).collect();
        // As they run.
        pipelines.sort_by_key(|pipeline| (pipeline.order, &pipeline.id));
        let pipelines = pipelines.into_iter();
        let shown = pipelines.map(|pipeline| listed(pipeline, loaded.name_as_written(pipeline)));
        shown.collect::<Vec<_>>()
    });
    let pipelines = pipelines.ok_or_else(changed_meanwhile)?;
    let value = json!({ "generation": generation, "pipelines": pipelines });
    Ok(tagged(generation, &value))
}

fn listed(pipeline: &Pipeline, name: String) -> Value {
    let mut stages: Vec<&Stage> = pipeline.stages.iter().collect();
    stages.sort_by_key(|stage| stage.priority);
    let shown = |stage: &&Stage| {
        let modules = stage.modules.iter().map(|usage| &usage.module_id);
        json!({
            "priority": stage.priority,
            "parallel": stage.parallel,
            "modules": modules.collect::<Vec<_>>(),
        })
    };
    let modules = stages.iter().flat_map(|stage| &stage.modules);
    json!({
        "id": pipeline.id,
        "name": name,
        "order": pipeline.order,
        "enabled": pipeline.enabled,
        "modules": modules.map(|usage| &usage.module_id).collect::<Vec<_>>(),
        "stages": stages.iter().map(shown).collect::<Vec<_>>(),
    })
}

pub(crate) fn get(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    let generation = site.orchestrator.generation();
    let document = site
        .orchestrator
        .read_configuration(generation, |loaded| loaded.pipeline_as_written(id));
    let document = document.ok_or_else(changed_meanwhile)?;
    let mut document = document.ok_or_else(|| unknown(id))?;
    let mut identity = call.identity.iter();
    if !identity.any(|identity| identity.role == Role::Admin) {
        masking::mask(&mut document);
    }
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
