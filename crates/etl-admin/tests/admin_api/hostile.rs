//! Clients that mean no good, or know no better: they are refused, and everybody else is served.

use std::io::{Read, Write};
use std::time::Duration;

use etl_admin::Role;

use crate::support::{Request, Server, read_answer};

#[track_caller]
fn is_well(server: &Server, token: &str) {
    server
        .ask(Request::new("GET", "/api/v1/health").by(token))
        .is(200);
    server.ask(Request::new("GET", "/healthz")).is(200);
    assert_eq!(server.orchestrator.generation(), 1);
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_are_read() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let head = |target: &str, framing: &str, token: &str| {
        format!(
            "PUT {target} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: application/wasm\r\n{framing}\r\n\r\n"
        )
    };
    let announced = "content-length: 1073741824";
    let module = "/api/v1/modules/keep";
    let answer = server
        .talk(head(module, announced, &token).as_bytes())
        .expect("an answer")
        .is(413);
    assert!(answer.text.contains("67108864"), "{answer:#?}");
    // In chunks nothing is announced: what comes is counted.
    let mut chunked = head(module, "transfer-encoding: chunked", &token).into_bytes();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..65 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    server.talk(&chunked).expect("an answer").is(413);
    // Strangers are told so at once, whatever they want to send, and are not told to go on.
    for framing in [
        announced,
        "transfer-encoding: chunked",
        "content-length: 1073741824\r\nexpect: 100-continue",
    ] {
        let text = head(module, framing, "etl_000000000000_0");
        server.talk(text.as_bytes()).expect("an answer").is(401);
    }
    // What takes no body takes none.
    let text = format!(
        "POST /api/v1/reload HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-length: 5\r\n\r\nhello"
    );
    server.talk(text.as_bytes()).expect("an answer").is(413);
    is_well(&server, &token);
}

#[test]
fn who_waits_to_be_told_is_told() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let body = br#"{"topic":"orders.1","value":1}"#;
    let head = format!(
        "POST /api/v1/explain HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).expect("written");
    let mut told = [0; 25];
    stream.read_exact(&mut told).expect("told");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body).expect("written");
    read_answer(&mut stream).expect("an answer").is(200);
    // The connection is good for more, and for more than one at once.
    let text = "GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n".repeat(3);
    stream.write_all(text.as_bytes()).expect("written");
    for _ in 0..3 {
        read_answer(&mut stream).expect("an answer").is(200);
    }
}

#[test]
fn headers_without_end_are_cut_off() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let many = "x: y\r\n".repeat(70);
    let many = format!("GET /healthz HTTP/1.1\r\nhost: t\r\n{many}\r\n");
    server.talk(many.as_bytes()).expect("an answer").is(431);
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    server.talk(long.as_bytes()).expect("an answer").is(431);
    let endless = format!(
        "GET /healthz HTTP/1.1\r\nhost: t\r\nx: {}",
        "y".repeat(4 << 20)
    );
    server.talk(endless.as_bytes()).expect("an answer").is(431);
    let target = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "a".repeat(1 << 20));
    let answer = server.talk(target.as_bytes()).expect("an answer");
    assert!(matches!(answer.status, 414 | 431), "{answer:#?}");
    is_well(&server, &token);
}

#[test]
fn who_is_slow_does_not_hold_up_others() {
    let server = Server::with(|options| {
        options.limits.connections = 8;
        options.limits.connections_of_one = 8;
        options.limits.head_time = Duration::from_millis(300);
        options.limits.body_time = Duration::from_millis(300);
    });
    let token = server.token(Role::Admin, "anna");
    // All places are taken by clients that say next to nothing.
    let mut slow: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for stream in &mut slow[..6] {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\nx: ")
            .expect("written");
    }
    let body = format!(
        "PUT /api/v1/modules/keep HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: application/wasm\r\ncontent-length: 100\r\n\r\nabc"
    );
    slow[6].write_all(body.as_bytes()).expect("written");
    is_well(&server, &token);
    // A body that does not come is answered; of headers that do not come there is nothing to say.
    read_answer(&mut slow[6]).expect("an answer").is(408);
    for index in [0, 1, 2, 3, 4, 5, 7] {
        assert!(read_answer(&mut slow[index]).is_none());
    }
}

