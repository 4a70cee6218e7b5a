//! Small guests, as text, and what every test of them needs.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_abi::NewRecord;
use etl_pool::{
    CallError, InstanceOptions, MemoryLayout, ModuleSource, Pool, PoolError, PoolOptions, Template,
    Verdicts,
};

/// Compiles text to a module's bytes.
pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A v1 guest: `extra` are its fields, `each` runs for every record with `$value`, `$length` and `$index` set. It may set `$kind`
/// (0 keep, 1 drop, 3 set value), `$at` and `$size` (offset in the reply frame and length).
///
/// Request frames arrive at 64 KiB, replies are built at 0. The value of every record is copied behind the reply's table, at `$copy`.
pub fn v1(extra: &str, each: &str) -> Vec<u8> {
    v1_with_pages(4, extra, each)
}

/// A v1 guest that never frees: every record takes some room of its own, and the memory grows until it may not.
pub fn leaking() -> Vec<u8> {
    v1(
        "(global $next (mut i32) (i32.const 262144))
         (func $leak (param $length i32)
           (global.set $next (i32.add (global.get $next) (local.get $length)))
           (if (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))) (then (return)))
           (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)))",
        &format!("(call $leak (local.get $length)) {ECHO}"),
    )
}

/// The same as [`v1`] with so many pages of memory, at least three.
pub fn v1_with_pages(pages: u32, extra: &str, each: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module
  {extra}
  (memory (export "memory") {pages})
  (func (export "etl_alloc_v1") (param $length i32) (result i32)
    (if (i32.gt_u (local.get $length) (i32.const 131072)) (then unreachable))
    i32.const 65536)
  (func (export "etl_process_v1") (param $ptr i32) (param $len i32) (result i64)
    (local $count i32) (local $index i32) (local $entry i32) (local $value i32) (local $length i32)
    (local $end i32) (local $copy i32) (local $kind i32) (local $at i32) (local $size i32)
    (local.set $count (i32.load offset=8 (local.get $ptr)))
    (i32.store (i32.const 0) (i32.const 0x524c5445))
    (i32.store (i32.const 4) (i32.const 1))
    (i32.store (i32.const 8) (local.get $count))
    (local.set $end (i32.add (i32.const 16) (i32.shl (local.get $count) (i32.const 4))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $count)))
        (local.set $entry (i32.add (local.get $ptr) (i32.add (i32.const 16) (i32.mul (local.get $index) (i32.const 56)))))
        (local.set $value (i32.add (local.get $ptr) (i32.load offset=40 (local.get $entry))))
        (local.set $length (i32.load offset=44 (local.get $entry)))
        (local.set $copy (local.get $end))
        (memory.copy (local.get $copy) (local.get $value) (local.get $length))
        (local.set $end (i32.add (local.get $end) (local.get $length)))
        (local.set $kind (i32.const 0)) (local.set $at (i32.const 0)) (local.set $size (i32.const 0))
        {each}
        (local.set $entry (i32.add (i32.const 16) (i32.shl (local.get $index) (i32.const 4))))
        (i32.store (local.get $entry) (local.get $kind))
        (i32.store offset=4 (local.get $entry) (i32.const 0))
        (i32.store offset=8 (local.get $entry) (local.get $at))
        (i32.store offset=12 (local.get $entry) (local.get $size))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (i32.store (i32.const 12) (local.get $end))
    (i64.extend_i32_u (local.get $end))))"#
    ))
}

/// Answers each record's value as it is.
pub const ECHO: &str = "(local.set $kind (i32.const 3)) (local.set $at (local.get $copy)) (local.set $size (local.get $length))";

/// Runs `then` for a record whose value starts with `!`, echoes the others.
pub fn on_poison(extra: &str, then: &str) -> Vec<u8> {
    v1(
        extra,
        &format!(
            "(if (i32.eq (i32.load8_u (local.get $value)) (i32.const 33)) (then {then})) {ECHO}"
        ),
    )
}

/// A v1 guest that calls `$attack` of these fields for a record whose value starts with `!`, and echoes the others.
pub fn attacked(fields: &str) -> Vec<u8> {
    on_poison(fields, "(call $attack)")
}

