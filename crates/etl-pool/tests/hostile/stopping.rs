//! Every attack, by way of both ABIs, in both layouts and with and without a way back; and guests that run for long without one loop.

use etl_pool::{FailureKind, InstanceOptions, Isolation, MemoryLayout};

use crate::attack::{Attack, attacks, survives};
use crate::common::{attacked, laid_out, legacy_attacked, pool, template, template_with};

#[test]
fn every_attack_costs_its_record_alone() {
    let attacks = attacks();
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let mut shelves = pool.shelves();
        for isolation in [Isolation::Instance, Isolation::Record] {
            for attack in &attacks {
                let options = InstanceOptions {
                    isolation,
                    ..InstanceOptions::default()
                };
                let template = template_with(&pool, &attacked(&attack.fields), options);
                survives(&pool, &mut shelves, &template, attack);
            }
        }
        drop(shelves);
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
}

#[test]
fn every_attack_by_way_of_the_legacy_abi_costs_its_record_alone() {
    let pool = pool();
    let mut shelves = pool.shelves();
    for attack in &attacks() {
        let template = template(&pool, &legacy_attacked(&attack.fields));
        survives(&pool, &mut shelves, &template, attack);
    }
}

/// Without one loop: what a great many instructions in a row do, and what calls do one after the other when they return.
#[test]
fn straight_lines_are_stopped_too() {
    let square = "(local.set 1 (i32.add (i32.mul (local.get 1) (local.get 1)) (i32.const 3)))";
    // Ten thousand calls deep at once, and all the work is on the way back.
    let returning = format!(
        "(func $f (param i32) (result i32) (local i32) \
           (if (i32.eqz (local.get 0)) (then (return (i32.const 1)))) \
           (local.set 1 (call $f (i32.sub (local.get 0) (i32.const 1)))) {} (local.get 1))",
        square.repeat(20_000)
    );
    let fills = "(table.fill $t (i32.const 0) (ref.null func) (i32.const 100000))".repeat(5_000);
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let mut shelves = pool.shelves();
        for (name, fields) in [
            (
                "work on the way back",
                format!("{returning} (func $attack (drop (call $f (i32.const 10000))))"),
            ),
            (
                "table.fill thousands of times in a row",
                format!("(table $t 100000 funcref) (func $attack {fills})"),
            ),
        ] {
            let attack = Attack {
                name: name.to_owned(),
                fields,
                ends: FailureKind::Timeout,
            };
            let template = template(&pool, &attacked(&attack.fields));
            survives(&pool, &mut shelves, &template, &attack);
        }
    }
}
