//! Hostile and broken guests, one small source each, all through the same pool: each costs its own record at the most, and the next record
//! is served.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    ECHO, in_ms, laid_out, legacy, on_poison, pool, record, records, template, template_with, v1,
    wasm, words,
};
use etl_pool::{
    FailureKind, InstanceOptions, Isolation, MemoryLayout, Pool, PoolOptions, Shelves, Template,
};

/// What a guest does when it meets a poisoned record: fields it needs, the instructions, and how the call must end.
struct Attack<'a> {
    name: &'a str,
    extra: &'a str,
    then: &'a str,
    ends: &'static [FailureKind],
}

const TIMEOUT: &[FailureKind] = &[FailureKind::Timeout];
const TRAP: &[FailureKind] = &[FailureKind::Trap];
const MEMORY: &[FailureKind] = &[FailureKind::MemoryLimit];

const ATTACKS: &[Attack<'static>] = &[
    // Never returning.
    Attack {
        name: "empty loop",
        extra: "",
        then: "(loop $l (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "br_if loop",
        extra: "",
        then: "(loop $l (br_if $l (i32.const 1)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "br_table loop",
        extra: "",
        then: "(loop $l (br_table $l $l $l (i32.const 7)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop through a block and an if",
        extra: "",
        then: "(loop $l (block $b (if (i32.const 1) (then (br $l)))))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop over host calls",
        extra: r#"(import "etl" "now" (func $now (result i64)))"#,
        then: "(loop $l (drop (call $now)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop over log lines",
        extra: r#"(import "etl" "log" (func $log (param i32 i32 i32)))"#,
        then: "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 262144)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "exponential calls without a loop",
        extra: "(func $a (call $b) (call $b) (call $b) (call $b)) (func $b (call $c) (call $c) (call $c) (call $c)) \
                (func $c (call $d) (call $d) (call $d) (call $d)) (func $d (call $e) (call $e) (call $e) (call $e)) \
                (func $e (call $f) (call $f) (call $f) (call $f)) (func $f (call $g) (call $g) (call $g) (call $g)) \
                (func $g (call $h) (call $h) (call $h) (call $h)) (func $h (call $i) (call $i) (call $i) (call $i)) \
                (func $i (call $j) (call $j) (call $j) (call $j)) (func $j (call $k) (call $k) (call $k) (call $k)) \
                (func $k (call $l) (call $l) (call $l) (call $l)) (func $l (call $m) (call $m) (call $m) (call $m)) \
                (func $m (call $n) (call $n) (call $n) (call $n)) (func $n (call $o) (call $o) (call $o) (call $o)) \
                (func $o (call $p) (call $p) (call $p) (call $p)) (func $p (call $q) (call $q) (call $q) (call $q)) \
                (func $q (call $r) (call $r) (call $r) (call $r)) (func $r)",
        then: "(call $a)",
        ends: TIMEOUT,
    },
    Attack {
        name: "indirect calls in a loop",
        extra: "(type $t (func)) (table funcref (elem $f)) (func $f)",
        then: "(loop $l (call_indirect (type $t) (i32.const 0)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.fill for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.fill (i32.const 262144) (i32.const 1) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.copy upwards for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.copy (i32.const 262145) (i32.const 262144) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.copy downwards for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.copy (i32.const 262144) (i32.const 262145) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.init for ever",
        extra: r#"(data $d "0123456789abcdef")"#,
        then: "(loop $l (memory.init $d (i32.const 200000) (i32.const 0) (i32.const 16)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "table.fill for ever",
        extra: "(table $t 100000 funcref)",
        then: "(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 100000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "table.copy for ever",
        extra: "(table $t 100000 funcref)",
        then: "(loop $l (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 99999)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.grow that fails, for ever",
        extra: "",
        then: "(loop $l (drop (memory.grow (i32.const 65535))) (br $l))",
        ends: &[FailureKind::Timeout],
    },
    Attack {
        name: "loop that hands a value on",
        extra: "",
        then: "(i32.const 1) (loop $l (param i32) (drop) (br $l (i32.const 1)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loops in a loop, all of them left and entered again",
        extra: "",
        then: "(loop $a (loop $b (br_if $b (i32.load (i32.const 250000)))) (loop $c (br_if $a (i32.eqz (i32.load (i32.const 250000)))) (br $c)))",
        ends: TIMEOUT,
    },
    // The stack.
    Attack {
        name: "mutual recursion",
        extra: "(func $f (param i32) (result i32) (i32.add (call $g (local.get 0)) (i32.const 1))) \
                (func $g (param i32) (result i32) (i32.sub (call $f (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (i32.const 1)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion",
        extra: "(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (i32.const 1)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion with a large frame",
        extra: "(func $f (param v128 v128 v128 v128 v128 v128) (result i32) \
                (i32.add (call $f (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) \
               (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion through a table",
        extra: "(type $t (func (result i32))) (table funcref (elem $f)) \
                (func $f (result i32) (i32.add (call_indirect (type $t) (i32.const 0)) (i32.const 1)))",
        then: "(drop (call $f))",
        ends: TRAP,
    },
    Attack {
        name: "host calls on the last of the stack",
        extra: r#"(import "etl" "log" (func $log (param i32 i32 i32)))
                  (func $f (result i32) (call $log (i32.const 1) (i32.const 0) (i32.const 64)) (i32.add (call $f) (i32.const 1)))"#,
        then: "(drop (call $f))",
        ends: TRAP,
    },
    Attack {
        name: "memory.grow on the last of the stack",
        extra: "(func $f (result i32) (drop (memory.grow (i32.const 0))) (i32.add (call $f) (i32.const 1)))",
        then: "(drop (call $f))",
        ends: TRAP,
    },
    // Traps.
    Attack {
        name: "unreachable",
        extra: "",
        then: "unreachable",
        ends: TRAP,
    },
    Attack {
        name: "division by zero",
        extra: "",
        then: "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 250000))))",
        ends: TRAP,
    },
    Attack {
        name: "division that overflows",
        extra: "",
        then: "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 250000)) (i32.const 1))))",
        ends: TRAP,
    },
    Attack {
        name: "truncation of NaN",
        extra: "",
        then: "(drop (i32.trunc_f32_s (f32.const nan)))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call of the wrong type",
        extra: "(type $t (func (result i64))) (table funcref (elem $f)) (func $f)",
        then: "(drop (call_indirect (type $t) (i32.const 0)))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call of nothing",
        extra: "(type $t (func)) (table 4 funcref)",
        then: "(call_indirect (type $t) (i32.const 2))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call outside the table",
        extra: "(type $t (func)) (table 4 funcref)",
        then: "(call_indirect (type $t) (i32.const -1))",
        ends: TRAP,
    },
    Attack {
        name: "load outside the memory",
        extra: "",
        then: "(drop (i32.load (i32.const -4)))",
        ends: TRAP,
    },
    Attack {
        name: "load at the end of the address space",
        extra: "",
        then: "(drop (i64.load offset=4294967295 (i32.const -1)))",
        ends: TRAP,
    },
    Attack {
        name: "store outside the memory",
        extra: "",
        then: "(v128.store (i32.const 262130) (v128.const i64x2 1 1))",
        ends: TRAP,
    },
    Attack {
        name: "fill outside the memory",
        extra: "",
        then: "(memory.fill (i32.const 1) (i32.const 1) (i32.const -1))",
        ends: TRAP,
    },
    Attack {
        name: "copy outside the memory",
        extra: "",
        then: "(memory.copy (i32.const 0) (i32.const 262143) (i32.const 300000))",
        ends: TRAP,
    },
    Attack {
        name: "init outside its segment",
        extra: r#"(data $d "0123")"#,
        then: "(memory.init $d (i32.const 0) (i32.const 2) (i32.const 3))",
        ends: TRAP,
    },
    Attack {
        name: "proc_exit",
        extra: r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        then: "(call $exit (i32.const 0))",
        ends: TRAP,
    },
    // Memory.
    Attack {
        name: "memory bomb",
        extra: "",
        then: "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        ends: MEMORY,
    },
    Attack {
        name: "memory bomb that touches every page",
        extra: "",
        then: "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) \
               (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1048576)) (i32.const 7) (i32.const 1048576)) (br $l))",
        ends: MEMORY,
    },
    Attack {
        name: "table bomb",
        extra: "(table $t 0 funcref)",
        then: "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) \
               (if (i32.gt_u (table.size $t) (i32.const 100000)) (then (return (i64.const 0)))) unreachable",
        ends: TRAP,
    },
];

