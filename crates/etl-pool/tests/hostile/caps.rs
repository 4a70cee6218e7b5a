//! What a module may contain at most: each cap to the one, and small files that would keep the compiler busy for minutes.

use std::time::Duration;

use etl_pool::{Caps, Pool, PoolErrorKind, PoolOptions};

use crate::common::{load, pool, wasm};

/// A module with a little of everything that is counted.
const LITTLE: &str = r#"(module
  (type $nothing (func))
  (type $two (func (param i32 i32) (result i32)))
  (import "etl" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (table $t 7 funcref)
  (table $u 3 funcref)
  (global i32 (i32.const 1))
  (global i32 (i32.const 2))
  (global i32 (i32.const 3))
  (export "busy" (func $busy))
  (func $first (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0))
  (func $add (type $two) (i32.add (local.get 0) (local.get 1)))
  (func $busy (param i32) (local i32 i32)
    (block $a
      (loop $b
        (local.set 1 (local.get 0))
        (local.set 2 (local.get 1))
        (br_if $b (local.get 0))
        (if (local.get 2) (then (br_table $a $b $a (local.get 0))) (else (return)))))
    (drop (block (result i32 i32 i32) (i32.const 1) (i32.const 2) (i32.const 3)))
    (drop) (drop)
    (drop (call $add (i32.const 1) (i32.const 2)))
    (drop (call_indirect $t (type $two) (i32.const 1) (i32.const 2) (i32.const 0))))
  (elem (table $t) (i32.const 0) func $first $add)
  (elem (table $u) (i32.const 0) func $busy)
  (data (i32.const 0) "a")
  (data (i32.const 8) "b")
  (data (i32.const 16) "c")
  (data (i32.const 24) "d"))"#;

/// A cap, how much of it the module above has, and how that is told.
type Case<'a> = (fn(&mut Caps) -> &mut usize, usize, &'a str);

const CASES: &[Case<'static>] = &[
    // The explicit ones, and those of the import and of the functions that have none, and the three results of the block.
    (|caps| &mut caps.types, 7, "7 types"),
    (
        |caps| &mut caps.type_values,
        13,
        "13 parameters and results of types",
    ),
    (|caps| &mut caps.imports, 1, "1 imports"),
    (|caps| &mut caps.functions, 4, "4 functions"),
    (
        |caps| &mut caps.locals,
        3,
        "3 parameters and locals in function 3",
    ),
    // With the body of the function itself.
    (|caps| &mut caps.nesting, 4, "4 nested blocks in function 3"),
    (|caps| &mut caps.loops, 1, "1 loops in function 3"),
    // Two blocks, the loop, the `if` with its `else`, and four ways out.
    (
        |caps| &mut caps.branches,
        8,
        "8 blocks and branches in function 3",
    ),
    // The three results of the block, taken and left at its end.
    (
        |caps| &mut caps.block_values,
        6,
        "6 values at blocks and branches in function 3",
    ),
    (
        |caps| &mut caps.call_values,
        6,
        "6 values at calls in function 3",
    ),
    // Three locals in the block and the loop, and the first in the `if` as well.
    (
        |caps| &mut caps.joins,
        7,
        "7 uses of locals across blocks in function 3",
    ),
    (
        |caps| &mut caps.join_squares,
        9 + 4 + 4,
        "17 uses of one local with another in function 3",
    ),
    // The first is used last in the table, behind two blocks, a branch and the `if`; the second behind two blocks, the third in front of the `if`.
    (
        |caps| &mut caps.kept,
        4 + 2 + 3,
        "9 blocks and branches that locals are kept over in function 3",
    ),
    (
        |caps| &mut caps.branch_targets,
        2,
        "2 branch targets in function 3",
    ),
    (|caps| &mut caps.globals, 3, "3 globals"),
    (|caps| &mut caps.exports, 4, "4 exports"),
    (|caps| &mut caps.tables, 2, "2 tables"),
    (|caps| &mut caps.elements, 3, "3 elements"),
    (|caps| &mut caps.data_segments, 4, "4 data segments"),
];

fn refused(caps: Caps, bytes: &[u8]) -> Option<(PoolErrorKind, String)> {
    let options = PoolOptions {
        caps,
        ..PoolOptions::default()
    };
    let pool = Pool::new(options).expect("the options are valid");
    let error = load(&pool, bytes).err()?;
    Some((error.kind(), error.message().to_owned()))
}

#[test]
fn every_cap_holds_to_the_one() {
    let bytes = wasm(LITTLE);
    let length = format!("{} bytes", bytes.len());
    let whole: Case<'_> = (|caps| &mut caps.module_bytes, bytes.len(), &length);
    for &(cap, count, told) in CASES.iter().chain([&whole]) {
        let mut caps = Caps::default();
        *cap(&mut caps) = count;
        assert_eq!(refused(caps, &bytes), None, "{told}");
        *cap(&mut caps) = count - 1;
        let (kind, message) = refused(caps, &bytes).expect(told);
        assert_eq!(kind, PoolErrorKind::TooLarge, "{message}");
        let told = format!("has {told}, more than the {} allowed", count - 1);
        assert!(message.contains(&told), "{message}, not {told}");
    }
}

