//! A secret that is looked for in everything that a full run leaves behind and says, and found nowhere in clear.
//!
//! Its module is as careless as can be: it logs what it was given, counts by it, and fails every record with it as the reason.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::serving::{Run, ask};
use crate::support::Desk;

const CANARY: &str = "canary-5f1c9e77";
const OTHER: &str = "second-canary-b2";
const KEY: &str = "file:secret.key";

const CONFIGURATION: &str = r#"
[secrets]
key = "file:secret.key"

[instance_pool]
cache_dir = "cache"

[[pipelines]]
pipeline_id = "careless"
error_handling = "SendToDeadLetter"

[[pipelines.stages]]
priority = 0
modules = [{ module_id = "tells", instance_config = { custom_config = { password = "${secret:DB}", url = "db://u:${secret:DB}@h/${REGION:eu}" } } }]
"#;

/// Logs its settings, counts by them, and fails every record with them.
const TELLS: &str = r#"(module
  (import "etl" "log" (func $log (param i32 i32 i32)))
  (import "etl" "counter" (func $counter (param i32 i32 i64)))
  (memory (export "memory") 64)
  (global $len (mut i32) (i32.const 0))
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_init_v1") (param $ptr i32) (param $size i32) (result i64)
    (memory.copy (i32.const 200000) (local.get $ptr) (local.get $size))
    (global.set $len (local.get $size))
    (call $log (i32.const 1) (i32.const 200000) (local.get $size))
    (call $counter (i32.const 200000) (local.get $size) (i64.const 1))
    (i64.const 0))
  (func (export "etl_process_v1") (param $ptr i32) (param $size i32) (result i64)
    (local $count i32) (local $i i32) (local $at i32) (local $end i32)
    (call $log (i32.const 1) (i32.const 200000) (global.get $len))
    (local.set $count (i32.load offset=8 (local.get $ptr)))
    (local.set $end (i32.add (i32.const 16) (i32.mul (i32.const 16) (local.get $count))))
    (i32.store (i32.const 300000) (i32.const 0x524c5445))
    (i32.store (i32.const 300004) (i32.const 1))
    (i32.store (i32.const 300008) (local.get $count))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (local.set $at (i32.add (i32.const 300016) (i32.mul (i32.const 16) (local.get $i))))
      (i32.store (local.get $at) (i32.const 2))
      (i32.store offset=4 (local.get $at) (i32.const 7))
      (i32.store offset=8 (local.get $at) (local.get $end))
      (i32.store offset=12 (local.get $at) (global.get $len))
      (memory.copy (i32.add (i32.const 300000) (local.get $end)) (i32.const 200000) (global.get $len))
      (local.set $end (i32.add (local.get $end) (global.get $len)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 300012) (local.get $end))
    (i64.or (i64.shl (i64.extend_i32_u (i32.const 300000)) (i64.const 32)) (i64.extend_i32_u (local.get $end)))))"#;

/// Refuses its settings, and says what they are.
const REFUSES: &str = r#"(module
  (memory (export "memory") 64)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_init_v1") (param $ptr i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#;

/// Every form in which a careless program could let a secret out.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    let reversed: String = secret.chars().rev().collect();
    let mut forms = vec![
        secret.to_owned(),
        hexadecimal.clone(),
        hexadecimal.to_uppercase(),
        numbers.join(", "),
        numbers.join(","),
        reversed,
    ];
    // base64 of it, wherever in a group of three it begins.
    forms.extend((0..3).map(|shift| base64(&[&b"???"[..shift], bytes].concat())));
    forms.into_iter().map(String::into_bytes).collect()
}

/// The middle of a text's base64, which is the same whatever stands around it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).skip(1);
    groups
        .flat_map(|group| {
            let bits = group
                .iter()
                .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]))
        })
        .collect()
}

fn every_file(folder: &Path, each: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            every_file(&path, each);
        } else {
            each(&path, &fs::read(&path).expect("a file"));
        }
    }
}

