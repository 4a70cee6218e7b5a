//! One guest: a store of its own, and typed handles on what it exports.
//!
//! The store and everything in it goes when the instance is dropped. The guest's memory is only looked at between calls, when no guest code
//! runs, and every pointer that the guest returned is checked against its length first.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use etl_abi::{names, unpack};
use wasmer::sys::NativeEngineExt;
use wasmer::sys::vm::VMMemoryDefinition;
use wasmer::{Engine, FunctionEnv, Memory, Store, TypedFunction, WasmTypeList};

use super::super::{Instance, Setup};
use super::compile::Code;
use super::failure;
use super::imports::{self, Host};
use super::leash::Leash;
use super::memory::{GuestTunables, Location, USED_UP};
use super::snapshot::{self, Snapshot};
use crate::budget::Account;
use crate::error::{CallError, FailureKind};
use crate::facts::Abi;
use crate::guest::CallState;
use crate::guest_log::printable;
use crate::settings::Settings;

/// One guest.
pub struct NativeInstance {
    store: Store,
    memory: Memory,
    /// What the runtime says of the memory: part of the instance in the store.
    definition: NonNull<VMMemoryDefinition>,
    calls: Calls,
    /// Where a frame may be written without asking again, and how long it may be.
    room: (i32, usize),
    state: Arc<CallState>,
    leash: Arc<Leash>,
    /// Where it goes back to; none where the code is not made for that, or a new instance costs less.
    snapshot: Option<Snapshot>,
    /// For what the runtime keeps of it.
    _account: Account,
    // Dropped last: the code goes with it, and everything above refers to the code.
    _engine: Engine,
}

enum Calls {
    V1 {
        alloc: TypedFunction<i32, i32>,
        process: TypedFunction<(i32, i32), i64>,
    },
    Legacy {
        transform: TypedFunction<(i32, i32), i32>,
        allocate: Option<TypedFunction<i32, i32>>,
        deallocate: Option<TypedFunction<i32, ()>>,
    },
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::new(FailureKind::InvalidOutput, message)
}

