//! `etl secret` and what configurations do with secrets: kept, found, refused with what to do, and whole whatever dies when.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Desk, KEEP, Said, said};

const KEY: &str = "file:secret.key";

/// One module that is given a secret.
const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "p"
stages = [{ priority = 0, modules = [{ module_id = "keep", instance_config = { custom_config = { password = "${secret:DB}" } } }] }]
"#;

/// As [`KEEP`], and takes settings.
const TAKES: &str = r#"(module
  (memory (export "memory") 64)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_init_v1") (param i32 i32) (result i64) (i64.const 0))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#;

fn desk() -> Desk {
    let desk = Desk::new();
    let said = desk.etl(&["secret", "key", "generate", "secret.key"]);
    assert_eq!(said.ends_with(0).stdout.trim().len(), 16);
    desk.put("etl.toml", CONFIGURATION).module("keep", TAKES);
    desk
}

fn set(desk: &Desk, name: &str, value: &str) -> Said {
    let arguments = ["secret", "set", name, "--secret-key", KEY];
    desk.etl_with_input(&arguments, value.as_bytes())
}

fn validate(desk: &Desk, key: &str) -> Said {
    desk.etl(&["validate", "etl.toml", "--secret-key", key])
}

#[test]
fn a_secret_is_set_listed_and_removed_and_never_shown() {
    let desk = desk();
    let said = set(&desk, "DB", "canary-1\n").ends_with(0);
    assert_eq!(said.stderr, "etl: DB is set in etl.secrets\n");
    set(&desk, "TOKEN", "canary-2").ends_with(0);
    let mode = fs::metadata(desk.path("etl.secrets")).expect("is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    validate(&desk, KEY).ends_with(0);
    let list = ["secret", "list", "--secret-key", KEY];
    let listed = desk.etl(&list).ends_with(0);
    let names: Vec<&str> = listed
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["DB", "TOKEN"]);
    let json = desk.etl(&[&list[..], &["--json"]].concat()).ends_with(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["secrets"][1]["name"], "TOKEN");
    assert_eq!(json["secrets"][0].as_object().expect("an object").len(), 3);
    for text in [&listed.stdout, &json.to_string(), &desk_text(&desk)] {
        assert!(!text.contains("canary"), "{text}");
    }
    let remove = ["secret", "remove", "TOKEN", "--secret-key", KEY];
    desk.etl(&remove).ends_with(0);
    desk.etl(&remove)
        .ends_with(1)
        .complains(&["etl.secrets", "no secret is called `TOKEN`"]);
}

