//! What guests say reaches `tracing`, within its limits and without what could be taken for a line of the host's.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::common::{ECHO, in_ms, pool, record, records, template, v1, words};

/// Keeps every line of guests: level, module, text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String, String)>>>);

#[derive(Default)]
struct Fields {
    module: String,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "module" {
            self.module = value.to_owned();
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "etl_guest"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = (*event.metadata().level(), fields.module, fields.message);
        self.0.lock().expect("no test panics here").push(line);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Lines {
    fn take(&self) -> Vec<(Level, String, String)> {
        std::mem::take(&mut *self.0.lock().expect("no test panics here"))
    }
}

/// Logs the value of every record as a warning.
fn saying() -> Vec<u8> {
    v1(
        r#"(import "etl" "log" (func $log (param i32 i32 i32)))"#,
        &format!("(call $log (i32.const 2) (local.get $value) (local.get $length)) {ECHO}"),
    )
}

/// Waits for the beginning of a second, so that what follows lies in one.
fn whole_second() {
    loop {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is later than 1970");
        if now.subsec_millis() < 300 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lines_carry_level_and_module_and_nothing_that_looks_like_another_line() {
    let pool = pool();
    let template = template(&pool, &saying());
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let long = "x".repeat(5_000);
        let values = ["one", "two\n\nthree\r\x1b[31m", "", &long];
        let verdicts = pool
            .shelves()
            .call(&template, &records(&values), in_ms(5_000))
            .unwrap();
        assert_eq!(words(&verdicts)[0], "=one");
    });
    let lines = lines.take();
    assert!(
        lines
            .iter()
            .all(|(level, module, _)| *level == Level::WARN && module == "guest")
    );
    let texts: Vec<&str> = lines.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "one",
            "two",
            "three\u{fffd}\u{fffd}[31m",
            &"x".repeat(4_096)
        ]
    );
}

/// A text of thousands of lines is as many lines, not one.
#[test]
fn the_limit_is_on_lines_however_they_come() {
    let pool = pool();
    let template = template(&pool, &saying());
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let mut shelves = pool.shelves();
        let many = "a\n".repeat(8_000);
        whole_second();
        for _ in 0..3 {
            shelves
                .call(&template, &[record(many.as_bytes())], in_ms(5_000))
                .unwrap();
        }
    });
    let told = lines.take().len();
    // A second may turn meanwhile, and what was left out is told in a line more.
    assert!((100..=202).contains(&told), "{told}");
}
