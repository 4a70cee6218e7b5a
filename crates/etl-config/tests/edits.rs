//! Edits of a loaded configuration: what they make, and that they are checked like files.

use etl_config::{Edit, EditText, LoadOptions, Loaded, Report, load_text};

const BASE: &str = r#"
modules_dir = "wasm"
[dead_letter]
topic = "failed.{topic}"
[instance_pool]
max_pool_size = 7
[[modules]]
id = "declared"
path = "elsewhere/one.wasm"
[[pipelines]]
pipeline_id = "first"
stages = [{ priority = 0, modules = [{ module_id = "declared" }, { module_id = "found" }] }]
"#;

fn base() -> Loaded {
    load_text("dir/etl.toml", BASE, &LoadOptions::isolated()).expect("it loads")
}

fn edit(loaded: &Loaded, edits: &[Edit]) -> Result<Loaded, Report> {
    loaded.edited(edits, &LoadOptions::isolated())
}

fn pipeline(id: &str, module: &str) -> EditText {
    let text = format!(
        "pipeline_id = \"{id}\"\n[[stages]]\npriority = 0\nmodules = [{{ module_id = \"{module}\" }}]\n"
    );
    EditText::new(format!("{id}.toml"), text)
}

fn problems(result: Result<Loaded, Report>) -> Vec<String> {
    let report = result.expect_err("it is refused");
    report.problems().iter().map(ToString::to_string).collect()
}

fn ids(loaded: &Loaded) -> (Vec<&str>, Vec<&str>) {
    (
        loaded
            .config
            .pipelines
            .iter()
            .map(|pipeline| pipeline.id.as_str())
            .collect(),
        loaded
            .config
            .modules
            .iter()
            .map(|module| module.id.as_str())
            .collect(),
    )
}

#[test]
fn pipelines_come_and_go() {
    let base = base();
    let added = edit(&base, &[Edit::AddPipeline(pipeline("second", "new"))]).expect("added");
    assert_eq!(
        ids(&added),
        (vec!["first", "second"], vec!["declared", "found", "new"])
    );
    let second = &added.config.pipelines[1];
    assert_eq!(second.dead_letter_topic.render("t"), "failed.t");
    assert_eq!(
        second.stages[0].modules[0]
            .instance
            .max_concurrent_instances,
        7
    );
    assert!(added.config.modules[2].file.ends_with("dir/wasm/new.wasm"));

    let replaced = edit(
        &added,
        &[Edit::ReplacePipeline(pipeline("second", "found"))],
    )
    .expect("replaced");
    assert_eq!(
        ids(&replaced),
        (vec!["first", "second"], vec!["declared", "found"])
    );
    let off = edit(&replaced, &[Edit::DisablePipeline("first".into())]).expect("disabled");
    assert!(!off.config.pipelines[0].enabled && replaced.config.pipelines[0].enabled);
    let on = edit(&off, &[Edit::EnablePipeline("first".into())]).expect("enabled");
    assert!(on.config.pipelines[0].enabled);
    let removed = edit(&on, &[Edit::RemovePipeline("first".into())]).expect("removed");
    assert_eq!(ids(&removed), (vec!["second"], vec!["declared", "found"]));
    assert!(
        removed
            .warnings
            .iter()
            .any(|warning| warning.message().contains("never reached"))
    );
    assert_eq!(
        ids(&base),
        (vec!["first"], vec!["declared", "found"]),
        "the base is as it was"
    );
}

