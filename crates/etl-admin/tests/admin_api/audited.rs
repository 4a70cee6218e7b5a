//! Everything that was changed or refused is in the log, with who and from where, and no secret is.

use etl_admin::{Role, verify_audit};
use etl_config::{Edit, LoadOptions};
use serde_json::{Value, json};

use crate::support::{CANARY, Request, Server};

fn log(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server.path("admin/audit/audit.jsonl")).expect("a log");
    verify_audit(&server.path("admin/audit"), None).expect("whole");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_change_has_a_line_before_it_and_one_after() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let body = br#"{ "pipeline_id": "orders-eu", "name": "of ${REGION}", "stages": [{ "priority": 0, "modules": [
        { "module_id": "keep", "instance_config": { "custom_config": { "password": "hunter2", "place": "${REGION}" } } }] }] }"#;
    let put = Request::new("PUT", "/api/v1/pipelines/orders-eu").with("application/json", body);
    server.ask(put.by(&token)).is(200);
    let tried = Request::new("POST", "/api/v1/pipelines/orders-eu/disable?dry_run=true");
    server.ask(tried.by(&token)).is(200);
    let lines = log(&server);
    let names: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
    // What was only tried is no change.
    assert_eq!(names, ["started", "begun", "done"]);
    let [_, begun, done] = &lines[..] else {
        panic!()
    };
    assert_eq!(
        (&begun["who"], &begun["role"]),
        (&json!("anna"), &json!("admin"))
    );
    assert_eq!(begun["what"], "PUT /api/v1/pipelines/orders-eu");
    let id = token.split('_').nth(1).expect("an id");
    assert_eq!(begun["credential"], id);
    assert!(
        begun["from"]
            .as_str()
            .is_some_and(|from| from.starts_with("127.0.0.1:")),
        "{begun:#}"
    );
    assert_eq!(begun["body"]["bytes"], body.len());
    assert_eq!(
        (
            &done["of"],
            &done["generation_before"],
            &done["generation_after"]
        ),
        (&begun["seq"], &json!(1), &json!(2))
    );
    let fields = done["difference"]["fields"].as_array().expect("a list");
    let name = json!({ "pipeline": "orders-eu", "field": "name", "before": "orders of ${REGION}", "after": "of ${REGION}" });
    assert!(fields.contains(&name), "{done:#}");
    let text = Value::from(lines.clone()).to_string();
    for hidden in [
        "hunter2",
        CANARY,
        token.rsplit('_').next().expect("a secret"),
    ] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[test]
fn what_is_refused_is_written_down_too() {
    let server = Server::start();
    let (viewer, admin) = (
        server.token(Role::Viewer, "vera"),
        server.token(Role::Admin, "anna"),
    );
    let reload = Request::new("POST", "/api/v1/reload");
    server.ask(reload.by(&viewer)).is(403);
    server.ask(reload).is(401);
    server.ask(reload.by(&admin).if_match("\"9\"")).is(412);
    let lines = log(&server);
    let refused: Vec<(&Value, &Value)> = lines
        .iter()
        .filter(|line| line["event"] == "refused")
        .map(|line| (&line["who"], &line["status"]))
        .collect();
    assert_eq!(
        refused,
        [
            (&json!("vera"), &json!(403)),
            (&Value::Null, &json!(401)),
            (&Value::Null, &json!(412))
        ]
    );
    assert_eq!(lines[3]["event"], "begun");
    assert_eq!(
        (&lines[4]["of"], &lines[4]["reason"]),
        (&lines[3]["seq"], &json!("generation 1 is in force, not 9"))
    );
}

#[test]
fn what_was_asked_for_is_written_as_it_came() {
    let server = Server::start();
    let (admin, viewer) = (
        server.token(Role::Admin, "anna"),
        server.token(Role::Viewer, "vera"),
    );
    // Decoded, the first would be the disabling of another pipeline.
    for target in [
        "/api/v1/pipelines/payments%3Fdry_run%3Dtrue/disable",
        "/api/v1/pipelines/%6Frders-eu/disable",
    ] {
        server.ask(Request::new("POST", target).by(&viewer)).is(403);
        server.ask(Request::new("POST", target).by(&admin));
        let lines = log(&server);
        let what: Vec<&Value> = lines.iter().map(|line| &line["what"]).collect();
        let expected = json!(format!("POST {target}"));
        assert!(
            what.iter().filter(|what| ***what == expected).count() >= 2,
            "{what:?}"
        );
    }
    let kept = server.orchestrator.generations();
    let cause = "anna: POST /api/v1/pipelines/%6Frders-eu/disable";
    assert_eq!(kept.last().expect("a generation").cause, cause);
}

