//! The attribute, the output and the guest's buffers, natively.

use etl_abi::response::ResponseReader;
use etl_abi::{Verdict, request};
use etl_sdk::guest::Guest;
use etl_sdk::prelude::*;
use etl_sdk::testing::{Outcome, TestRecord, config, counted, run, run_batch};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    limit: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { limit: 10 }
    }
}

/// One arm per thing that can be said.
#[transform]
fn everything(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    match record.text()? {
        "keep" => {}
        "drop" => {
            out.emit(NewRecord::new("forgotten"));
            out.drop_record();
        }
        "fail" => return Err(Error::retryable("later").code(3)),
        "parse" => {
            "x".parse::<i64>()?;
        }
        "emit" => {
            out.emit(NewRecord::new("plain"));
            out.emit(
                NewRecord::json(&json!({ "a": 1 }))?
                    .topic("other")
                    .key("k")
                    .timestamp(9)
                    .header("h", "v"),
            );
        }
        "change" => {
            out.set_json(&json!({ "limit": config.limit, "gone": true }))?;
            out.merge_patch(&json!({ "gone": null, "new": [1] }))?;
            out.set_key("key");
            out.set_topic("elsewhere");
            out.add_header("path", "b");
            out.set_header("only", "one");
            out.remove_header("secret");
            out.set_timestamp(7);
        }
        "clear" => {
            out.clear_key();
            out.clear_timestamp();
        }
        "unwritable" => {
            out.add_header("seen", "before");
            let keys_are_lists = std::collections::BTreeMap::from([(vec![1], 1)]);
            return out.set_json(&keys_are_lists);
        }
        "count" => {
            counter("things", 2);
            info!("at {} with {}", now(), random());
        }
        other => return Err(Error::permanent(format!("{other:?} is not known"))),
    }
    Ok(())
}

/// Without a config and without a result.
#[transform]
fn shout(record: &Record<'_>, out: &mut Output) {
    out.set_value(record.value().to_ascii_uppercase());
}

fn record(value: &str) -> TestRecord {
    let record = TestRecord::new("topic")
        .value(value)
        .key("old")
        .timestamp(5);
    record
        .header("path", "a")
        .header("only", "1")
        .header("secret", "s")
        .header("only", "2")
        .at(3, 4)
}

#[test]
fn verdicts_of_a_batch_stay_apart() {
    let inputs = [
        "keep",
        "drop",
        "fail",
        "parse",
        "clear",
        "unwritable",
        "nonsense",
        "keep",
    ];
    let outcomes = run_batch(everything, inputs.map(record).to_vec(), ());
    assert!(outcomes[0].is_kept() && outcomes[7].is_kept());
    assert_eq!(outcomes[0].text(), "keep");
    assert!(outcomes[1].is_dropped() && outcomes[1].emitted().is_empty());
    let failed = outcomes[2].failure().unwrap();
    assert_eq!(
        (failed.code, failed.message.as_str(), failed.retryable),
        (3, "later", true)
    );
    let failed = outcomes[3].failure().unwrap();
    assert_eq!(
        (failed.code, failed.message.as_str(), failed.retryable),
        (0, "invalid digit found in string", false)
    );
    assert!(outcomes[4].is_changed());
    assert_eq!((outcomes[4].key(), outcomes[4].timestamp()), (None, None));
    assert_eq!(
        outcomes[5].failure().unwrap().message,
        "key must be a string"
    );
    assert_eq!(outcomes[5].header("seen"), None);
    assert_eq!(
        outcomes[6].failure().unwrap().message,
        "\"nonsense\" is not known"
    );
}

#[test]
fn changes_apply_in_order() {
    let outcome = run(everything, record("change"), json!({ "limit": 12 }));
    assert_eq!(outcome.json(), json!({ "limit": 12, "new": [1] }));
    assert_eq!(
        (outcome.topic(), outcome.key(), outcome.timestamp()),
        ("elsewhere", Some(&b"key"[..]), Some(7))
    );
    assert_eq!(outcome.headers("path"), ["a", "b"]);
    assert_eq!(outcome.headers("only"), ["one"]);
    assert_eq!(outcome.header("secret"), None);
}

#[test]
fn emitted_records_inherit_topic_and_timestamp() {
    let outcome = run(everything, record("emit"), ());
    assert!(outcome.is_changed());
    let [plain, other] = outcome.emitted() else {
        panic!("two records")
    };
    assert_eq!(
        (plain.topic(), plain.text(), plain.key(), plain.timestamp()),
        ("topic", "plain", None, Some(5))
    );
    assert_eq!(
        (other.topic(), other.text(), other.key(), other.timestamp()),
        ("other", r#"{"a":1}"#, Some(&b"k"[..]), Some(9))
    );
    assert_eq!(other.header("h"), Some("v"));
}

#[test]
fn a_config_defaults_and_says_what_is_wrong() {
    for empty in [json!(null), json!({})] {
        assert_eq!(config::<Config>(empty).unwrap().limit, 10);
    }
    let message = config::<Config>(json!({ "limits": 1 })).unwrap_err();
    assert!(
        message.starts_with("custom_config: unknown field `limits`, expected `limit`"),
        "{message}"
    );
}

#[test]
fn counters_add_up() {
    let outcomes = run_batch(everything, vec![record("count"), record("count")], ());
    assert!(outcomes.iter().all(Outcome::is_kept));
    assert_eq!(counted("things"), 4);
}

/// As a host does: ask for room, write, call, read; the same room serves again.
#[test]
fn the_guest_reuses_its_buffers() {
    let mut guest = Guest::new();
    let records = [record("abc"), record("def")];
    let mut frame = vec![0; request::encoded_len(&records).unwrap()];
    request::encode(&records, &mut frame).unwrap();
    let room = guest.alloc(frame.len());
    for _ in 0..10_000 {
        assert_eq!(guest.alloc(frame.len()), room);
    }
    assert_ne!(room, 0);
    assert_eq!(guest.init(room, 0), 0, "no config is a config of defaults");
    // What `alloc` handed out is zeros until the host writes: not a frame, and a trap in a guest.
    let process = std::panic::AssertUnwindSafe(|| guest.process(room, frame.len(), &shout));
    assert!(std::panic::catch_unwind(process).is_err());
    let process = std::panic::AssertUnwindSafe(|| guest.process(room + 1, 1, &shout));
    assert!(std::panic::catch_unwind(process).is_err(), "not our memory");
    assert_eq!(
        guest.alloc(usize::MAX),
        0,
        "too much is refused, not a crash"
    );
}

#[test]
fn natively_a_response_is_what_a_host_reads() {
    let outcome = run(
        shout,
        record("hello"),
        json!({ "ignored": "by a module without a config" }),
    );
    assert_eq!(outcome.text(), "HELLO");
    assert!(matches!(
        ResponseReader::assume_valid(&[], 1).verdict(0),
        Verdict::Keep
    ));
}
