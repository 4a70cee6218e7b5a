//! The OpenAPI document and the server say the same.

use etl_admin::{Role, routes};
use serde_json::{Value, json};

use crate::support::{Answer, KEEP, Request, Server};

/// The schema of an answer, in the document that the server serves.
fn check(document: &Value, route: (&str, &str), answer: &Answer) {
    let (method, path) = route;
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response = &responses[answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path} answers {} and does not say so",
        answer.status
    );
    let kind = answer.header("content-type").expect("a type");
    let kind = kind.split(';').next().expect("a type");
    let schema = &response["content"][kind]["schema"];
    assert!(
        schema.is_object(),
        "{method} {path} answers {kind} and does not say so: {response:#}"
    );
    if schema["type"] == "string" {
        return;
    }
    let mut schema = schema.clone();
    // References lead into the document, so it goes with the schema.
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let value = answer.json();
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        problems.is_empty(),
        "{method} {path}: {problems:#?}\n{value:#}"
    );
}

/// A media type and a body.
type Content<'a> = Option<(&'a str, &'a [u8])>;

#[test]
fn every_answer_is_as_described() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let viewer = server.token(Role::Viewer, "vera");
    let served = server
        .ask(Request::new("GET", "/api/v1/openapi.json").by(&token))
        .is(200)
        .json();
    assert_eq!(served, etl_admin::openapi());
    let keep = wat::parse_str(KEEP).expect("a module");
    let other = wat::parse_str(KEEP.replace("(i64.const 0)", "(unreachable)")).expect("a module");
    let pipeline = br#"{ "pipeline_id": "new", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep" }] }] }"#;
    let (json, wasm) = ("application/json", "application/wasm");
    #[rustfmt::skip]
    let steps: Vec<(&str, &str, &str, Content<'_>)> = vec![
        ("GET", "/", "/", None),
        ("GET", "/console.css", "/console.css", None),
        ("GET", "/console.svg", "/console.svg", None),
        ("GET", "/console/{file}", "/console/main.js", None),
        ("GET", "/console/{file}", "/console/other.js", None),
        ("GET", "/healthz", "/healthz", None),
        ("GET", "/readyz", "/readyz", None),
        ("GET", "/metrics", "/metrics", None),
        ("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", None),
        ("GET", "/api/v1/session", "/api/v1/session", None),
        ("GET", "/api/v1/health", "/api/v1/health", None),
        ("POST", "/api/v1/explain", "/api/v1/explain", Some((json, br#"{"topic":"orders.1","value":1}"#))),
        ("POST", "/api/v1/explain", "/api/v1/explain", Some((json, b"{}"))),
        ("GET", "/api/v1/explain", "/api/v1/explain?topic=a", None),
        ("GET", "/api/v1/explain", "/api/v1/explain", None),
        ("GET", "/api/v1/statistics", "/api/v1/statistics", None),
        ("GET", "/api/v1/pipelines", "/api/v1/pipelines", None),
        ("PUT", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", Some((json, pipeline))),
        ("PUT", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", Some((json, b"{}"))),
        ("PUT", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", Some(("text/html", b"{}"))),
        ("GET", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", None),
        ("POST", "/api/v1/pipelines/{id}/disable", "/api/v1/pipelines/new/disable", None),
        ("POST", "/api/v1/pipelines/{id}/enable", "/api/v1/pipelines/new/enable", None),
        ("DELETE", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", None),
        ("DELETE", "/api/v1/pipelines/{id}", "/api/v1/pipelines/new", None),
        ("PUT", "/api/v1/modules/{id}", "/api/v1/modules/new", Some((wasm, &keep))),
        ("PUT", "/api/v1/modules/{id}/canary", "/api/v1/modules/keep/canary?percent=5", Some((wasm, &other))),
        ("PUT", "/api/v1/modules/{id}/canary", "/api/v1/modules/keep/canary?percent=500", Some((wasm, &other))),
        ("PATCH", "/api/v1/modules/{id}/canary", "/api/v1/modules/keep/canary", Some((json, br#"{"percent":6}"#))),
        ("GET", "/api/v1/modules", "/api/v1/modules", None),
        ("GET", "/api/v1/modules/{id}", "/api/v1/modules/keep", None),
        ("POST", "/api/v1/modules/{id}/promote", "/api/v1/modules/keep/promote", None),
        ("POST", "/api/v1/modules/{id}/rollback", "/api/v1/modules/keep/rollback", None),
        ("DELETE", "/api/v1/modules/{id}", "/api/v1/modules/new", None),
        ("DELETE", "/api/v1/modules/{id}", "/api/v1/modules/keep", None),
        ("POST", "/api/v1/validate", "/api/v1/validate", Some((json, b"{\"engine\":1}"))),
        ("POST", "/api/v1/reload", "/api/v1/reload", None),
        ("GET", "/api/v1/generations", "/api/v1/generations", None),
        ("GET", "/api/v1/generations/{generation}", "/api/v1/generations/9", None),
        ("POST", "/api/v1/generations/{generation}/rollback", "/api/v1/generations/9/rollback", None),
        ("GET", "/api/v1/dead-letters/topics", "/api/v1/dead-letters/topics", None),
        ("GET", "/api/v1/dead-letters/summary", "/api/v1/dead-letters/summary?topic=t.dlq&since=2h", None),
        ("GET", "/api/v1/dead-letters/summary", "/api/v1/dead-letters/summary?topic=t.dlq&since=soon", None),
        ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters?topic=t.dlq", None),
        ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters?topic=t.dlq&limit=1", None),
        ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters?topic=t.dlq&before=1", None),
        ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters?topic=away", None),
        ("POST", "/api/v1/dead-letters/redrive", "/api/v1/dead-letters/redrive?topic=t.dlq&attempts=2", None),
        ("POST", "/api/v1/dead-letters/redrive", "/api/v1/dead-letters/redrive", None),
        ("GET", "/api/v1/audit", "/api/v1/audit?limit=5", None),
    ];
    for route in routes() {
        let is_asked = steps
            .iter()
            .any(|(method, path, ..)| (*method, *path) == (route.method, route.path));
        assert!(is_asked, "no step for {} {}", route.method, route.path);
    }
    let mut outcomes = Vec::new();
    for (method, path, target, content) in steps {
        let mut request = Request::new(method, target);
        request.content = content;
        let answer = server.ask(request.by(&token));
        check(&served, (method, path), &answer);
        outcomes.push(answer.status);
        if path.starts_with("/api") {
            check(&served, (method, path), &server.ask(request).is(401));
            let answer = server.ask(request.by(&viewer));
            check(&served, (method, path), &answer);
        }
    }
    // What was to go well did: a change that is refused would be as described too.
    assert_eq!(server.orchestrator.generation(), 12, "{outcomes:?}");
}

#[test]
fn the_console_comes_whole_and_trusts_nothing_but_itself() {
    let server = Server::start();
    let page = server.ask(Request::new("GET", "/")).is(200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    // Whatever a file imports is served, from the page on.
    let mut wanted = vec!["main.js".to_owned()];
    let mut seen = Vec::new();
    while let Some(name) = wanted.pop() {
        let target = format!("/console/{name}");
        let file = server.ask(Request::new("GET", &target)).is(200);
        assert_eq!(file.header("content-security-policy"), Some(policy));
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "://",
        ] {
            assert!(!file.text.contains(forbidden), "{forbidden} in {name}");
        }
        let imported = file.text.split("from \"./").skip(1);
        let imported = imported.filter_map(|rest| rest.split('"').next());
        seen.push(name);
        wanted.extend(
            imported
                .map(str::to_owned)
                .filter(|name| !seen.contains(name)),
        );
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 11, "{seen:?}");
    for inline in ["style=", "<style", "onclick", "://"] {
        assert!(!page.text.contains(inline), "{inline}");
    }
}

#[test]
fn the_document_is_one_that_tools_can_read() {
    let document = etl_admin::openapi();
    let mut names = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        assert!(path.starts_with('/'));
        for operation in operations.as_object().expect("operations").values() {
            names.push(
                operation["operationId"]
                    .as_str()
                    .expect("a name")
                    .to_owned(),
            );
            assert!(operation["responses"]["200"].is_object());
        }
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name}"
        );
    }
    assert_eq!(document["openapi"], json!("3.1.0"));
}
