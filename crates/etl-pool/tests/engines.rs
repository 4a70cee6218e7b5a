//! The suite that every engine passes, run on both.

mod common;

use common::{ECHO, legacy, on_poison, v1, wasm};
use etl_pool::testing::{Behaviour, FakeEngine, engine_suite};
use etl_pool::{MemoryLayout, NativeEngine};

#[test]
fn the_fake_engine_passes() {
    engine_suite(|| FakeEngine, FakeEngine::module);
}

#[test]
fn the_native_engine_passes() {
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        engine_suite(|| NativeEngine::new(layout).unwrap(), native_module);
    }
}

fn native_module(behaviour: Behaviour) -> Vec<u8> {
    let answering = |room: u32, reply: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const {room}))
                 (func (export "etl_process_v1") (param i32 i32) (result i64) {reply}))"#
        ))
    };
    let replying = |reply: &str| answering(1_024, reply);
    match behaviour {
        Behaviour::Full => answering(0, "(i64.const 0)"),
        Behaviour::Keep => replying("(i64.const 0)"),
        Behaviour::Echo => on_poison(
            "",
            "unreachable) (else (if (i32.eq (i32.load8_u (local.get $value)) (i32.const 63)) (then (loop $l (br $l))))",
        ),
        Behaviour::Count => v1(
            "(global $seen (mut i32) (i32.const 48))",
            "(if (i32.eq (i32.load8_u (local.get $value)) (i32.const 33)) (then unreachable)) \
             (global.set $seen (i32.add (global.get $seen) (i32.const 1))) \
             (i32.store8 (local.get $copy) (global.get $seen)) \
             (local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (i32.const 1))",
        ),
        // Eight bytes at 0, which are whatever the memory holds.
        Behaviour::Garbage => replying("(i64.const 8)"),
        Behaviour::WildPointer => replying("(i64.const 0x7fffffff00000010)"),
        Behaviour::Refuse => v1(
            r#"(func (export "etl_init_v1") (param $ptr i32) (param $len i32) (result i64)
                 (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))"#,
            ECHO,
        ),
        Behaviour::StuckStart => v1("(func $s (loop $l (br $l))) (start $s)", ECHO),
        Behaviour::Legacy | Behaviour::LegacyLeak => legacy(),
        Behaviour::Foreign => wasm("(module)"),
    }
}
