//! Signed modules: what was not signed by a trusted key is loaded by no way.

use std::fs;

use crate::support::{Desk, KEEP};

const OTHER: &str = r#"(module
  (memory (export "memory") 65)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#;

/// A folder with a key, a module, and a configuration that trusts the key. Answers the public key.
fn desk() -> (Desk, String) {
    let desk = Desk::new();
    desk.module("keep", KEEP);
    let public = desk
        .etl(&["module", "key", "release.key"])
        .ends_with(0)
        .stdout;
    let public = public.trim().to_owned();
    desk.put(
        "etl.toml",
        format!(
            "[security]\ntrusted_keys = [\"{public}\"]\n[[pipelines]]\npipeline_id = \"p\"\nstages = [{{ priority = 0, modules = [{{ module_id = \"keep\" }}] }}]\n"
        ),
    );
    (desk, public)
}

fn sign(desk: &Desk, key: &str) {
    desk.etl(&["module", "sign", "modules/keep.wasm", "--key", key])
        .ends_with(0);
}

#[test]
fn a_module_is_signed_and_runs() {
    let (desk, public) = desk();
    let verify = [
        "module",
        "verify",
        "modules/keep.wasm",
        "--trusted",
        &public,
    ];
    desk.etl(&verify)
        .ends_with(1)
        .complains(&["it is not signed"]);
    sign(&desk, "release.key");
    let said = desk.etl(&verify).ends_with(0);
    assert!(said.stdout.contains(&public), "{}", said.stdout);
    // It is a module like any other.
    desk.etl(&["module", "inspect", "modules/keep.wasm"])
        .ends_with(0);
    let record = "{\"topic\":\"t\",\"value\":1}\n";
    let run = ["run", "etl.toml", "--from", "-", "--to", "-", "--quiet"];
    let said = desk.etl_with_input(&run, record.as_bytes()).ends_with(0);
    assert_eq!(said.stdout, record);
    // Signed again it is the same file.
    let once = fs::read(desk.path("modules/keep.wasm")).expect("a file");
    sign(&desk, "release.key");
    assert_eq!(
        fs::read(desk.path("modules/keep.wasm")).expect("a file"),
        once
    );
}

#[test]
fn what_nobody_trusted_has_signed_is_loaded_by_no_way() {
    let (desk, _) = desk();
    let other = desk
        .etl(&["module", "key", "other.key"])
        .ends_with(0)
        .stdout;
    let ways = |reason: &str| {
        for way in [
            &["validate", "etl.toml"][..],
            &["explain", "etl.toml", "--topic", "t"],
            &["run", "etl.toml", "--from", "-", "--to", "-"],
        ] {
            desk.etl(way).ends_with(78).complains(&[
                "module `keep` is refused",
                reason,
                "etl module sign",
            ]);
        }
    };
    ways("it is not signed");
    sign(&desk, "other.key");
    ways(other.trim());
    sign(&desk, "release.key");
    desk.etl(&["validate", "etl.toml"]).ends_with(0);
    let mut bytes = fs::read(desk.path("modules/keep.wasm")).expect("a file");
    bytes[20] ^= 1;
    desk.put("modules/keep.wasm", bytes);
    ways("its signature is wrong");
    // A new version on trial is a module too.
    desk.module("keep", KEEP).module("next", OTHER);
    sign(&desk, "release.key");
    let configuration = desk.read("etl.toml");
    let canary = "[[modules]]\nid = \"keep\"\ncanary = { path = \"modules/next.wasm\" }\n";
    desk.put("etl.toml", format!("{configuration}{canary}"));
    desk.etl(&["validate", "etl.toml"])
        .ends_with(78)
        .complains(&["next.wasm", "it is not signed"]);
}

#[test]
fn keys_are_kept_and_mistakes_are_told() {
    use std::os::unix::fs::PermissionsExt;
    let (desk, public) = desk();
    let key = desk.path("release.key");
    let mode = fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = desk.read("release.key");
    desk.etl(&["module", "key", "release.key"])
        .ends_with(1)
        .complains(&["exists"]);
    assert_eq!(desk.read("release.key"), before);
    assert_ne!(before.trim(), public);
    desk.put("nonsense", "hello");
    let sign = |file: &str, key: &str| desk.etl(&["module", "sign", file, "--key", key]);
    sign("modules/keep.wasm", "nonsense")
        .ends_with(1)
        .complains(&["nonsense is no key"]);
    sign("nonsense", "release.key")
        .ends_with(1)
        .complains(&["not a WASM file"]);
    sign("nowhere", "release.key")
        .ends_with(1)
        .complains(&["nowhere"]);
    desk.etl(&["module", "verify", "nonsense", "--trusted", "12"])
        .ends_with(2)
        .complains(&["64 hexadecimal digits"]);
    desk.put("bad.toml", "[security]\ntrusted_keys = [\"12\"]\n");
    desk.etl(&["validate", "bad.toml"])
        .ends_with(78)
        .complains(&[
            "2 hexadecimal digits are not a public key",
            "etl module key",
        ]);
}
