//! Calls through the real engine: both ABIs, batches, failures and what they cost the others.

mod common;

use std::time::{Duration, Instant};

use common::{
    ECHO, in_ms, legacy, load, on_poison, pool, record, records, template, template_with, v1, wasm,
    words,
};
use etl_pool::{
    Abi, FailureKind, InstanceOptions, Isolation, Pool, PoolErrorKind, PoolOptions, Template,
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
fn replies_that_lie_are_invalid_output() {
    let pool = pool();
    let reply = |result: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 0))
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

/// Counts calls in a global and in memory; answers the count as the value's first byte.
fn counting() -> Vec<u8> {
    v1(
        "(global $seen (mut i32) (i32.const 48))",
        "(global.set $seen (i32.add (global.get $seen) (i32.const 1))) \
         (i32.store8 (i32.const 200000) (i32.add (i32.load8_u (i32.const 200000)) (i32.const 1))) \
         (i32.store8 (local.get $copy) (global.get $seen)) \
         (i32.store8 offset=1 (local.get $copy) (i32.add (i32.const 48) (i32.load8_u (i32.const 200000)))) \
         (local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (i32.const 2))",
    )
}

#[test]
fn isolation_keeps_what_it_says() {
    let pool = pool();
    let mut shelves = pool.shelves();
    for (isolation, expected) in [
        (Isolation::Instance, [["=11", "=22"], ["=33", "=44"]]),
        (Isolation::Batch, [["=11", "=22"], ["=11", "=22"]]),
        (Isolation::Record, [["=11", "=11"], ["=11", "=11"]]),
    ] {
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &counting(), options);
        for expected in expected {
            let verdicts = shelves
                .call(&template, &records(&["ab", "cd"]), in_ms(1_000))
                .unwrap();
            assert_eq!(words(&verdicts), expected, "{isolation:?}");
        }
    }
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

