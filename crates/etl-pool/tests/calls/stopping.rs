//! Guests that do not return are stopped at their deadline.

use std::time::{Duration, Instant};

use etl_pool::{FailureKind, InstanceOptions, Isolation};

use crate::common::{ECHO, in_ms, on_poison, pool, records, template, template_with, v1, words};

/// Every way of not returning is stopped, soon after its deadline, and the next record is served.
#[test]
fn a_guest_that_does_not_return_is_stopped() {
    let ways = [
        ("empty loop", "", "(loop $l (br $l))"),
        (
            "loop in a loop",
            "",
            "(loop $l (loop $m (br_if $m (i32.const 0))) (br $l))",
        ),
        ("br_table", "", "(loop $l (br_table $l $l (i32.const 1)))"),
        (
            "endless calls",
            "(func $f (nop)) ",
            "(loop $l (call $f) (br $l))",
        ),
        // Nothing is stored or called between the check of one loop and the next, so a compiler might think that one will do.
        (
            "inner loop behind a check",
            "(func $f (loop $a (loop $b (br $b))))",
            "(call $f)",
        ),
        (
            "inner loop that ends in another",
            "(func $f (param $n i32) (loop $a (loop $b (loop $c (br_if $c (i32.eqz (local.get $n))) (br $b)))))",
            "(call $f (i32.const 0)) (call $f (i32.const 1))",
        ),
        (
            "loop behind a call",
            "(func $g) (func $f (call $g) (loop $b (br $b)))",
            "(call $f)",
        ),
        (
            "loops that only read",
            "(func $f (result i32) (local $s i32) (loop $a (local.set $s (i32.add (local.get $s) (i32.load (i32.const 0)))) \
             (loop $b (local.set $s (i32.add (local.get $s) (i32.load (i32.const 4)))) (br $b)) (br $a)) (local.get $s))",
            "(drop (call $f))",
        ),
        (
            "tail of two loops",
            "(func $f (loop $a (br_if $a (i32.const 0))) (loop $b (br $b)))",
            "(call $f)",
        ),
        (
            "fill in a loop",
            "",
            "(loop $l (memory.fill (i32.const 200000) (i32.const 1) (i32.const 60000)) (br $l))",
        ),
        (
            "copy in a loop",
            "",
            "(loop $l (memory.copy (i32.const 131072) (i32.const 131073) (i32.const 100000)) (br $l))",
        ),
        (
            "grow in a loop",
            "",
            "(loop $l (drop (memory.grow (i32.const 0))) (drop (memory.grow (i32.const 65000))) (br $l))",
        ),
        (
            "fill of a large memory in a loop",
            "",
            "(drop (memory.grow (i32.const 800))) \
             (loop $l (memory.fill (i32.const 262144) (i32.const 1) (i32.const 52428800)) (br $l))",
        ),
    ];
    for (name, extra, then) in ways {
        let pool = pool();
        let template = template(&pool, &on_poison(extra, then));
        let mut shelves = pool.shelves();
        shelves
            .call(&template, &records(&["a"]), in_ms(1_000))
            .unwrap();
        let deadline = in_ms(20);
        let error = shelves
            .call(&template, &records(&["!"]), deadline)
            .unwrap_err();
        let overshoot = Instant::now().saturating_duration_since(deadline);
        assert_eq!(error.kind(), FailureKind::Timeout, "{name}");
        assert!(error.is_retryable());
        // Far looser than what is promised: other tests share the machine.
        assert!(
            overshoot < Duration::from_millis(250),
            "{name}: {overshoot:?}"
        );
        let next = shelves
            .call(&template, &records(&["b"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&next), ["=b"], "{name}");
    }
}

/// What comes after the deadline is not begun: each record of it would cost an instance and a watchdog's turn.
#[test]
fn a_batch_ends_with_its_time() {
    let pool = pool();
    let options = InstanceOptions {
        isolation: Isolation::Record,
        ..InstanceOptions::default()
    };
    let guest = on_poison("", "(loop $l (br $l))");
    let template = template_with(&pool, &guest, options);
    let mut values = vec!["a", "b"];
    values.resize(100, "!");
    let verdicts = pool
        .shelves()
        .call(&template, &records(&values), in_ms(200))
        .unwrap();
    assert_eq!(words(&verdicts)[..2], ["=a", "=b"]);
    assert!(words(&verdicts)[2..].iter().all(|word| word == "Timeout"));
    assert_eq!(template.stats().created, 1);
}

#[test]
fn recursion_ends_as_a_trap() {
    let pool = pool();
    for (name, extra) in [
        (
            "direct",
            "(func $f (result i32) (i32.add (call $f) (i32.const 1)))",
        ),
        (
            "mutual",
            "(func $f (result i32) (i32.add (call $g) (i32.const 1))) (func $g (result i32) (i32.add (call $f) (i32.const 2)))",
        ),
    ] {
        let template = template(&pool, &on_poison(extra, "(drop (call $f))"));
        let mut shelves = pool.shelves();
        let verdicts = shelves
            .call(&template, &records(&["a", "!", "b"]), in_ms(5_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["=a", "Trap", "=b"], "{name}");
        let message = verdicts.get(1).unwrap_err().message();
        assert!(message.contains("stack"), "{name}: {message}");
    }
}

#[test]
fn a_start_function_that_does_not_return_is_stopped() {
    let pool = pool();
    let template = template(&pool, &v1("(func $s (loop $l (br $l))) (start $s)", ECHO));
    let error = pool
        .shelves()
        .call(&template, &records(&["a"]), in_ms(20))
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::Timeout);
    assert_eq!(pool.instances(), 0);
}
