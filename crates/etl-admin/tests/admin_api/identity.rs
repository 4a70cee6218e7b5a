//! Whether the right ones are believed: what was revoked, guesses, files that broke, addresses that others reach.

use std::sync::Arc;

use etl_admin::{Admin, AdminOptions, Role};
use serde_json::json;

use crate::support::{Request, Server};

const SESSION: Request<'static> = Request {
    method: "GET",
    target: "/api/v1/session",
    token: None,
    content: None,
    if_match: None,
};

#[test]
fn a_token_says_who_it_is_until_it_is_revoked() {
    let server = Server::start();
    let token = server.token_with(Role::Operator, "otto", &["orders-*"], None);
    let expected = json!({ "name": "otto", "role": "operator", "pipelines": ["orders-*"] });
    for _ in 0..3 {
        assert_eq!(server.ask(SESSION.by(&token)).is(200).json(), expected);
    }
    server.store().revoke("otto").expect("revoked");
    let answer = server.ask(SESSION.by(&token)).is(401);
    assert!(answer.text.contains("revoked"), "{answer:#?}");
    assert!(
        answer
            .header("www-authenticate")
            .is_some_and(|value| value.starts_with("Bearer"))
    );
    // The name is free again, and its new token is not the old one.
    let again = server.token(Role::Viewer, "otto");
    assert_eq!(
        server.ask(SESSION.by(&again)).is(200).json()["role"],
        "viewer"
    );
    server.ask(SESSION.by(&token)).is(401);
}

#[test]
fn guessing_is_locked_out_and_those_who_were_known_are_not() {
    let server = Server::start();
    let (known, other) = (
        server.token(Role::Viewer, "vera"),
        server.token(Role::Viewer, "other"),
    );
    server.ask(SESSION.by(&known)).is(200);
    let wrong_secret = format!("{}{}", &known[..known.len() - 4], "0000");
    let no_such_id = format!("etl_000000000000_{}", "0".repeat(64));
    let guess = |guess: &str| {
        let answer = server.ask(SESSION.by(guess)).is(401);
        assert!(!answer.text.contains(guess), "{answer:#?}");
    };
    let is_locked_out = |guess: &str| {
        let answer = server.ask(SESSION.by(guess)).is(429);
        let wait = answer.header("retry-after");
        assert!(wait.is_some_and(|wait| wait.parse::<u64>().is_ok()));
    };
    // An id that is not there, and what is no token.
    for _ in 0..5 {
        guess(&no_such_id);
        guess("hello");
    }
    is_locked_out(&no_such_id);
    is_locked_out("hello");
    // That is nothing to those whose tokens are there, seen before or not.
    server.ask(SESSION.by(&other)).is(200);
    // The right id with a wrong secret.
    for _ in 0..10 {
        guess(&wrong_secret);
    }
    is_locked_out(&wrong_secret);
    server.ask(SESSION.by(&known)).is(200);
    let fresh = server.token(Role::Viewer, "fresh");
    let wrong_secret = format!("{}{}", &fresh[..fresh.len() - 4], "0000");
    for _ in 0..10 {
        guess(&wrong_secret);
    }
    // Not even the right one is looked at, where it was not known before.
    is_locked_out(&fresh);
    server.ask(SESSION).is(401);
    server.ask(Request::new("GET", "/healthz")).is(200);
}

#[test]
fn no_file_holds_a_token_and_nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let secret = token.rsplit('_').next().expect("a secret");
    let file = server.path("admin/access.json");
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(
        !text.contains(secret) && text.contains("$argon2id$"),
        "{text}"
    );
    let mode = |path| {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(file), 0o600);
    assert_eq!(mode(server.path("admin")), 0o700);
}

#[test]
fn a_file_that_broke_lets_nobody_in() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    server.ask(SESSION.by(&token)).is(200);
    let file = server.path("admin/access.json");
    let right = std::fs::read_to_string(&file).expect("the file");
    for broken in [
        "",
        "{}",
        &right.replace("\"admin\"", "\"root\""),
        &right[..right.len() / 2],
    ] {
        std::fs::write(&file, broken).expect("written");
        server.ask(SESSION.by(&token)).is(503);
    }
    std::fs::write(&file, right).expect("written");
    server.ask(SESSION.by(&token)).is(200);
    std::fs::remove_file(&file).expect("removed");
    server.ask(SESSION.by(&token)).is(401);
}

#[test]
fn an_address_that_others_reach_needs_tls_or_a_word() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let bind = |amend: fn(&mut AdminOptions)| {
        let address = "0.0.0.0:0".parse().expect("an address");
        let mut options = AdminOptions::new(address, server.path("other"));
        amend(&mut options);
        let host = NoHost;
        runtime.block_on(Admin::bind(options, Arc::clone(&server.orchestrator), host))
    };
    let error = bind(|_| {}).err().expect("refused").to_string();
    assert!(error.contains("without TLS"), "{error}");
    assert!(bind(|options| options.allow_plain = true).is_ok());
}

struct NoHost;

impl etl_admin::Host for NoHost {
    fn load(&self) -> Result<etl_config::Loaded, etl_config::Report> {
        Err(etl_config::Report::default())
    }

    fn load_options(&self) -> etl_config::LoadOptions {
        etl_config::LoadOptions::isolated()
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn explain(&self, _asked: etl_admin::Asked<'_>) -> Result<String, String> {
        Err("nothing runs here".to_owned())
    }
}
