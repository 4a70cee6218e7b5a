//! What wasmi makes of a wrapped module: the same calls in the same order as the pool makes, with the same bounds on memory and tables.
//!
//! An interpreter has another stack and another idea of how much work an instruction is. Where it runs out of either, what the guest would have done is
//! not known.

use etl_abi::{NewRecord, request};
use wasmi::errors::ErrorKind;
use wasmi::{
    Caller, Config, Engine, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder,
    TrapCode, TypedFunc,
};

use crate::wrap::Wrapped;

/// Bytes of memory and elements of each table that an instance may have. The pool is given the same.
const MEMORY: usize = 16 << 16;
const TABLE: usize = 100_000;

/// Work after which an interpreter gives up: more than any module does that ends.
const FUEL: u64 = 50_000_000;

/// Calls inside calls after which it gives up: few enough for compiled code to have them on its stack.
const DEPTH: usize = 400;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The 16 bytes that the guest answers.
    Answer([u8; 16]),
    /// A trap, in the call or where the instance was made.
    Failure,
    /// The interpreter gave up.
    Unknown,
}

/// For every call of the plan, what comes of it on an instance that is kept as the pool keeps it, and on a fresh one.
pub fn outcomes(wrapped: &Wrapped, rounds: usize) -> Result<Vec<[Outcome; 2]>, String> {
    let mut config = Config::default();
    config
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .set_max_recursion_depth(DEPTH)
        .consume_fuel(true);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, &wrapped.bytes)
        .map_err(|error| format!("the interpreter refuses the module: {error}"))?;
    let mut kept = Kept::default();
    let calls = (0..rounds).flat_map(|_| 0..wrapped.functions);
    Ok(calls
        .map(|function| {
            let fresh = Guest::new(&engine, &module).map(|mut guest| guest.call(function));
            [
                kept.call(&engine, &module, function),
                fresh.unwrap_or_else(|outcome| outcome),
            ]
        })
        .collect())
}

/// An instance that serves call after call, as a lane of the pool keeps it.
#[derive(Default)]
struct Kept {
    guest: Option<Guest>,
    /// Once it is not known what a call did, it is not known what the next one meets.
    lost: bool,
}

impl Kept {
    fn call(&mut self, engine: &Engine, module: &Module, function: u8) -> Outcome {
        if self.lost {
            return Outcome::Unknown;
        }
        let had_served = self.guest.is_some();
        let mut outcome = self.attempt(engine, module, function);
        if outcome == Outcome::Failure && had_served {
            // The wear of the instance may have been the cause: once more on a fresh one.
            outcome = self.attempt(engine, module, function);
        }
        self.lost = outcome == Outcome::Unknown;
        outcome
    }

    fn attempt(&mut self, engine: &Engine, module: &Module, function: u8) -> Outcome {
        let guest = match self.guest.take() {
            Some(guest) => Ok(guest),
            None => Guest::new(engine, module),
        };
        match guest {
            Ok(mut guest) => {
                let outcome = guest.call(function);
                if matches!(outcome, Outcome::Answer(_)) {
                    self.guest = Some(guest);
                }
                outcome
            }
            Err(outcome) => outcome,
        }
    }
}

struct Guest {
    store: Store<StoreLimits>,
    memory: Memory,
    allocate: TypedFunc<i32, i32>,
    process: TypedFunc<(i32, i32), i64>,
}

fn outcome_of(error: &wasmi::Error) -> Outcome {
    match error.as_trap_code() {
        Some(TrapCode::OutOfFuel | TrapCode::StackOverflow) => Outcome::Unknown,
        Some(_) => Outcome::Failure,
        // A segment that does not fit, where the instance is made.
        None if matches!(error.kind(), ErrorKind::Instantiation(_)) => Outcome::Failure,
        None => Outcome::Unknown,
    }
}

impl Guest {
    fn new(engine: &Engine, module: &Module) -> Result<Self, Outcome> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(MEMORY)
            .table_elements(TABLE)
            .build();
        let mut store = Store::new(engine, limits);
        store.limiter(|limits| limits);
        store.set_fuel(FUEL).map_err(|error| outcome_of(&error))?;
        let linker = imports(engine).map_err(|error| outcome_of(&error))?;
        let instance = linker
            .instantiate_and_start(&mut store, module)
            .map_err(|error| outcome_of(&error))?;
        let memory = instance.get_memory(&store, "memory");
        Ok(Self {
            memory: memory.ok_or(Outcome::Unknown)?,
            allocate: instance
                .get_typed_func(&store, etl_abi::names::ALLOC)
                .map_err(|error| outcome_of(&error))?,
            process: instance
                .get_typed_func(&store, etl_abi::names::PROCESS)
                .map_err(|error| outcome_of(&error))?,
            store,
        })
    }

    fn call(&mut self, function: u8) -> Outcome {
        self.try_call(function)
            .unwrap_or_else(|error| outcome_of(&error))
    }

    /// As the pool calls: room, the frame, the call, the answer.
    fn try_call(&mut self, function: u8) -> Result<Outcome, wasmi::Error> {
        self.store.set_fuel(FUEL)?;
        let value = [function];
        let record = NewRecord {
            topic: "topic",
            value: &value,
            ..NewRecord::default()
        };
        let mut frame = [0; 256];
        let length = match request::encode(&[record], &mut frame) {
            Ok(length) => length,
            Err(_) => return Ok(Outcome::Unknown),
        };
        let pointer = self.allocate.call(&mut self.store, length as i32)?;
        self.memory
            .write(&mut self.store, pointer as usize, &frame[..length])?;
        let packed = self
            .process
            .call(&mut self.store, (pointer, length as i32))?;
        let (reply, _) = etl_abi::unpack(packed.cast_unsigned());
        let mut answer = [0; 16];
        self.memory
            .read(&self.store, reply as usize + 32, &mut answer)?;
        Ok(Outcome::Answer(answer))
    }
}

/// What `generate` lets modules import: nothing that they could tell from the pool's.
fn imports(engine: &Engine) -> Result<Linker<StoreLimits>, wasmi::Error> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("etl", "log", |_: Caller<'_, _>, _: i32, _: i32, _: i32| {})?;
    linker.func_wrap(
        "etl",
        "counter",
        |_: Caller<'_, _>, _: i32, _: i32, _: i64| {},
    )?;
    linker.func_wrap("wasi_snapshot_preview1", "sched_yield", || 0_i32)?;
    Ok(linker)
}
