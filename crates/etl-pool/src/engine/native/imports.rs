//! The host functions of `offer`, as the runtime wants them.
//!
//! One dispatcher serves them all: every pointer and length comes from the guest and is checked here, in one place.

use std::sync::Arc;

use etl_abi::LogLevel;
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Memory, MemoryView, RuntimeError,
    Store, Type, Value,
};
use wasmparser::ValType;

use super::compile::Code;
use super::failure::Stop;
use super::snapshot;
use crate::guest::{Guest, unix_time};
use crate::offer::{HostFunction, Offer, errno};
use crate::random::Random;

/// Bytes that the name of a counter may have.
const COUNTER_NAME: u32 = 128;

/// What the host functions of one instance work with.
pub(super) struct Host {
    pub(super) guest: Arc<Guest>,
    /// Known once the instance stands; for a start function that runs before, every pointer leads nowhere.
    pub(super) memory: Option<Memory>,
    /// Where writes are noted, if they are.
    pub(super) map: Option<Memory>,
    random: Random,
}

impl Host {
    pub(super) fn new(guest: Arc<Guest>) -> Self {
        Self {
            guest,
            memory: None,
            map: None,
            random: Random::new(),
        }
    }
}

/// The imports of an instance, in the order of its import section.
pub(super) fn externs(store: &mut Store, code: &Code, env: &FunctionEnv<Host>) -> Vec<Extern> {
    let mut externs = Vec::with_capacity(code.imports.len());
    for offer in &code.imports {
        externs.push(Extern::Function(host_function(store, env, offer)));
    }
    externs
}

fn host_function(store: &mut Store, env: &FunctionEnv<Host>, offer: &Offer) -> Function {
    let function = offer.function;
    // Without arguments and often called: no need for the general way.
    match function {
        HostFunction::Now => {
            return Function::new_typed(store, || {
                i64::try_from(unix_time().as_millis()).unwrap_or(i64::MAX)
            });
        }
        HostFunction::Random => {
            return Function::new_typed_with_env(
                store,
                env,
                |mut env: FunctionEnvMut<'_, Host>| env.data_mut().random.next().cast_signed(),
            );
        }
        _ => {}
    }
    let types = |types: &[ValType]| -> Vec<Type> {
        // Offers use these two alone.
        types
            .iter()
            .map(|ty| {
                if *ty == ValType::I64 {
                    Type::I64
                } else {
                    Type::I32
                }
            })
            .collect()
    };
    let ty = FunctionType::new(types(offer.params), types(offer.results));
    Function::new_with_env(store, env, ty, move |env, arguments| {
        Arguments(arguments).dispatch(function, env)
    })
}

