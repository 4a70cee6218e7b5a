//! Changes while running, with real modules: edits, generations, canaries and shadows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_config::{Edit, EditText, LoadOptions, Loaded, load};
use etl_orchestrator::{
    ChangeErrorKind, ChangeOptions, Lane, Options, Orchestrator, Outcome, Record,
};

/// A legacy module that answers with this byte.
fn always(byte: char) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 16) (data (i32.const 900000) "\01\00\00\00{byte}")
             (func (export "transform") (param i32 i32) (result i32) (i32.const 900000)))"#
    );
    wat::parse_str(text).expect("WAT")
}

/// A legacy module that answers with this byte, but traps where a record begins with `!`.
fn touchy(byte: char) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 16) (data (i32.const 900000) "\01\00\00\00{byte}")
             (func (export "transform") (param i32 i32) (result i32)
               (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 33)) (then unreachable))
               (i32.const 900000)))"#
    );
    wat::parse_str(text).expect("WAT")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(folder.path().join("modules")).expect("a folder");
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn module(&self, id: &str, bytes: &[u8]) -> &Self {
        std::fs::write(self.file(id), bytes).expect("written");
        self
    }

    fn file(&self, id: &str) -> PathBuf {
        self.path().join("modules").join(format!("{id}.wasm"))
    }

    fn load(&self, text: &str) -> Loaded {
        let path = self.path().join("etl.toml");
        std::fs::write(&path, text).expect("written");
        load(&path, &LoadOptions::isolated())
            .unwrap_or_else(|report| panic!("{}", report.render(false)))
    }

    fn start(&self, text: &str) -> Arc<Orchestrator> {
        let mut options = Options::default();
        options.lanes = Some(1);
        Orchestrator::start(self.load(text), options)
            .unwrap_or_else(|report| panic!("{}", report.render(false)))
    }
}

const ONE: &str = r#"
[[pipelines]]
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "one" }] }]
"#;

fn canary(settings: &str) -> String {
    format!(
        "[[modules]]\nid = \"one\"\ncanary = {{ path = \"modules/two.wasm\", {settings} }}\n{ONE}"
    )
}

fn process(lane: &mut Lane, offset: u64, value: &str) -> Outcome {
    let record = Record {
        offset,
        ..Record::new("t", value.to_owned())
    };
    lane.process(&Arc::new(record))
        .done()
        .expect("nothing is deferred")
}

fn answer(lane: &mut Lane, offset: u64) -> String {
    let outcome = process(lane, offset, "x");
    String::from_utf8(outcome.outputs[0].value().to_vec()).expect("text")
}

fn pipeline(id: &str, module: &str) -> EditText {
    let text = format!(
        r#"{{ "pipeline_id": "{id}", "order": 1, "stages": [{{ "priority": 0, "modules": [{{ "module_id": "{module}" }}] }}] }}"#
    );
    EditText::new(format!("{id}.json"), text)
}