/// The poisoned record ends as it should, and what comes after is served, on this lane and on another.
fn survives(
    pool: &Arc<Pool>,
    shelves: &mut Shelves,
    template: &Arc<Template>,
    attack: &Attack<'_>,
) {
    let name = attack.name;
    let verdicts = shelves
        .call(template, &records(&["before"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=before"], "{name}");
    let timeout = if attack.ends == TIMEOUT { 30 } else { 10_000 };
    let deadline = in_ms(timeout);
    let kind = match shelves.call(template, &records(&["!"]), deadline) {
        Ok(verdicts) => match verdicts.get(0) {
            Ok(verdict) => panic!("{name}: {verdict:?}"),
            Err(error) => error.kind(),
        },
        Err(error) => error.kind(),
    };
    assert!(attack.ends.contains(&kind), "{name}: {kind}");
    if kind == FailureKind::Timeout {
        let overshoot = Instant::now().saturating_duration_since(deadline);
        // Ten times what is promised on an idle machine and more, because tests share theirs.
        assert!(
            overshoot < Duration::from_millis(500),
            "{name}: {overshoot:?}"
        );
    }
    let verdicts = shelves
        .call(template, &records(&["after"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=after"], "{name}");
    let verdicts = pool
        .shelves()
        .call(template, &records(&["elsewhere"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=elsewhere"], "{name}");
}

#[test]
fn every_attack_costs_its_record_alone() {
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let mut shelves = pool.shelves();
        for isolation in [Isolation::Instance, Isolation::Record] {
            for attack in ATTACKS {
                let options = InstanceOptions {
                    isolation,
                    ..InstanceOptions::default()
                };
                let template = template_with(&pool, &on_poison(attack.extra, attack.then), options);
                survives(&pool, &mut shelves, &template, attack);
            }
        }
        drop(shelves);
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
}

/// Without one loop: what a great many instructions in a row do, and what calls do one after the other when they return.
#[test]
fn straight_lines_are_stopped_too() {
    let square = "(local.set 1 (i32.add (i32.mul (local.get 1) (local.get 1)) (i32.const 3)))";
    // Ten thousand calls deep at once, and all the work is on the way back.
    let returning = format!(
        "(func $f (param i32) (result i32) (local i32) \
           (if (i32.eqz (local.get 0)) (then (return (i32.const 1)))) \
           (local.set 1 (call $f (i32.sub (local.get 0) (i32.const 1)))) {} (local.get 1))",
        square.repeat(20_000)
    );
    let fills = "(table.fill $t (i32.const 0) (ref.null func) (i32.const 100000))".repeat(5_000);
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let mut shelves = pool.shelves();
        for attack in [
            Attack {
                name: "work on the way back",
                extra: &returning,
                then: "(drop (call $f (i32.const 10000)))",
                ends: TIMEOUT,
            },
            Attack {
                name: "table.fill thousands of times in a row",
                extra: &format!("(table $t 100000 funcref) (func $f {fills})"),
                then: "(call $f)",
                ends: TIMEOUT,
            },
        ] {
            let template = template(&pool, &on_poison(attack.extra, attack.then));
            survives(&pool, &mut shelves, &template, &attack);
        }
    }
}

/// Imports whose arguments are pointers and lengths, with how many arguments each has.
const POINTED: &[(&str, &str, usize, &str)] = &[
    ("etl", "log", 3, ""),
    ("etl", "counter", 2, ""),
    ("wasi_snapshot_preview1", "fd_write", 4, "(result i32)"),
    ("wasi_snapshot_preview1", "fd_fdstat_get", 2, "(result i32)"),
    ("wasi_snapshot_preview1", "random_get", 2, "(result i32)"),
    ("wasi_snapshot_preview1", "clock_res_get", 2, "(result i32)"),
    (
        "wasi_snapshot_preview1",
        "args_sizes_get",
        2,
        "(result i32)",
    ),
    (
        "wasi_snapshot_preview1",
        "environ_sizes_get",
        2,
        "(result i32)",
    ),
];

#[test]
fn wild_arguments_of_imports_are_never_followed() {
    let pool = pool();
    let mut shelves = pool.shelves();
    for &(module, name, arguments, result) in POINTED {
        // The arguments are the words of the record's value.
        let words_of_value: String = (0..arguments)
            .map(|index| format!("(i32.load offset={} (local.get $value))", 4 * index))
            .collect();
        let (more, last) = if name == "counter" {
            (" i64", "(i64.const 1)")
        } else {
            ("", "")
        };
        let drop = if result.is_empty() { "" } else { "(drop)" };
        let guest = v1(
            &format!(
                r#"(import "{module}" "{name}" (func $import (param {}{more}) {result}))"#,
                "i32 ".repeat(arguments)
            ),
            &format!(
                "{words_of_value} {last} (call $import) {drop} (local.set $kind (i32.const 0))"
            ),
        );
        for isolation in [Isolation::Instance, Isolation::Record] {
            let options = InstanceOptions {
                isolation,
                ..InstanceOptions::default()
            };
            let template = template_with(&pool, &guest, options);
            for first in EDGES.into_iter().chain([262_143, 262_144]) {
                for second in EDGES.into_iter().chain([262_143, 262_144]) {
                    for others in [[1, 8], [0xffff_ffff, 0x8000_0000]] {
                        let value: Vec<u8> = [first, second, others[0], others[1]]
                            .into_iter()
                            .flat_map(u32::to_le_bytes)
                            .collect();
                        let verdicts = shelves
                            .call(&template, &[record(&value)], in_ms(5_000))
                            .unwrap();
                        // What it is told to write may spoil its own reply, and nothing else.
                        let word = &words(&verdicts)[0];
                        assert!(
                            ["keep", "InvalidOutput"].contains(&word.as_str()),
                            "{name} {first:#x} {second:#x}: {word}"
                        );
                    }
                }
            }
        }
    }
}

/// Pointers, lengths and packed results around every edge, in every place where a guest returns one.
const EDGES: [u32; 14] = [
    0,
    1,
    3,
    15,
    16,
    65_519,
    65_520,
    65_535,
    65_536,
    65_537,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_ffff,
];

/// A v1 guest of one page whose results are fixed.
fn fixed(alloc: u32, process: u64, init: Option<u64>) -> Vec<u8> {
    let init = init.map_or_else(String::new, |packed| {
        format!(
            r#"(func (export "etl_init_v1") (param i32 i32) (result i64) (i64.const {}))"#,
            packed.cast_signed()
        )
    });
    wasm(&format!(
        r#"(module (memory (export "memory") 1 1) {init}
             (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const {}))
             (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const {})))"#,
        alloc.cast_signed(),
        process.cast_signed()
    ))
}

#[test]
fn wild_pointers_and_lengths_are_never_followed() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let mut outcomes = 0;
    for pointer in EDGES {
        for (alloc, process, init) in EDGES
            .iter()
            .flat_map(|&length| {
                let packed = etl_abi::pack(pointer, length);
                [(0, packed, None), (0, 0, Some(packed))]
            })
            .chain([(pointer, 0, None)])
        {
            let template = template(&pool, &fixed(alloc, process, init));
            match shelves.call(&template, &[record(b"value")], in_ms(5_000)) {
                // An address in bounds is fine, and a packed 0 keeps the record.
                Ok(verdicts) => match verdicts.get(0) {
                    Ok(verdict) => {
                        assert!(matches!(verdict, etl_abi::Verdict::Keep), "{verdict:?}");
                    }
                    Err(error) => assert_eq!(error.kind(), FailureKind::InvalidOutput, "{error}"),
                },
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        FailureKind::InvalidOutput | FailureKind::Module
                    ),
                    "{error}"
                ),
            }
            outcomes += 1;
        }
    }
    assert_eq!(outcomes, EDGES.len() * (2 * EDGES.len() + 1));
}

#[test]
fn wild_legacy_pointers_and_lengths_are_never_followed() {
    let pool = pool();
    let mut shelves = pool.shelves();
    for allocate in EDGES {
        for transform in EDGES {
            for length in [
                0,
                1,
                65_515,
                65_516,
                65_532,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff_u32,
            ] {
                // The length is written where the output is said to be, if that is in the memory at all.
                let guest = wasm(&format!(
                    r#"(module (memory (export "memory") 1 1)
                         (func (export "allocate") (param i32) (result i32) (i32.const {}))
                         (func (export "transform") (param i32 i32) (result i32)
                           (if (i32.le_u (i32.const {out}) (i32.const 65532)) (then (i32.store (i32.const {out}) (i32.const {}))))
                           (i32.const {out})))"#,
                    allocate.cast_signed(),
                    length.cast_signed(),
                    out = transform.cast_signed(),
                ));
                if length != 0 && (allocate > 16 || transform > 65_536) {
                    // The length is not reached: one of them is enough.
                    continue;
                }
                let template = template(&pool, &guest);
                let verdicts = shelves
                    .call(&template, &[record(b"value")], in_ms(5_000))
                    .unwrap();
                match verdicts.get(0) {
                    Ok(etl_abi::Verdict::SetValue(value)) => {
                        assert_eq!(value.len(), length as usize);
                        assert!(transform as usize + 4 + value.len() <= 65_536);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            FailureKind::InvalidOutput | FailureKind::Module | FailureKind::Trap
                        ),
                        "{error}"
                    ),
                }
            }
        }
    }
}

