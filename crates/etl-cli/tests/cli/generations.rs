//! Generations that outlive the process: listed, compared and gone back to after a restart, whole whatever dies when, and encrypted where there
//! is a key.

use std::fs;

use serde_json::Value;

use crate::admin::create;
use crate::serving::Running;
use crate::support::{Desk, KEEP};

const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "keeps"
name = "${NAME}"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#;

const NEW: &str = r#"{ "pipeline_id": "new", "stages": [{ "priority": 0, "modules": [{ "module_id": "keep" }] }] }"#;

fn desk() -> (Desk, String) {
    let desk = Desk::new();
    desk.put("etl.toml", CONFIGURATION).module("keep", KEEP);
    let token = create(&desk, "admin", "anna");
    (desk, token)
}

/// The numbers and causes of all that are kept.
fn kept(running: &Running, token: &str) -> Vec<(u64, String)> {
    let list = running.json(token, "GET", "/api/v1/generations", None);
    let generations = list["generations"].as_array().expect("a list");
    let one = |kept: &Value| {
        let cause = kept["cause"].as_str().unwrap_or_default();
        (
            kept["generation"].as_u64().unwrap_or_default(),
            cause.to_owned(),
        )
    };
    generations.iter().map(one).collect()
}

fn files(desk: &Desk) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(desk.path("etl-admin/generations")).expect("a folder");
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_next_process_goes_back_to_what_this_one_had() {
    let (desk, token) = desk();
    let running = Running::start(&desk, &[]);
    let ask =
        |method, target, body| running.json(&token, method, target, body)["generation"].clone();
    assert_eq!(ask("PUT", "/api/v1/pipelines/new", Some(NEW)), 2);
    assert_eq!(ask("POST", "/api/v1/pipelines/keeps/disable", None), 3);
    let module = running.json(&token, "GET", "/api/v1/modules/keep", None)["module"].clone();
    // As in a power failure.
    running.kill();

    // Meanwhile the module's file becomes another one.
    let other = KEEP.replace("\"memory\") 64", "\"memory\") 65");
    desk.module("keep", &other);
    let running = Running::start(&desk, &[]);
    let before = kept(&running, &token);
    let numbers: Vec<u64> = before.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "{before:?}");
    assert_eq!(before[1].1, "anna: PUT /api/v1/pipelines/new");
    assert_eq!(before[3].1, "start");
    let difference = running.json(&token, "GET", "/api/v1/generations/2", None);
    assert_eq!(difference["pipelines_added"][0], "new", "{difference:#}");
    let difference = running.json(&token, "GET", "/api/v1/generations/3?from=2", None);
    assert_eq!(
        (
            &difference["fields"][0]["field"],
            &difference["fields"][0]["after"]
        ),
        (&"enabled".into(), &false.into()),
        "{difference:#}"
    );
    let difference = running.json(&token, "GET", "/api/v1/generations/4", None);
    assert_eq!(difference["pipelines_removed"][0], "new", "{difference:#}");
    assert_eq!(difference["modules_changed"][0], "keep", "{difference:#}");
    // Tried, and then made.
    let back = "/api/v1/generations/3/rollback";
    let tried = running.json(&token, "POST", &format!("{back}?dry_run=true"), None);
    assert_eq!(
        (&tried["dry_run"], &tried["generation"]),
        (&true.into(), &5.into())
    );
    assert_eq!(running.json(&token, "POST", back, None)["generation"], 5);
    let pipelines = running.json(&token, "GET", "/api/v1/pipelines", None);
    let pipelines = &pipelines["pipelines"];
    assert_eq!(pipelines.as_array().map(Vec::len), Some(2), "{pipelines:#}");
    assert_eq!(
        (&pipelines[0]["id"], &pipelines[0]["enabled"]),
        (&"keeps".into(), &false.into())
    );
    assert_eq!(pipelines[0]["name"], "${NAME}");
    // With the bytes that the module had.
    let now = running.json(&token, "GET", "/api/v1/modules/keep", None)["module"].clone();
    assert_eq!(now["sha256"], module["sha256"]);
    assert_ne!(now["file"], module["file"]);
    let (status, text) = running.ask(&token, "POST", "/api/v1/generations/9/rollback", None);
    assert_eq!(status, 404, "{text}");
    running.end();

    // A start with nothing new is not another generation to be kept.
    for _ in 0..3 {
        Running::start(&desk, &[]).kill();
    }
    let running = Running::start(&desk, &[]);
    let numbers: Vec<u64> = kept(&running, &token)
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers[..5], [1, 2, 3, 4, 5]);
    assert_eq!(numbers.len(), 6, "{numbers:?}");
    running.kill();
    // What stands for a variable is kept, and not what it stood for.
    for (name, bytes) in files(&desk) {
        let text = String::from_utf8(bytes).expect("text");
        assert!(
            text.contains("${NAME}") && !text.contains("canary-77f0"),
            "{name}: {text}"
        );
    }

    // The oldest go where there are too many, and bytes with the last that used them.
    let running = Running::start(&desk, &["--keep-generations", "2"]);
    for verb in ["disable", "enable"] {
        let target = format!("/api/v1/pipelines/keeps/{verb}");
        running.json(&token, "POST", &target, None);
    }
    running.kill();
    assert_eq!(files(&desk).len(), 2);
    let modules = fs::read_dir(desk.path("etl-admin/generations/modules")).expect("a folder");
    assert_eq!(modules.count(), 1);
}

