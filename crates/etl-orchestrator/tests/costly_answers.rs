//! Answers that would cost the host too much: a module says much in few bytes, and only its own record pays for that.

use std::fmt::Write;
use std::sync::Arc;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{
    Change, Delta, FailureKind, Headers, NewRecord, Options, Orchestrator, Outcome, Record, Reply,
    TransformFor, View,
};

/// What becomes of records alone and in a batch, in a sequential and in a parallel stage: the same each time.
fn handled(records: &[Arc<Record>], answer: fn(&View) -> Vec<Change>) -> Vec<Outcome> {
    let mut all: Vec<Vec<Outcome>> = Vec::new();
    for parallel in [false, true] {
        let text = format!(
            "[[pipelines]]\npipeline_id = \"p\"\nerror_handling = \"SendToDeadLetter\"\n\
             stages = [{{ priority = 0, parallel_execution = {parallel}, modules = [{{ module_id = \"m\" }}] }}]\n"
        );
        let loaded = load_text("etl.toml", &text, &LoadOptions::isolated()).expect("it loads");
        let mut options = Options::default();
        options.lanes = Some(1);
        options.transforms = Some(TransformFor::new(move |_| {
            Arc::new(move |view: &View| Reply::Change(Delta::from_iter(answer(view))))
        }));
        let orchestrator = Orchestrator::start(loaded, options).expect("good");
        let mut lane = orchestrator.lane();
        let alone = records.iter().map(|record| lane.process(record));
        all.push(
            alone
                .map(|progress| progress.done().expect("done"))
                .collect(),
        );
        let batch = lane.process_batch(records).into_iter();
        all.push(
            batch
                .map(|progress| progress.done().expect("done"))
                .collect(),
        );
    }
    for others in &all[1..] {
        for (outcome, other) in all[0].iter().zip(others) {
            assert_eq!(outcome.outputs, other.outputs);
            assert_eq!(outcome.dead_letters.len(), other.dead_letters.len());
        }
    }
    all.swap_remove(0)
}

/// What the dead letter of a record says, of which nothing else came.
fn refused(outcome: &Outcome) -> &str {
    assert!(outcome.outputs.is_empty() && outcome.dead_letters.len() == 1);
    assert_eq!(outcome.dead_letters[0].kind(), FailureKind::InvalidOutput);
    outcome.dead_letters[0].error.message()
}

/// As many changes as the value says.
fn as_many_headers(view: &View) -> Vec<Change> {
    let count: usize = std::str::from_utf8(view.value())
        .expect("text")
        .parse()
        .expect("a number");
    (0..count)
        .map(|number| Change::SetHeader(number.to_string().into(), "x".into()))
        .collect()
}

#[test]
fn a_record_is_changed_so_often_and_no_more() {
    let counts = ["4096", "4097", "1", "1000000"];
    let records = counts.map(|count| Arc::new(Record::new("t", count)));
    let outcomes = handled(&records, as_many_headers);
    assert_eq!(outcomes[0].outputs[0].headers().len(), 4096);
    let message = refused(&outcomes[1]);
    assert!(
        message.contains("4097 changes") && message.contains("4096"),
        "{message}"
    );
    assert_eq!(outcomes[2].outputs[0].headers().len(), 1);
    refused(&outcomes[3]);
}

#[test]
fn emitted_records_have_a_bound_of_their_own() {
    let record = Arc::new(Record::new("t", "x"));
    let emit = |_: &View| {
        let new = NewRecord {
            headers: Headers::from_iter([("h", "x")]),
            ..NewRecord::default()
        };
        let mut changes = vec![Change::Emit(Box::new(new)); 1024];
        changes.extend(vec![Change::AddHeader("h".into(), "y".into()); 4000]);
        changes
    };
    let outcomes = handled(&[record], emit);
    assert_eq!(outcomes[0].outputs.len(), 1025);
    assert_eq!(outcomes[0].outputs[0].headers().len(), 4000);
}

/// An object of one long member.
fn document(length: usize) -> Arc<Record> {
    let value = format!("{{\"a\":{{\"a\":0}},\"long\":\"{}\"}}", "x".repeat(length));
    Arc::new(Record::new("t", value))
}

