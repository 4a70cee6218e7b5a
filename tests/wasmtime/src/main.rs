//! The other side of the benchmark scenario `wasmtime`: the same guests, called in the same way on another engine.
//!
//! Started with a module, a frame and what to do with them, it waits for lines on standard input. Each is a number of calls; they are made, and the line
//! is answered with an empty one. Whoever started it keeps the time.
//!
//! - `call`: one instance, as a lane keeps it: room for the frame, the frame, the call, the answer read out. Stoppable by epochs.
//! - `fresh`: the same, on a new instance for each call, out of a pooling allocator that maps memories back to their first state.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, Write};

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    PoolingAllocationConfig, Store, TypedFunc, Val,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Guest {
    store: Store<()>,
    memory: Memory,
    allocate: TypedFunc<u32, u32>,
    process: TypedFunc<(u32, u32), u64>,
    /// Where frames are written, and how long they may be: another one is asked for only where a frame is longer, as a lane does.
    room: (u32, usize),
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, module, frame, way] = &arguments[..] else {
        return Err("etl-wasmtime MODULE FRAME call|fresh".into());
    };
    let frame = std::fs::read(frame)?;
    let engine = engine(way == "fresh")?;
    let module = Module::new(&engine, std::fs::read(module)?)?;
    let ready = imports(&engine, &module)?.instantiate_pre(&module)?;
    let mut kept = Guest::new(&engine, &ready)?;
    let mut answer = Vec::new();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        for _ in 0..line?.parse::<u64>()? {
            if way == "fresh" {
                drop(kept);
                kept = Guest::new(&engine, &ready)?;
            }
            kept.call(&frame, &mut answer)?;
        }
        writeln!(output)?;
        output.flush()?;
    }
    Ok(())
}

fn engine(pooling: bool) -> Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    if pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(10)
            .total_memories(10)
            .total_tables(10)
            .max_memory_size(64 << 20)
            // What was written is copied back up to here, which costs less than a page fault.
            .linear_memory_keep_resident(64 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(Engine::new(&config)?)
}

/// What a module imports, which it can do without, does nothing.
fn imports(engine: &Engine, module: &Module) -> Result<Linker<()>> {
    let mut linker = Linker::new(engine);
    for import in module.imports() {
        let Some(ty) = import.ty().func().cloned() else {
            return Err(format!("imports {}", import.name()).into());
        };
        let wide: Vec<bool> = ty.results().map(|ty| ty.is_i64()).collect();
        linker.func_new(import.module(), import.name(), ty, move |_, _, results| {
            for (result, &wide) in results.iter_mut().zip(&wide) {
                *result = if wide { Val::I64(0) } else { Val::I32(0) };
            }
            Ok(())
        })?;
    }
    Ok(linker)
}

impl Guest {
    fn new(engine: &Engine, ready: &InstancePre<()>) -> Result<Self> {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        let instance = ready.instantiate(&mut store)?;
        Ok(Self {
            memory: instance
                .get_memory(&mut store, "memory")
                .ok_or("no memory")?,
            allocate: instance.get_typed_func(&mut store, "etl_alloc_v1")?,
            process: instance.get_typed_func(&mut store, "etl_process_v1")?,
            store,
            room: (0, 0),
        })
    }

    fn call(&mut self, frame: &[u8], answer: &mut Vec<u8>) -> Result<()> {
        let length = u32::try_from(frame.len())?;
        if frame.len() > self.room.1 {
            self.room = (
                self.allocate.call(&mut self.store, length)?,
                frame.len(),
            );
        }
        let pointer = self.room.0;
        self.memory
            .write(&mut self.store, pointer as usize, frame)?;
        let packed = self.process.call(&mut self.store, (pointer, length))?;
        let (pointer, length) = (packed >> 32, packed & u64::from(u32::MAX));
        answer.resize(length as usize, 0);
        self.memory.read(&self.store, pointer as usize, answer)?;
        Ok(())
    }
}
