//! Files and folders as they are found on disks: missing, huge, of another encoding, several.

use std::fs;
use std::path::{Path, PathBuf};

use etl_config::{
    ConfigPath, LoadOptions, Loaded, MAX_FILE_BYTES, Report, Severity, load, load_text,
};

const PIPELINE: &str = r#"{ "pipeline_id": "NAME", "stages": [{ "priority": 0, "modules": [{ "module_id": "m" }] }] }"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn try_load(path: &Path) -> Result<Loaded, Report> {
    load(path, &LoadOptions::isolated())
}

fn only(report: &Report) -> String {
    assert_eq!(report.problems().len(), 1, "{report}");
    report.problems()[0].to_string()
}

#[test]
fn a_folder_is_one_configuration() {
    let folder = folder(&[
        (
            "etl.toml",
            "[engine]\nlanes = 2\n[[modules]]\nid = \"m\"\npath = \"bin/m.wasm\"\n[[pipelines]]\npipeline_id = \"first\"\nstages = [{ priority = 0, modules = [{ module_id = \"n\" }] }]\n",
        ),
        ("pipelines/b.json", &PIPELINE.replace("NAME", "b")),
        (
            "pipelines/a.toml",
            "pipeline_id = \"a\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\" }] }]\n",
        ),
        ("pipelines/README.md", "not a pipeline"),
        ("pipelines/.hidden.json", "not one either"),
    ]);
    let loaded = try_load(folder.path()).unwrap_or_else(|report| panic!("{report}"));
    let ids: Vec<&str> = loaded
        .config
        .pipelines
        .iter()
        .map(|pipeline| pipeline.id.as_str())
        .collect();
    assert_eq!(ids, ["first", "a", "b"]);
    let paths: Vec<String> = loaded
        .config
        .pipelines
        .iter()
        .map(|pipeline| pipeline.path.to_string())
        .collect();
    assert_eq!(paths, ["pipelines[0]", "pipelines[1]", "pipelines[2]"]);
    let files: Vec<PathBuf> = loaded
        .config
        .modules
        .iter()
        .map(|module| module.file.clone())
        .collect();
    assert_eq!(
        files,
        [
            folder.path().join("bin/m.wasm"),
            folder.path().join("modules/n.wasm")
        ]
    );
    assert_eq!(loaded.files.len(), 3);
    let problem = loaded.problem(
        &loaded.config.pipelines[2].path.key("pipeline_id"),
        "late",
        None,
        None,
    );
    assert_eq!(
        (problem.file(), problem.line(), problem.column()),
        (
            &*folder.path().join("pipelines/b.json").display().to_string(),
            Some(1),
            Some(18)
        )
    );
}

#[test]
fn a_folder_reports_the_problems_of_all_its_files() {
    let folder = folder(&[
        ("etl.toml", "[engine]\nlanes = 0\n"),
        ("pipelines/a.json", &PIPELINE.replace("NAME", "same")),
        ("pipelines/b.json", "{ broken"),
        ("pipelines/c.json", &PIPELINE.replace("NAME", "same")),
        (
            "pipelines/d.toml",
            "[[pipelines]]\npipeline_id = \"whole\"\n",
        ),
    ]);
    let report = try_load(folder.path()).expect_err("all wrong");
    let found: Vec<String> = report
        .problems()
        .iter()
        .map(|problem| {
            format!(
                "{} {} {}",
                Path::new(problem.file())
                    .file_name()
                    .expect("a name")
                    .display(),
                problem.path(),
                problem.message()
            )
        })
        .collect();
    let [engine, broken, same, whole] = found.as_slice() else {
        panic!("{found:#?}")
    };
    assert_eq!(engine, "etl.toml engine.lanes 0 is out of bounds");
    assert!(broken.starts_with("b.json  key must be"), "{broken}");
    assert!(
        same.starts_with(
            "c.json pipelines[2].pipeline_id the pipeline \"same\" is already defined at "
        ),
        "{same}"
    );
    assert!(same.ends_with("a.json:1:18"), "{same}");
    assert_eq!(
        whole,
        "d.toml pipelines[3] a file in `pipelines` holds one pipeline, not a configuration"
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    let empty = folder(&[("notes.txt", "")]);
    assert!(
        only(&try_load(empty.path()).expect_err("nothing there"))
            .ends_with("the folder holds no configuration")
    );
    let missing = empty.path().join("no.toml");
    assert!(
        only(&try_load(&missing).expect_err("missing"))
            .contains("no.toml: error: cannot be read: ")
    );
    let latin = empty.path().join("latin.toml");
    fs::write(&latin, b"# fine\nname = \"caf\xE9\"\n").expect("a file");
    assert!(
        only(&try_load(&latin).expect_err("latin"))
            .ends_with("latin.toml:2:12: error: this is not UTF-8")
    );
    let wide = empty.path().join("wide.json");
    fs::write(&wide, [0xFF, 0xFE, b'{', 0, b'}', 0]).expect("a file");
    let report = try_load(&wide).expect_err("UTF-16");
    assert_eq!(
        report.problems()[0].hint(),
        Some("it looks like UTF-16: save it as UTF-8")
    );
    let huge = empty.path().join("huge.toml");
    fs::File::create(&huge)
        .and_then(|file| file.set_len(MAX_FILE_BYTES + 1))
        .expect("a sparse file");
    assert!(
        only(&try_load(&huge).expect_err("huge")).ends_with("huge.toml: error: larger than 64 MiB")
    );
}

#[test]
fn a_byte_order_mark_and_other_line_ends_are_taken() {
    for (name, text) in [
        ("a.json", "\u{FEFF}{\r\n  \"engine\": { \"lanes\": 0 } }"),
        ("a.toml", "\u{FEFF}[engine]\r\nlanes = 0\r\n"),
    ] {
        let report = load_text(name, text, &LoadOptions::isolated()).expect_err("no lanes");
        assert_eq!(report.problems()[0].line(), Some(2), "{report}");
    }
}

#[test]
fn the_first_character_tells_where_the_name_does_not() {
    for text in ["{\"engine\": {\"lanes\": 3}}", "engine.lanes = 3"] {
        let loaded = load_text("etl.conf", text, &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.config.engine.lanes, Some(3));
    }
}

#[test]
fn modules_are_looked_for_where_the_caller_says() {
    let options = LoadOptions::isolated().modules_dir("elsewhere");
    let loaded = load_text("dir/p.json", &PIPELINE.replace("NAME", "p"), &options)
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.config.modules[0].file, Path::new("elsewhere/m.wasm"));
    let loaded = load_text(
        "dir/p.json",
        &PIPELINE.replace("NAME", "p"),
        &LoadOptions::isolated(),
    )
    .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(
        loaded.config.modules[0].file,
        Path::new("dir/modules/m.wasm")
    );
    assert_eq!(
        loaded.config.modules[0].path.to_string(),
        "pipelines[0].stages[0].modules[0].module_id"
    );
}