fn now() -> ChangeOptions {
    ChangeOptions::default()
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn each_edit_is_one_swap_or_nothing() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", &always('2'));
    let orchestrator = folder.start(ONE);
    let mut lane = orchestrator.lane();
    let files = LoadOptions::isolated();
    let edit = |edits: &[Edit], options: &ChangeOptions| orchestrator.edit(edits, &files, options);
    assert_eq!(answer(&mut lane, 0), "1");

    let mut dry = now();
    dry.dry_run = true;
    let add = Edit::AddPipeline(pipeline("q", "two"));
    assert_eq!(
        edit(std::slice::from_ref(&add), &dry)
            .expect("it could")
            .generation,
        2
    );
    assert_eq!(
        (orchestrator.generation(), answer(&mut lane, 0)),
        (1, "1".to_owned())
    );

    let mut seen = now();
    seen.expected_generation = Some(1);
    seen.cause = "anna: two after one".to_owned();
    assert_eq!(edit(&[add], &seen).expect("it can").generation, 2);
    assert_eq!(answer(&mut lane, 0), "2");
    let late = edit(&[Edit::RemovePipeline("q".into())], &seen).expect_err("too late");
    assert_eq!(late.kind(), ChangeErrorKind::Conflict);
    assert_eq!(late.to_string(), "generation 2 is in force, not 1");

    let bad = edit(
        &[
            Edit::DisablePipeline("q".into()),
            Edit::AddPipeline(pipeline("r", "three")),
        ],
        &now(),
    )
    .expect_err("there is no such module");
    assert_eq!(bad.kind(), ChangeErrorKind::Invalid);
    let problem = &bad.report().expect("a report").problems()[0];
    assert!(problem.to_string().starts_with("r.json:1:"), "{problem}");
    assert_eq!(
        (orchestrator.generation(), answer(&mut lane, 0)),
        (2, "2".to_owned())
    );

    edit(&[Edit::DisablePipeline("q".into())], &now()).expect("disabled");
    assert_eq!(answer(&mut lane, 0), "1");
    edit(&[Edit::EnablePipeline("q".into())], &now()).expect("enabled");
    assert_eq!(answer(&mut lane, 0), "2");
    let listed: Vec<(String, bool)> = orchestrator
        .pipelines()
        .into_iter()
        .map(|pipeline| (pipeline.id, pipeline.enabled))
        .collect();
    assert_eq!(listed, [("p".to_owned(), true), ("q".to_owned(), true)]);
    let modules = orchestrator.modules();
    assert_eq!(modules[1].used_by, ["q"]);
    assert_eq!(
        modules[0].sha256.as_ref().map(|sha256| sha256.len()),
        Some(64)
    );

    let causes: Vec<(u64, String)> = orchestrator
        .generations()
        .into_iter()
        .map(|kept| (kept.generation, kept.cause))
        .collect();
    let edited = |generation| (generation, "edit".to_owned());
    assert_eq!(
        causes,
        [
            (1, "start".to_owned()),
            (2, "anna: two after one".to_owned()),
            edited(3),
            edited(4)
        ]
    );
    let difference = orchestrator.difference(1, 3).expect("both are kept");
    assert_eq!(difference.pipelines_added, ["q"]);
    assert_eq!(difference.modules_added, ["two"]);
    assert!(difference.pipelines_changed.is_empty() && !difference.settings_changed);
    assert_eq!(
        orchestrator
            .difference(2, 3)
            .expect("kept")
            .pipelines_changed,
        ["q"]
    );
    assert_eq!(
        orchestrator.difference(2, 4).expect("kept"),
        Default::default()
    );
}

#[test]
fn an_earlier_generation_comes_back_with_its_bytes() {
    let folder = Folder::new();
    folder.module("one", &always('1'));
    let orchestrator = folder.start(ONE);
    let mut lane = orchestrator.lane();
    folder.module("one", &always('2'));
    orchestrator.reload(folder.load(ONE)).expect("reloaded");
    assert_eq!(answer(&mut lane, 0), "2");
    assert_eq!(
        orchestrator.difference(1, 2).expect("kept").modules_changed,
        ["one"]
    );

    assert_eq!(
        orchestrator.roll_back(1, &now()).expect("kept").generation,
        3
    );
    assert_eq!(answer(&mut lane, 0), "1");
    assert_eq!(
        orchestrator.roll_back(2, &now()).expect("kept").generation,
        4
    );
    assert_eq!(answer(&mut lane, 0), "2");
    let unknown = orchestrator
        .roll_back(99, &now())
        .expect_err("there is none");
    assert_eq!(unknown.kind(), ChangeErrorKind::Unknown);
    for _ in 0..10 {
        orchestrator.reload(folder.load(ONE)).expect("reloaded");
    }
    assert_eq!(orchestrator.generations().len(), 8);
    assert!(orchestrator.roll_back(4, &now()).is_err(), "long gone");
}