#[test]
fn many_patches_of_a_long_value_are_refused_and_of_a_short_one_made() {
    let records = [document(1 << 20), document(100), document(1 << 20)];
    let outcomes = handled(&records, |view| {
        let count = if view.value().len() > 1000 {
            1000
        } else {
            2000
        };
        (0..count)
            .map(|number| Change::MergePatch(format!("{{\"n\":{number}}}").into()))
            .collect()
    });
    let message = refused(&outcomes[0]);
    assert!(message.contains("merge patches"), "{message}");
    assert!(outcomes[1].outputs[0].value().ends_with(b"\"n\":1999}"));
    refused(&outcomes[2]);
    // A few are what modules do.
    let outcomes = handled(&records, |_| {
        vec![Change::MergePatch(r#"{"a":{"a":1}}"#.into()); 10]
    });
    assert!(outcomes.iter().all(|outcome| outcome.outputs.len() == 1));
}

#[test]
fn a_patch_counts_for_each_of_its_levels() {
    fn deep(levels: usize) -> Vec<Change> {
        let mut patch = String::new();
        for _ in 0..levels {
            write!(patch, "{{\"a\":").expect("a string takes all");
        }
        patch.push('1');
        patch.push_str(&"}".repeat(levels));
        vec![Change::MergePatch(patch.into())]
    }
    // So many bytes are fine at a few levels, and at 120 more than there is room for.
    let record = [document(1 << 20)];
    assert_eq!(handled(&record, |_| deep(10))[0].outputs.len(), 1);
    refused(&handled(&record, |_| deep(120))[0]);
    assert_eq!(
        handled(&[document(1 << 16)], |_| deep(120))[0]
            .outputs
            .len(),
        1
    );
}

/// A guest that answers each record with so many changes, in as many bytes as these take.
fn guest(changes: u32) -> Vec<u8> {
    let length = 32 + 20 * changes;
    let text = format!(
        r#"(module
             (memory (export "memory") 64)
             (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 3000000))
             (func (export "etl_process_v1") (param i32 i32) (result i64)
               (local $at i32)
               ;; The frame at 65536: header, one verdict (change), and ops that take the timestamp away.
               (i32.store (i32.const 65536) (i32.const 0x524c5445))
               (i32.store (i32.const 65540) (i32.const 1))
               (i32.store (i32.const 65544) (i32.const 1))
               (i32.store (i32.const 65548) (i32.const {length}))
               (i32.store (i32.const 65552) (i32.const 4))
               (i32.store (i32.const 65560) (i32.const 32))
               (i32.store (i32.const 65564) (i32.const {changes}))
               (local.set $at (i32.const 65568))
               (loop $next
                 (i32.store (local.get $at) (i32.const 10))
                 (local.set $at (i32.add (local.get $at) (i32.const 20)))
                 (br_if $next (i32.lt_u (local.get $at) (i32.const {end}))))
               (i64.or (i64.shl (i64.const 65536) (i64.const 32)) (i64.const {length}))))"#,
        end = 65536 + length
    );
    wat::parse_str(text).expect("WAT")
}

#[test]
fn a_guest_that_asks_for_more_fails_for_its_record() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("modules")).expect("a folder");
    let file = folder.path().join("etl.toml");
    for (changes, is_refused) in [(1, false), (4096, false), (4097, true), (100_000, true)] {
        let module = folder.path().join("modules/m.wasm");
        std::fs::write(module, guest(changes)).expect("written");
        let text = "[[pipelines]]\npipeline_id = \"p\"\nerror_handling = \"SendToDeadLetter\"\n\
                    stages = [{ priority = 0, modules = [{ module_id = \"m\" }] }]\n";
        std::fs::write(&file, text).expect("written");
        let loaded = etl_config::load(&file, &LoadOptions::isolated()).expect("it loads");
        let mut options = Options::default();
        options.lanes = Some(1);
        let orchestrator = Orchestrator::start(loaded, options).expect("good");
        let record = Arc::new(Record {
            timestamp: Some(7),
            ..Record::new("t", "x")
        });
        let progress = orchestrator.lane().process(&record);
        let outcome = progress.done().expect("done");
        if is_refused {
            let message = refused(&outcome);
            assert!(message.contains(&format!("{changes} changes")), "{message}");
        } else {
            assert_eq!(outcome.outputs[0].timestamp(), None, "{outcome:?}");
        }
    }
}
