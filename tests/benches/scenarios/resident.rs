//! Memory of a process that has nothing but what is measured: this program starts itself once more, and the child says what it takes.
//!
//! Each kind of child makes its things, uses each once, and prints the seconds that took, and the kibibytes that are resident now and were at most.
//! What an empty child takes is its own figure, so that others can be read as differences.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use etl_pool::{InstanceOptions, ModuleSource, Pool, PoolOptions, Shelves, Template};

use crate::engine::Engine;
use crate::{examples, floor, workload};

/// What a child makes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// Nothing.
    Empty,
    /// An engine with the seven example modules, each warm.
    Seven,
    /// The same, with modules that were compiled before.
    SevenCached,
    /// So many modules, no two alike, one instance of each.
    Modules,
    /// So many instances of one module.
    Instances,
}

/// What a child said.
#[derive(Debug)]
pub struct Found {
    /// What making took.
    pub seconds: f64,
    /// Resident afterwards.
    pub resident_kib: f64,
    /// Resident at most.
    pub most_kib: f64,
}

/// Starts a child and waits for what it says.
pub fn measure(kind: Kind, count: usize) -> Result<Found, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let name = kind
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default();
    let output = Command::new(program)
        .args(["--resident", &name, "--count", &count.to_string()])
        .output()
        .map_err(|error| format!("cannot start this program once more: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match figures[..] {
        [seconds, resident_kib, most_kib] if output.status.success() => Ok(Found {
            seconds,
            resident_kib,
            most_kib,
        }),
        _ => Err(format!(
            "the process that was to be measured said {text:?} and {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// What a child does.
pub fn child(kind: Kind, count: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let start = Instant::now();
    // Kept until the figures are read.
    let (mut engine, mut pool) = (None, None);
    match kind {
        Kind::Empty => {}
        Kind::Seven => engine = Some(seven("")?),
        Kind::SevenCached => {
            let cache = format!(
                "[instance_pool]\ncache_dir = \"{}\"\n",
                folder.path().join("cache").display()
            );
            fill_cache(&cache)?;
            engine = Some(seven(&cache)?);
        }
        Kind::Modules => pool = Some(modules(count)?),
        Kind::Instances => pool = Some(instances(count)?),
    }
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("the system does not tell what a process takes: {error}"))?;
    let field = |name: &str| -> Option<&str> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)
    };
    let (Some(resident), Some(most)) = (field("VmRSS"), field("VmHWM")) else {
        return Err("the system does not tell what a process takes".to_owned());
    };
    println!("{seconds} {resident} {most}");
    drop((engine.take(), pool.take()));
    Ok(())
}

/// An engine with the seven, each of which has seen a batch.
fn seven(pool: &str) -> Result<Engine, String> {
    let (pipelines, batches) = examples::all_seven();
    let mut engine = Engine::start(&format!("{pool}[engine]\nlanes = 1\n{pipelines}"))?;
    for batch in &batches {
        engine.outcomes(batch)?;
    }
    Ok(engine)
}

/// In yet another process, so that the compiler leaves nothing in this one.
fn fill_cache(configuration: &str) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = Command::new(program)
        .args(["--fill-cache", configuration])
        .status()
        .map_err(|error| format!("cannot start this program once more: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the cache could not be filled".to_owned())
    }
}

/// What the process that fills a cache does.
pub fn fill(configuration: &str) -> Result<(), String> {
    seven(configuration).map(drop)
}

/// A pool, what is on its shelves, and what it is called by.
type Filled = (Arc<Pool>, Shelves, Vec<Arc<Template>>);

fn empty_pool() -> Result<Arc<Pool>, String> {
    Pool::new(PoolOptions {
        max_pool_size: 60_000,
        max_total_memory_bytes: 1 << 40,
        unused_module_bytes: 1 << 30,
        ..PoolOptions::default()
    })
    .map_err(|error| error.to_string())
}

fn template(pool: &Arc<Pool>, bytes: &[u8]) -> Result<Arc<Template>, String> {
    let source = ModuleSource {
        id: workload::MODULE,
        bytes,
        expected_sha256: None,
    };
    pool.load(source)
        .and_then(|module| Template::new(module, InstanceOptions::default()))
        .map_err(|error| error.to_string())
}

fn modules(count: usize) -> Result<Filled, String> {
    let bytes = floor::module_bytes(workload::MODULE)?;
    let pool = empty_pool()?;
    let mut shelves = pool.shelves();
    let mut templates = Vec::new();
    for number in 0..count {
        // A section that no engine reads makes another module of it.
        let mut other = bytes.clone();
        let name = format!("copy {number}");
        other.push(0);
        other.push(name.len() as u8 + 1);
        other.push(name.len() as u8);
        other.extend_from_slice(name.as_bytes());
        let template = template(&pool, &other)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        shelves
            .warm(&template, 1, deadline)
            .map_err(|error| error.to_string())?;
        templates.push(template);
    }
    Ok((pool, shelves, templates))
}

fn instances(count: usize) -> Result<Filled, String> {
    let pool = empty_pool()?;
    let mut shelves = pool.shelves();
    let template = template(&pool, &floor::module_bytes(workload::MODULE)?)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let made = shelves
        .warm(&template, count, deadline)
        .map_err(|error| error.to_string())?;
    if made == count {
        Ok((pool, shelves, vec![template]))
    } else {
        Err(format!("{made} instances were made of {count}"))
    }
}
