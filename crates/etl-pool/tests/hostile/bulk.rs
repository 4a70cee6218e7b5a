//! `memory.fill`, `copy` and `init` with lengths around every edge, and as long as a memory can be: the rewriting does long ones in chunks, and
//! must neither change what they do nor let one run on.

use etl_pool::{FailureKind, InstanceOptions, Isolation, MemoryLayout, Pool, PoolOptions};

use crate::attack::{Attack, survives};
use crate::common::{
    ECHO, attacked, in_ms, laid_out, pool, record, records, template, template_with, v1_with_pages,
    words,
};

/// Bytes that are done at once, see `instrument`.
const CHUNK: u32 = 256 << 10;

/// Bytes of the long segment: a byte more than two chunks.
const SEGMENT: u32 = 2 * CHUNK + 1;

/// Pages of the memory, and bytes.
const PAGES: u32 = 16;
const MEMORY: u32 = PAGES << 16;

/// A data segment whose every byte follows from its place, and the instruction that computes it.
fn segment() -> String {
    let bytes: String = (0..SEGMENT)
        .map(|place| format!("\\{:02x}", (place ^ (place >> 9)) & 0xff))
        .collect();
    format!(
        r#"(data $long "{bytes}")
           (func $byte (param $place i32) (result i32)
             (i32.and (i32.xor (local.get $place) (i32.shr_u (local.get $place) (i32.const 9))) (i32.const 255)))"#
    )
}

fn isolated(isolation: Isolation) -> InstanceOptions {
    InstanceOptions {
        isolation,
        ..InstanceOptions::default()
    }
}

/// Where each instruction reads from and writes to, against what the standard says, in 64 bits.
#[test]
fn bulk_instructions_trap_where_they_leave_what_is_there() {
    let all = [
        0,
        4,
        CHUNK + 1,
        SEGMENT,
        MEMORY - 1,
        MEMORY,
        0x8000_0000,
        0xffff_ffff,
    ];
    // A way back makes instances dear, and these all end at a place of their own.
    let few = [0, 4, CHUNK + 1, 0xffff_ffff];
    // The instruction, and how much there is to write to and to read from.
    let instructions = [
        ("memory.fill", MEMORY, u32::MAX),
        ("memory.copy", MEMORY, MEMORY),
        ("memory.init $short", MEMORY, 4),
        ("memory.init $long", MEMORY, SEGMENT),
        ("table.copy $t $t", 8, 8),
        ("table.init $t $e", 8, 4),
    ];
    let extra = format!(
        r#"{} (data $short "0123") (table $t 8 funcref) (elem $e func $f $f $f $f) (func $f)"#,
        segment()
    );
    let pool = pool();
    let mut shelves = pool.shelves();
    for (instruction, writable, readable) in instructions {
        // The operands are the words of the record's value.
        let each = format!(
            "({instruction} (i32.load (local.get $value)) (i32.load offset=4 (local.get $value)) (i32.load offset=8 (local.get $value)))"
        );
        let guest = v1_with_pages(PAGES, &extra, &each);
        for (isolation, edges) in [(Isolation::Instance, &all[..]), (Isolation::Record, &few)] {
            let template = template_with(&pool, &guest, isolated(isolation));
            for &to in edges {
                for &from in edges {
                    for &length in edges {
                        let value: Vec<u8> = [to, from, length]
                            .into_iter()
                            .flat_map(u32::to_le_bytes)
                            .collect();
                        let verdicts = shelves
                            .call(&template, &[record(&value)], in_ms(10_000))
                            .unwrap();
                        let word = &words(&verdicts)[0];
                        let within = |start: u32, most: u32| {
                            u64::from(start) + u64::from(length) <= u64::from(most)
                        };
                        // The second operand of a fill is the byte.
                        let reads = instruction == "memory.fill" || within(from, readable);
                        let what = format!("{instruction} {to:#x} {from:#x} {length:#x}: {word}");
                        if within(to, writable) && reads {
                            // It may have spoiled the guest's own reply.
                            assert!(["keep", "InvalidOutput"].contains(&word.as_str()), "{what}");
                        } else {
                            assert_eq!(word, "Trap", "{what}");
                        }
                    }
                }
            }
        }
    }
}