/// Frames that are wrong in one place each: the reply is checked before anything in it is used.
#[test]
fn malformed_frames_are_invalid_output() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let good = |kind: u32, at: u32, size: u32| {
        let mut frame = Vec::new();
        frame.extend_from_slice(b"ETLR");
        frame.extend_from_slice(&1u16.to_le_bytes());
        frame.extend_from_slice(&0u16.to_le_bytes());
        for word in [1, 37, kind, 0, at, size] {
            frame.extend_from_slice(&u32::to_le_bytes(word));
        }
        frame.extend_from_slice(b"hello");
        frame
    };
    let answer = |frame: &[u8]| {
        let escaped: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
        wasm(&format!(
            r#"(module (memory (export "memory") 1 1) (data (i32.const 1024) "{escaped}")
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 8192))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const {})))"#,
            etl_abi::pack(1_024, frame.len() as u32)
        ))
    };
    let mut outcome = |frame: &[u8]| {
        let template = template(&pool, &answer(frame));
        words(
            &shelves
                .call(&template, &[record(b"value")], in_ms(5_000))
                .unwrap(),
        )
    };
    let frame = good(3, 32, 5);
    assert_eq!(
        outcome(&frame),
        ["=hello"],
        "the frame that the others are made from"
    );
    for length in 0..frame.len() {
        assert_eq!(
            outcome(&frame[..length]),
            ["InvalidOutput"],
            "cut to {length}"
        );
    }
    for byte in 0..16 {
        for change in [0x01, 0x80, 0xff] {
            let mut bad = frame.clone();
            bad[byte] ^= change;
            assert_eq!(
                outcome(&bad),
                ["InvalidOutput"],
                "byte {byte} of the header, {change:#x}"
            );
        }
    }
    for (kind, at, size) in [
        (3, 33, 5),
        (3, 32, 6),
        (3, 0xffff_fff0, 0x20),
        (3, 0x20, 0xffff_ffff),
        (4, 32, 1),
        (4, 32, 0x1000_0000),
        (5, 32, 5),
        (0xffff, 32, 5),
        (0x0001_0003, 32, 5),
        (2, 36, 2),
    ] {
        assert_eq!(
            outcome(&good(kind, at, size)),
            ["InvalidOutput"],
            "{kind} {at} {size}"
        );
    }
}

