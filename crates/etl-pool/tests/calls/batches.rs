//! Records cross and come back, and what goes wrong with one costs the others nothing.

use etl_pool::Abi;

use crate::common::{
    ECHO, in_ms, legacy, on_poison, pool, record, records, template, v1, wasm, words,
};

#[test]
fn a_batch_crosses_and_comes_back() {
    let pool = pool();
    let template = template(&pool, &v1("", ECHO));
    let mut shelves = pool.shelves();
    let verdicts = shelves
        .call(&template, &records(&["one", "two", ""]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=one", "=two", "="]);
    let Ok(etl_abi::Verdict::SetValue(value)) = verdicts.get(1) else {
        panic!()
    };
    let kept = verdicts.bytes(value);
    assert_eq!(
        kept.as_ptr(),
        value.as_ptr(),
        "bytes are shared, not copied"
    );
    assert!(
        shelves
            .call(&template, &records(&[]), in_ms(1_000))
            .unwrap()
            .is_empty()
    );
    assert_eq!(pool.instances(), 1);
}

#[test]
fn a_trap_costs_only_the_culprit() {
    let pool = pool();
    let template = template(&pool, &on_poison("", "unreachable"));
    let mut shelves = pool.shelves();
    let values = ["a", "!b", "c", "d", "e", "!f", "g"];
    let verdicts = shelves
        .call(&template, &records(&values), in_ms(5_000))
        .unwrap();
    assert_eq!(
        words(&verdicts),
        ["=a", "Trap", "=c", "=d", "=e", "Trap", "=g"]
    );
    let error = verdicts.get(1).unwrap_err();
    assert!(error.message().contains("unreachable"), "{error}");
    assert!(!error.is_retryable());
    let next = shelves
        .call(&template, &records(&["h"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&next), ["=h"]);
}

#[test]
fn replies_that_lie_are_invalid_output() {
    let pool = pool();
    let reply = |result: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) {result}))"#
        ))
    };
    for result in [
        "(i64.const 1)",
        "(i64.const -1)",
        "(i64.const 0x0001_0000_0000_0001)",
        "(i64.const 0x0000_0000_0001_0001)",
        "(i64.const 0x7fff_ffff_7fff_ffff)",
        "(i64.const 0xffff_fff0_0000_0020)",
        "(i64.const 0x0000_1000_0000_0020)",
    ] {
        let template = template(&pool, &reply(result));
        let verdicts = pool
            .shelves()
            .call(&template, &records(&["a"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["InvalidOutput"], "{result}");
    }
    for pointer in [
        "(i32.const -1)",
        "(i32.const 65535)",
        "(i32.const 65536)",
        "(i32.const -65536)",
    ] {
        let guest = wasm(&format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "etl_alloc_v1") (param i32) (result i32) {pointer})
                 (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#
        ));
        let template = template(&pool, &guest);
        let verdicts = pool
            .shelves()
            .call(&template, &records(&["a"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["InvalidOutput"], "{pointer}");
    }
}

#[test]
fn a_legacy_guest_that_never_frees_works_for_ever() {
    let pool = pool();
    let template = template(&pool, &legacy());
    assert_eq!(template.module().abi(), Abi::Legacy);
    let mut shelves = pool.shelves();
    let value = vec![b'x'; 300];
    for round in 0..2_000 {
        let verdicts = shelves
            .call(&template, &[record(&value), record(b"y")], in_ms(1_000))
            .unwrap();
        assert_eq!(
            words(&verdicts),
            [format!("={}", "x".repeat(300)), "=y".to_owned()],
            "{round}"
        );
    }
    let verdicts = shelves
        .call(&template, &records(&["!no", "yes"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["Module", "=yes"]);
    assert!(verdicts.get(0).unwrap_err().message().contains("-7"));
}