#[test]
fn they_are_encrypted_and_say_what_is_wrong_with_them() {
    let (desk, token) = desk();
    for name in ["secret.key", "other.key"] {
        desk.etl(&["secret", "key", "generate", name]).ends_with(0);
    }
    let key = ["--secret-key", "file:secret.key"];
    let plain = CONFIGURATION.replace("${NAME}", "a name in clear");
    desk.put("etl.toml", plain);
    let running = Running::start(&desk, &key);
    running.json(&token, "POST", "/api/v1/pipelines/keeps/disable", None);
    running.kill();
    let sealed = files(&desk);
    assert_eq!(sealed.len(), 2);
    for (name, bytes) in &sealed {
        assert!(bytes.starts_with(b"ETLSEAL\0"), "{name}");
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!holds(b"a name in clear") && !holds(b"keeps"), "{name}");
    }
    let modules = fs::read_dir(desk.path("etl-admin/generations/modules")).expect("a folder");
    for module in modules {
        let bytes = fs::read(module.expect("an entry").path()).expect("a file");
        assert!(bytes.starts_with(b"ETLSEAL\0"));
    }
    let run = |more: &[&str]| {
        let run = [
            "run",
            "etl.toml",
            "--from",
            "-",
            "--to",
            "-",
            "--admin",
            "127.0.0.1:0",
        ];
        desk.etl(&[&run[..], more].concat())
    };
    let first = &sealed[0].0;
    run(&[]).ends_with(1).complains(&[
        "cannot serve the API",
        first,
        "it is encrypted, and no key is given",
        "--secret-key",
    ]);
    run(&["--secret-key", "file:other.key"])
        .ends_with(1)
        .complains(&[first, "was encrypted with the key", "file:other.key"]);
    // Cut off, as nothing but a broken disk leaves it.
    let path = format!("etl-admin/generations/{first}");
    desk.put(&path, &sealed[0].1[..sealed[0].1.len() / 2]);
    run(&key).ends_with(1).complains(&[first, "damaged"]);
    assert_eq!(
        fs::read(desk.path(&path)).expect("a file").len(),
        sealed[0].1.len() / 2
    );
    run(&["--keep-generations", "0"]).ends_with(0);
    desk.put(&path, &sealed[0].1);

    // With another key all of it is encrypted anew.
    let rotate = ["secret", "rotate", "--new-key", "file:other.key"];
    desk.etl(&[&rotate[..], &key].concat())
        .ends_with(0)
        .complains(&["2 generations"]);
    run(&key)
        .ends_with(1)
        .complains(&["was encrypted with the key"]);
    let running = Running::start(&desk, &["--secret-key", "file:other.key"]);
    let back = running.json(&token, "POST", "/api/v1/generations/2/rollback", None);
    assert_eq!(back["generation"], 4);
    running.kill();
}

#[test]
fn killed_at_any_moment_they_are_whole() {
    let (desk, token) = desk();
    let (mut last, mut disabled) = (0, 0);
    for round in 0..8_u64 {
        let running = Running::start(&desk, &[]);
        let numbers: Vec<u64> = kept(&running, &token)
            .iter()
            .map(|(number, _)| *number)
            .collect();
        let now = *numbers.last().expect("one is in force");
        // What was answered before is kept, and no number is given twice.
        assert!(now > last, "{now} after {last}: {numbers:?}");
        let change = |verb: &str| {
            let target = format!("/api/v1/pipelines/keeps/{verb}");
            let changed = running.json(&token, "POST", &target, None);
            changed["generation"].as_u64().expect("a number")
        };
        disabled = change("disable");
        last = change("enable");
        // In the middle of another one.
        let address = running.address.clone();
        let request = format!(
            "POST /api/v1/pipelines/keeps/disable HTTP/1.1\r\nhost: etl\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        let asking = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut Vec::new())
        });
        std::thread::sleep(std::time::Duration::from_micros(round * 1_500));
        running.kill();
        let _ = asking.join().expect("the client ends");
    }
    let running = Running::start(&desk, &[]);
    let all = kept(&running, &token);
    running.json(
        &token,
        "POST",
        &format!("/api/v1/generations/{disabled}/rollback"),
        None,
    );
    assert!(all.iter().any(|(number, _)| *number == disabled), "{all:?}");
    running.kill();
}
