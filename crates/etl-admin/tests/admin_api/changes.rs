//! Changes: each is one swap with its generation, or nothing and every reason; two operators cannot overwrite each other unseen.

use etl_admin::Role;
use serde_json::{Value, json};

use crate::support::{CANARY, KEEP, LETTER, Request, Server};

const JSON: &str = "application/json";

struct Anna {
    server: Server,
    token: String,
}

impl Anna {
    fn new() -> Self {
        let server = Server::start();
        let token = server.token(Role::Admin, "anna");
        Self { server, token }
    }

    #[track_caller]
    fn does(&self, request: Request<'_>, status: u16) -> Value {
        self.server.ask(request.by(&self.token)).is(status).json()
    }
}

fn pipeline(module: &str) -> String {
    format!(
        r#"{{ "pipeline_id": "new", "stages": [{{ "priority": 0, "modules": [{{ "module_id": "{module}" }}] }}] }}"#
    )
}

#[test]
fn a_pipeline_comes_changes_and_goes() {
    let anna = Anna::new();
    let body = pipeline("keep");
    let put = Request::new("PUT", "/api/v1/pipelines/new").with(JSON, body.as_bytes());
    let get = Request::new("GET", "/api/v1/pipelines/new");
    anna.does(get, 404);
    let tried = Request::new("PUT", "/api/v1/pipelines/new?dry_run=true");
    let expected = json!({ "generation": 2, "dry_run": true, "warnings": [] });
    assert_eq!(anna.does(tried.with(JSON, body.as_bytes()), 200), expected);
    anna.does(get, 404);
    assert_eq!(anna.does(put, 200)["generation"], 2);
    assert_eq!(anna.does(get, 200)["pipeline"]["pipeline_id"], "new");
    // In the other language, in its place.
    let toml = b"pipeline_id = \"new\"\nname = \"in TOML\"\nstages = [{ priority = 0, modules = [{ module_id = \"found\" }] }]\n";
    let put_toml =
        Request::new("PUT", "/api/v1/pipelines/new").with("application/toml; charset=utf-8", toml);
    assert_eq!(anna.does(put_toml, 200)["generation"], 3);
    assert_eq!(anna.does(get, 200)["pipeline"]["name"], "in TOML");
    let off = Request::new("POST", "/api/v1/pipelines/new/disable");
    assert_eq!(anna.does(off, 200)["generation"], 4);
    assert_eq!(anna.does(get, 200)["pipeline"]["enabled"], false);
    let on = Request::new("POST", "/api/v1/pipelines/new/enable");
    assert_eq!(anna.does(on, 200)["generation"], 5);
    let list = anna.does(Request::new("GET", "/api/v1/pipelines"), 200);
    let new = json!({ "id": "new", "name": "in TOML", "order": 0, "enabled": true, "modules": ["found"],
        "stages": [{ "priority": 0, "parallel": false, "modules": ["found"] }] });
    assert!(
        list["pipelines"].as_array().expect("a list").contains(&new),
        "{list:#}"
    );
    let delete = Request::new("DELETE", "/api/v1/pipelines/new");
    assert_eq!(anna.does(delete, 200)["generation"], 6);
    anna.does(delete, 404);
    // Everything that was in force can be had again, and says who it was.
    let kept = anna.does(Request::new("GET", "/api/v1/generations"), 200);
    assert_eq!(
        kept["generations"][5]["cause"],
        "anna: DELETE /api/v1/pipelines/new"
    );
    let difference = anna.does(Request::new("GET", "/api/v1/generations/6?from=1"), 200);
    assert_eq!(difference["pipelines_changed"], json!([]));
    let difference = anna.does(Request::new("GET", "/api/v1/generations/6"), 200);
    assert_eq!(
        (&difference["from"], &difference["pipelines_removed"]),
        (&json!(5), &json!(["new"]))
    );
    anna.does(Request::new("GET", "/api/v1/generations/7"), 404);
    anna.does(Request::new("GET", "/api/v1/generations/six"), 404);
    let back = Request::new("POST", "/api/v1/generations/2/rollback");
    assert_eq!(anna.does(back, 200)["generation"], 7);
    assert_eq!(anna.does(get, 200)["pipeline"]["pipeline_id"], "new");
    // The files know nothing of it.
    let reload = Request::new("POST", "/api/v1/reload");
    assert_eq!(anna.does(reload, 200)["generation"], 8);
    anna.does(get, 404);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_changes() {
    let anna = Anna::new();
    let body = br#"{ "pipeline_id": "new", "stagse": [], "order": "x" }"#;
    let put = Request::new("PUT", "/api/v1/pipelines/new");
    let answer = anna.does(put.with(JSON, body), 422);
    assert!(
        answer["problems"]
            .as_array()
            .is_some_and(|problems| problems.len() >= 2),
        "{answer:#}"
    );
    assert_eq!(answer["problems"][0]["file"], "new.json");
    assert_eq!(answer["problems"][0]["line"], 1);
    // What only building finds.
    let answer = anna.does(put.with(JSON, pipeline("absent").as_bytes()), 422);
    assert!(answer["problems"][0]["message"].is_string(), "{answer:#}");
    std::fs::write(anna.server.path("etl.toml"), "[engine]\nlines = 1\n").expect("written");
    let answer = anna.does(Request::new("POST", "/api/v1/reload"), 422);
    assert_eq!(answer["problems"][0]["hint"], "did you mean `lanes`?");
    assert_eq!(anna.server.orchestrator.generation(), 1);
    let check = Request::new("POST", "/api/v1/validate");
    let answer = anna.does(check.with(JSON, body), 200);
    assert_eq!(answer["errors"], json!(2), "{answer:#}");
    let answer = anna.does(check.with(JSON, pipeline("keep").as_bytes()), 200);
    assert_eq!(answer["errors"], json!(0), "{answer:#}");
    let answer = anna.does(check.with(JSON, pipeline("absent").as_bytes()), 200);
    assert_eq!(answer["errors"], json!(1), "{answer:#}");
}

#[test]
fn the_second_of_two_operators_learns_of_the_first() {
    let anna = Anna::new();
    let read = anna
        .server
        .ask(Request::new("GET", "/api/v1/pipelines/orders-eu").by(&anna.token));
    let seen = read.header("etag").expect("a tag").to_owned();
    assert_eq!(seen, "\"1\"");
    let off = Request::new("POST", "/api/v1/pipelines/orders-eu/disable");
    anna.does(off.if_match(&seen), 200);
    for target in [
        "/api/v1/pipelines/payments/disable",
        "/api/v1/generations/1/rollback",
        "/api/v1/reload",
    ] {
        let answer = anna.does(Request::new("POST", target).if_match(&seen), 412);
        assert_eq!(answer["detail"], "generation 2 is in force, not 1");
    }
    let on = Request::new("POST", "/api/v1/pipelines/orders-eu/enable");
    anna.does(on.if_match("\"2\""), 200);
    anna.does(on.if_match("*"), 200);
    for wrong in ["W/\"4\"", "\"\"", "\"4\", \"5\"", "-1"] {
        anna.does(on.if_match(wrong), 400);
    }
    assert_eq!(anna.server.orchestrator.generation(), 4);
}

#[test]
fn what_the_environment_gave_is_not_shown() {
    let anna = Anna::new();
    let name = &anna.server.orchestrator.pipelines()[0].name;
    assert!(name.contains(CANARY));
    let answer = anna.does(Request::new("GET", "/api/v1/pipelines/orders-eu"), 200);
    assert_eq!(answer["pipeline"]["name"], "orders of ${REGION}");
    let list = anna.does(Request::new("GET", "/api/v1/pipelines"), 200);
    assert_eq!(list["pipelines"][0]["name"], "orders of ${REGION}");
}

#[test]
fn what_a_module_is_given_is_for_admins_alone() {
    let anna = Anna::new();
    let body = br#"{ "pipeline_id": "orders-eu", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep",
        "instance_config": { "custom_config": { "dsn": "postgres://u:hunter2@h", "place": "${REGION}" } } }] }] }"#;
    let put = Request::new("PUT", "/api/v1/pipelines/orders-eu");
    anna.does(put.with(JSON, body), 200);
    let path = "/stages/0/modules/0/instance_config/custom_config";
    let get = Request::new("GET", "/api/v1/pipelines/orders-eu");
    let shown = anna.does(get, 200)["pipeline"].clone();
    assert_eq!(
        shown.pointer(path),
        Some(&json!({ "dsn": "postgres://u:hunter2@h", "place": "${REGION}" }))
    );
    let masked = json!({ "dsn": "(masked)", "place": "${REGION}" });
    let difference = Request::new("GET", "/api/v1/generations/2");
    for role in [Role::Viewer, Role::Operator] {
        let token = anna.server.token(role, role.name());
        let shown = anna.server.ask(get.by(&token)).is(200).json()["pipeline"].clone();
        assert_eq!(shown.pointer(path), Some(&masked));
        let shown = anna.server.ask(difference.by(&token)).is(200);
        assert!(!shown.text.contains("hunter2"), "{shown:#?}");
        let letters = Request::new("GET", "/api/v1/dead-letters?topic=t.dlq").by(&token);
        let letters = anna.server.ask(letters).is(200);
        assert_eq!(letters.text.contains(LETTER), role == Role::Operator);
        // With all its digits.
        let digits = letters.text.contains("12345678901234567890123");
        assert_eq!(digits, role == Role::Operator);
    }
    let fields = &anna.does(difference, 200)["fields"];
    let dsn = fields.as_array().expect("a list").iter().find(|field| {
        let name = field["field"].as_str();
        name.is_some_and(|name| name.ends_with("custom_config.dsn"))
    });
    assert_eq!(dsn.expect("it changed")["after"], "(masked)");
}

