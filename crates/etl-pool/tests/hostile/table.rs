//! The attacks, one small source each: never returning, the stack, traps, memory.

use etl_pool::FailureKind;

use crate::attack::{Attack, MEMORY, TIMEOUT, TRAP};

pub const ATTACKS: &[Attack<'static>] = &[
    // Never returning.
    Attack {
        name: "empty loop",
        extra: "",
        then: "(loop $l (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "br_if loop",
        extra: "",
        then: "(loop $l (br_if $l (i32.const 1)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "br_table loop",
        extra: "",
        then: "(loop $l (br_table $l $l $l (i32.const 7)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop through a block and an if",
        extra: "",
        then: "(loop $l (block $b (if (i32.const 1) (then (br $l)))))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop over host calls",
        extra: r#"(import "etl" "now" (func $now (result i64)))"#,
        then: "(loop $l (drop (call $now)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loop over log lines",
        extra: r#"(import "etl" "log" (func $log (param i32 i32 i32)))"#,
        then: "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 262144)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "exponential calls without a loop",
        extra: "(func $a (call $b) (call $b) (call $b) (call $b)) (func $b (call $c) (call $c) (call $c) (call $c)) \
                (func $c (call $d) (call $d) (call $d) (call $d)) (func $d (call $e) (call $e) (call $e) (call $e)) \
                (func $e (call $f) (call $f) (call $f) (call $f)) (func $f (call $g) (call $g) (call $g) (call $g)) \
                (func $g (call $h) (call $h) (call $h) (call $h)) (func $h (call $i) (call $i) (call $i) (call $i)) \
                (func $i (call $j) (call $j) (call $j) (call $j)) (func $j (call $k) (call $k) (call $k) (call $k)) \
                (func $k (call $l) (call $l) (call $l) (call $l)) (func $l (call $m) (call $m) (call $m) (call $m)) \
                (func $m (call $n) (call $n) (call $n) (call $n)) (func $n (call $o) (call $o) (call $o) (call $o)) \
                (func $o (call $p) (call $p) (call $p) (call $p)) (func $p (call $q) (call $q) (call $q) (call $q)) \
                (func $q (call $r) (call $r) (call $r) (call $r)) (func $r)",
        then: "(call $a)",
        ends: TIMEOUT,
    },
    Attack {
        name: "indirect calls in a loop",
        extra: "(type $t (func)) (table funcref (elem $f)) (func $f)",
        then: "(loop $l (call_indirect (type $t) (i32.const 0)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.fill for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.fill (i32.const 262144) (i32.const 1) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.copy upwards for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.copy (i32.const 262145) (i32.const 262144) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.copy downwards for ever",
        extra: "",
        then: "(drop (memory.grow (i32.const 900))) \
               (loop $l (memory.copy (i32.const 262144) (i32.const 262145) (i32.const 58000000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.init for ever",
        extra: r#"(data $d "0123456789abcdef")"#,
        then: "(loop $l (memory.init $d (i32.const 200000) (i32.const 0) (i32.const 16)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "table.fill for ever",
        extra: "(table $t 100000 funcref)",
        then: "(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 100000)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "table.copy for ever",
        extra: "(table $t 100000 funcref)",
        then: "(loop $l (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 99999)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "table.init for ever",
        extra: "(table $t 100 funcref) (elem $e func $f $f $f $f) (func $f)",
        then: "(loop $l (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 4)) (br $l))",
        ends: TIMEOUT,
    },
    Attack {
        name: "memory.grow that fails, for ever",
        extra: "",
        then: "(loop $l (drop (memory.grow (i32.const 65535))) (br $l))",
        ends: &[FailureKind::Timeout],
    },
    Attack {
        name: "loop that hands a value on",
        extra: "",
        then: "(i32.const 1) (loop $l (param i32) (drop) (br $l (i32.const 1)))",
        ends: TIMEOUT,
    },
    Attack {
        name: "loops in a loop, all of them left and entered again",
        extra: "",
        then: "(loop $a (loop $b (br_if $b (i32.load (i32.const 250000)))) (loop $c (br_if $a (i32.eqz (i32.load (i32.const 250000)))) (br $c)))",
        ends: TIMEOUT,
    },
    // The stack.
    Attack {
        name: "mutual recursion",
        extra: "(func $f (param i32) (result i32) (i32.add (call $g (local.get 0)) (i32.const 1))) \
                (func $g (param i32) (result i32) (i32.sub (call $f (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (i32.const 1)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion",
        extra: "(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (i32.const 1)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion with a large frame",
        extra: "(func $f (param v128 v128 v128 v128 v128 v128) (result i32) \
                (i32.add (call $f (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 0)) (i32.const 1)))",
        then: "(drop (call $f (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) \
               (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0) (v128.const i32x4 0 0 0 0)))",
        ends: TRAP,
    },
    Attack {
        name: "recursion through a table",
        extra: "(type $t (func (result i32))) (table funcref (elem $f)) \
                (func $f (result i32) (i32.add (call_indirect (type $t) (i32.const 0)) (i32.const 1)))",
        then: "(drop (call $f))",
        ends: TRAP,
    },
    Attack {
        name: "host calls on the last of the stack",
        extra: r#"(import "etl" "log" (func $log (param i32 i32 i32)))
                  (func $f (result i32) (call $log (i32.const 1) (i32.const 0) (i32.const 64)) (i32.add (call $f) (i32.const 1)))"#,
        then: "(drop (call $f))",
        ends: TRAP,
    },
    Attack {
        name: "memory.grow on the last of the stack",
        extra: "(func $f (result i32) (drop (memory.grow (i32.const 0))) (i32.add (call $f) (i32.const 1)))",
        then: "(drop (call $f))",
        ends: TRAP,
    },
    // Traps.
    Attack {
        name: "unreachable",
        extra: "",
        then: "unreachable",
        ends: TRAP,
    },
    Attack {
        name: "division by zero",
        extra: "",
        then: "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 250000))))",
        ends: TRAP,
    },
    Attack {
        name: "division that overflows",
        extra: "",
        then: "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 250000)) (i32.const 1))))",
        ends: TRAP,
    },
    Attack {
        name: "truncation of NaN",
        extra: "",
        then: "(drop (i32.trunc_f32_s (f32.const nan)))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call of the wrong type",
        extra: "(type $t (func (result i64))) (table funcref (elem $f)) (func $f)",
        then: "(drop (call_indirect (type $t) (i32.const 0)))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call of nothing",
        extra: "(type $t (func)) (table 4 funcref)",
        then: "(call_indirect (type $t) (i32.const 2))",
        ends: TRAP,
    },
    Attack {
        name: "indirect call outside the table",
        extra: "(type $t (func)) (table 4 funcref)",
        then: "(call_indirect (type $t) (i32.const -1))",
        ends: TRAP,
    },
    Attack {
        name: "load outside the memory",
        extra: "",
        then: "(drop (i32.load (i32.const -4)))",
        ends: TRAP,
    },
    Attack {
        name: "load at the end of the address space",
        extra: "",
        then: "(drop (i64.load offset=4294967295 (i32.const -1)))",
        ends: TRAP,
    },
    Attack {
        name: "store outside the memory",
        extra: "",
        then: "(v128.store (i32.const 262130) (v128.const i64x2 1 1))",
        ends: TRAP,
    },
    Attack {
        name: "fill outside the memory",
        extra: "",
        then: "(memory.fill (i32.const 1) (i32.const 1) (i32.const -1))",
        ends: TRAP,
    },
    Attack {
        name: "copy outside the memory",
        extra: "",
        then: "(memory.copy (i32.const 0) (i32.const 262143) (i32.const 300000))",
        ends: TRAP,
    },
    Attack {
        name: "init outside its segment",
        extra: r#"(data $d "0123")"#,
        then: "(memory.init $d (i32.const 0) (i32.const 2) (i32.const 3))",
        ends: TRAP,
    },
    Attack {
        name: "proc_exit",
        extra: r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        then: "(call $exit (i32.const 0))",
        ends: TRAP,
    },
    // Memory.
    Attack {
        name: "memory bomb",
        extra: "",
        then: "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        ends: MEMORY,
    },
    Attack {
        name: "memory bomb that touches every page",
        extra: "",
        then: "(loop $l (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) \
               (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1048576)) (i32.const 7) (i32.const 1048576)) (br $l))",
        ends: MEMORY,
    },
    Attack {
        name: "table bomb",
        extra: "(table $t 0 funcref)",
        then: "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) \
               (if (i32.gt_u (table.size $t) (i32.const 100000)) (then (return (i64.const 0)))) unreachable",
        ends: TRAP,
    },
];