/// Two verdicts whose bytes lie in another order, on top of one another, or are more or fewer than the records.
#[test]
fn reordered_frames_are_read_as_the_boundary_says() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let frame = |entries: &[(u32, u32)]| {
        let mut frame = Vec::new();
        frame.extend_from_slice(b"ETLR");
        frame.extend_from_slice(&1u32.to_le_bytes());
        let size = 16 + 16 * entries.len() + 6;
        for word in [entries.len(), size] {
            frame.extend_from_slice(&(word as u32).to_le_bytes());
        }
        for &(at, length) in entries {
            for word in [3, 0, at, length] {
                frame.extend_from_slice(&word.to_le_bytes());
            }
        }
        frame.extend_from_slice(b"onetwo");
        frame
    };
    for entries in [
        &[(48, 3), (51, 3)][..],
        &[(51, 3), (48, 3)],
        &[(48, 6), (50, 2)],
        &[(54, 0), (48, 6)],
        &[(51, 4), (48, 3)],
        &[(0, 16), (16, 16)],
        &[(32, 3)],
        &[(64, 3), (67, 3), (64, 3)],
    ] {
        let frame = frame(entries);
        let escaped: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let guest = wasm(&format!(
            r#"(module (memory (export "memory") 1 1) (data (i32.const 1024) "{escaped}")
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 8192))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const {})))"#,
            etl_abi::pack(1_024, frame.len() as u32)
        ));
        let template = template(&pool, &guest);
        let verdicts = shelves
            .call(&template, &records(&["a", "b"]), in_ms(5_000))
            .unwrap();
        let expected: Vec<String> = match etl_abi::response::ResponseReader::parse(&frame, 2) {
            Ok(reader) => (0..2)
                .map(|index| match reader.verdict(index) {
                    etl_abi::Verdict::SetValue(value) => {
                        format!("={}", String::from_utf8_lossy(value))
                    }
                    other => panic!("{other:?}"),
                })
                .collect(),
            // In halves, down to one record, for which it is a frame only if it has one verdict.
            Err(_) => match etl_abi::response::ResponseReader::parse(&frame, 1) {
                Ok(_) => vec!["=one".to_owned(); 2],
                Err(_) => vec!["InvalidOutput".to_owned(); 2],
            },
        };
        assert_eq!(words(&verdicts), expected, "{entries:?}");
    }
}