/// The same by way of the legacy ABI.
pub fn legacy_attacked(fields: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module
  {fields}
  (memory (export "memory") 4)
  (func (export "allocate") (param i32) (result i32) (i32.const 65540))
  (func (export "transform") (param $ptr i32) (param $length i32) (result i32)
    (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 33)) (then (call $attack)))
    (i32.store (i32.const 65536) (local.get $length))
    (i32.const 65536)))"#
    ))
}

/// A legacy guest that never frees: a bump allocator over 64 KiB, and a copy of the value as output.
pub fn legacy() -> Vec<u8> {
    wasm(
        r#"(module
  (memory (export "memory") 1 1)
  (global $next (mut i32) (i32.const 8))
  (func $allocate (export "allocate") (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get $length)))
    (if (i32.gt_u (global.get $next) (i32.const 65536)) (then unreachable))
    (local.get $at))
  (func (export "transform") (param $ptr i32) (param $length i32) (result i32)
    (local $out i32)
    (if (i32.and (i32.gt_u (local.get $length) (i32.const 0)) (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 33)))
      (then (return (i32.const -7))))
    (local.set $out (call $allocate (i32.add (local.get $length) (i32.const 4))))
    (i32.store (local.get $out) (local.get $length))
    (memory.copy (i32.add (local.get $out) (i32.const 4)) (local.get $ptr) (local.get $length))
    (local.get $out)))"#,
    )
}

pub fn pool() -> Arc<Pool> {
    Pool::new(PoolOptions::default()).expect("the default options are valid")
}

pub fn laid_out(layout: MemoryLayout) -> Arc<Pool> {
    let options = PoolOptions {
        memory_layout: Some(layout),
        ..PoolOptions::default()
    };
    Pool::new(options).expect("the options are valid")
}

/// Set in a process that was started for one test.
const ALONE: &str = "ETL_POOL_TEST_ALONE";

/// Whether this process is for this test alone. If not, starts one that is, and sees that it succeeds there.
pub fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("this program has a path");
    let status = std::process::Command::new(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        // Threads that meet by chance would get arenas of their own, of 64 MiB of address space each.
        .env("MALLOC_ARENA_MAX", "1")
        .status()
        .expect("it starts a second time");
    assert!(status.success(), "{test}, in a process of its own");
    false
}

/// A figure of this process, in kibibytes: `VmRSS`, `VmSize`.
pub fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .expect("a known field");
    line.split_whitespace()
        .nth(1)
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

/// Mappings that this process has.
pub fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    maps.lines().count()
}

/// Files that this process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// How often a test repeats what it looks at: the default, or what the environment asks for.
pub fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

pub fn load(pool: &Arc<Pool>, bytes: &[u8]) -> Result<Arc<etl_pool::Module>, PoolError> {
    pool.load(ModuleSource {
        id: "guest",
        bytes,
        expected_sha256: None,
    })
}

pub fn template(pool: &Arc<Pool>, bytes: &[u8]) -> Arc<Template> {
    template_with(pool, bytes, InstanceOptions::default())
}

pub fn template_with(pool: &Arc<Pool>, bytes: &[u8], options: InstanceOptions) -> Arc<Template> {
    Template::new(load(pool, bytes).expect("the module is valid"), options)
        .expect("the options are valid")
}

pub fn in_ms(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

pub fn record(value: &[u8]) -> NewRecord<'_> {
    NewRecord {
        topic: "topic",
        value,
        ..NewRecord::default()
    }
}

pub fn records<'a>(values: &[&'a str]) -> Vec<NewRecord<'a>> {
    values
        .iter()
        .map(|value| record(value.as_bytes()))
        .collect()
}

/// What happened to each record, in a word: `keep`, `drop`, `fail`, `=value`, or the kind of the error.
pub fn words(verdicts: &Verdicts) -> Vec<String> {
    (0..verdicts.len())
        .map(|index| word(verdicts.get(index)))
        .collect()
}

fn word(verdict: Result<etl_abi::Verdict<'_>, &CallError>) -> String {
    match verdict {
        Ok(etl_abi::Verdict::Keep) => "keep".to_owned(),
        Ok(etl_abi::Verdict::Drop) => "drop".to_owned(),
        Ok(etl_abi::Verdict::Fail(failure)) => format!("fail {}", failure.message),
        Ok(etl_abi::Verdict::SetValue(value)) => format!("={}", String::from_utf8_lossy(value)),
        Ok(etl_abi::Verdict::Change(_)) => "change".to_owned(),
        Err(error) => error.kind().to_string(),
    }
}
