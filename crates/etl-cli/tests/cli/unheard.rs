//! Where standard error cannot be written to, a command does its work all the same and ends with the code that it has.

use std::fs::File;
use std::process::Stdio;

use crate::support::{Desk, KEEP, Said, said};

/// Runs `etl` with a standard error that takes nothing.
fn unheard(desk: &Desk, arguments: &[&str]) -> Said {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = desk
        .command(arguments)
        .stderr(Stdio::from(full))
        .output()
        .expect("etl starts");
    said(output)
}

#[test]
fn what_is_said_of_the_work_may_be_lost() {
    let desk = Desk::new();
    let rule = "[[rules]]\nid = \"a\"\nfilters = [{ filter_type = \"Exact\", pattern = \"t\" }]\n";
    desk.module("keep", KEEP)
        .put("rules.toml", rule)
        .put("wrong.toml", rule.replace("Exact", "Glob"))
        .put("topics", "t\n")
        .put(
            "etl.toml",
            "pipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"keep\" }] }]\n",
        )
        .put("bad.toml", "pipeline_id = 3\n")
        .put("in", "{\"topic\":\"t\",\"value\":1}\n");
    let matched = "{\"topic\":\"t\",\"rules\":[\"a\"]}\n";
    let matching = [
        "match",
        "--rules",
        "rules.toml",
        "--topics",
        "topics",
        "--stats",
    ];
    assert_eq!(unheard(&desk, &matching).ends_with(0).stdout, matched);
    let json = [&matching[..], &["--json"]].concat();
    assert_eq!(unheard(&desk, &json).ends_with(0).stdout, matched);
    unheard(&desk, &["match", "--rules", "none.toml"]).ends_with(1);
    unheard(&desk, &["match", "--rules", "wrong.toml"]).ends_with(78);
    unheard(&desk, &["match", "--rules", "wrong.toml", "--json"]).ends_with(78);
    unheard(&desk, &["validate", "bad.toml"]).ends_with(78);
    unheard(&desk, &["no-such-command"]).ends_with(2);
    let run = [
        "--log", "trace", "run", "etl.toml", "--from", "file:in", "--to", "file:out",
    ];
    unheard(&desk, &run).ends_with(0);
    assert_eq!(desk.read("out"), "{\"topic\":\"t\",\"value\":1}\n");
    unheard(&desk, &[&run[..], &["--json"]].concat()).ends_with(0);
}