/// A module that drops every record: not the one that is there.
fn dropping() -> Vec<u8> {
    // One verdict of one record, all zero but its kind, would be as long as an answer; trapping is shorter and as different.
    wat::parse_str(KEEP.replace("(i64.const 0)", "(unreachable)")).expect("a module")
}

#[test]
fn a_module_is_uploaded_tried_and_promoted() {
    let anna = Anna::new();
    let keep = wat::parse_str(KEEP).expect("a module");
    let other = dropping();
    let wasm = "application/wasm";
    let put = Request::new("PUT", "/api/v1/modules/fresh").with(wasm, &keep);
    assert_eq!(anna.does(put, 200)["generation"], 2);
    let get = Request::new("GET", "/api/v1/modules/keep");
    let before = anna.does(get, 200);
    let canary = Request::new(
        "PUT",
        "/api/v1/modules/keep/canary?percent=25&mode=shadow&min_samples=7",
    );
    assert_eq!(anna.does(canary.with(wasm, &other), 200)["generation"], 3);
    let trial = anna.does(get, 200)["module"]["trials"][0].clone();
    assert_eq!(
        (&trial["percent"], &trial["mode"]),
        (&json!(25), &json!("shadow")),
        "{trial:#}"
    );
    let patch = Request::new("PATCH", "/api/v1/modules/keep/canary");
    for (wrong, status) in [
        ("[]", 400),
        ("{", 400),
        ("{\"path\":\"/etc/passwd\"}", 422),
        ("{\"percent\":\"5\"}", 422),
        ("{\"percent\":0}", 422),
    ] {
        anna.does(patch.with(JSON, wrong.as_bytes()), status);
    }
    let settings = br#"{ "percent": 100, "mode": "canary", "max_error_increase": 1.0 }"#;
    assert_eq!(anna.does(patch.with(JSON, settings), 200)["generation"], 4);
    let trial = anna.does(get, 200)["module"]["trials"][0].clone();
    assert_eq!(
        (&trial["percent"], &trial["mode"]),
        (&json!(100), &json!("canary")),
        "{trial:#}"
    );
    let promote = Request::new("POST", "/api/v1/modules/keep/promote");
    assert_eq!(anna.does(promote, 200)["generation"], 5);
    let after = anna.does(get, 200);
    assert_ne!(before["module"]["sha256"], after["module"]["sha256"]);
    assert_eq!(trial["canary_sha256"], after["module"]["sha256"]);
    assert_eq!(anna.does(promote, 404)["status"], 404);
    // Another trial, and back from it.
    assert_eq!(
        anna.does(
            Request::new("PUT", "/api/v1/modules/keep/canary").with(wasm, &keep),
            200
        )["generation"],
        6
    );
    assert_eq!(
        anna.does(Request::new("POST", "/api/v1/modules/keep/rollback"), 200)["generation"],
        7
    );
    assert_eq!(
        anna.does(get, 200)["module"]["sha256"],
        after["module"]["sha256"]
    );
    let in_use = anna.does(Request::new("DELETE", "/api/v1/modules/keep"), 422);
    assert!(
        in_use["problems"][0]["message"]
            .as_str()
            .is_some_and(|message| message.contains("in use"))
    );
    anna.does(Request::new("DELETE", "/api/v1/modules/fresh"), 200);
    anna.does(Request::new("GET", "/api/v1/modules/fresh"), 404);
}

