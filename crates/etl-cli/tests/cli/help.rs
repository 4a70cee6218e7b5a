//! The help of every command, word for word: it is what users learn from.

use crate::support::{Desk, golden};

#[test]
fn help_texts() {
    let desk = Desk::new();
    for (name, arguments) in [
        ("etl", &["--help"][..]),
        ("run", &["run", "--help"]),
        ("validate", &["validate", "--help"]),
        ("explain", &["explain", "--help"]),
        ("schema", &["schema", "--help"]),
        ("module", &["module", "--help"]),
        ("module-inspect", &["module", "inspect", "--help"]),
        ("module-sign", &["module", "sign", "--help"]),
        ("module-verify", &["module", "verify", "--help"]),
        ("admin", &["admin", "--help"]),
        ("admin-token", &["admin", "token", "--help"]),
        (
            "admin-token-create",
            &["admin", "token", "create", "--help"],
        ),
        (
            "admin-certificate-allow",
            &["admin", "certificate", "allow", "--help"],
        ),
        ("secret", &["secret", "--help"]),
        ("secret-set", &["secret", "set", "--help"]),
        ("secret-rotate", &["secret", "rotate", "--help"]),
        (
            "secret-key-generate",
            &["secret", "key", "generate", "--help"],
        ),
        ("audit-verify", &["audit", "verify", "--help"]),
        ("match", &["match", "--help"]),
        ("top", &["top", "--help"]),
        ("topics", &["topics", "--help"]),
        ("send", &["send", "--help"]),
        ("tail", &["tail", "--help"]),
        ("redrive", &["redrive", "--help"]),
        ("replay", &["replay", "--help"]),
        #[cfg(feature = "nats")]
        ("push", &["push", "--help"]),
        #[cfg(feature = "nats")]
        ("fleet", &["fleet", "--help"]),
    ] {
        let said = desk.etl(arguments).ends_with(0);
        golden(&format!("help/{name}.txt"), &said.stdout);
        assert_eq!(said.stderr, "");
    }
}

#[test]
fn no_arguments_teach_and_fail() {
    let said = Desk::new().etl(&[]).ends_with(2);
    assert!(said.stderr.contains("Usage: etl"), "{}", said.stderr);
    assert_eq!(said.stdout, "");
}

#[test]
fn version() {
    let said = Desk::new().etl(&["--version"]).ends_with(0);
    assert_eq!(said.stdout, format!("etl {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_right() {
    let desk = Desk::new();
    for (arguments, message) in [
        (&["rum"][..], "unrecognized subcommand 'rum'"),
        (&["run", "c.toml", "--from", "-"], "--to <URL>"),
        (
            &["run", "c.toml", "--from", "mqtt://localhost", "--to", "-"],
            "unknown scheme `mqtt` in `mqtt://localhost`: there are `file:PATH`, `embedded:DIR`,",
        ),
        (
            &["run", "c.toml", "--from", "in.ndjson", "--to", "-"],
            "write `file:in.ndjson` for a file",
        ),
        (
            &["run", "c.toml", "--from", "-", "--to", "-", "--batch", "0"],
            "0 is not in 1..=65536",
        ),
        (
            &["run", "c.toml", "--from", "-", "--to", "-", "--lanes", "0"],
            "0 is not in 1..=1024",
        ),
        (
            &[
                "run", "c.toml", "--from", "-", "--to", "-", "--json", "--quiet",
            ],
            "cannot be used with",
        ),
        (&["explain", "c.toml"], "--topic <TOPIC>"),
        (
            &["validate", "c.toml", "--log", "=x=,"],
            "invalid value '=x=,' for '--log <LEVEL>'",
        ),
    ] {
        desk.etl(arguments).ends_with(2).complains(&[message]);
    }
}