impl NativeInstance {
    pub(super) fn new(
        code: &Code,
        setup: &Setup,
        leash: &Arc<Leash>,
        deadline: Instant,
    ) -> Result<Self, CallError> {
        let _run = leash.run(deadline);
        let account = Account::open(&setup.guest.memory, code.facts.host_bytes)
            .ok_or_else(|| CallError::new(FailureKind::PoolExhausted, USED_UP))?;
        let state = Arc::new(CallState::default());
        state.begin();
        let mut engine = code.engine.clone();
        let location = Arc::<Location>::default();
        engine.set_tunables(GuestTunables::new(
            code.layout,
            setup,
            &code.facts,
            &state,
            leash,
            &location,
        ));
        let mut store = Store::new(engine);
        let env = FunctionEnv::new(&mut store, Host::new(Arc::clone(&setup.guest)));
        let externs = imports::externs(&mut store, code, &env);
        let instance = wasmer::Instance::new_by_index(&mut store, &code.module, &externs)
            .map_err(|error| failure::of_instantiation(error, &state, leash))?;

        let missing = |name: &str| invalid(format!("export {name} is missing"));
        let exports = &instance.exports;
        let memory = exports
            .get_memory(names::MEMORY)
            .map_err(|_| missing(names::MEMORY))?
            .clone();
        let definition =
            NonNull::new(location.load(Ordering::Relaxed)).ok_or_else(|| missing(names::MEMORY))?;
        env.as_mut(&mut store).memory = Some(memory.clone());
        if let Ok(initialize) = exports.get_typed_function::<(), ()>(&store, names::INITIALIZE) {
            initialize
                .call(&mut store)
                .map_err(|error| failure::of_call(error, &state, leash))?;
        }
        let calls = match code.abi {
            Abi::V1 => Calls::V1 {
                alloc: exports
                    .get_typed_function(&store, names::ALLOC)
                    .map_err(|_| missing(names::ALLOC))?,
                process: exports
                    .get_typed_function(&store, names::PROCESS)
                    .map_err(|_| missing(names::PROCESS))?,
            },
            Abi::Legacy => Calls::Legacy {
                transform: exports
                    .get_typed_function(&store, "transform")
                    .map_err(|_| missing("transform"))?,
                allocate: exports.get_typed_function(&store, "allocate").ok(),
                deallocate: exports.get_typed_function(&store, "deallocate").ok(),
            },
        };
        let init = exports
            .get_typed_function::<(i32, i32), i64>(&store, names::INIT)
            .ok();
        let mut this = Self {
            store,
            memory,
            definition,
            calls,
            room: (0, 0),
            state,
            leash: Arc::clone(leash),
            snapshot: None,
            _account: account,
            _engine: code.engine.clone(),
        };
        if let Some(init) = init {
            this.init(&init, &setup.config)?;
        }
        if code.resettable {
            this.snapshot = Snapshot::take(
                &mut this.store,
                &instance.exports,
                &this.memory,
                &code.facts,
                &setup.guest.memory,
                deadline,
            )?;
            env.as_mut(&mut this.store).map = this
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.map().clone());
        }
        Ok(this)
    }

    /// Hands the module its configuration, once.
    fn init(
        &mut self,
        init: &TypedFunction<(i32, i32), i64>,
        settings: &Settings,
    ) -> Result<(), CallError> {
        let config = settings.reveal();
        let Calls::V1 { alloc, .. } = &self.calls else {
            return Ok(());
        };
        let alloc = alloc.clone();
        let length =
            i32::try_from(config.len()).map_err(|_| invalid("the configuration is too large"))?;
        let pointer = self.call(&alloc, length)?;
        // Nothing needs no room: an allocator may answer 0 for that.
        if pointer == 0 && length > 0 {
            return Err(no_memory(length));
        }
        self.bytes_mut(pointer.cast_unsigned(), config.len(), names::ALLOC)?
            .copy_from_slice(config);
        let packed = self.call2(init, pointer, length)?;
        if packed == 0 {
            return Ok(());
        }
        let (pointer, length) = unpack(packed.cast_unsigned());
        let message = self.bytes(pointer, length as usize, names::INIT)?;
        let message = &message[..message.len().min(16 << 10)];
        let message = settings.masked(String::from_utf8_lossy(message));
        let message = printable(&message[..message.floor_char_boundary(1 << 10)]);
        Err(CallError::new(
            FailureKind::Module,
            format!("the module refused its configuration: {message}"),
        ))
    }

    #[inline]
    fn call<R: WasmTypeList>(
        &mut self,
        function: &TypedFunction<i32, R>,
        argument: i32,
    ) -> Result<R, CallError> {
        function
            .call(&mut self.store, argument)
            .map_err(|error| failure::of_call(error, &self.state, &self.leash))
    }

    #[inline]
    fn call2<R: WasmTypeList>(
        &mut self,
        function: &TypedFunction<(i32, i32), R>,
        a: i32,
        b: i32,
    ) -> Result<R, CallError> {
        function
            .call(&mut self.store, a, b)
            .map_err(|error| failure::of_call(error, &self.state, &self.leash))
    }

    /// Notes what the host has written, where that is needed to go back.
    #[inline]
    fn note(&self, pointer: i32, length: usize) {
        if let Some(snapshot) = &self.snapshot {
            let map = snapshot.map().view(&self.store);
            snapshot::note(&map, pointer.cast_unsigned() as usize, length);
        }
    }

    /// A range of the guest's memory that the guest named.
    #[inline]
    fn bytes(&self, pointer: u32, length: usize, what: &str) -> Result<&[u8], CallError> {
        // SAFETY: the definition is this instance's. The memory belongs to its store alone, is not shared, and cannot move or change while `self`
        // is borrowed: that takes guest code, which only runs under `&mut self`.
        let memory = unsafe { &*memory_at(self.definition) };
        memory
            .get(pointer as usize..)
            .and_then(|rest| rest.get(..length))
            .ok_or_else(|| out_of_bounds(what, pointer, length, memory.len()))
    }

    /// The same, to be written to.
    #[inline]
    fn bytes_mut(
        &mut self,
        pointer: u32,
        length: usize,
        what: &str,
    ) -> Result<&mut [u8], CallError> {
        // SAFETY: as above; `&mut self` makes this the only reference into the memory.
        let memory = unsafe { &mut *memory_at(self.definition) };
        let size = memory.len();
        memory
            .get_mut(pointer as usize..)
            .and_then(|rest| rest.get_mut(..length))
            .ok_or_else(|| out_of_bounds(what, pointer, length, size))
    }
}

/// The memory that a definition describes. Asking the runtime for it takes several calls through tables of functions.
///
/// # Safety
/// The instance that the definition is part of must be alive. What the pointer leads to is there until code of the instance runs; whoever makes a
/// reference of it answers for that, and for there being no other one that is written through.
#[inline]
unsafe fn memory_at(definition: NonNull<VMMemoryDefinition>) -> *mut [u8] {
    // SAFETY: the caller promises that the instance is alive, and with it its definition, which the runtime keeps true: so many bytes are there.
    let VMMemoryDefinition {
        base,
        current_length,
    } = unsafe { definition.read() };
    std::ptr::slice_from_raw_parts_mut(base, current_length)
}