#[test]
fn a_mistake_in_the_program_is_written_down_as_one() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    std::fs::write(server.path("broken"), "").expect("written");
    let reload = Request::new("POST", "/api/v1/reload");
    server.ask(reload.by(&token)).is(500);
    std::fs::remove_file(server.path("broken")).expect("removed");
    server.ask(reload.by(&token)).is(200);
    let lines = log(&server);
    let events: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["started", "begun", "failed", "begun", "done"]);
    assert_eq!(
        (&lines[2]["of"], &lines[2]["status"]),
        (&json!(2), &json!(500))
    );
}

#[test]
fn redriving_is_written_down_and_trying_it_is_not() {
    let server = Server::start();
    let token = server.token(Role::Operator, "otto");
    let target = "/api/v1/dead-letters/redrive?topic=t.dlq&module=keep";
    let tried = format!("{target}&dry_run=true");
    server.ask(Request::new("POST", &tried).by(&token)).is(200);
    assert_eq!(log(&server).len(), 1);
    let answer = server.ask(Request::new("POST", target).by(&token)).is(200);
    assert_eq!(answer.json()["redriven"], 2);
    let lines = log(&server);
    assert_eq!(lines[1]["what"], format!("POST {target}"));
    assert_eq!(
        (&lines[2]["event"], &lines[2]["of"], &lines[2]["redriven"]),
        (&json!("done"), &lines[1]["seq"], &json!(2))
    );
}

#[test]
fn the_end_of_the_log_can_be_read() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    for to in ["disable", "enable"] {
        let target = format!("/api/v1/pipelines/payments/{to}");
        server.ask(Request::new("POST", &target).by(&token)).is(200);
    }
    let mut read = Vec::new();
    let mut next = json!(null);
    loop {
        let before = next
            .as_u64()
            .map_or(String::new(), |next| format!("&before={next}"));
        let target = format!("/api/v1/audit?limit=2{before}");
        let page = server
            .ask(Request::new("GET", &target).by(&token))
            .is(200)
            .json();
        read.extend(page["lines"].as_array().expect("lines").clone());
        next = page["next"].clone();
        if next.is_null() {
            break;
        }
    }
    let mut lines = log(&server);
    lines.reverse();
    assert_eq!(read, lines);
}

#[test]
fn what_comes_by_another_way_is_written_down_before_the_next_change() {
    let mut server = Server::start();
    let token = server.token(Role::Operator, "otto");
    let off = [Edit::DisablePipeline("payments".to_owned())];
    let change = |edits: &[Edit]| {
        server
            .orchestrator
            .edit(
                edits,
                &LoadOptions::isolated(),
                &etl_orchestrator::ChangeOptions::default(),
            )
            .expect("changed")
    };
    change(&off);
    server
        .ask(Request::new("POST", "/api/v1/pipelines/payments/enable").by(&token))
        .is(200);
    change(&off);
    server.close();
    let lines = log(&server);
    let events: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(
        events,
        ["started", "elsewhere", "begun", "done", "elsewhere"]
    );
    assert_eq!(
        lines[1]["causes"][0],
        json!({ "generation": 2, "cause": "edit" })
    );
    assert_eq!(lines[1]["difference"]["fields"][0]["field"], "enabled");
    assert_eq!(lines[4]["generation_after"], 4);
}

#[test]
fn a_log_that_cannot_be_written_lets_nothing_change() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let off = Request::new("POST", "/api/v1/pipelines/payments/disable");
    // Somebody empties it while it is being written.
    let file = server.path("admin/audit/audit.jsonl");
    let whole = std::fs::read(&file).expect("a log");
    std::fs::write(&file, b"").expect("emptied");
    server.ask(off.by(&token)).is(507);
    assert_eq!(server.orchestrator.generation(), 1);
    std::fs::write(&file, whole).expect("written");
    server.ask(off.by(&token)).is(200);
    assert_eq!(log(&server).len(), 3);
}
