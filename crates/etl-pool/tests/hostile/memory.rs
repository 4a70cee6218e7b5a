//! Guests that spoil, hoard, leak or use up memory.

use etl_pool::{FailureKind, InstanceOptions, Pool, PoolOptions};

use crate::common::{
    ECHO, in_ms, legacy, on_poison, pool, record, records, status, template, template_with, v1,
    words,
};
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
