//! Clients that mean no good, or know no better: they are refused, and everybody else is served.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

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
    server.talk(target.as_bytes()).expect("an answer").is(431);
    is_well(&server, &token);
}

#[test]
fn who_is_slow_does_not_hold_up_others() {
    let server = Server::with(|options| {
        options.limits.connections = 8;
        options.limits.head_time = Duration::from_millis(300);
        options.limits.idle_time = Duration::from_millis(300);
        options.limits.body_time = Duration::from_millis(300);
    });
    let token = server.token(Role::Admin, "anna");
    let began = Instant::now();
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
    // Not a limit that the machine could miss: without cutting anybody off this would never end.
    assert!(began.elapsed() >= Duration::from_millis(200));
    for stream in &mut slow[..7] {
        read_answer(stream).expect("an answer").is(408);
    }
    assert!(read_answer(&mut slow[7]).is_none());
}

#[test]
fn nonsense_is_refused() {
    let server = Server::start();
    let token = server.token(Role::Admin, "anna");
    for text in [
        "hello\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        server.talk(text.as_bytes()).expect("an answer").is(400);
    }
    server
        .talk(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("an answer")
        .is(505);
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
        ("/", None, 404),
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