#[test]
fn what_is_no_module_leaves_no_file() {
    let anna = Anna::new();
    let before = anna.server.modules();
    for target in ["/api/v1/modules/keep", "/api/v1/modules/keep/canary"] {
        let put = Request::new("PUT", target).with("application/wasm", b"\0asm nonsense");
        let answer = anna.does(put, 422);
        assert!(answer["problems"][0]["message"].is_string(), "{answer:#}");
    }
    let keep = wat::parse_str(KEEP).expect("a module");
    let late = Request::new("PUT", "/api/v1/modules/keep").with("application/wasm", &keep);
    anna.does(late.if_match("\"9\""), 412);
    anna.does(
        Request::new("PUT", "/api/v1/modules/absent/canary").with("application/wasm", &keep),
        404,
    );
    assert_eq!(anna.server.modules(), before);
    assert_eq!(anna.server.orchestrator.generation(), 1);
}

#[test]
fn a_name_that_is_too_long_is_refused_like_any_other() {
    let anna = Anna::new();
    let keep = wat::parse_str(KEEP).expect("a module");
    // Systems have no files of such names, and that is nobody's concern who sends a module.
    for id in ["a".repeat(255), "%C3%A9".repeat(127)] {
        let target = format!("/api/v1/modules/{id}");
        let put = Request::new("PUT", &target).with("application/wasm", &keep);
        let answer = anna.does(put, 422);
        assert!(answer["problems"][0]["message"].is_string(), "{answer:#}");
    }
    assert_eq!(anna.server.modules(), ["found.wasm", "keep.wasm"]);
}

