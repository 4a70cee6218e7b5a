//! What the pool's promises cost: being stoppable, being clean for every record, being warm after a start, being many.
//!
//! The guests are small texts here. The floor of a kernel is the same module through wasmer alone, where nothing can stop it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_abi::NewRecord;
use etl_pool::{
    InstanceOptions, Isolation, MemoryLayout, ModuleSource, Pool, PoolOptions, Shelves, Template,
};
use etl_tests::bench::{Bench, Target};

use crate::floor::{self, Floor};

/// Kernels, each 4 to 70 µs of work: name, further fields, and what a call does.
pub const KERNELS: [(&str, &str, &str); 5] = [
    (
        "sum of bytes",
        "",
        "(loop $l (local.set $a (i32.add (local.get $a) (i32.load8_u (local.get $i)))) \
         (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 131072))))",
    ),
    (
        "hash of bytes",
        "",
        "(loop $l (local.set $a (i32.mul (i32.xor (local.get $a) (i32.load8_u (local.get $i))) (i32.const 16777619))) \
         (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 65536))))",
    ),
    (
        "copy by words",
        "",
        "(loop $l (i64.store offset=65536 (local.get $i) (i64.add (i64.load (local.get $i)) (i64.const 1))) \
         (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 65536))))",
    ),
    (
        "braces and strings of JSON",
        r#"(func $scan (param $i i32) (param $end i32) (result i32) (local $depth i32) (local $byte i32)
             (loop $l
               (block $next
                 (block $close (block $open (block $quote
                   (local.set $byte (i32.load8_u (local.get $i)))
                   (br_if $quote (i32.eq (local.get $byte) (i32.const 34)))
                   (br_if $open (i32.eq (i32.or (local.get $byte) (i32.const 32)) (i32.const 123)))
                   (br_if $close (i32.eq (i32.or (local.get $byte) (i32.const 32)) (i32.const 125)))
                   (br $next))
                  (loop $string
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if $string (i32.and (i32.ne (i32.load8_u (local.get $i)) (i32.const 34)) (i32.lt_u (local.get $i) (local.get $end)))))
                  (br $next))
                 (local.set $depth (i32.add (local.get $depth) (i32.const 1)))
                 (br $next))
                (local.set $depth (i32.sub (local.get $depth) (i32.const 1))))
               (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $end))))
             (local.get $depth))
           (data (i32.const 65536) "{\"device_id\":\"sensor-00001\",\"reading\":{\"celsius\":15.5,\"humidity\":30},\"tags\":[\"indoor\",\"calibrated\"]}")"#,
        "(loop $l (local.set $a (i32.add (local.get $a) (call $scan (i32.const 65536) (i32.const 65638)))) \
         (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 600))))",
    ),
    (
        "calls",
        "(func $fibonacci (param $n i32) (result i32) (if (i32.lt_u (local.get $n) (i32.const 2)) (then (return (local.get $n)))) \
         (i32.add (call $fibonacci (i32.sub (local.get $n) (i32.const 1))) (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))",
        "(local.set $a (call $fibonacci (i32.const 18)))",
    ),
];

/// A guest that works and keeps every record.
pub fn kernel(fields: &str, work: &str) -> Result<Vec<u8>, String> {
    let text = format!(
        r#"(module (memory (export "memory") 4) {fields} (global $sink (mut i32) (i32.const 0))
             (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 200000))
             (func (export "etl_process_v1") (param i32 i32) (result i64) (local $i i32) (local $a i32)
               {work} (global.set $sink (local.get $a)) (i64.const 0)))"#
    );
    wat::parse_str(text).map_err(|error| error.to_string())
}

/// A lane with one template.
pub struct Lane {
    pub shelves: Shelves,
    pub template: Arc<Template>,
}

pub const RECORD: NewRecord<'_> = NewRecord {
    topic: "sensors",
    partition: 0,
    offset: 0,
    key: None,
    value: b"{\"celsius\":15.5}",
    timestamp: None,
    headers: &[],
};

impl Lane {
    pub fn new(pool: &Arc<Pool>, bytes: &[u8], isolation: Isolation) -> Result<Self, String> {
        let source = ModuleSource {
            id: "kernel",
            bytes,
            expected_sha256: None,
        };
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let module = pool.load(source).map_err(|error| error.to_string())?;
        Ok(Self {
            shelves: pool.shelves(),
            template: Template::new(module, options).map_err(|error| error.to_string())?,
        })
    }

    fn call(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        black_box(
            self.shelves
                .call(&self.template, &[RECORD], deadline)
                .expect("the guest answers"),
        );
    }
}

fn pool(layout: MemoryLayout) -> Result<Arc<Pool>, String> {
    Pool::new(PoolOptions {
        max_pool_size: 60_000,
        max_total_memory_bytes: 64 << 30,
        memory_layout: Some(layout),
        ..PoolOptions::default()
    })
    .map_err(|error| error.to_string())
}

