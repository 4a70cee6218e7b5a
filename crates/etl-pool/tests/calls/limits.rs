//! Memory and instances are had within limits, and a refusal says which.

use etl_pool::{FailureKind, InstanceOptions, Pool, PoolErrorKind, PoolOptions, Template};

use crate::common::{
    ECHO, in_ms, load, on_poison, pool, record, records, template, template_with, v1, wasm, words,
};
use crate::isolation::counting;

#[test]
fn memory_over_the_limit_is_refused_and_named() {
    let pool = pool();
    let grow = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))";
    let limited = InstanceOptions {
        memory_limit_bytes: 1 << 20,
        ..InstanceOptions::default()
    };
    let template = template_with(&pool, &on_poison("", grow), limited);
    let mut shelves = pool.shelves();
    let verdicts = shelves
        .call(&template, &records(&["a", "!"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=a", "MemoryLimit"]);
    drop(shelves);
    assert_eq!(
        (pool.instances(), pool.memory_bytes()),
        (0, 0),
        "everything was given back"
    );

    let small = InstanceOptions {
        memory_limit_bytes: 65_536,
        ..InstanceOptions::default()
    };
    let error = Template::new(load(&pool, &v1("", "")).unwrap(), small).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Memory);
}

#[test]
fn budgets_hold_over_lanes() {
    let pool = Pool::new(PoolOptions {
        max_pool_size: 2,
        ..PoolOptions::default()
    })
    .unwrap();
    let one = InstanceOptions {
        max_concurrent_instances: Some(1),
        ..InstanceOptions::default()
    };
    let limited = template_with(&pool, &v1("", ECHO), one);
    let other = template(&pool, &v1("", ""));
    let third = template(&pool, &counting());

    let mut first = pool.shelves();
    first
        .call(&limited, &records(&["a"]), in_ms(1_000))
        .unwrap();
    // The one instance lies idle on the first lane; the second may not have another.
    let error = pool
        .shelves()
        .call(&limited, &records(&["a"]), in_ms(20))
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::PoolExhausted);
    assert!(error.is_retryable());
    // A lane gives up its own idle instances for others.
    first.call(&other, &records(&["a"]), in_ms(1_000)).unwrap();
    first.call(&third, &records(&["ab"]), in_ms(1_000)).unwrap();
    assert_eq!(pool.instances(), 2);
    drop(first);

    // A lane that waits gets the place of one that is in use elsewhere: the busy lane does not put its instance back.
    let served = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut lane = pool.shelves();
            (0..200)
                .filter(|_| lane.call(&limited, &records(&["a"]), in_ms(2_000)).is_ok())
                .count()
        });
        let mut lane = pool.shelves();
        let served = (0..200)
            .filter(|_| lane.call(&limited, &records(&["a"]), in_ms(100)).is_ok())
            .count();
        // What an idle lane does, so that it keeps nobody waiting.
        drop(lane);
        served + busy.join().unwrap()
    });
    assert!(served > 200, "one lane starved the other: {served} of 400");
    assert_eq!(pool.instances(), 0);
}

/// Keeps every record; `alloc` is what `etl_alloc_v1` answers, with the length as `$length`.
fn allocating(alloc: &str, extra: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module (memory (export "memory") 1) {extra}
             (func (export "etl_alloc_v1") (param $length i32) (result i32) {alloc})
             (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#
    ))
}

#[test]
fn an_allocator_that_answers_0_has_no_memory() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let never = template(&pool, &allocating("(i32.const 0)", ""));
    let verdicts = shelves
        .call(&never, &records(&["a"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["MemoryLimit"]);
    let error = verdicts.get(0).unwrap_err();
    assert!(error.message().contains("etl_alloc_v1("), "{error}");
    assert!(error.message().contains("answered 0"), "{error}");
    assert!(!error.is_retryable());

    // Room for one small record: a batch is cut until its parts fit, and what is too long by itself fails by itself.
    let small = template(
        &pool,
        &allocating(
            "(select (i32.const 1024) (i32.const 0) (i32.le_u (local.get $length) (i32.const 150)))",
            "",
        ),
    );
    let long = "x".repeat(100);
    let verdicts = shelves
        .call(&small, &records(&["a", "b", &long, "c"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["keep", "keep", "MemoryLimit", "keep"]);

    // One that has given all its memory away is worn out, and a fresh one takes its place.
    let worn = template(
        &pool,
        &allocating(
            "(global.set $asked (i32.add (global.get $asked) (i32.const 1))) \
             (select (i32.const 1024) (i32.const 0) (i32.eq (global.get $asked) (i32.const 1)))",
            "(global $asked (mut i32) (i32.const 0))",
        ),
    );
    for length in 1..20 {
        let verdicts = shelves
            .call(&worn, &[record(&vec![b'x'; length])], in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["keep"], "{length}");
    }
}

#[test]
fn no_memory_for_the_configuration_is_said_too() {
    let pool = pool();
    let init = r#"(func (export "etl_init_v1") (param i32 i32) (result i64) (i64.const 0))"#;
    let with = |alloc: &str, config: &str| {
        let options = InstanceOptions {
            custom_config: config.as_bytes().to_vec().into(),
            ..InstanceOptions::default()
        };
        template_with(&pool, &allocating(alloc, init), options)
    };
    let error = pool
        .shelves()
        .call(&with("(i32.const 0)", "{}"), &records(&["a"]), in_ms(1_000))
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::MemoryLimit);
    assert!(error.message().contains("etl_alloc_v1(2)"), "{error}");
    // Nothing needs no room, and 0 is where many allocators say that nothing lies.
    let nothing_at_0 = "(select (i32.const 1024) (i32.const 0) (local.get $length))";
    let verdicts = pool
        .shelves()
        .call(&with(nothing_at_0, ""), &records(&["a"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["keep"]);
}