#[test]
fn a_canary_takes_its_part_of_the_records_and_always_the_same() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", &always('2'));
    let orchestrator = folder.start(&canary("percent = 20"));
    let mut lane = orchestrator.lane();
    let answers: Vec<String> = (0..2000).map(|offset| answer(&mut lane, offset)).collect();
    let share = answers.iter().filter(|answer| *answer == "2").count();
    assert!((340..460).contains(&share), "{share} of 2000 are not 20 %");
    // In a batch, and once more: the same records.
    let batch: Vec<Arc<Record>> = (0..2000)
        .map(|offset| {
            Arc::new(Record {
                offset,
                ..Record::new("t", "x")
            })
        })
        .collect();
    let again: Vec<String> = lane
        .process_batch(&batch)
        .into_iter()
        .map(|progress| {
            let outcome = progress.done().expect("done");
            String::from_utf8(outcome.outputs[0].value().to_vec()).expect("text")
        })
        .collect();
    assert_eq!(answers, again);
    let status = &orchestrator.canaries()[0];
    assert_eq!(status.canary.records, 2 * share as u64);
    assert_eq!(status.stable.records, 2 * (2000 - share as u64));

    // Trying it dry changes nothing; promoted, it is the module.
    let mut dry = now();
    dry.dry_run = true;
    assert_eq!(
        orchestrator
            .promote("one", &dry)
            .expect("it could")
            .generation,
        2
    );
    assert_eq!(
        orchestrator
            .promote("one", &now())
            .expect("it can")
            .generation,
        2
    );
    assert!((0..100).all(|offset| answer(&mut lane, offset) == "2"));
    assert!(orchestrator.canaries().is_empty());
    assert_eq!(orchestrator.modules()[0].file, folder.file("two"));
    let over = orchestrator.promote("one", &now()).expect_err("it is over");
    assert_eq!(over.kind(), ChangeErrorKind::Unknown);
}

#[test]
fn a_canary_is_rolled_back_by_one_call_and_not_tried_again() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", &always('2'));
    let text = canary("percent = 100");
    let orchestrator = folder.start(&text);
    let mut lane = orchestrator.lane();
    assert_eq!(answer(&mut lane, 0), "2");
    assert_eq!(
        orchestrator
            .roll_back_canary("one", &now())
            .expect("it can")
            .generation,
        2
    );
    assert_eq!(answer(&mut lane, 0), "1");
    orchestrator.reload(folder.load(&text)).expect("reloaded");
    assert_eq!(
        answer(&mut lane, 0),
        "1",
        "what was rolled back is not tried again"
    );
    assert!(!orchestrator.canaries()[0].running);

    // Other bytes are another version.
    folder.module("two", &always('3'));
    orchestrator.reload(folder.load(&text)).expect("reloaded");
    assert_eq!(answer(&mut lane, 0), "3");
    orchestrator
        .roll_back_canary("one", &now())
        .expect("it can");
    // Whoever declares the module anew wants it tried.
    let declared = EditText::new(
        folder.path().join("m.toml").display().to_string(),
        "id = \"one\"\ncanary = { path = \"modules/two.wasm\", percent = 100 }\n",
    );
    orchestrator
        .edit(
            &[Edit::ReplaceModule(declared)],
            &LoadOptions::isolated(),
            &now(),
        )
        .expect("declared");
    assert_eq!(answer(&mut lane, 0), "3");
}

