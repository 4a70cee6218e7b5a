//! The end of the stack: wherever a guest runs out of it, nothing of the host's is left half done.

use std::sync::mpsc;
use std::time::Duration;

use etl_pool::{InstanceOptions, Isolation, MemoryLayout};

use crate::common::{
    ECHO, alone, in_ms, laid_out, on_poison, record, records, template, template_with, v1, words,
};

/// What the runtime does by functions of its own, on the guest's stack or beside it, with operands for which it traps.
const INSTRUCTIONS: [(&str, &str); 15] = [
    ("unreachable", "unreachable"),
    (
        "division by zero",
        "(global.set $back (i32.div_u (i32.const 1) (global.get $zero)))",
    ),
    (
        "truncation of NaN",
        "(global.set $back (i32.trunc_f32_s (f32.const nan)))",
    ),
    ("indirect call of nothing", "(call_indirect (i32.const 2))"),
    (
        "memory.fill",
        "(memory.fill (i32.const -1) (i32.const 0) (i32.const 9))",
    ),
    (
        "memory.fill of much",
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const -1))",
    ),
    (
        "memory.copy",
        "(memory.copy (i32.const 0) (i32.const -4) (i32.const 9))",
    ),
    (
        "memory.init",
        "(memory.init $d (i32.const 0) (i32.const 9) (i32.const 9))",
    ),
    ("table.get", "(drop (table.get $t (i32.const 99)))"),
    ("table.set", "(table.set $t (i32.const 99) (ref.null func))"),
    (
        "table.fill",
        "(table.fill $t (i32.const 99) (ref.null func) (i32.const 9))",
    ),
    (
        "table.copy",
        "(table.copy $t $t (i32.const 99) (i32.const 0) (i32.const 9))",
    ),
    (
        "table.init",
        "(table.init $t $e (i32.const 99) (i32.const 0) (i32.const 9))",
    ),
    (
        "memory.grow",
        "(drop (memory.grow (i32.const 1))) unreachable",
    ),
    (
        "table.grow",
        "(drop (table.grow $t (ref.null func) (i32.const 1))) unreachable",
    ),
];

/// How deep to go in steps of about a kibibyte, and then in as small ones as there are, and whether to do it there.
type Plan = (u32, u32, bool);

fn value((coarse, fine, armed): Plan) -> [u8; 9] {
    let mut value = [0; 9];
    value[..4].copy_from_slice(&coarse.to_le_bytes());
    value[4..8].copy_from_slice(&fine.to_le_bytes());
    value[8] = armed.into();
    value
}

fn guest(instruction: &str) -> Vec<u8> {
    // Never called, but a caller's frame has room for what it takes.
    let parameters = "v128 ".repeat(64);
    let arguments = "(local.get $none) ".repeat(64);
    v1(
        &format!(
            r#"(data $d "0123") (table $t 4 funcref) (elem $e func $f) (func $f)
               (global $zero (mut i32) (i32.const 0)) (global $armed (mut i32) (i32.const 0)) (global $back (mut i32) (i32.const 0))
               (func $wide (param {parameters}))
               (func $coarse (param $left i32) (param $fine i32) (local $none v128)
                 (if (i32.eq (local.get $left) (i32.const -1)) (then (call $wide {arguments})))
                 (if (local.get $left)
                   (then (call $coarse (i32.sub (local.get $left) (i32.const 1)) (local.get $fine)))
                   (else (call $fine (local.get $fine))))
                 (global.set $back (i32.add (global.get $back) (i32.const 1))))
               (func $fine (param $left i32)
                 (if (local.get $left)
                   (then
                     (call $fine (i32.sub (local.get $left) (i32.const 1)))
                     (global.set $back (i32.add (global.get $back) (i32.const 1))))
                   (else (if (global.get $armed) (then {instruction})))))"#
        ),
        &format!(
            "(global.set $armed (i32.load8_u offset=8 (local.get $value))) \
             (call $coarse (i32.load (local.get $value)) (i32.load offset=4 (local.get $value))) {ECHO}"
        ),
    )
}

/// The last number for which it does not fail.
fn last(mut fails: impl FnMut(u32) -> bool) -> u32 {
    let (mut good, mut bad) = (0, 1 << 16);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fails(middle) {
            bad = middle;
        } else {
            good = middle;
        }
    }
    good
}

/// Each instruction, at every depth from where there is room enough down to where there is none. A trap takes a picture of the stack under a lock of the
/// process: left behind, it would keep every other thread whose guest traps for ever.
#[test]
fn a_guest_that_ends_with_its_stack_leaves_no_lock_behind() {
    if !alone("stack::a_guest_that_ends_with_its_stack_leaves_no_lock_behind") {
        return;
    }
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let trapping = template(&pool, &on_poison("", "unreachable"));
        for isolation in [Isolation::Instance, Isolation::Record] {
            for (name, instruction) in INSTRUCTIONS {
                let options = InstanceOptions {
                    isolation,
                    ..InstanceOptions::default()
                };
                let template = template_with(&pool, &guest(instruction), options);
                let mut shelves = pool.shelves();
                let mut traps = |plan| {
                    let verdicts = shelves
                        .call(&template, &[record(&value(plan))], in_ms(20_000))
                        .unwrap();
                    match verdicts.get(0) {
                        Ok(_) => false,
                        Err(error) => {
                            assert_eq!(words(&verdicts), ["Trap"], "{name} {plan:?}: {error}");
                            true
                        }
                    }
                };
                let coarse = last(|depth| traps((depth, 0, false)));
                assert!(coarse > 200, "{name}: {coarse}");
                let coarse = coarse - 6;
                let fine = last(|depth| traps((coarse, depth, false)));
                for depth in 0..=fine + 1 {
                    assert!(traps((coarse, depth, true)), "{name} {depth}");
                }
                let (told, outcome) = mpsc::channel();
                let (elsewhere, trapping) = (pool.clone(), trapping.clone());
                std::thread::spawn(move || {
                    let verdicts =
                        elsewhere
                            .shelves()
                            .call(&trapping, &records(&["!", "a"]), in_ms(20_000));
                    told.send(verdicts.map(|verdicts| words(&verdicts)))
                });
                match outcome.recv_timeout(Duration::from_secs(60)) {
                    Ok(words) => assert_eq!(words.unwrap(), ["Trap", "=a"], "{name}"),
                    Err(error) => {
                        panic!("{name}: a trap on another thread does not end: {error}")
                    }
                }
            }
        }
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
}