#[test]
fn modules_come_and_go() {
    let module =
        |id: &str, rest: &str| EditText::new("up/m.json", format!(r#"{{ "id": "{id}"{rest} }}"#));
    let base = base();
    let edits = [
        Edit::AddModule(module(
            "found",
            r#", "path": "v2.wasm", "canary": { "path": "v3.wasm", "percent": 5 }"#,
        )),
        Edit::ReplaceModule(module("declared", "")),
    ];
    let edited = edit(&base, &edits).expect("edited");
    let found = edited.config.module("found").expect("it is there");
    assert_eq!(found.file, std::path::Path::new("up/v2.wasm"));
    let canary = found.canary.as_ref().expect("a canary");
    assert_eq!(
        (canary.file.to_str(), canary.percent),
        (Some("up/v3.wasm"), 5)
    );
    let declared = edited.config.module("declared").expect("it is there");
    assert!(declared.file.ends_with("dir/wasm/declared.wasm"));
    let edits = [
        Edit::RemovePipeline("first".into()),
        Edit::RemoveModule("found".into()),
    ];
    let removed = edit(&edited, &edits).expect("removed");
    assert_eq!(ids(&removed), (vec![], vec!["declared"]));
}

#[test]
fn everything_that_is_wrong_is_said_and_nothing_is_changed() {
    let base = base();
    let bad = EditText::new(
        "bad.toml",
        "pipeline_id = \"bad\"\nstages = 3\nenabeld = true\n",
    );
    let edits = [
        Edit::AddPipeline(bad),
        Edit::RemovePipeline("frist".into()),
        Edit::RemoveModule("declared".into()),
        Edit::ReplaceModule(EditText::new("m.toml", "id = \"found\"\n")),
        Edit::AddModule(EditText::new("n.toml", "id = ")),
    ];
    let said = problems(edit(&base, &edits)).join("\n");
    for part in [
        "bad.toml:2:10: error: pipelines[1].stages:",
        "bad.toml:3:1: error: pipelines[1].enabeld: unknown field",
        "edit: error: pipelines: no pipeline is called \"frist\"",
        "edit: error: modules[0]: the module \"declared\" is in use: by first",
        "edit: error: modules: no module is declared as \"found\"",
        "n.toml:1:",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    let twice = problems(edit(
        &base,
        &[Edit::AddPipeline(pipeline("first", "found"))],
    ))
    .join("\n");
    assert!(
        twice.contains("first.toml:1:15: error: pipelines[1].pipeline_id: the pipeline \"first\" is already defined at dir/etl.toml:"),
        "{twice}"
    );
}

#[test]
fn many_edits_leave_no_trace() {
    let mut loaded = base();
    for round in 0..200 {
        let id = format!("p{round}");
        loaded = edit(&loaded, &[Edit::AddPipeline(pipeline(&id, "found"))]).expect("added");
        loaded = edit(&loaded, &[Edit::RemovePipeline(id)]).expect("removed");
    }
    assert!(format!("{loaded:?}").len() < 2 * format!("{:?}", base()).len());
}

#[test]
fn a_pipeline_is_shown_as_it_was_written() {
    let text = r#"{ "pipeline_id": "p", "name": "in ${REGION}, $${not} ${NONE:x}", "stages": [
        { "priority": 0, "modules": [{ "module_id": "m", "instance_config": { "custom_config": { "key": "${REGION}" } } }] }] }"#;
    let options = LoadOptions::isolated().variable("REGION", "a secret place");
    let add = [Edit::AddPipeline(EditText::new("p.json", text))];
    let loaded = base().edited(&add, &options).expect("added");
    let mut expected: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(
        loaded.config.pipelines[1].name,
        "in a secret place, ${not} x"
    );
    assert_eq!(loaded.pipeline_as_written("p"), Some(expected.clone()));
    let pipelines = &loaded.config.pipelines;
    assert_eq!(
        loaded.name_as_written(&pipelines[1]),
        "in ${REGION}, $${not} ${NONE:x}"
    );
    assert_eq!(loaded.name_as_written(&pipelines[0]), pipelines[0].id);
    let off = edit(&loaded, &[Edit::DisablePipeline("p".into())]).expect("disabled");
    expected["enabled"] = false.into();
    assert_eq!(off.pipeline_as_written("p"), Some(expected));
    let first = off.pipeline_as_written("first").expect("it is there");
    assert_eq!(first["stages"][0]["modules"][1]["module_id"], "found");
    assert_eq!(off.pipeline_as_written("none"), None);
}
