//! `etl module inspect`.

use crate::support::{Desk, KEEP, golden};

#[test]
fn a_module_that_can_be_used() {
    let desk = Desk::new();
    desk.module("keep", KEEP);
    let said = desk
        .etl(&["module", "inspect", "modules/keep.wasm"])
        .ends_with(0);
    golden("inspect/keep.txt", &said.stdout);
    let said = desk
        .etl(&["module", "inspect", "modules/keep.wasm", "--json"])
        .ends_with(0);
    golden("inspect/keep.json", &said.stdout);
}

#[test]
fn what_cannot_be_used_says_why() {
    let desk = Desk::new();
    desk.put("text.wasm", "#!/bin/sh\n").module(
        "wants",
        r#"(module (import "env" "open_file" (func (param i32) (result i32))) (memory (export "memory") 1))"#,
    );
    for (file, name) in [("text.wasm", "text"), ("modules/wants.wasm", "wants")] {
        let said = desk
            .etl(&["module", "inspect", file])
            .ends_with(1)
            .complains(&[&format!("etl: {file} cannot be used as a module")]);
        golden(&format!("inspect/{name}.txt"), &said.stdout);
    }
    desk.etl(&["module", "inspect", "absent.wasm"])
        .ends_with(1)
        .complains(&["etl: cannot read absent.wasm: No such file or directory"]);
}
