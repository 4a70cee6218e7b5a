//! What of a batch is served where a guest does not return, and what is said of it. That each way of not returning is stopped is told by the
//! hostile guests.

use etl_pool::{FailureKind, InstanceOptions, Isolation};

use crate::common::{ECHO, in_ms, on_poison, pool, records, template, template_with, v1, words};

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
fn a_timeout_may_be_tried_again_and_recursion_is_named() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let endless = template(&pool, &on_poison("", "(loop $l (br $l))"));
    let error = shelves
        .call(&endless, &records(&["!"]), in_ms(20))
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::Timeout);
    assert!(error.is_retryable());

    let recursion = "(func $f (result i32) (i32.add (call $f) (i32.const 1)))";
    let template = template(&pool, &on_poison(recursion, "(drop (call $f))"));
    let verdicts = shelves
        .call(&template, &records(&["a", "!", "b"]), in_ms(5_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=a", "Trap", "=b"]);
    let message = verdicts.get(1).unwrap_err().message();
    assert!(message.contains("stack"), "{message}");
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