/// `interrupt_overhead`: kernels that can be stopped, against the same on wasmer alone; then with compact memories, which check every access.
pub fn interrupt_overhead(bench: &mut Bench) -> Result<(), String> {
    for (layout, suffix, most) in [
        (MemoryLayout::Reserved, "", Some(1.05)),
        (MemoryLayout::Compact, ", compact", None),
    ] {
        let pool = pool(layout)?;
        let (mut lanes, mut floors) = (Vec::new(), Vec::new());
        for (name, fields, work) in KERNELS {
            let bytes = kernel(fields, work)?;
            let mut lane = Lane::new(&pool, &bytes, Isolation::Instance)?;
            let mut floor = Floor::of(&bytes)?;
            bench.against_floor(
                &format!("{name}{suffix}"),
                1,
                Target::default(),
                || lane.call(),
                || floor.call(&[0; 100]),
            );
            lanes.push(lane);
            floors.push(floor);
        }
        let target = Target {
            ratio: most,
            ..Target::default()
        };
        bench.against_floor(
            &format!("all of them in turn{suffix}"),
            1,
            target,
            || lanes.iter_mut().for_each(Lane::call),
            || floors.iter_mut().for_each(|floor| floor.call(&[0; 100])),
        );
    }
    Ok(())
}

/// Writes to three pages; the host's frame is on the fourth.
pub const FOUR_PAGES: &str = "(i32.store (i32.const 8) (i32.const 1)) (i32.store (i32.const 8200) (i32.const 1)) (i32.store (i32.const 131072) (i32.const 1))";

/// `isolation_record`: a guest that writes to four pages is put back after every record; beside it one that is not.
pub fn isolation_record(bench: &mut Bench) -> Result<(), String> {
    let bytes = kernel("", FOUR_PAGES)?;
    let pool = pool(MemoryLayout::Reserved)?;
    let mut cleaned = Lane::new(&pool, &bytes, Isolation::Record)?;
    let mut kept = Lane::new(&pool, &bytes, Isolation::Instance)?;
    // The promise is 2 µs more than `instance`; this asks for the whole call.
    let target = Target {
        ns_per_record: Some(2_000.0),
        ..Target::default()
    };
    bench.beside(
        "instance",
        "record, four pages written",
        target,
        || cleaned.call(),
        || kept.call(),
    );
    Ok(())
}

/// `warm_start`: a pool, seven modules out of the cache, and a first instance of each.
pub fn warm_start(bench: &mut Bench) -> Result<(), String> {
    const MODULES: [&str; 7] = [
        "content-analyzer",
        "geolocation-enricher",
        "message-formatter",
        "message-validator",
        "pressure-normalizer",
        "sensor-data-validator",
        "temperature-converter",
    ];
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let modules = MODULES
        .map(|id| floor::module_bytes(id).map(|bytes| (id, bytes)))
        .into_iter()
        .collect::<Result<Vec<_>, String>>()?;
    let start = || -> Result<(), String> {
        let pool = Pool::new(PoolOptions {
            cache_dir: Some(folder.path().join("cache")),
            ..PoolOptions::default()
        })
        .map_err(|error| error.to_string())?;
        let mut shelves = pool.shelves();
        for (id, bytes) in &modules {
            let source = ModuleSource {
                id,
                bytes,
                expected_sha256: None,
            };
            let template = pool
                .load(source)
                .and_then(|module| Template::new(module, InstanceOptions::default()))
                .map_err(|error| error.to_string())?;
            let deadline = Instant::now() + Duration::from_secs(5);
            // A module may refuse to be without a configuration; it has been loaded, instantiated and asked then.
            drop(shelves.warm(&template, 1, deadline));
        }
        Ok(())
    };
    start()?;
    let target = Target {
        ns_per_record: Some(50e6),
        ..Target::default()
    };
    bench.alone("seven modules", 1, target, || {
        start().expect("what was loaded once is loaded again");
    });
    Ok(())
}

/// `instances_50k`: so many instances alive, what they take, and a call beside a call where there is one.
pub fn instances_50k(bench: &mut Bench) -> Result<(), String> {
    const COUNT: usize = 50_000;
    let bytes = kernel("", "")?;
    let pool = pool(MemoryLayout::Compact)?;
    let mut many = Lane::new(&pool, &bytes, Isolation::Instance)?;
    let before = taken();
    let start = Instant::now();
    let made = many
        .shelves
        .warm(&many.template, COUNT, start + Duration::from_secs(120))
        .map_err(|error| error.to_string())?;
    let time = start.elapsed();
    let after = taken();
    println!(
        "{made} instances of 256 KiB alive: made in {:.2} s, {:.0} MiB resident, {:.1} GiB of address space, {} mappings",
        time.as_secs_f64(),
        (after[0] - before[0]) / 1024.0,
        (after[1] - before[1]) / 1024.0 / 1024.0,
        after[2] - before[2],
    );
    let mut one = Lane::new(&pool, &bytes, Isolation::Instance)?;
    bench.beside(
        "one",
        "a call among them",
        Target {
            ratio: Some(1.5),
            ..Target::default()
        },
        || many.call(),
        || one.call(),
    );
    Ok(())
}

/// Kibibytes resident, kibibytes of address space, mappings; zeros where the system does not tell.
fn taken() -> [f64; 3] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0.0)
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    [field("VmRSS"), field("VmSize"), maps.lines().count() as f64]
}