#[test]
fn a_secret_is_found_nowhere_in_clear() {
    let desk = Desk::new();
    desk.put("etl.toml", CONFIGURATION).module("tells", TELLS);
    let mut said = Vec::new();
    let mut etl = |arguments: &[&str], input: &str, code: i32| {
        let it = desk
            .etl_with_input(arguments, input.as_bytes())
            .ends_with(code);
        said.push((arguments.join(" "), format!("{}{}", it.stdout, it.stderr)));
        it.stdout
    };
    etl(&["secret", "key", "generate", "secret.key"], "", 0);
    etl(&["secret", "set", "DB"], &format!("{CANARY}\n"), 0);
    etl(&["secret", "set", "OTHER", "--json"], OTHER, 0);
    etl(&["secret", "list", "--json"], "", 0);
    etl(&["validate", "etl.toml", "--json", "--log", "trace"], "", 0);
    let token = etl(
        &["admin", "token", "create", "--role", "admin", "--name", "a"],
        "",
        0,
    );
    let token = token.trim();

    let mut run = Run::start(
        &desk,
        &[
            "--to",
            "file:out.ndjson",
            "--dead-letters",
            "file:failed.ndjson",
            "--metrics",
            "127.0.0.1:0",
            "--log",
            "trace",
        ],
    );
    let mut stdin = run.child.stdin.take().expect("a pipe");
    for value in 0..50 {
        writeln!(stdin, r#"{{"topic":"t","value":{value}}}"#).expect("writes");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while !desk.path("failed.ndjson").exists() || desk.read("failed.ndjson").lines().count() < 50 {
        assert!(
            Instant::now() < deadline,
            "no dead letters:\n{}",
            desk.read("stderr.log")
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let module = fs::read(desk.path("modules/tells.wasm")).expect("a module");
    let refuses = wat::parse_str(REFUSES).expect("a module");
    let pipeline = br#"{ "pipeline_id": "new", "stages": [{ "priority": 0, "modules": [{ "module_id": "tells",
        "instance_config": { "custom_config": { "list": [1, "${secret:OTHER}"], "plain": true } } }] }] }"#;
    let misplaced = br#"{ "pipeline_id": "new", "name": "${secret:OTHER}", "stages": [{ "priority": 0, "modules": [{ "module_id": "tells" }] }] }"#;
    let (json, wasm) = ("application/json", "application/wasm");
    let record = br#"{"topic":"t","value":1}"#;
    let mut answers = Vec::new();
    let mut api = |line: &str, kind: &str, body: &[u8], status: u16| {
        let answer = ask(&run.api, token, line, Some((kind, body)));
        let begin = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&begin), "{line}: {answer}");
        answers.push((line.to_owned(), answer));
    };
    api("PUT /api/v1/pipelines/new", json, pipeline, 200);
    api("PUT /api/v1/pipelines/new", json, misplaced, 422);
    api("PUT /api/v1/modules/tells", wasm, &module, 200);
    api("PUT /api/v1/modules/tells", wasm, &refuses, 422);
    api("POST /api/v1/validate", json, pipeline, 200);
    api("POST /api/v1/explain", json, record, 200);
    api("POST /api/v1/pipelines/new/disable", json, b"", 200);
    for line in [
        "/readyz",
        "/metrics",
        "/api/v1/openapi.json",
        "/api/v1/session",
        "/api/v1/health",
        "/api/v1/statistics",
        "/api/v1/audit",
        "/api/v1/pipelines",
        "/api/v1/pipelines/careless",
        "/api/v1/pipelines/new",
        "/api/v1/modules",
        "/api/v1/modules/tells",
        "/api/v1/explain?topic=t",
        "/api/v1/generations",
        "/api/v1/generations/2",
        "/api/v1/generations/4?from=1",
        "/nowhere",
    ] {
        let status = if line == "/nowhere" { 404 } else { 200 };
        api(&format!("GET {line}"), json, b"", status);
    }
    api("POST /api/v1/reload", json, b"", 200);
    api("POST /api/v1/generations/2/rollback", json, b"", 200);
    for path in ["/metrics", "/readyz"] {
        let answer = ask(&run.metrics, token, &format!("GET {path}"), None);
        answers.push((format!("metrics {path}"), answer));
    }
    // Secrets are in this process in clear, and not in what it would leave behind if it died.
    let limits = fs::read_to_string(format!("/proc/{}/limits", run.child.id())).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    drop(stdin);
    assert!(
        run.child.wait().expect("it ends").success(),
        "{}",
        desk.read("stderr.log")
    );

    etl(&["explain", "etl.toml", "--topic", "t", "--json"], "", 0);
    desk.put("record.json", record);
    etl(
        &[
            "explain",
            "etl.toml",
            "--topic",
            "t",
            "--record",
            "record.json",
        ],
        "",
        0,
    );
    etl(&["audit", "verify"], "", 0);
    let dead = desk.read("failed.ndjson");
    desk.put("letter.ndjson", dead.lines().next().expect("a letter"));
    etl(
        &["replay", "etl.toml", "--dead-letter", "file:letter.ndjson"],
        "",
        0,
    );
    // A module that refuses its settings ends the program, with what it says of them.
    desk.put("refusing/modules/tells.wasm", &refuses);
    etl(
        &[
            "run",
            "etl.toml",
            "--modules",
            "refusing/modules",
            "--from",
            "-",
            "--to",
            "-",
        ],
        "",
        78,
    );
    etl(&["secret", "key", "generate", "new.key"], "", 0);
    etl(
        &[
            "secret",
            "rotate",
            "--new-key",
            "file:new.key",
            "--secret-key",
            KEY,
        ],
        "",
        0,
    );

    // The module did say what it was given, everywhere: what is not found is masked, and not missing.
    assert!(
        dead.contains(r#"{\"password\":\"***\",\"url\":\"db://u:***@h/eu\"}"#),
        "{dead}"
    );
    let logged = desk.read("stderr.log");
    assert!(logged.contains(r#"{"password":"***""#), "{logged}");
    let mut told = said.iter().map(|(_, text)| text);
    assert!(told.any(|text| text.contains("refused its configuration") && text.contains("***")));
    // What came through the API is stored under the key, and so are generations; what is compiled is there, and was looked through.
    let (mut modules, mut generations, mut compiled) = (0, 0, 0);
    let needles: Vec<Vec<u8>> = [CANARY, OTHER].into_iter().flat_map(forms).collect();
    let look = |place: &str, bytes: &[u8]| {
        for needle in &needles {
            let found = bytes
                .windows(needle.len())
                .any(|part| part == needle.as_slice());
            assert!(!found, "{:?} in {place}", String::from_utf8_lossy(needle));
        }
    };
    every_file(&desk.path(""), &mut |path, bytes| {
        look(&path.display().to_string(), bytes);
        let sealed = bytes.starts_with(b"ETLSEAL\0");
        let is_in = |folder: &str| path.starts_with(desk.path(folder));
        modules += usize::from(sealed && is_in("modules"));
        generations += usize::from(sealed && is_in("etl-admin/generations"));
        compiled += usize::from(is_in("cache"));
        assert!(
            sealed || !is_in("etl-admin/generations"),
            "{}",
            path.display()
        );
    });
    assert_eq!(modules, 1);
    assert!(generations > 3 && compiled > 0, "{generations} {compiled}");
    for (place, text) in said.iter().chain(&answers) {
        look(place, text.as_bytes());
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let text = format!("x{CANARY}y");
    for shift in 0..3 {
        let encoded = base64(&[&b"abcdef"[..3 + shift], text.as_bytes()].concat());
        let found = forms(CANARY).iter().any(|form| {
            encoded
                .as_bytes()
                .windows(form.len())
                .any(|part| part == form.as_slice())
        });
        assert!(found, "{encoded}");
    }
}
