//! Long runs: what is done very often must leave nothing behind. Memory, address space, mappings and open files stay where they are.
//!
//! In the ordinary tests the counts are small; `ETL_POOL_SOAK=1000` multiplies them to ten million calls, a hundred thousand traps, ten
//! million records through each guest that never frees and ten thousand replacements. The figures are those of the process, so the tests take turns.

#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use common::{
    ECHO, alone, count, in_ms, leaking, legacy, mappings, on_poison, open_files, pool, record,
    records, status, template, template_with, v1, words,
};
use etl_abi::Verdict;
use etl_pool::{InstanceOptions, Isolation, MemoryLayout, Pool, PoolOptions, Template};

static TURN: Mutex<()> = Mutex::new(());

fn times(ordinary: usize) -> usize {
    ordinary * count("ETL_POOL_SOAK", 1)
}

/// What the process has, once it is warm.
struct Before {
    resident: u64,
    address_space: u64,
    mappings: usize,
    files: usize,
}

impl Before {
    fn now() -> Self {
        Self {
            resident: status("VmRSS"),
            address_space: status("VmSize"),
            mappings: mappings(),
            files: open_files(),
        }
    }

    /// Allocators keep a little here and there; what is lost every time adds up to more.
    fn stays(&self, what: &str) {
        let after = Self::now();
        let resident = after.resident.saturating_sub(self.resident);
        let address_space = after.address_space.saturating_sub(self.address_space);
        let mapped = after.mappings.saturating_sub(self.mappings);
        println!(
            "{what}: {resident} KiB resident, {address_space} KiB of address space, {mapped} mappings more"
        );
        assert!(resident < 16 << 10, "{what}: {resident} KiB more resident");
        assert!(
            address_space < 128 << 10,
            "{what}: {address_space} KiB more of address space"
        );
        assert!(mapped < 64, "{what}: {mapped} mappings more");
        assert_eq!(after.files, self.files, "{what}: open files");
    }
}

#[test]
fn calls_leave_nothing_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for isolation in [Isolation::Instance, Isolation::Batch] {
        let pool = pool();
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &v1("", ECHO), options);
        let mut shelves = pool.shelves();
        let batch: Vec<_> = (0..16).map(|_| record(b"some value")).collect();
        let mut call = |times: usize| {
            for _ in 0..times {
                let verdicts = shelves.call(&template, &batch, in_ms(5_000)).unwrap();
                assert!(matches!(
                    verdicts.get(15),
                    Ok(Verdict::SetValue(b"some value"))
                ));
            }
        };
        call(1_000);
        let before = Before::now();
        call(times(5_000));
        before.stays(&format!("{} calls, {isolation:?}", times(5_000)));
        assert_eq!(template.stats().created, 1);
    }
}

#[test]
fn traps_leave_nothing_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for isolation in [Isolation::Instance, Isolation::Record] {
        let pool = pool();
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &on_poison("", "unreachable"), options);
        let mut shelves = pool.shelves();
        let mut trap = |times: usize| {
            for _ in 0..times {
                let verdicts = shelves
                    .call(&template, &records(&["!"]), in_ms(5_000))
                    .unwrap();
                assert_eq!(words(&verdicts), ["Trap"]);
            }
        };
        trap(500);
        let before = Before::now();
        let count = times(50).max(2_000);
        trap(count);
        before.stays(&format!("{count} traps, {isolation:?}"));
        let stats = template.stats();
        assert_eq!(stats.created, stats.destroyed);
    }
}

#[test]
fn guests_that_never_free_leave_nothing_behind() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool();
    let mut shelves = pool.shelves();
    // With how many records each is full at the latest: 64 KiB of them, and what the limit leaves beyond four pages.
    for (name, guest, most) in [("legacy", legacy(), 600), ("v1", leaking(), 5_000)] {
        let options = InstanceOptions {
            memory_limit_bytes: 512 << 10,
            ..InstanceOptions::default()
        };
        let template = template_with(&pool, &guest, options);
        let mut serve = |from: usize, to: usize| {
            for index in from..to {
                let value =
                    format!("record {index}, which is a little longer than the number alone");
                let verdicts = shelves
                    .call(&template, &[record(value.as_bytes())], in_ms(5_000))
                    .unwrap();
                match verdicts.get(0) {
                    Ok(Verdict::SetValue(output)) => assert_eq!(output, value.as_bytes()),
                    other => panic!("{name}, {index}: {other:?}"),
                }
            }
        };
        serve(0, 10_000);
        let before = Before::now();
        let count = times(10_000).max(20_000);
        serve(10_000, 10_000 + count);
        before.stays(&format!(
            "{count} records through a {name} guest that never frees"
        ));
        let stats = template.stats();
        assert!(
            stats.created > count as u64 / most,
            "it wears out: {stats:?}"
        );
        assert!(stats.hit_ratio() > 0.99, "{stats:?}");
    }
}