#[test]
fn idle_connections_make_room_and_answers_are_finished() {
    let server = Server::with(|options| {
        options.limits.connections = 4;
        options.limits.connections_of_one = 4;
    });
    let token = server.token(Role::Admin, "anna");
    let request = b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n";
    let mut idle: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(request).expect("written");
            read_answer(&mut stream).expect("an answer").is(200);
            stream
        })
        .collect();
    is_well(&server, &token);
    // The oldest ones went.
    for stream in &mut idle[..16] {
        assert!(read_answer(stream).is_none());
    }
}

#[test]
fn who_does_not_take_answers_is_cut_off() {
    let server = Server::with(|options| {
        options.limits.connections = 1;
        options.limits.connections_of_one = 2;
        options.limits.answer_time = Duration::from_millis(300);
    });
    let token = server.token(Role::Admin, "anna");
    let request = format!(
        "GET /api/v1/openapi.json HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = server.connect();
    let patience = Some(Duration::from_secs(60));
    stream.set_write_timeout(patience).expect("a timeout");
    // It asks and asks, and reads nothing: what lies between the two fills up, until the server has waited long enough.
    let error = loop {
        if let Err(error) = stream.write_all(request.as_bytes()) {
            break error;
        }
    };
    let is_cut = matches!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
    );
    assert!(is_cut, "{error}");
    // Its place, the only one, is free for others.
    is_well(&server, &token);
}

#[test]
fn all_bodies_together_are_bounded() {
    let server = Server::with(|options| options.limits.all_bodies_bytes = 1000);
    let token = server.token(Role::Admin, "anna");
    let head = |length: usize| {
        format!(
            "POST /api/v1/validate HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
        )
    };
    let second = format!("{}\r\n{}", head(300), " ".repeat(300));
    // Which of two comes first nobody knows: begun anew until it was the one that takes the most.
    let mut first = loop {
        let mut first = server.connect();
        let text = format!("{}\r\n{}", head(900), " ".repeat(800));
        first.write_all(text.as_bytes()).expect("written");
        if server.talk(second.as_bytes()).expect("an answer").status == 503 {
            break first;
        }
        drop(first);
        let most = format!("{}\r\n{}", head(1000), " ".repeat(1000));
        while server.talk(most.as_bytes()).expect("an answer").status != 200 {}
    };
    let small = format!("{}\r\n{}", head(100), " ".repeat(100));
    server.talk(small.as_bytes()).expect("an answer").is(200);
    first.write_all(&[b' '; 100]).expect("written");
    read_answer(&mut first).expect("an answer").is(200);
    // What was answered is no longer held, nor what went away.
    let mut gone = server.connect();
    let text = format!("{}\r\n{}", head(900), " ".repeat(800));
    gone.write_all(text.as_bytes()).expect("written");
    drop(gone);
    while server.talk(second.as_bytes()).expect("an answer").status != 200 {}
    is_well(&server, &token);
}