/// A segment in chunks is the same bytes at the same places, and none beside them; and one that was dropped has none.
#[test]
fn a_long_segment_arrives_whole() {
    let each = "(call $check (i32.load (local.get $value)) (i32.load offset=4 (local.get $value)) (i32.load offset=8 (local.get $value)))";
    let check = r#"
        (func $check (param $to i32) (param $from i32) (param $length i32) (local $k i32)
          (memory.fill (i32.const 262144) (i32.const 0) (i32.const 786432))
          (memory.init $long (local.get $to) (local.get $from) (local.get $length))
          (loop $l
            (if (i32.lt_u (local.get $k) (local.get $length)) (then
              (if (i32.ne (i32.load8_u (i32.add (local.get $to) (local.get $k)))
                          (call $byte (i32.add (local.get $from) (local.get $k))))
                (then unreachable))
              (local.set $k (i32.add (local.get $k) (i32.const 1)))
              (br $l))))
          (if (i32.load8_u (i32.sub (local.get $to) (i32.const 1))) (then unreachable))
          (if (i32.load8_u (i32.add (local.get $to) (local.get $length))) (then unreachable)))"#;
    let guest = v1_with_pages(PAGES, &format!("{} {check}", segment()), each);
    let pool = pool();
    let mut shelves = pool.shelves();
    for isolation in [Isolation::Instance, Isolation::Record] {
        let template = template_with(&pool, &guest, isolated(isolation));
        for (to, from, length) in [
            (300_000, 0, SEGMENT),
            (300_001, 1, SEGMENT - 1),
            (300_002, 3, CHUNK),
            (300_003, 3, CHUNK + 1),
            (300_004, 0, 2 * CHUNK),
            (300_005, SEGMENT, 0),
        ] {
            let value: Vec<u8> = [to, from, length]
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect();
            let verdicts = shelves
                .call(&template, &[record(&value)], in_ms(10_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["keep"], "{to} {from} {length}");
        }
    }
    let dropped = v1_with_pages(
        PAGES,
        &segment(),
        "(data.drop $long) (memory.init $long (i32.const 300000) (i32.const 0) (i32.const 300000))",
    );
    let template = template_with(&pool, &dropped, isolated(Isolation::Instance));
    let verdicts = shelves
        .call(&template, &records(&["a"]), in_ms(10_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["Trap"]);
}

/// A long segment that no instruction names, in a module that does not count its segments: most modules with much data are so.
#[test]
fn a_long_segment_needs_no_instruction() {
    let active = segment().replace("(data $long", "(data $long (i32.const 300000)");
    let guest = v1_with_pages(
        PAGES,
        &active,
        "(if (i32.ne (i32.load8_u (i32.const 562144)) (call $byte (i32.const 262144))) (then unreachable))",
    );
    let pool = pool();
    for isolation in [Isolation::Instance, Isolation::Record] {
        let template = template_with(&pool, &guest, isolated(isolation));
        let verdicts = pool
            .shelves()
            .call(&template, &records(&["a"]), in_ms(10_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["keep"]);
    }
}

/// One instruction over nearly all that can be addressed.
#[test]
fn bulk_instructions_over_4_gib_are_stopped() {
    let grown = "(if (i32.eq (memory.grow (i32.const 65532)) (i32.const -1)) (then (return (i64.const 0))))";
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = Pool::new(PoolOptions {
            memory_layout: Some(layout),
            max_total_memory_bytes: 64 << 30,
            ..PoolOptions::default()
        })
        .unwrap();
        let mut shelves = pool.shelves();
        for (name, instruction) in [
            (
                "memory.fill of 4 GiB",
                "(memory.fill (i32.const 0) (i32.const 1) (i32.const -1))",
            ),
            (
                "memory.copy of 4 GiB upwards",
                "(memory.copy (i32.const 1) (i32.const 0) (i32.const -2))",
            ),
            (
                "memory.copy of 4 GiB downwards",
                "(memory.copy (i32.const 0) (i32.const 1) (i32.const -2))",
            ),
            (
                "memory.copy of 2 GiB",
                "(memory.copy (i32.const 0) (i32.const 0x80000000) (i32.const 0x7fffffff))",
            ),
        ] {
            for isolation in [Isolation::Instance, Isolation::Record] {
                let attack = Attack {
                    name: name.to_owned(),
                    fields: format!("(func $attack {grown} {instruction})"),
                    ends: FailureKind::Timeout,
                };
                let options = InstanceOptions {
                    memory_limit_bytes: 4 << 30,
                    isolation,
                    ..InstanceOptions::default()
                };
                let template = template_with(&pool, &attacked(&attack.fields), options);
                survives(&pool, &mut shelves, &template, &attack);
            }
        }
    }
}

/// Filling memory from a long segment again and again, without one loop.
#[test]
fn memory_init_in_a_row_is_stopped() {
    let row =
        "(memory.init $long (i32.const 300000) (i32.const 0) (i32.const 524289))".repeat(1_000);
    // 50 GiB in all: seconds, whatever the caches hold.
    let rows = "(call $row)".repeat(100);
    let fields = format!("{} (func $row {row}) (func $attack {rows})", segment());
    let poisoned = format!(
        "(if (i32.eq (i32.load8_u (local.get $value)) (i32.const 33)) (then (call $attack))) {ECHO}"
    );
    let guest = v1_with_pages(PAGES, &fields, &poisoned);
    let attack = Attack {
        name: "memory.init a hundred thousand times in a row".to_owned(),
        fields,
        ends: FailureKind::Timeout,
    };
    for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
        let pool = laid_out(layout);
        let template = template(&pool, &guest);
        survives(&pool, &mut pool.shelves(), &template, &attack);
    }
}