#[test]
fn going_back_needs_no_new_instance() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let options = InstanceOptions {
        isolation: Isolation::Record,
        ..InstanceOptions::default()
    };
    let template = template_with(&pool, &counting(), options);
    for _ in 0..100 {
        let verdicts = shelves
            .call(&template, &records(&["ab", "cd"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["=11", "=11"]);
    }
    assert_eq!(template.stats().created, 1);
}

/// Writes in every way that there is, across page boundaries, and tells on the next call if anything of it is still there.
#[test]
fn whatever_was_written_is_gone_after_going_back() {
    let writes = [
        "(i32.store8 (i32.const 200000) (i32.const 1))",
        "(i32.store16 (i32.const 200703) (i32.const 0x101))",
        "(i32.store offset=3 (i32.const 200702) (i32.const 0x1010101))",
        "(i64.store offset=700 (i32.const 200001) (i64.const 0x101010101010101))",
        "(i64.store32 (i32.const 200702) (i64.const 0x1010101))",
        "(f32.store (i32.const 200702) (f32.const 3))",
        "(f64.store (i32.const 200702) (f64.const 3))",
        "(v128.store (i32.const 200703) (v128.const i32x4 1 2 3 4))",
        "(v128.store8_lane 4 (i32.const 200000) (v128.const i32x4 1 2 3 4))",
        "(memory.fill (i32.const 196608) (i32.const 7) (i32.const 65536))",
        "(memory.fill (i32.const 200703) (i32.const 7) (i32.const 2))",
        "(memory.copy (i32.const 200000) (i32.const 65536) (i32.const 50000))",
        "(memory.init $text (i32.const 204795) (i32.const 0) (i32.const 9))",
        "(global.set $hidden (i64.const 9))",
        "(table.set $t (i32.const 1) (ref.func $odd))",
        "(table.fill $t (i32.const 0) (ref.func $odd) (i32.const 4))",
        "(call $now_and_then)",
    ];
    let extra = r#"
        (data $text "canary...")
        (global $hidden (mut i64) (i64.const 0))
        (table $t 4 funcref)
        (elem declare func $odd)
        (func $odd)
        (func $now_and_then (i32.store (i32.const 262140) (i32.const -1)))
        (func $dirt (result i32)
          (local $at i32) (local $sum i64)
          (local.set $at (i32.const 196608))
          (loop $l
            (local.set $sum (i64.or (local.get $sum) (i64.load (local.get $at))))
            (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 262144))))
          (i32.or (i64.ne (i64.or (local.get $sum) (global.get $hidden)) (i64.const 0))
                  (i32.eqz (ref.is_null (table.get $t (i32.const 1))))))"#;
    let pool = pool();
    let mut shelves = pool.shelves();
    for write in writes {
        let guest = v1(
            extra,
            &format!(
                "(if (call $dirt) (then unreachable)) {write} (if (i32.eqz (call $dirt)) (then unreachable)) {ECHO}"
            ),
        );
        let options = InstanceOptions {
            isolation: Isolation::Record,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &guest, options);
        for _ in 0..3 {
            let verdicts = shelves
                .call(&template, &records(&["a", "b"]), in_ms(1_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=a", "=b"], "{write}");
        }
        assert_eq!(template.stats().created, 1, "{write}");
    }
}

#[test]
fn results_are_kept_for_what_is_the_same() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let options = InstanceOptions {
        cache_ttl: Some(Duration::from_secs(60)),
        ..InstanceOptions::default()
    };
    let template = template_with(&pool, &counting(), options.clone());
    let mut call = |values: &[&str]| {
        words(
            &shelves
                .call(&template, &records(values), in_ms(1_000))
                .unwrap(),
        )
    };
    assert_eq!(call(&["ab", "cd"]), ["=11", "=22"]);
    assert_eq!(call(&["cd", "ef", "ab"]), ["=22", "=33", "=11"]);
    let stats = template.stats();
    assert_eq!((stats.cache_hits, stats.cache_misses), (2, 3));

    // A failure is not kept, and a module that can see a clock is called each time.
    let failing = template_with(&pool, &on_poison("", "unreachable"), options.clone());
    for _ in 0..2 {
        let verdicts = shelves
            .call(&failing, &records(&["a", "!"]), in_ms(1_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["=a", "Trap"]);
    }
    assert_eq!(failing.stats().cache_hits, 1);
    let timed = v1(
        r#"(import "etl" "now" (func $now (result i64)))"#,
        "(drop (call $now))",
    );
    let timed = template_with(&pool, &timed, options);
    for _ in 0..2 {
        shelves
            .call(&timed, &records(&["a"]), in_ms(1_000))
            .unwrap();
    }
    assert_eq!(timed.stats().cache_hits, 0);
}

#[test]
fn compiled_code_is_kept_on_disk_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let options = PoolOptions {
        cache_dir: Some(folder.path().join("cache")),
        ..PoolOptions::default()
    };
    let guest = v1("", ECHO);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(folder.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "code")
            })
            .collect();
        files.sort();
        files
    };
    let works = || {
        let pool = Pool::new(options.clone()).unwrap();
        let isolated = InstanceOptions {
            isolation: Isolation::Batch,
            ..InstanceOptions::default()
        };
        for options in [InstanceOptions::default(), isolated] {
            let template = template_with(&pool, &guest, options);
            let verdicts = pool
                .shelves()
                .call(&template, &records(&["a"]), in_ms(1_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=a"]);
        }
    };
    works();
    assert_eq!(files().len(), 2, "plain and resettable");
    let written = std::fs::metadata(&files()[0]).unwrap().modified().unwrap();
    works();
    assert_eq!(
        std::fs::metadata(&files()[0]).unwrap().modified().unwrap(),
        written,
        "loaded, not made again"
    );
    for path in files() {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
    works();
    let mut repaired = std::fs::read(&files()[0]).unwrap();
    let middle = repaired.len() / 2;
    repaired[middle] ^= 1;
    std::fs::write(&files()[0], &repaired).unwrap();
    works();
}