#[test]
fn warnings_become_errors_where_they_are_denied() {
    let text = "[[modules]]\nid = \"unused\"\n";
    let loaded = load_text("a.toml", text, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings.len(), 2);
    let report = load_text("a.toml", text, &LoadOptions::isolated().deny_warnings(true))
        .expect_err("denied");
    assert_eq!(
        (
            report.count(Severity::Error),
            report.count(Severity::Warning)
        ),
        (2, 0)
    );
}

#[test]
fn what_building_finds_is_shown_inside_the_pattern() {
    let text = r#"{ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "m",
  "topic_filters": [{ "filter_type": "Regex", "pattern": "\u00e9\\.${SITE}\\.(" }] }] }] }"#;
    let loaded = load_text(
        "p.json",
        text,
        &LoadOptions::isolated().variable("SITE", "berlin"),
    )
    .unwrap_or_else(|report| panic!("{report}"));
    let filter = loaded.config.pipelines[0].stages[0].modules[0]
        .filter
        .leaves()
        .next()
        .expect("one filter");
    assert_eq!(filter.pattern, r"é\.berlin\.(");
    let offset = filter.pattern.find('(').expect("there");
    let problem = loaded.problem(
        &filter.path.key("pattern"),
        "unclosed group",
        Some("close it".into()),
        Some(offset),
    );
    let column = text
        .lines()
        .nth(1)
        .expect("two lines")
        .find('(')
        .expect("there")
        + 1;
    assert_eq!((problem.line(), problem.column()), (Some(2), Some(column)));
    let inside = loaded.problem(
        &filter.path.key("pattern"),
        "bad site",
        None,
        filter.pattern.find("lin"),
    );
    let column = text
        .lines()
        .nth(1)
        .expect("two lines")
        .find("${SITE}")
        .expect("there")
        + 1;
    assert_eq!(inside.column(), Some(column));
    let nowhere = loaded.problem(
        &ConfigPath::root().key("engine").key("lanes"),
        "too many",
        None,
        None,
    );
    assert_eq!((nowhere.line(), nowhere.column()), (Some(1), Some(1)));
}

#[test]
fn a_report_is_json_for_programs() {
    let report = load_text("a.toml", "[engine]\nlane = 1\n", &LoadOptions::isolated())
        .expect_err("misspelt");
    assert_eq!(
        report.to_json(),
        serde_json::json!({
            "errors": 1,
            "warnings": 0,
            "problems": [{
                "severity": "error", "file": "a.toml", "line": 2, "column": 1, "path": "engine.lane",
                "message": "unknown field `lane`", "hint": "did you mean `lanes`?",
            }],
        })
    );
    assert!(
        report.render(true).contains("\u{1b}["),
        "colour where it is wanted"
    );
    assert!(!report.render(false).contains('\u{1b}'), "and only there");
}

#[test]
fn a_secret_from_the_environment_is_not_repeated() {
    let options = LoadOptions::isolated().variable("SECRET", "hunter2");
    for field in ["error_handling", "max_retries", "enabled"] {
        let text = PIPELINE.replace("NAME", "p").replace(
            "{ \"pipeline_id\"",
            &format!("{{ \"{field}\": \"${{SECRET}}\", \"pipeline_id\""),
        );
        let report = load_text("p.json", &text, &options).expect_err(field);
        assert!(
            !report.render(false).contains("hunter2")
                && !report.to_json().to_string().contains("hunter2"),
            "{report}"
        );
    }
}