#[test]
fn validating_writes_into_no_folder_that_a_document_names() {
    let anna = Anna::new();
    let folder = anna.server.path("cache");
    let document = json!({
        "instance_pool": { "cache_dir": folder, "cache_max_bytes": 1 << 20 },
        "pipelines": [{ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep" }] }] }],
    });
    let document = document.to_string();
    let validate = Request::new("POST", "/api/v1/validate");
    let report = anna.does(validate.with("application/json", document.as_bytes()), 200);
    assert_eq!(report["errors"], 0, "{report:#}");
    assert!(!folder.exists());
}

#[test]
fn once_closed_nothing_changes_and_everything_can_be_read() {
    let mut anna = Anna::new();
    anna.server.close();
    anna.does(
        Request::new("POST", "/api/v1/pipelines/orders-eu/disable"),
        503,
    );
    anna.does(Request::new("GET", "/api/v1/pipelines"), 200);
    assert_eq!(anna.server.orchestrator.generation(), 1);
}

#[test]
fn a_module_that_nobody_trusted_has_signed_comes_in_by_no_way() {
    use etl_orchestrator::signature::{SigningKey, sign};
    let anna = Anna::new();
    let key = SigningKey::from_bytes(&[3; 32]);
    let public: String = key
        .verifying_key()
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let keep = wat::parse_str(KEEP).expect("a module");
    let file = anna.server.path("etl.toml");
    let configuration = std::fs::read_to_string(&file).expect("a file");
    let trusting = format!("security = {{ trusted_keys = [\"{public}\"] }}\n{configuration}");
    std::fs::write(&file, trusting).expect("written");
    let reload = Request::new("POST", "/api/v1/reload");
    let refused = |answer: Value| {
        let message = answer["problems"][0]["message"]
            .as_str()
            .expect("a message")
            .to_owned();
        assert!(message.contains("not signed"), "{answer:#}");
    };
    refused(anna.does(reload, 422));
    for name in ["keep.wasm", "found.wasm"] {
        std::fs::write(anna.server.path("modules").join(name), sign(&keep, &key)).expect("written");
    }
    assert_eq!(anna.does(reload, 200)["generation"], 2);
    for target in ["/api/v1/modules/keep", "/api/v1/modules/keep/canary"] {
        let put = Request::new("PUT", target);
        refused(anna.does(put.with("application/wasm", &keep), 422));
    }
    let signed = sign(&dropping(), &key);
    let put = Request::new("PUT", "/api/v1/modules/keep/canary");
    assert_eq!(
        anna.does(put.with("application/wasm", &signed), 200)["generation"],
        3
    );
    // The first generation would bring the unsigned ones back.
    let answer = anna.does(Request::new("POST", "/api/v1/generations/1/rollback"), 422);
    assert!(
        answer["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("other keys")),
        "{answer:#}"
    );
    anna.does(Request::new("POST", "/api/v1/generations/2/rollback"), 200);
    // Nor is an unsigned one tried by a document that asks for no signature.
    let other = wat::parse_str(KEEP.replace("\"memory\") 64", "\"memory\") 65")).expect("a module");
    std::fs::write(anna.server.path("modules/other.wasm"), other).expect("written");
    let check = Request::new("POST", "/api/v1/validate");
    refused(anna.does(check.with(JSON, pipeline("other").as_bytes()), 200));
}
