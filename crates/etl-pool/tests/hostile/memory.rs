//! Guests that spoil, hoard, leak or use up memory.

use etl_pool::{InstanceOptions, Pool, PoolOptions};

use crate::common::{ECHO, in_ms, on_poison, pool, records, template, template_with, v1, words};
use crate::pointers::fixed;

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
    let template = template(&pool, &fixed(1_024, etl_abi::pack(1_024, 40), None));
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