/// A guest that answers the number of its version to every record.
fn version(number: usize) -> Vec<u8> {
    v1(
        &format!(r#"(data (i32.const 200000) "{number:08}")"#),
        "(local.set $copy (local.get $end)) \
         (memory.copy (local.get $end) (i32.const 200000) (i32.const 8)) (local.set $end (i32.add (local.get $end) (i32.const 8))) \
         (local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (i32.const 8))",
    )
}

/// The module is replaced again and again while two lanes call it: every batch is answered by one version, the one it asked for.
#[test]
fn replacements_leave_nothing_behind_and_never_mix() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !alone("replacements_leave_nothing_behind_and_never_mix") {
        return;
    }
    let pool = Pool::new(PoolOptions {
        unused_module_bytes: 256 << 10,
        // An instance more or less in the moment of looking is no matter of 8 GiB then.
        memory_layout: Some(MemoryLayout::Compact),
        ..PoolOptions::default()
    })
    .unwrap();
    let make =
        |number: usize| -> (usize, Arc<Template>) { (number, template(&pool, &version(number))) };
    let current = Mutex::new(make(0));
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let replace = |from: usize, to: usize| {
        for number in from..to {
            let next = make(number);
            *current.lock().unwrap() = next;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut shelves = pool.shelves();
                let batch: Vec<_> = (0..5).map(|_| record(b"x")).collect();
                while !done.load(Ordering::Relaxed) {
                    let (number, template) = current.lock().unwrap().clone();
                    let verdicts = shelves.call(&template, &batch, in_ms(20_000)).unwrap();
                    let expected = format!("={number:08}");
                    assert!(
                        words(&verdicts).iter().all(|word| *word == expected),
                        "{:?}, not {expected}",
                        words(&verdicts)
                    );
                    calls.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            });
        }
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&done);
        let first = 200;
        replace(1, first);
        let before = Before::now();
        let count = times(10).max(200);
        replace(first, first + count);
        before.stays(&format!("{count} replacements"));
        drop(end);
    });
    assert!(calls.load(Ordering::Relaxed) > 100);
    assert_eq!(pool.instances(), 0);
}

/// More modules than instances fit: what a call finds warm depends on how often it is wanted. The load asks for one of forty modules by a
/// power law, as topics do. No choice of what to keep can find more than those that are wanted most.
#[test]
fn what_is_wanted_most_is_warm() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    const MODULES: usize = 40;
    let weights: Vec<f64> = (1..=MODULES).map(|rank| (rank as f64).powf(-1.5)).collect();
    let total: f64 = weights.iter().sum();
    for (room, least) in [(10, 0.75), (20, 0.90), (30, 0.94)] {
        let pool = Pool::new(PoolOptions {
            max_pool_size: room,
            ..PoolOptions::default()
        })
        .unwrap();
        let templates: Vec<_> = (0..MODULES)
            .map(|index| {
                let options = InstanceOptions {
                    custom_config: index.to_string().into_bytes().into(),
                    ..InstanceOptions::default()
                };
                template_with(&pool, &v1("", ECHO), options)
            })
            .collect();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut shelves = pool.shelves();
        for _ in 0..times(20).max(20_000) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut point = (random >> 11) as f64 / (1_u64 << 53) as f64 * total;
            let wanted = weights
                .iter()
                .position(|weight| {
                    point -= weight;
                    point < 0.0
                })
                .unwrap_or(0);
            shelves
                .call(&templates[wanted], &[record(b"x")], in_ms(5_000))
                .unwrap();
        }
        drop(shelves);
        let (mut crossings, mut misses) = (0, 0);
        for template in &templates {
            let stats = template.stats();
            crossings += stats.calls;
            misses += stats.misses;
        }
        let ratio = 1.0 - misses as f64 / crossings as f64;
        let best = weights[..room].iter().sum::<f64>() / total;
        println!(
            "{crossings} calls to {MODULES} modules, room for {room}: {:.1} % found a warm instance; {:.1} % at the best",
            ratio * 100.0,
            best * 100.0
        );
        assert!(ratio >= least, "{room}: {ratio}");
        let first = templates[0].stats();
        assert!(first.hit_ratio() > ratio, "the most wanted: {first:?}");
        let execution = templates[0].execution();
        let counted = execution.count() as f64 / first.calls as f64;
        assert!(
            (0.8..1.25).contains(&counted),
            "samples stand for all: {counted}"
        );
        assert!(execution.quantile(0.5) <= execution.quantile(0.99));
    }
}
