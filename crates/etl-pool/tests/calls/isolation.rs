//! What one record may see of another: as much as its isolation says, and no byte more.

use etl_pool::{InstanceOptions, Isolation};

use crate::common::{ECHO, in_ms, on_poison, pool, records, template_with, v1, words};

/// Counts calls in a global and in memory; answers the count as the value's first byte.
pub fn counting() -> Vec<u8> {
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

/// A dropped segment cannot be put back: the instance is given up, and the next record finds a whole one.
#[test]
fn a_segment_that_was_dropped_is_there_for_the_next() {
    let segments = r#"(data $text "canary") (table $t 2 funcref) (elem $odd func $f) (func $f)"#;
    let drops = [
        "(memory.init $text (local.get $copy) (i32.const 0) (i32.const 2)) (data.drop $text)",
        "(table.init $t $odd (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $odd) \
         (memory.init $text (local.get $copy) (i32.const 0) (i32.const 2))",
    ];
    let pool = pool();
    let mut shelves = pool.shelves();
    for drop in drops {
        for isolation in [Isolation::Batch, Isolation::Record] {
            let options = InstanceOptions {
                isolation,
                ..InstanceOptions::default()
            };
            let template = template_with(&pool, &v1(segments, &format!("{drop} {ECHO}")), options);
            for _ in 0..3 {
                let verdicts = shelves
                    .call(&template, &records(&["xx"]), in_ms(1_000))
                    .unwrap();
                assert_eq!(words(&verdicts), ["=ca"], "{drop}");
            }
            let stats = template.stats();
            assert_eq!(stats.failures.iter().sum::<u64>(), 0, "{drop}: {stats:?}");
            assert_eq!(stats.created, 3, "{drop}");
        }
    }
}

/// What was dropped before the first record is part of the state that is gone back to; an instruction that does not run costs nothing.
#[test]
fn only_a_segment_that_a_record_drops_costs_an_instance() {
    let pool = pool();
    let mut shelves = pool.shelves();
    let options = InstanceOptions {
        isolation: Isolation::Record,
        ..InstanceOptions::default()
    };
    let segments = r#"(data $text "canary") (data $more "more")
        (func $start (data.drop $text)) (start $start)"#;
    let template = template_with(&pool, &on_poison(segments, "(data.drop $more)"), options);
    let verdicts = shelves
        .call(&template, &records(&["a", "b", "c"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=a", "=b", "=c"]);
    assert_eq!(template.stats().created, 1);
    let verdicts = shelves
        .call(&template, &records(&["!", "d", "e"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=!", "=d", "=e"]);
    let stats = template.stats();
    assert_eq!((stats.created, stats.failures.iter().sum()), (2, 0));
}
