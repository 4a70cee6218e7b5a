//! Pointers and lengths around every edge, in every place where a guest gives one.

use etl_pool::{FailureKind, InstanceOptions, Isolation};

use crate::common::{in_ms, pool, record, template, template_with, v1, wasm, words};

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

/// A v1 guest of one page whose results are fixed.
pub fn fixed(alloc: u32, process: u64, init: Option<u64>) -> Vec<u8> {
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
                [(1_024, packed, None), (1_024, 0, Some(packed))]
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
                    // That is how a guest says that it has no memory.
                    Err(error) if alloc == 0 => {
                        assert_eq!(error.kind(), FailureKind::MemoryLimit, "{error}");
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