#[test]
fn bodies_tables_and_time_have_caps_too() {
    let bytes = wasm(LITTLE);
    let caps = Caps {
        body_bytes: 8,
        ..Caps::default()
    };
    let (kind, message) = refused(caps, &bytes).expect("a body of more than eight bytes");
    assert_eq!(kind, PoolErrorKind::TooLarge);
    assert!(message.contains("bytes in function 3"), "{message}");

    let caps = |table_elements| Caps {
        table_elements,
        ..Caps::default()
    };
    assert_eq!(refused(caps(7), &bytes), None);
    let (kind, message) = refused(caps(6), &bytes).expect("a table of seven elements");
    assert_eq!(kind, PoolErrorKind::Memory);
    assert!(message.contains("table of 7 elements"), "{message}");

    let caps = Caps {
        compile_time: Duration::ZERO,
        ..Caps::default()
    };
    let (kind, message) = refused(caps, &bytes).expect("no time at all");
    assert_eq!(kind, PoolErrorKind::Compile);
    assert!(message.contains("takes longer than 0ns"), "{message}");
}

/// Small files that took the compiler minutes, or gigabytes, each in its own way.
#[test]
fn compile_bombs_are_not_compiled() {
    let set = |locals: usize| -> String {
        (0..locals)
            .map(|local| format!("local.get {local} i32.const 1 i32.add local.set {local} "))
            .collect()
    };
    let nested = |depth: usize, inside: &str| {
        format!(
            "{} {inside} {}",
            "loop ".repeat(depth),
            "local.get 0 br_if 0 end ".repeat(depth)
        )
    };
    let thousand = "i32 ".repeat(1_000);
    let constants = "i32.const 1 ".repeat(1_000);
    let drops = "drop ".repeat(1_000);
    let bombs = [
        (
            "loops in loops over many locals",
            nested(500, &set(500)),
            "uses of locals across blocks",
        ),
        (
            "locals that are only read",
            nested(
                500,
                &(0..500)
                    .map(|local| format!("local.get {local} drop "))
                    .collect::<String>(),
            ),
            "uses of locals across blocks",
        ),
        (
            "loops behind loops over one local",
            format!("loop {} local.get 0 br_if 0 end ", set(1)).repeat(20_000),
            "loops",
        ),
        (
            "ifs behind ifs over a few locals",
            format!("local.get 0 if {} end ", set(10)).repeat(4_500),
            "uses of one local with another",
        ),
        (
            "branches without an end",
            format!("block {} end", "local.get 0 br_if 0 ".repeat(60_000)),
            "blocks and branches",
        ),
        (
            "many locals, and many blocks that use none of them before they are used again",
            format!(
                "{} {} {}",
                set(600),
                "block nop br 0 end ".repeat(4_000),
                set(600)
            ),
            "blocks and branches that locals are kept over",
        ),
        (
            "bulk instructions in a row",
            "i32.const 0 i32.const 0 i32.const 0 memory.fill ".repeat(10_000),
            "blocks and branches",
        ),
        (
            "loops that hand a thousand values on",
            format!(
                "{constants} {} {drops}",
                "loop (type $thousand) end ".repeat(2_000)
            ),
            "values at blocks and branches",
        ),
        (
            "branches that carry a thousand values",
            format!(
                "block (type $constants) {constants} {} end {drops}",
                "local.get 0 br_if 0 ".repeat(10_000)
            ),
            "values at blocks and branches",
        ),
        (
            "a table of branches that carry a thousand values",
            format!(
                "block (type $constants) {constants} local.get 0 br_table {} end {drops}",
                "0 ".repeat(10_000)
            ),
            "values at blocks and branches",
        ),
        (
            "calls that hand a thousand values on",
            format!("{constants} {} {drops}", "call $thousand ".repeat(10_000)),
            "values at calls",
        ),
    ];
    let pool = pool();
    for (name, body, told) in bombs {
        let locals = "i32 ".repeat(600);
        let bytes = wasm(&format!(
            r#"(module
  (type $thousand (func (param {thousand}) (result {thousand})))
  (type $constants (func (result {thousand})))
  (memory (export "memory") 1)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0))
  (func $thousand (type $thousand) unreachable)
  (func (local {locals}) {body}))"#
        ));
        let error = load(&pool, &bytes).expect_err(name);
        assert_eq!(error.kind(), PoolErrorKind::TooLarge, "{name}: {error}");
        assert!(error.message().contains(told), "{name}: {error}");
    }
}