/// The guest's own allocator has given up, whether for its limit or by itself.
#[cold]
fn no_memory(length: i32) -> CallError {
    CallError::new(
        FailureKind::MemoryLimit,
        format!(
            "{}({length}) answered 0: it has no memory for the host's bytes",
            names::ALLOC
        ),
    )
}

#[cold]
fn out_of_bounds(what: &str, pointer: u32, length: usize, size: usize) -> CallError {
    invalid(format!(
        "{what} names {length} bytes at {pointer}, outside its memory of {size} bytes"
    ))
}

impl Instance for NativeInstance {
    #[inline]
    fn process(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
        deadline: Instant,
    ) -> Result<Option<&[u8]>, CallError> {
        let Calls::V1 { alloc, process } = &self.calls else {
            return Err(invalid("a legacy module has no frames"));
        };
        let length = i32::try_from(len).map_err(|_| invalid("the batch is larger than 2 GiB"))?;
        let _run = self.leash.run(deadline);
        self.state.begin();
        let store = &mut self.store;
        if len > self.room.1 {
            self.room = (0, 0);
            match alloc.call(store, length) {
                Ok(0) => return Err(no_memory(length)),
                Ok(pointer) => self.room = (pointer, len),
                Err(error) => return Err(failure::of_call(error, &self.state, &self.leash)),
            }
        }
        let pointer = self.room.0;
        // SAFETY: the definition is this instance's, and no guest code runs until the slice is done with.
        let memory = unsafe { &mut *memory_at(self.definition) };
        let size = memory.len();
        let Some(frame) = memory
            .get_mut(pointer.cast_unsigned() as usize..)
            .and_then(|rest| rest.get_mut(..len))
        else {
            return Err(out_of_bounds(
                names::ALLOC,
                pointer.cast_unsigned(),
                len,
                size,
            ));
        };
        // Before it is written: whoever writes it may panic.
        if let Some(snapshot) = &self.snapshot {
            snapshot::note(
                &snapshot.map().view(store),
                pointer.cast_unsigned() as usize,
                len,
            );
        }
        write(frame);
        let packed = match process.call(store, pointer, length) {
            Ok(packed) => packed,
            Err(error) => return Err(failure::of_call(error, &self.state, &self.leash)),
        };
        if packed == 0 {
            return Ok(None);
        }
        let (pointer, length) = unpack(packed.cast_unsigned());
        self.bytes(pointer, length as usize, names::PROCESS)
            .map(Some)
    }

    fn transform<T>(
        &mut self,
        value: &[u8],
        read: impl FnOnce(&[u8]) -> T,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let Calls::Legacy {
            transform,
            allocate,
            deallocate,
        } = &self.calls
        else {
            return Err(invalid("a module of version 1 takes frames"));
        };
        let (transform, allocate, deallocate) =
            (transform.clone(), allocate.clone(), deallocate.clone());
        let length =
            i32::try_from(value.len()).map_err(|_| invalid("the value is larger than 2 GiB"))?;
        let leash = Arc::clone(&self.leash);
        let _run = leash.run(deadline);
        self.state.begin();
        let input = match &allocate {
            Some(allocate) => self.call(allocate, length)?,
            None => 0,
        };
        if input < 0 {
            return Err(CallError::new(
                FailureKind::Module,
                format!("allocate({length}) answered {input}"),
            ));
        }
        self.bytes_mut(input.cast_unsigned(), value.len(), "allocate")?
            .copy_from_slice(value);
        self.note(input, value.len());
        let output = self.call2(&transform, input, length)?;
        if output < 0 {
            return Err(CallError::new(
                FailureKind::Module,
                format!("transform answered {output}"),
            ));
        }
        let output = output.cast_unsigned();
        let header = self.bytes(output, 4, "transform")?;
        let length = i32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length)
            .map_err(|_| invalid(format!("transform wrote the length {length}")))?;
        let result = read(self.bytes(output.saturating_add(4), length, "transform")?);
        if let (Some(deallocate), Some(_)) = (&deallocate, &allocate) {
            // The host gives back what it asked for: the input. The output is the guest's own.
            self.call(deallocate, input)?;
        }
        Ok(result)
    }

    fn reset(&mut self) -> bool {
        // The guest does not remember what it gave since.
        self.room = (0, 0);
        match &self.snapshot {
            Some(snapshot) => snapshot.restore(&mut self.store, &self.memory),
            None => false,
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.view(&self.store).data_size()
    }
}
