//! Dead letters through the API of a run that goes on: looked at, and sent back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin::create;
use crate::serving::Running;
use crate::topics::{desk, lines};

const BAD: &str =
    "{\"topic\":\"in\",\"key\":\"k\",\"timestamp\":17,\"value\":\"bad 12345678901234567890\"}\n";

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn dead_letters_are_looked_at_and_sent_back_while_records_flow() {
    let desk = desk();
    let (operator, viewer) = (
        create(&desk, "operator", "otto"),
        create(&desk, "viewer", "vera"),
    );
    let input = lines(5) + BAD + BAD + BAD;
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        input.as_bytes(),
    )
    .ends_with(0);
    let running = Running::following(&desk);
    let ask = |method: &str, target: &str| running.json(&operator, method, target, None);
    let letters = |more: &str| {
        let target = format!("/api/v1/dead-letters?topic=out.in.dlq{more}");
        ask("GET", &target)["letters"]
            .as_array()
            .expect("a list")
            .clone()
    };
    until("three dead letters", || {
        (letters("").len() == 3).then_some(())
    });
    let topics = ask("GET", "/api/v1/dead-letters/topics");
    assert_eq!(
        topics["topics"],
        json!([{ "topic": "out.in.dlq", "records": 3 }])
    );
    let summary = ask(
        "GET",
        "/api/v1/dead-letters/summary?topic=out.in.dlq&since=1h",
    );
    assert_eq!(
        (&summary["selected"], &summary["reasons"][0]["module"]),
        (&json!(3), &json!("picky")),
        "{summary:#}"
    );
    // Newest first, a page after the other.
    let first = ask("GET", "/api/v1/dead-letters?topic=out.in.dlq&limit=2");
    let next = first["next"].as_str().expect("there is more");
    let second = letters(&format!("&limit=2&before={next}"));
    let keys = |letters: &Value| -> Vec<String> {
        let letters = letters.as_array().expect("a list").iter();
        letters.map(|letter| letter["key"].to_string()).collect()
    };
    let paged = [keys(&first["letters"]), keys(&second.clone().into())].concat();
    assert_eq!(paged, keys(&letters("").into()));
    assert_eq!(paged.len(), 3);
    let letter = &first["letters"][0];
    assert_eq!(
        (
            &letter["pipeline"],
            &letter["stage"],
            &letter["original_topic"]
        ),
        (&json!("p"), &json!(3), &json!("in")),
        "{letter:#}"
    );
    assert_eq!(letter["record"]["value"], "bad 12345678901234567890");
    // What is no dead letter is nobody's through this door.
    let records = ask("GET", "/api/v1/dead-letters?topic=in");
    assert_eq!(records["letters"], json!([]));
    let target = "/api/v1/dead-letters?topic=out.in.dlq";
    let shown = running.json(&viewer, "GET", target, None);
    assert_eq!(shown["letters"][0]["record"], Value::Null);
    let redrive = "/api/v1/dead-letters/redrive?topic=out.in.dlq&attempts=1&module=picky";
    assert_eq!(running.ask(&viewer, "POST", redrive, None).0, 403);
    let tried = ask("POST", &format!("{redrive}&dry_run=true"));
    assert_eq!(
        (&tried["selected"], &tried["redriven"]),
        (&json!(3), &json!(0))
    );
    let other = ask("POST", &redrive.replace("picky", "other"));
    assert_eq!(
        (&other["others"], &other["redriven"]),
        (&json!(3), &json!(0))
    );
    let done = ask("POST", redrive);
    assert_eq!((&done["redriven"], &done["parked"]), (&json!(3), &json!(0)));
    // They fail again, and once more is too often.
    let again = until("the same three", || {
        let letters = letters("");
        let are_back = letters
            .iter()
            .filter(|letter| letter["redriven"] == 1)
            .count()
            == 3;
        (letters.len() == 3 && are_back).then_some(letters)
    });
    assert_eq!(again[0]["record"]["key"], "k");
    assert_eq!(ask("POST", redrive)["parked"], 3);
    assert_eq!(letters("").len(), 0);
    let topics = ask("GET", "/api/v1/dead-letters/topics");
    let parked = json!({ "topic": "out.in.dlq.parked", "records": 3 });
    assert!(
        topics["topics"]
            .as_array()
            .is_some_and(|all| all.contains(&parked)),
        "{topics:#}"
    );
    running.kill();
    let log = desk.read("etl-admin/audit/audit.jsonl");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let done: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "done")
        .collect();
    assert_eq!(done.len(), 3, "{log}");
    assert_eq!(
        (&done[1]["redriven"], &done[2]["parked"]),
        (&json!(3), &json!(3))
    );
    assert!(!log.contains("bad 123"), "{log}");
}

#[test]
fn topics_that_the_configuration_names_are_among_them() {
    let desk = desk();
    let token = create(&desk, "viewer", "vera");
    let configuration = desk.read("etl.toml");
    let named = "[dead_letter]\ntopic = \"failed.{topic}.letters\"\n";
    desk.put("etl.toml", format!("{named}{configuration}"));
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        BAD.as_bytes(),
    )
    .ends_with(0);
    let running = Running::following(&desk);
    let listed = until("the dead letter's topic", || {
        let listed = running.json(&token, "GET", "/api/v1/dead-letters/topics", None);
        (listed["topics"] != json!([])).then_some(listed)
    });
    assert_eq!(
        listed["topics"],
        json!([{ "topic": "out.failed.in.letters", "records": 1 }])
    );
    running.kill();
}

#[test]
fn where_nothing_can_be_read_again_that_is_said() {
    let desk = desk();
    let token = create(&desk, "operator", "otto");
    let running = Running::start(&desk, &[]);
    for (method, target) in [
        ("GET", "/api/v1/dead-letters/topics"),
        ("GET", "/api/v1/dead-letters?topic=a"),
        ("POST", "/api/v1/dead-letters/redrive?topic=a"),
    ] {
        let (status, text) = running.ask(&token, method, target, None);
        assert_eq!(status, 404, "{text}");
        assert!(text.contains("none can be read again"), "{text}");
    }
    running.end();
    // They can be read, and their records came out of a pipe.
    let running = Running::start(&desk, &["--dead-letters", "embedded:letters", "--create"]);
    // The API is there before the folder is.
    let topics = until("the folder", || {
        let (status, text) = running.ask(&token, "GET", "/api/v1/dead-letters/topics", None);
        (status != 503).then_some(text)
    });
    assert_eq!(topics, "{\"topics\":[]}\n");
    let target = "/api/v1/dead-letters/redrive?topic=a.dlq";
    let (status, text) = running.ask(&token, "POST", target, None);
    assert_eq!(status, 404, "{text}");
    assert!(text.contains("none can be written back"), "{text}");
    running.end();
}
