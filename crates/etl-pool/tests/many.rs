//! Many instances in one process, and what each takes: address space, mappings, memory.
//!
//! The figures are those of the whole process, so what measures them has a process to itself, in which nothing else comes or goes.

#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::sync::Arc;

use common::{
    ECHO, alone, in_ms, laid_out, mappings, on_poison, record, records, status, template,
    template_with, v1, wasm, words,
};
use etl_pool::{
    FailureKind, InstanceOptions, Isolation, MemoryLayout, Pool, PoolOptions, Template,
};

/// A guest of one page that keeps every record.
fn small() -> Vec<u8> {
    wasm(
        r#"(module (memory (export "memory") 1)
             (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
             (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#,
    )
}

fn large_pool(layout: MemoryLayout) -> Arc<Pool> {
    Pool::new(PoolOptions {
        max_pool_size: 60_000,
        max_total_memory_bytes: 64 << 30,
        memory_layout: Some(layout),
        ..PoolOptions::default()
    })
    .expect("the options are valid")
}

#[test]
fn compact_instances_take_little_of_everything() {
    if !alone("compact_instances_take_little_of_everything") {
        return;
    }
    const COUNT: usize = 2_000;
    for (isolation, kibibytes) in [(Isolation::Instance, 128), (Isolation::Record, 1_200)] {
        let pool = large_pool(MemoryLayout::Compact);
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &small(), options);
        let mut shelves = pool.shelves();
        shelves.warm(&template, 10, in_ms(10_000)).unwrap();
        let before = (status("VmSize"), mappings(), status("VmRSS"));
        let made = shelves.warm(&template, 10 + COUNT, in_ms(60_000)).unwrap();
        assert_eq!(made, 10 + COUNT);
        let address_space = (status("VmSize") - before.0) / COUNT as u64;
        let resident = status("VmRSS").saturating_sub(before.2) / COUNT as u64;
        let mapped = mappings().saturating_sub(before.1);
        println!(
            "{isolation:?}: {address_space} KiB of address space and {resident} KiB resident each, {mapped} mappings more"
        );
        assert!(
            address_space <= kibibytes,
            "{isolation:?}: {address_space} KiB each"
        );
        assert!(resident <= 64, "{isolation:?}: {resident} KiB each");
        assert!(mapped <= COUNT / 10, "{isolation:?}: {mapped} mappings");
        let verdicts = shelves
            .call(&template, &[record(b"a")], in_ms(5_000))
            .unwrap();
        assert_eq!(words(&verdicts), ["keep"]);
        drop(shelves);
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
        let left = status("VmSize").saturating_sub(before.0);
        assert!(left < 64 << 10, "{isolation:?}: {left} KiB left behind");
    }
}

#[test]
fn a_pool_for_many_is_compact_by_itself() {
    if !alone("a_pool_for_many_is_compact_by_itself") {
        return;
    }
    let each = |max_pool_size| {
        let pool = Pool::new(PoolOptions {
            max_pool_size,
            ..PoolOptions::default()
        })
        .unwrap();
        let template = template(&pool, &small());
        let mut shelves = pool.shelves();
        let before = status("VmSize");
        shelves.warm(&template, 20, in_ms(10_000)).unwrap();
        (status("VmSize") - before) / 20
    };
    assert!(each(50_000) < 1 << 10);
    assert!(each(100) > 8 << 20, "memories are reserved, and fast");
}

/// A guest that grows in the middle of its work finds everything where it was.
#[test]
fn a_compact_memory_moves_unseen() {
    let pool = laid_out(MemoryLayout::Compact);
    for isolation in [Isolation::Instance, Isolation::Record] {
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let guest = v1(
            "",
            &format!(
                "(drop (memory.grow (i32.const 1))) (i32.store8 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)) (i32.const 7)) {ECHO}"
            ),
        );
        let template = template_with(&pool, &guest, options);
        let mut shelves = pool.shelves();
        for _ in 0..40 {
            let verdicts = shelves
                .call(&template, &records(&["one", "two"]), in_ms(5_000))
                .unwrap();
            assert_eq!(words(&verdicts), ["=one", "=two"]);
        }
    }
}

/// More than fit are asked for: what fits is made, and the error comes in time.
#[test]
fn what_is_made_ready_does_not_displace_itself() {
    for (max_pool_size, most) in [(3, None), (100, Some(3))] {
        let pool = Pool::new(PoolOptions {
            max_pool_size,
            ..PoolOptions::default()
        })
        .unwrap();
        let options = InstanceOptions {
            max_concurrent_instances: most,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &small(), options);
        let mut shelves = pool.shelves();
        let error = shelves.warm(&template, 5, in_ms(50)).unwrap_err();
        assert_eq!(error.kind(), FailureKind::PoolExhausted);
        assert_eq!((shelves.idle(), template.stats().created), (3, 3));
    }
}

/// A thousand instances that take all that they can get: in their memories, in tables, in what is kept to put them back. The budget of all
/// instances together is what they cost.
#[test]
fn a_thousand_bombs_at_once_cost_what_they_may() {
    if !alone("a_thousand_bombs_at_once_cost_what_they_may") {
        return;
    }
    const BOMBS: u64 = 1_000;
    const LIMIT: u64 = 512 << 10;
    let grow_tables = "(loop $t (br_if $t (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))";
    let grow = "(loop $l (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then \
                (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 65536)) (i32.const 7) (i32.const 65536)) (br $l))))";
    let fixed_tables = "(table 2000 2000 funcref) ".repeat(4);
    let functions = "(func) ".repeat(2_000);
    let fill =
        "(func $fill (memory.fill (i32.const 0) (i32.const 7) (i32.const 262144))) (start $fill)";
    for (name, extra, then, isolation, memory) in [
        // What is kept to go back to is as large as the memory that it is of, and has two pages of notes.
        (
            "memory that is put back",
            fill,
            String::new(),
            Isolation::Record,
            (512 + 8) << 10,
        ),
        ("memory", "", grow.to_owned(), Isolation::Instance, LIMIT),
        (
            "tables that grow, and memory",
            "(table $t 0 funcref)",
            format!("{grow_tables} {grow}"),
            Isolation::Instance,
            LIMIT,
        ),
        (
            "tables that cannot grow, and functions",
            &format!("{fixed_tables} {functions}"),
            grow.to_owned(),
            Isolation::Instance,
            LIMIT,
        ),
    ] {
        let guest = on_poison(extra, &then);
        let host = etl_pool::inspect(&guest).facts.host_bytes;
        for layout in [MemoryLayout::Reserved, MemoryLayout::Compact] {
            let budget = BOMBS * (memory + host);
            let pool = Pool::new(PoolOptions {
                max_pool_size: BOMBS as usize,
                max_total_memory_bytes: budget,
                memory_layout: Some(layout),
                ..PoolOptions::default()
            })
            .unwrap();
            // Compiled before anything is measured.
            let options = InstanceOptions {
                isolation,
                ..InstanceOptions::default()
            };
            drop(template_with(&pool, &guest, options));
            let before = status("VmRSS");
            let mut lanes = Vec::new();
            let mut templates: Vec<Arc<Template>> = Vec::new();
            for index in 0..BOMBS {
                // A configuration of its own makes it a template, and so an instance, of its own, which stays alive.
                let options = InstanceOptions {
                    memory_limit_bytes: LIMIT,
                    custom_config: index.to_string().into_bytes().into(),
                    isolation,
                    ..InstanceOptions::default()
                };
                templates.push(template_with(&pool, &guest, options));
                if index % 250 == 0 {
                    lanes.push(pool.shelves());
                }
                let lane = lanes.last_mut().unwrap();
                let verdicts = lane
                    .call(&templates[index as usize], &records(&["!"]), in_ms(10_000))
                    .unwrap();
                assert_eq!(words(&verdicts), ["=!"], "{name} {index}");
            }
            assert_eq!(pool.instances(), BOMBS as usize, "{name}, {layout:?}");
            assert_eq!(pool.memory_bytes(), budget, "{name}, {layout:?}");
            let resident = (status("VmRSS") - before) << 10;
            println!("{name}, {layout:?}: {resident} bytes resident of {budget}");
            assert!(
                resident <= budget * 105 / 100,
                "{name}, {layout:?}: {resident} bytes resident, {budget} allowed"
            );
        }
    }
}

/// One more than fits is refused for what it takes beside its memory too.
#[test]
fn tables_and_what_is_kept_count_as_memory() {
    let tables = "(table 100000 100000 funcref) ".repeat(16);
    let fill =
        "(func $fill (memory.fill (i32.const 0) (i32.const 7) (i32.const 262144))) (start $fill)";
    for (extra, isolation) in [
        (tables.as_str(), Isolation::Instance),
        (fill, Isolation::Record),
    ] {
        let pool = Pool::new(PoolOptions {
            max_total_memory_bytes: 400 << 10,
            ..PoolOptions::default()
        })
        .unwrap();
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &v1(extra, ECHO), options);
        let mut shelves = pool.shelves();
        shelves.never_wait();
        let error = shelves
            .call(&template, &records(&["a"]), in_ms(10_000))
            .unwrap_err();
        assert_eq!(error.kind(), FailureKind::PoolExhausted, "{error}");
        assert!(
            error.message().contains("memory of all instances"),
            "{error}"
        );
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
}

/// Marks the process that is started with little address space.
const SHORT: &str = "ETL_POOL_TEST_SHORT_OF_ADDRESS_SPACE";

#[test]
fn a_system_that_refuses_is_an_error_that_helps() {
    let test = std::env::current_exe().unwrap();
    // Kibibytes: room for three memories of 8 GiB and something beside them.
    let status = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 32000000 && exec \"$0\" --exact --nocapture short_of_address_space",
        ])
        .arg(test)
        .env(SHORT, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn short_of_address_space() {
    if std::env::var_os(SHORT).is_none() {
        return;
    }
    let pool = laid_out(MemoryLayout::Reserved);
    let template = template(&pool, &v1("", ECHO));
    let mut shelves = pool.shelves();
    let error = shelves.warm(&template, 10, in_ms(50)).unwrap_err();
    assert_eq!(error.kind(), FailureKind::PoolExhausted);
    assert!(error.is_retryable());
    for part in ["8 GiB", "max_pool_size", "ulimit -v", "vm.max_map_count"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!(
        pool.instances(),
        shelves.idle(),
        "what could not be made holds no place"
    );
    // What there is serves on.
    let verdicts = shelves
        .call(&template, &records(&["a"]), in_ms(1_000))
        .unwrap();
    assert_eq!(words(&verdicts), ["=a"]);
}
