//! What is loaded, what is refused before, and what a guest is told before its first record.

use std::time::Instant;

use etl_pool::{FailureKind, InstanceOptions, PoolErrorKind};

use crate::common::{
    ECHO, in_ms, legacy, load, pool, records, template, template_with, v1, wasm, words,
};

#[test]
fn the_configuration_reaches_the_guest_and_may_be_refused() {
    // Refuses a configuration that starts with `n`, saying what it was given; otherwise answers its first byte to every record.
    let guest = v1(
        r#"(global $first (mut i32) (i32.const 0))
           (func (export "etl_init_v1") (param $ptr i32) (param $len i32) (result i64)
             (global.set $first (i32.load8_u (local.get $ptr)))
             (if (i32.eq (global.get $first) (i32.const 110))
               (then (return (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))))
             (i64.const 0))"#,
        "(local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (i32.const 1)) \
         (i32.store8 (local.get $copy) (global.get $first))",
    );
    let pool = pool();
    let with = |config: &str| InstanceOptions {
        custom_config: config.as_bytes().to_vec().into(),
        ..InstanceOptions::default()
    };
    let mut shelves = pool.shelves();
    let first = template_with(&pool, &guest, with("7"));
    let verdicts = shelves
        .call(&first, &records(&["abc"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=7"]);
    let second = template_with(&pool, &guest, with("no thanks"));
    let error = shelves
        .call(&second, &records(&["abc"]), in_ms(1_000))
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::Module);
    assert!(error.message().contains("no thanks"), "{error}");
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let pool = pool();
    let refusals = [
        ("(module)", PoolErrorKind::Exports, "etl_process_v1"),
        (
            r#"(module (import "env" "now" (func)) (memory (export "memory") 1))"#,
            PoolErrorKind::Imports,
            "env.now",
        ),
        (
            r#"(module (import "etl" "now" (func (result i32))) (memory (export "memory") 1))"#,
            PoolErrorKind::Imports,
            "() -> i64",
        ),
        (
            r#"(module (memory (export "memory") 1) (func (export "transform") (param i32) (result i32) i32.const 0))"#,
            PoolErrorKind::Exports,
            "(i32, i32) -> i32",
        ),
        (
            r#"(module (memory (export "memory") 1 1 shared) (func (export "transform") (param i32 i32) (result i32) i32.const 0))"#,
            PoolErrorKind::Invalid,
            "threads",
        ),
        (
            r#"(module (memory i64 1) (func (export "transform") (param i32 i32) (result i32) i32.const 0))"#,
            PoolErrorKind::Invalid,
            "memory64",
        ),
        (
            r#"(module (memory (export "memory") 1) (table 100001 funcref)
                 (func (export "transform") (param i32 i32) (result i32) i32.const 0))"#,
            PoolErrorKind::Memory,
            "100001",
        ),
        (
            r#"(module (memory (export "memory") 1) (func (export "etl:pool/x"))
                 (func (export "transform") (param i32 i32) (result i32) i32.const 0))"#,
            PoolErrorKind::Exports,
            "reserved",
        ),
    ];
    for (text, kind, part) in refusals {
        let error = load(&pool, &wasm(text)).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.message().contains(part), "{text}: {error}");
        assert!(
            error.message().contains("guest"),
            "the module is named: {error}"
        );
    }
    assert_eq!(
        load(&pool, b"plain text").unwrap_err().kind(),
        PoolErrorKind::Invalid
    );
    let pinned = pool.load(etl_pool::ModuleSource {
        id: "pinned",
        bytes: &legacy(),
        expected_sha256: Some([7; 32]),
    });
    assert_eq!(pinned.unwrap_err().kind(), PoolErrorKind::PinMismatch);
}

#[test]
fn the_same_content_and_options_are_one_template() {
    let pool = pool();
    let first = template(&pool, &v1("", ECHO));
    let again = template(&pool, &v1("", ECHO));
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    let mut shelves = pool.shelves();
    shelves.warm(&first, 3, in_ms(1_000)).unwrap();
    assert_eq!((shelves.idle(), again.instances()), (3, 3));
    drop((first, again));
    shelves.tend(Instant::now());
    assert_eq!((shelves.idle(), pool.instances()), (0, 0));
}

/// A start function runs before the host knows the guest's memory. What needs none is answered as ever; what does is told that its pointers lead
/// nowhere. It keeps what it was answered, and tells it as the value of every record.
#[test]
fn host_functions_answer_a_start_function_too() {
    let i32s = |count: usize| "i32 ".repeat(count);
    let (success, badf, fault, inval, notcapable, notsup) = (0, 8, 21, 28, 76, 58);
    let cases = [
        ("fd_close", i32s(1), "(i32.const 3)", badf),
        ("fd_close", i32s(1), "(i32.const 1)", badf),
        (
            "fd_fdstat_get",
            i32s(2),
            "(i32.const 7) (i32.const 0)",
            badf,
        ),
        (
            "fd_fdstat_get",
            i32s(2),
            "(i32.const 1) (i32.const 0)",
            fault,
        ),
        (
            "fd_prestat_get",
            i32s(2),
            "(i32.const 3) (i32.const 0)",
            badf,
        ),
        (
            "fd_write",
            i32s(4),
            "(i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0)",
            badf,
        ),
        (
            "fd_write",
            i32s(4),
            "(i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)",
            fault,
        ),
        (
            "clock_res_get",
            i32s(2),
            "(i32.const 0) (i32.const 0)",
            fault,
        ),
        (
            "clock_time_get",
            "i32 i64 i32".to_owned(),
            "(i32.const 9) (i64.const 0) (i32.const 0)",
            inval,
        ),
        ("random_get", i32s(2), "(i32.const 0) (i32.const 8)", fault),
        (
            "args_sizes_get",
            i32s(2),
            "(i32.const 0) (i32.const 4)",
            fault,
        ),
        ("sched_yield", i32s(0), "", success),
        (
            "path_unlink_file",
            i32s(3),
            "(i32.const 3) (i32.const 0) (i32.const 1)",
            notcapable,
        ),
        ("proc_raise", i32s(1), "(i32.const 9)", notsup),
    ];
    let pool = pool();
    let mut shelves = pool.shelves();
    for (name, params, arguments, answer) in cases {
        let guest = v1(
            &format!(
                r#"(import "wasi_snapshot_preview1" "{name}" (func $import (param {params}) (result i32)))
                   (global $answer (mut i32) (i32.const -1))
                   (func $start (global.set $answer (call $import {arguments}))) (start $start)"#
            ),
            "(i32.store8 (local.get $copy) (global.get $answer)) \
             (local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (i32.const 1))",
        );
        let template = template(&pool, &guest);
        let verdicts = shelves
            .call(&template, &records(&["?"]), in_ms(1_000))
            .unwrap();
        match verdicts.get(0) {
            Ok(etl_abi::Verdict::SetValue(value)) => {
                assert_eq!(value, [answer], "{name} {arguments}");
            }
            other => panic!("{name} {arguments}: {other:?}"),
        }
    }
}