/// Guests that spoil what the host has handed them: their own output suffers, nothing else does.
#[test]
fn guests_may_spoil_their_own_memory() {
    let pool = pool();
    let mut shelves = pool.shelves();
    for (name, each) in [
        (
            "overwrites the request",
            "(memory.fill (local.get $ptr) (i32.const 255) (local.get $len)) (local.set $count (i32.const 1))",
        ),
        ("grows in the middle", "(drop (memory.grow (i32.const 3)))"),
    ] {
        let template = template(&pool, &v1("", &format!("{each} {ECHO}")));
        for _ in 0..50 {
            let verdicts = shelves
                .call(&template, &records(&["kept"]), in_ms(5_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=kept"], "{name}");
        }
    }
    // An allocator that hands out the same room for the configuration and every frame, and one that answers inside the reply.
    let template = template(&pool, &fixed(0, etl_abi::pack(0, 40), None));
    let verdicts = shelves
        .call(&template, &records(&["x"]), in_ms(5_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["InvalidOutput"], "a request is no reply");
}

/// Many bombs at once: what they get is bounded by the budget of all instances.
#[test]
fn a_thousand_memory_bombs_stay_within_the_budget() {
    let limit = 64 << 20;
    let pool = Pool::new(PoolOptions {
        max_total_memory_bytes: limit,
        ..PoolOptions::default()
    })
    .unwrap();
    let guest = on_poison(
        "",
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))",
    );
    let mut shelves = pool.shelves();
    for index in 0..1_000 {
        // A configuration of its own makes it a template, and so an instance, of its own.
        let options = InstanceOptions {
            memory_limit_bytes: 16 << 20,
            custom_config: index.to_string().into_bytes().into(),
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &guest, options);
        let verdicts = shelves
            .call(&template, &records(&["!bomb"]), in_ms(5_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["=!bomb"], "{index}");
        assert!(
            pool.memory_bytes() <= limit,
            "{} after {index}",
            pool.memory_bytes()
        );
    }
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

/// Traps leave nothing behind: memory, address space and file descriptors stay where they are.
#[test]
fn traps_leak_nothing() {
    let pool = pool();
    let template = template(&pool, &on_poison("", "unreachable"));
    let mut shelves = pool.shelves();
    let mut trap = |times: usize| {
        for _ in 0..times {
            let verdicts = shelves
                .call(&template, &records(&["!"]), in_ms(5_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["Trap"]);
        }
    };
    trap(300);
    let (resident, address_space) = (status("VmRSS"), status("VmSize"));
    trap(3_000);
    let grown = status("VmRSS").saturating_sub(resident);
    // Kibibytes. Other tests of this file run in the same process, so this only finds what is lost every time.
    assert!(grown < 200 << 10, "{grown} KiB more after 3,000 traps");
    let reserved = status("VmSize").saturating_sub(address_space);
    assert!(
        reserved < 3_000 * (8 << 20) / 4,
        "{reserved} KiB of address space after 3,000 traps"
    );
}

/// A legacy guest with 64 KiB that it never frees, for a hundred thousand records.
#[test]
fn a_guest_that_wears_out_is_replaced_in_time() {
    let pool = pool();
    let template = template(&pool, &legacy());
    let mut shelves = pool.shelves();
    for index in 0..100_000u32 {
        let value = index.to_le_bytes();
        let verdicts = shelves
            .call(&template, &[record(&value)], in_ms(5_000))
            .unwrap();
        match verdicts.get(0) {
            Ok(etl_abi::Verdict::SetValue(output)) => assert_eq!(output, value),
            // A value that starts with `!` is refused, by design of the guest.
            Err(error) => assert!(
                value[0] == b'!' && error.kind() == FailureKind::Module,
                "{index}: {error}"
            ),
            other => panic!("{index}: {other:?}"),
        }
    }
}

/// The pool may go on another thread than the one that made it, and two may live side by side.
#[test]
fn pools_live_side_by_side_and_end_anywhere() {
    let (first, second) = (pool(), pool());
    let run = |pool: &Arc<Pool>| {
        let template = template(pool, &on_poison("", "(loop $l (br $l))"));
        let mut shelves = pool.shelves();
        assert!(
            shelves
                .call(&template, &records(&["!"]), in_ms(10))
                .is_err()
        );
        assert_eq!(
            words(
                &shelves
                    .call(&template, &records(&["a"]), in_ms(5_000))
                    .unwrap()
            ),
            ["=a"]
        );
    };
    run(&first);
    std::thread::scope(|scope| {
        scope.spawn(|| run(&first));
        scope.spawn(|| run(&second));
    });
    std::thread::spawn(move || drop(first)).join().unwrap();
    run(&second);
}