#[test]
fn who_may_is_settled_again_once_the_body_is_there() {
    let server = Server::start();
    let anna = server.token(Role::Admin, "anna");
    let carl = server.token_with(Role::Admin, "carl", &["orders-*"], None);
    let wasm = wat::parse_str(crate::support::KEEP).expect("a module");
    let put = |target: &str, kind: &str, body: &[u8]| {
        let request = Request::new("PUT", target).with(kind, body).by(&anna);
        server.ask(request).is(200);
    };
    let pipeline = |id: &str| {
        format!(
            r#"{{ "pipeline_id": "{id}", "stages": [{{ "priority": 0, "modules": [{{ "module_id": "own" }}] }}] }}"#
        )
    };
    put("/api/v1/modules/own", "application/wasm", &wasm);
    let json = "application/json";
    put(
        "/api/v1/pipelines/orders-own",
        json,
        pipeline("orders-own").as_bytes(),
    );
    let other = wat::parse_str(crate::support::KEEP.replace("\"memory\") 64", "\"memory\") 65"))
        .expect("a module");
    let begin = || {
        let mut stream = server.connect();
        let head = format!(
            "PUT /api/v1/modules/own HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {carl}\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            other.len()
        );
        stream.write_all(head.as_bytes()).expect("written");
        // Who is told to go on was let through.
        let mut told = [0; 25];
        stream.read_exact(&mut told).expect("told");
        stream
    };
    let (mut first, mut second) = (begin(), begin());
    put(
        "/api/v1/pipelines/payments",
        json,
        pipeline("payments").as_bytes(),
    );
    first.write_all(&other).expect("written");
    read_answer(&mut first).expect("an answer").is(403);
    server.store().revoke("carl").expect("revoked");
    second.write_all(&other).expect("written");
    read_answer(&mut second).expect("an answer").is(401);
    assert_eq!(server.orchestrator.generation(), 4);
}

#[test]
fn nonsense_is_refused() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    for text in [
        "hello\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\ncontent-length: +1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\ntransfer-encoding: gzip\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\n folded\r\n\r\n",
    ] {
        server.talk(text.as_bytes()).expect("an answer").is(400);
    }
    let http2 = server.talk(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(http2.is_none_or(|answer| answer.status == 400));
    let ask = |request: Request<'_>| server.ask(request.by(&token));
    let json = "application/json";
    for (target, content, status) in [
        ("/api/v1/validate", Some((json, &b"{"[..])), 200),
        ("/api/v1/validate", Some((json, b"\xff\xfe")), 400),
        ("/api/v1/validate", Some(("application/xml", b"<a/>")), 415),
        ("/api/v1/validate", None, 415),
        ("/api/v1/explain", Some((json, b"[1]")), 422),
        ("/api/v1/explain", Some((json, b"{\"topic\":1}")), 422),
        ("/api/v1/reload?dry_run=yes", None, 400),
        ("/api/v1/reload?dry_run=true&dry_run=true", None, 400),
        ("/api/v1/reload?dryrun=true", None, 400),
        ("/api/v1/nothing", None, 404),
        ("/api/v2/reload", None, 404),
        ("/", None, 405),
        (
            "/api/v1/generations/18446744073709551616/rollback",
            None,
            404,
        ),
    ] {
        let mut request = Request::new("POST", target);
        request.content = content;
        ask(request).is(status);
    }
    let answer = ask(Request::new("BREW", "/api/v1/pipelines")).is(405);
    assert_eq!(answer.header("allow"), Some("GET"));
    // Nor are strangers told what there is.
    server.ask(Request::new("GET", "/api/v1/nothing")).is(401);
    server
        .ask(Request::new("BREW", "/api/v1/pipelines"))
        .is(401);
    is_well(&server, &token);
}

#[test]
fn an_id_is_not_a_path() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    let wasm = wat::parse_str(crate::support::KEEP).expect("a module");
    for id in [
        "..",
        ".",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%2fb",
        "a%5cb",
        "%00",
        "a%00",
        "%0a",
        ".hidden",
        "%ff",
        "%20x",
        &"a".repeat(300),
    ] {
        let target = format!("/api/v1/modules/{id}");
        let request = Request::new("PUT", &target).with("application/wasm", &wasm);
        let status = server.ask(request.by(&token)).status;
        assert!(matches!(status, 404 | 422), "{id}: {status}");
        let target = format!("/api/v1/pipelines/{id}");
        server.ask(Request::new("GET", &target).by(&token)).is(404);
    }
    assert_eq!(server.modules(), ["found.wasm", "keep.wasm"]);
    is_well(&server, &token);
}
