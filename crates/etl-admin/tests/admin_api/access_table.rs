//! Every route, and what each kind of caller gets there. A route without a row fails.

use etl_admin::{Role, routes};

use crate::support::{KEEP, Request, Server, WAITING};

/// Without a token, as a viewer, an operator, an admin; as an admin who is confined to `orders-*`; with a token that has expired, and
/// with one that was revoked.
type Statuses = [u16; 7];

/// Anybody who is known may.
const VIEWER: Statuses = [401, 200, 200, 200, 200, 401, 401];
/// The same, but nobody who is confined.
const VIEWER_OF_ALL: Statuses = [401, 200, 200, 200, 403, 401, 401];
const OPERATOR: Statuses = [401, 403, 200, 200, 200, 401, 401];
const OPERATOR_OF_ALL: Statuses = [401, 403, 200, 200, 403, 401, 401];
const ADMIN: Statuses = [401, 403, 403, 200, 200, 401, 401];
const ADMIN_OF_ALL: Statuses = [401, 403, 403, 200, 403, 401, 401];

/// The same with another status for those who may.
const fn but(mut statuses: Statuses, allowed: u16) -> Statuses {
    let mut index = 0;
    while index < statuses.len() {
        if statuses[index] == 200 {
            statuses[index] = allowed;
        }
        index += 1;
    }
    statuses
}

const PIPELINE: &str = r#"{ "pipeline_id": "orders-eu", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep" }] }] }"#;
const OTHER: &str = r#"{ "pipeline_id": "payments", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep" }] }] }"#;
const JSON: &str = "application/json";

/// A media type and a body.
type Content = Option<(&'static str, &'static str)>;