/// The arguments of one call, all of them 32 or 64 bits.
struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn u32(&self, index: usize) -> u32 {
        match self.0.get(index) {
            Some(Value::I32(value)) => value.cast_unsigned(),
            _ => 0,
        }
    }

    fn i64(&self, index: usize) -> i64 {
        match self.0.get(index) {
            Some(Value::I64(value)) => *value,
            _ => 0,
        }
    }

    fn dispatch(
        &self,
        function: HostFunction,
        mut env: FunctionEnvMut<'_, Host>,
    ) -> Result<Vec<Value>, RuntimeError> {
        let (host, store) = env.data_and_store_mut();
        let (memory, map) = (host.memory.clone(), host.map.clone());
        let window = Window {
            memory: memory.as_ref().map(|memory| memory.view(&store)),
            map: map.as_ref().map(|map| map.view(&store)),
        };
        let error = match function {
            HostFunction::Log => {
                let level = LogLevel::from_number(self.u32(0));
                log(host, &window, level, self.u32(1), self.u32(2));
                return Ok(Vec::new());
            }
            HostFunction::Counter => {
                // A name that is long, outside the memory or not UTF-8 counts nothing.
                if self.u32(1) <= COUNTER_NAME
                    && let Some(name) = window.read(self.u32(0), self.u32(1), COUNTER_NAME)
                    && let Ok(name) = std::str::from_utf8(&name)
                {
                    host.guest.count(name, self.i64(2));
                }
                return Ok(Vec::new());
            }
            HostFunction::Exit => return Err(self.exit()),
            HostFunction::FdWrite => self.fd_write(host, &window),
            HostFunction::FdStat => match self.u32(0) {
                0..=2 => {
                    // A character device without rights or flags.
                    let mut stat = [0; 24];
                    stat[0] = 2;
                    window.write(self.u32(1), &stat)
                }
                _ => errno::BADF,
            },
            HostFunction::ClockTime => match self.u32(0) {
                // Realtime, and monotonic, which is no more than a clock that the host does not set back often.
                0 | 1 => {
                    let now = u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX);
                    window.write(self.u32(2), &now.to_le_bytes())
                }
                _ => errno::INVAL,
            },
            HostFunction::ClockResolution => window.write(self.u32(1), &1_000_000u64.to_le_bytes()),
            HostFunction::RandomGet => random_get(host, &window, self.u32(0), self.u32(1)),
            HostFunction::NoStrings => {
                let first = window.write(self.u32(0), &[0; 4]);
                if first == 0 {
                    window.write(self.u32(1), &[0; 4])
                } else {
                    first
                }
            }
            HostFunction::Nothing => 0,
            HostFunction::Refuse(error) => error,
            // Answered without arguments, in `host_function`.
            HostFunction::Now | HostFunction::Random => errno::NOTSUP,
        };
        Ok(vec![Value::I32(error)])
    }

    fn exit(&self) -> RuntimeError {
        RuntimeError::user(Box::new(Stop::Exit(self.u32(0).cast_signed())))
    }

    /// `fd_write(fd, vectors, count, written)`: each vector becomes log lines.
    fn fd_write(&self, host: &Host, window: &Window<'_>) -> i32 {
        let level = match self.u32(0) {
            1 => LogLevel::Info,
            2 => LogLevel::Warn,
            _ => return errno::BADF,
        };
        let (vectors, count) = (self.u32(1), self.u32(2));
        // The number that programs are told is IOV_MAX.
        if count > 1_024 {
            return errno::INVAL;
        }
        let mut written = 0u32;
        for index in 0..count {
            let Some(vector) = window.read(vectors.saturating_add(index * 8), 8, 8) else {
                return errno::FAULT;
            };
            let [a, b, c, d, e, f, g, h] = vector[..] else {
                return errno::FAULT;
            };
            let (pointer, length) = (
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            );
            if !window.holds(pointer, length) {
                return errno::FAULT;
            }
            if length > 0 {
                log(host, window, level, pointer, length);
            }
            written = written.saturating_add(length);
        }
        window.write(self.u32(3), &written.to_le_bytes())
    }
}

/// The guest's memory, as host functions see it: not at all from a start function.
struct Window<'a> {
    memory: Option<MemoryView<'a>>,
    map: Option<MemoryView<'a>>,
}

impl Window<'_> {
    fn holds(&self, pointer: u32, length: u32) -> bool {
        self.memory
            .as_ref()
            .is_some_and(|memory| u64::from(pointer) + u64::from(length) <= memory.data_size())
    }

    /// Copies at most `limit` bytes out of the guest; `None` where they are not all in its memory.
    fn read(&self, pointer: u32, length: u32, limit: u32) -> Option<Vec<u8>> {
        if !self.holds(pointer, length) {
            return None;
        }
        let mut bytes = vec![0; length.min(limit) as usize];
        let memory = self.memory.as_ref()?;
        memory.read(u64::from(pointer), &mut bytes).ok()?;
        Some(bytes)
    }

    /// Writes all or nothing, and answers a WASI error number.
    fn write(&self, pointer: u32, bytes: &[u8]) -> i32 {
        let written = self
            .memory
            .as_ref()
            .is_some_and(|memory| memory.write(u64::from(pointer), bytes).is_ok());
        if !written {
            return errno::FAULT;
        }
        if let Some(map) = &self.map {
            snapshot::note(map, pointer as usize, bytes.len());
        }
        0
    }
}

fn log(host: &Host, window: &Window<'_>, level: LogLevel, pointer: u32, length: u32) {
    // Nothing is read for a line that would not pass.
    if !host.guest.log.admits() {
        return;
    }
    if let Some(text) = window.read(pointer, length, 16 << 10) {
        let lines = text.split(|&byte| byte == b'\n');
        for (index, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            // The first has been admitted; each counts, however many come at once.
            if index == 0 || host.guest.log.admits() {
                host.guest.log.write(level, line);
            }
        }
    }
}

/// Fills at most 64 KiB at a time, so that one call cannot run for long; a guest that wants more is told to ask again.
fn random_get(host: &mut Host, window: &Window<'_>, pointer: u32, length: u32) -> i32 {
    if length > 64 << 10 {
        return errno::INVAL;
    }
    let mut bytes = vec![0; length as usize];
    host.random.fill(&mut bytes);
    window.write(pointer, &bytes)
}