#[test]
fn a_canary_that_fails_too_often_is_rolled_back() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", &touchy('2'));
    let text = canary("percent = 50, min_samples = 40, max_error_increase = 0.1").replace(
        "pipeline_id = \"p\"",
        "pipeline_id = \"p\"\nerror_handling = \"SendToDeadLetter\"",
    );
    let orchestrator = folder.start(&text);
    let mut lane = orchestrator.lane();
    let stable_sha256 = orchestrator.modules()[0].sha256.clone().expect("a digest");
    let mut dead_letters = 0;
    for offset in 0..60 {
        let outcome = process(&mut lane, offset, if offset % 2 == 0 { "!" } else { "x" });
        for letter in &outcome.dead_letters {
            dead_letters += 1;
            let sha256 = letter.record.headers.first("etl-dlq-module-sha256");
            let sha256 = sha256.expect("the digest of what failed");
            assert_ne!(
                sha256,
                stable_sha256.as_bytes(),
                "the new version failed, not the present one"
            );
        }
    }
    assert!(dead_letters > 0);
    assert_eq!(orchestrator.generation(), 1, "so few say nothing yet");
    let mut offset = 60;
    wait_until(|| {
        process(&mut lane, offset, "!");
        offset += 1;
        orchestrator.generation() == 2
    });
    assert!((0..100).all(|offset| answer(&mut lane, offset) == "1"));
    let status = &orchestrator.canaries()[0];
    assert!(!status.running && status.canary.error_rate() > 0.1);
    assert_eq!(status.stable.failed, 0);
    let last = orchestrator.generations().pop().expect("one is in force");
    assert_eq!(last.cause, "the new version of one failed too often");
}

#[test]
fn a_shadow_is_compared_and_never_used() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", &touchy('1'));
    let text =
        canary("mode = \"shadow\", percent = 100, min_samples = 100, max_error_increase = 0.5");
    let orchestrator = folder.start(&text);
    let mut lane = orchestrator.lane();
    let seen = |offset| orchestrator.canaries()[0].canary.records == offset;
    for offset in 0..10 {
        assert_eq!(answer(&mut lane, offset), "1");
        wait_until(|| seen(offset + 1));
    }
    assert_eq!(orchestrator.canaries()[0].different, 0);
    for offset in 10..20 {
        let outcome = process(&mut lane, offset, "!");
        assert_eq!(
            (&**outcome.outputs[0].value(), outcome.skipped),
            (&b"1"[..], 0)
        );
        wait_until(|| seen(offset + 1));
    }
    let status = orchestrator.canaries().remove(0);
    assert_eq!(
        (status.different, status.canary.failed, status.skipped),
        (10, 10, 0)
    );
    assert_eq!((status.stable.records, status.stable.failed), (20, 0));
    assert_eq!(orchestrator.generation(), 1);
    let mut offset = 20;
    wait_until(|| {
        process(&mut lane, offset, "!");
        offset += 1;
        orchestrator.generation() == 2
    });
    assert!(!orchestrator.canaries()[0].running);
}

#[test]
fn a_slow_shadow_costs_no_record_its_time() {
    let folder = Folder::new();
    let endless = wat::parse_str(
        r#"(module (memory (export "memory") 16)
             (func (export "transform") (param i32 i32) (result i32) (loop (br 0)) (i32.const 0)))"#,
    );
    folder
        .module("one", &always('1'))
        .module("two", &endless.expect("WAT"));
    let text = canary("mode = \"shadow\", percent = 100, max_error_increase = 1.0");
    let orchestrator = folder.start(&text);
    let mut lane = orchestrator.lane();
    let started = Instant::now();
    for offset in 0..200 {
        assert_eq!(answer(&mut lane, offset), "1");
    }
    // Its time is a second a record, of which none is theirs.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let status = orchestrator.canaries().remove(0);
    assert!(status.skipped >= 100, "{status:?}");
    assert_eq!(status.stable.records, 200);
    drop(lane);
}

#[test]
fn a_bad_canary_is_a_problem_at_its_place() {
    let folder = Folder::new();
    folder
        .module("one", &always('1'))
        .module("two", b"not wasm");
    let report = Orchestrator::start(folder.load(&canary("percent = 1")), Options::default())
        .expect_err("it is no module");
    assert_eq!(report.problems()[0].path().to_string(), "modules[0].canary");
    assert_eq!(report.problems().len(), 1);
}