/// The route, the target (within reach of the confined admin where it can be), what is sent, and what comes of it.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, Content, Statuses)] = &[
    ("GET", "/", "/", None, [200; 7]),
    ("GET", "/console.css", "/console.css", None, [200; 7]),
    ("GET", "/console.svg", "/console.svg", None, [200; 7]),
    ("GET", "/console/{file}", "/console/main.js", None, [200; 7]),
    ("GET", "/healthz", "/healthz", None, [200; 7]),
    ("GET", "/readyz", "/readyz", None, [200; 7]),
    ("GET", "/metrics", "/metrics", None, VIEWER_OF_ALL),
    ("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", None, VIEWER),
    ("GET", "/api/v1/session", "/api/v1/session", None, VIEWER),
    ("GET", "/api/v1/health", "/api/v1/health", None, VIEWER),
    ("GET", "/api/v1/statistics", "/api/v1/statistics", None, VIEWER),
    ("GET", "/api/v1/pipelines", "/api/v1/pipelines", None, VIEWER),
    ("GET", "/api/v1/pipelines/{id}", "/api/v1/pipelines/orders-eu", None, VIEWER),
    ("GET", "/api/v1/pipelines/{id}", "/api/v1/pipelines/payments", None, VIEWER_OF_ALL),
    ("PUT", "/api/v1/pipelines/{id}", "/api/v1/pipelines/orders-eu?dry_run=true", Some((JSON, PIPELINE)), ADMIN),
    ("PUT", "/api/v1/pipelines/{id}", "/api/v1/pipelines/payments?dry_run=true", Some((JSON, OTHER)), ADMIN_OF_ALL),
    ("DELETE", "/api/v1/pipelines/{id}", "/api/v1/pipelines/orders-eu?dry_run=true", None, ADMIN),
    ("DELETE", "/api/v1/pipelines/{id}", "/api/v1/pipelines/payments?dry_run=true", None, ADMIN_OF_ALL),
    ("POST", "/api/v1/pipelines/{id}/enable", "/api/v1/pipelines/orders-eu/enable?dry_run=true", None, OPERATOR),
    ("POST", "/api/v1/pipelines/{id}/enable", "/api/v1/pipelines/payments/enable?dry_run=true", None, OPERATOR_OF_ALL),
    ("POST", "/api/v1/pipelines/{id}/disable", "/api/v1/pipelines/orders-eu/disable?dry_run=true", None, OPERATOR),
    ("POST", "/api/v1/pipelines/{id}/disable", "/api/v1/pipelines/payments/disable?dry_run=true", None, OPERATOR_OF_ALL),
    ("GET", "/api/v1/modules", "/api/v1/modules", None, VIEWER),
    ("GET", "/api/v1/modules/{id}", "/api/v1/modules/keep", None, VIEWER),
    ("GET", "/api/v1/modules/{id}", "/api/v1/modules/found", None, VIEWER_OF_ALL),
    // A pipeline out of reach uses it too.
    ("PUT", "/api/v1/modules/{id}", "/api/v1/modules/keep?dry_run=true", Some(("application/wasm", KEEP)), ADMIN_OF_ALL),
    ("DELETE", "/api/v1/modules/{id}", "/api/v1/modules/keep?dry_run=true", None, but(ADMIN_OF_ALL, 422)),
    ("PUT", "/api/v1/modules/{id}/canary", "/api/v1/modules/keep/canary?dry_run=true", Some(("application/wasm", KEEP)), ADMIN_OF_ALL),
    ("PATCH", "/api/v1/modules/{id}/canary", "/api/v1/modules/keep/canary?dry_run=true", Some((JSON, r#"{"percent":5}"#)), but(OPERATOR_OF_ALL, 404)),
    ("POST", "/api/v1/modules/{id}/promote", "/api/v1/modules/keep/promote?dry_run=true", None, but(OPERATOR_OF_ALL, 404)),
    ("POST", "/api/v1/modules/{id}/rollback", "/api/v1/modules/keep/rollback?dry_run=true", None, but(OPERATOR_OF_ALL, 404)),
    ("GET", "/api/v1/explain", "/api/v1/explain?topic=orders.1", None, VIEWER),
    ("POST", "/api/v1/explain", "/api/v1/explain", Some((JSON, r#"{"topic":"orders.1","value":1}"#)), OPERATOR_OF_ALL),
    ("POST", "/api/v1/validate", "/api/v1/validate", Some((JSON, PIPELINE)), ADMIN_OF_ALL),
    ("POST", "/api/v1/reload", "/api/v1/reload?dry_run=true", None, OPERATOR_OF_ALL),
    ("GET", "/api/v1/generations", "/api/v1/generations", None, VIEWER_OF_ALL),
    ("GET", "/api/v1/generations/{generation}", "/api/v1/generations/1", None, VIEWER_OF_ALL),
    ("POST", "/api/v1/generations/{generation}/rollback", "/api/v1/generations/1/rollback?dry_run=true", None, OPERATOR_OF_ALL),
    ("GET", "/api/v1/dead-letters/topics", "/api/v1/dead-letters/topics", None, VIEWER),
    ("GET", "/api/v1/dead-letters/summary", "/api/v1/dead-letters/summary?topic=t.dlq", None, VIEWER),
    ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters?topic=t.dlq", None, VIEWER),
    ("POST", "/api/v1/dead-letters/redrive", "/api/v1/dead-letters/redrive?topic=t.dlq&dry_run=true", None, OPERATOR),
    ("GET", "/api/v1/audit", "/api/v1/audit", None, ADMIN_OF_ALL),
];

#[test]
fn every_route_has_a_row() {
    for route in routes() {
        let has_row = TABLE
            .iter()
            .any(|(method, path, ..)| (*method, *path) == (route.method, route.path));
        assert!(has_row, "no row for {} {}", route.method, route.path);
    }
    for (method, path, ..) in TABLE {
        let is_route = routes().any(|route| (route.method, route.path) == (*method, *path));
        assert!(is_route, "no route {method} {path}");
    }
}

#[test]
fn everybody_gets_what_is_written() {
    let server = Server::start();
    let revoked = server.token(Role::Admin, "rita");
    server.store().revoke("rita").expect("revoked");
    let callers = [
        None,
        Some(server.token(Role::Viewer, "vera")),
        Some(server.token(Role::Operator, "otto")),
        Some(server.token(Role::Admin, "anna")),
        Some(server.token_with(Role::Admin, "carl", &["orders-*"], None)),
        Some(server.token_with(Role::Admin, "emil", &[], Some(1))),
        Some(revoked),
    ];
    let mut wrong = Vec::new();
    for (method, _, target, content, expected) in TABLE {
        for (caller, (token, expected)) in callers.iter().zip(expected).enumerate() {
            let mut request = Request::new(method, target);
            let wasm;
            if let Some((kind, text)) = content {
                request = request.with(kind, text.as_bytes());
                if *kind == "application/wasm" {
                    wasm = wat::parse_str(text).expect("a module");
                    request = request.with(kind, &wasm);
                }
            }
            request.token = token.as_deref();
            let answer = server.ask(request);
            if answer.status != *expected {
                wrong.push(format!(
                    "{method} {target} of caller {caller}: {} and not {expected}: {}",
                    answer.status, answer.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Everything was tried and nothing was made.
    assert_eq!(server.orchestrator.generation(), 1);
    assert_eq!(server.modules(), ["found.wasm", "keep.wasm"]);
}

#[test]
fn who_is_confined_is_told_of_nothing_else() {
    let server = Server::start();
    let vera = server.token(Role::Viewer, "vera");
    let health = server.ask(Request::new("GET", "/api/v1/health").by(&vera));
    assert_eq!(health.json()["waiting"], serde_json::json!([WAITING]));
    let carl = server.token_with(Role::Admin, "carl", &["orders-*"], None);
    for target in [
        "/api/v1/pipelines",
        "/api/v1/modules",
        "/api/v1/statistics",
        "/api/v1/health",
        "/api/v1/explain?topic=orders.1",
        "/api/v1/dead-letters?topic=t.dlq",
    ] {
        let answer = server.ask(Request::new("GET", target).by(&carl)).is(200);
        for hidden in ["payments", "found"] {
            assert!(!answer.text.contains(hidden), "{answer:#?}");
        }
    }
    let answer = server.ask(Request::new("GET", "/api/v1/modules").by(&carl));
    assert_eq!(
        answer.json()["modules"][0]["used_by"],
        serde_json::json!(["orders-eu"])
    );
    let target = "/api/v1/dead-letters/redrive?topic=t.dlq";
    let answer = server.ask(Request::new("POST", target).by(&carl)).is(200);
    assert_eq!(answer.json()["redriven"], 1);
    // Nor can a document slip another pipeline in.
    let body = br#"{ "pipeline_id": "payments", "stages": [] }"#;
    let put = Request::new("PUT", "/api/v1/pipelines/orders-eu").by(&carl);
    server.ask(put.with("application/json", body)).is(422);
    let body = br#"{ "pipelines": [{ "pipeline_id": "orders-eu", "stages": [] }, { "pipeline_id": "payments", "stages": [] }] }"#;
    server.ask(put.with("application/json", body)).is(422);
    assert_eq!(server.orchestrator.generation(), 1);
}