/// Everything in the folder, as far as it is text.
fn desk_text(desk: &Desk) -> String {
    let bytes = fs::read(desk.path("etl.secrets")).expect("is there");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_way_to_give_the_key_works_and_none_is_told_clearly() {
    let desk = desk();
    set(&desk, "DB", "hunter2").ends_with(0);
    let key = desk.read("secret.key");
    validate(&desk, "command:cat secret.key").ends_with(0);
    for (variable, arguments) in [
        ("ETL_SECRET_KEY", &["validate", "etl.toml"][..]),
        ("KEY", &["validate", "etl.toml", "--secret-key", "env:KEY"]),
    ] {
        let mut command = desk.command(arguments);
        command.env(variable, key.trim());
        said(command.output().expect("etl starts")).ends_with(0);
    }
    desk.etl(&["validate", "etl.toml"])
        .ends_with(78)
        .complains(&[
            "etl.secrets needs a key, and none is given",
            "--secret-key",
            "[secrets]",
            "ETL_SECRET_KEY",
            "etl secret key generate",
        ]);
    desk.etl(&["secret", "list"])
        .ends_with(1)
        .complains(&["etl.secrets needs a key, and none is given"]);
    // In the configuration itself, relative to it; what the command line says goes before it.
    let section = "[secrets]\nfile = \"kept/s\"\nkey = \"file:secret.key\"\n";
    desk.put("etl.toml", format!("{section}{CONFIGURATION}"));
    desk.put(
        "kept/s",
        fs::read(desk.path("etl.secrets")).expect("is there"),
    );
    desk.etl(&["validate", "etl.toml"]).ends_with(0);
    desk.etl(&["secret", "list"]).ends_with(0);
    desk.etl(&["validate", "etl.toml", "--secrets", "nowhere"])
        .ends_with(78)
        .complains(&["there are no secrets in nowhere", "etl secret set"]);
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let desk = desk();
    let key = desk.read("secret.key");
    let key = key.trim();
    let refused = validate(&desk, key).ends_with(2);
    assert!(
        refused
            .stderr
            .contains("file:PATH, env:NAME or command:COMMAND"),
        "{}",
        refused.stderr
    );
    desk.put(
        "etl.toml",
        format!("[secrets]\nkey = \"${{WHERE}}\"\n{CONFIGURATION}"),
    );
    let mut command = desk.command(&["validate", "etl.toml"]);
    let described = said(command.env("WHERE", key).output().expect("etl starts")).ends_with(78);
    for said in [refused, described] {
        assert!(!said.stderr.contains(&key[..8]), "{}", said.stderr);
    }
    // Nor what a file holds that is no key.
    desk.put("other", "a-password-in-a-wrong-file");
    let said = validate(desk.put("etl.toml", CONFIGURATION), "file:other").ends_with(78);
    assert!(!said.stderr.contains("a-password"), "{}", said.stderr);
    said.complains(&[
        "no key can be had from file:other",
        "etl secret key generate",
    ]);
}

#[test]
fn what_is_missing_or_misplaced_is_told_with_what_to_do() {
    let desk = desk();
    validate(&desk, KEY).ends_with(78).complains(&[
        "there are no secrets in etl.secrets",
        "etl secret set NAME --secrets etl.secrets",
    ]);
    set(&desk, "DB1", "hunter2").ends_with(0);
    validate(&desk, KEY).ends_with(78).complains(&[
        "no secret is called `DB` in etl.secrets",
        "etl.toml:4:",
        "etl secret set DB --secrets etl.secrets",
        "did you mean `DB1`?",
    ]);
    let elsewhere =
        CONFIGURATION.replace("pipeline_id = \"p\"", "pipeline_id = \"p-${secret:DB1}\"");
    desk.put("etl.toml", elsewhere);
    let said = validate(&desk, KEY).ends_with(78);
    assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
    said.complains(&[
        "a secret may stand only in `custom_config`",
        "shown to people",
    ]);
    for (arguments, value, message) in [
        (
            &["secret", "set", "a b"][..],
            "x",
            "is not the name of a secret",
        ),
        (
            &["secret", "set", "EMPTY"],
            "\n",
            "there is no value on standard input",
        ),
    ] {
        let arguments = [arguments, &["--secret-key", KEY]].concat();
        desk.etl_with_input(&arguments, value.as_bytes())
            .ends_with(1)
            .complains(&[message]);
    }
}

#[test]
fn a_damaged_file_and_a_wrong_key_lose_nothing() {
    let desk = desk();
    set(&desk, "DB", "hunter2").ends_with(0);
    let whole = fs::read(desk.path("etl.secrets")).expect("is there");
    desk.etl(&["secret", "key", "generate", "other.key"])
        .ends_with(0);
    validate(&desk, "file:other.key")
        .ends_with(78)
        .complains(&["etl.secrets was encrypted with the key", "file:other.key"]);
    let arguments = ["secret", "set", "DB", "--secret-key", "file:other.key"];
    desk.etl_with_input(&arguments, b"hunter3")
        .ends_with(1)
        .complains(&[
            "etl.secrets was encrypted with the key",
            "nothing was changed",
        ]);
    assert_eq!(fs::read(desk.path("etl.secrets")).expect("is there"), whole);
    for at in [0, 9, 12, 20, 25, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        desk.put("etl.secrets", &flipped);
        validate(&desk, KEY)
            .ends_with(78)
            .complains(&["etl.secrets"]);
        set(&desk, "DB", "hunter3")
            .ends_with(1)
            .complains(&["etl.secrets"]);
        assert_eq!(
            fs::read(desk.path("etl.secrets")).expect("is there"),
            flipped
        );
    }
}

#[test]
fn everything_is_rotated_to_a_new_key() {
    let desk = desk();
    set(&desk, "DB", "hunter2").ends_with(0);
    desk.etl(&["secret", "key", "generate", "new.key"])
        .ends_with(0);
    let rotate = [
        "secret",
        "rotate",
        "--secret-key",
        KEY,
        "--new-key",
        "file:new.key",
    ];
    desk.etl(&rotate)
        .ends_with(0)
        .complains(&["1 secret and 0 modules"]);
    validate(&desk, "file:new.key").ends_with(0);
    validate(&desk, KEY)
        .ends_with(78)
        .complains(&["was encrypted with the key"]);
    // Again, as after an interruption that nobody saw.
    let said = desk.etl(&[&rotate[..], &["--json"]].concat()).ends_with(0);
    let json: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(json["secrets"], 1);
}

#[test]
fn killed_at_any_moment_the_file_is_whole() {
    let desk = desk();
    set(&desk, "DB", "value-0").ends_with(0);
    let mut possible = vec!["value-0".to_owned()];
    let folder = desk.path("");
    for round in 1..=24_u64 {
        let value = format!("value-{round}");
        let mut child = desk
            .command(&["secret", "set", "DB", "--secret-key", KEY])
            .stdin(Stdio::piped())
            .spawn()
            .expect("etl starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // Killed before it reads, it is gone.
        let _ = std::io::Write::write_all(&mut stdin, value.as_bytes());
        drop(stdin);
        std::thread::sleep(Duration::from_micros(round * 900));
        child.kill().expect("killed");
        child.wait().expect("ended");
        possible.push(value);
        desk.etl(&["secret", "list", "--secret-key", KEY])
            .ends_with(0);
        validate(&desk, KEY).ends_with(0);
    }
    // What it holds is one of the values, whole, and the next change cleans up.
    set(&desk, "DB", "last").ends_with(0);
    let left: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_full_disk_changes_nothing() {
    let desk = desk();
    set(&desk, "DB", "hunter2").ends_with(0);
    let whole = fs::read(desk.path("etl.secrets")).expect("is there");
    // No file may grow at all, as if the disk were full.
    let script = format!(
        "trap '' XFSZ; ulimit -f 0; exec {} secret set NEW --secret-key {KEY}",
        env!("CARGO_BIN_EXE_etl")
    );
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &script])
        .current_dir(desk.path(""))
        .env_clear()
        .stdin(fs::File::open(desk.path("secret.key")).expect("some text"));
    said(command.output().expect("sh starts"))
        .ends_with(1)
        .complains(&["etl.secrets cannot be written", "what it held is as it was"]);
    assert_eq!(fs::read(desk.path("etl.secrets")).expect("is there"), whole);
    assert!(!desk.path("etl.secrets.new").exists());
    validate(&desk, KEY).ends_with(0);
}

#[test]
fn a_key_is_made_once_and_kept_by_its_owner_alone() {
    let desk = desk();
    let mode = fs::metadata(desk.path("secret.key")).expect("is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let before = desk.read("secret.key");
    desk.etl(&["secret", "key", "generate", "secret.key"])
        .ends_with(1)
        .complains(&["secret.key", "exists"]);
    assert_eq!(desk.read("secret.key"), before);
    let printed = desk.etl(&["secret", "key", "generate"]).ends_with(0).stdout;
    assert_eq!(printed.trim().len(), 64);
    desk.put("printed.key", printed);
    let arguments = ["secret", "list", "--secret-key", "file:printed.key"];
    desk.etl(&arguments)
        .ends_with(0)
        .complains(&["there are no secrets in etl.secrets"]);
}

#[test]
fn configurations_without_secrets_need_no_key() {
    let desk = Desk::new();
    let plain = CONFIGURATION.replace("${secret:DB}", "${DB:none}");
    desk.put("etl.toml", plain).module("keep", TAKES);
    desk.etl(&["validate", "etl.toml"]).ends_with(0);
    desk.module("keep", KEEP);
    desk.etl(&["validate", "etl.toml"])
        .ends_with(0)
        .complains(&["takes no configuration"]);
}
