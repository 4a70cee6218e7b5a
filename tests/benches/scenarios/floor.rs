//! The floor under every scenario that calls modules: the same guest, given the same bytes, through wasmer alone.
//!
//! One store, one instance, typed functions looked up once. A call writes the frame to the buffer that the guest gave, calls, and reads the answer out
//! into one buffer, which is the least that a host must do; a new buffer is asked for where a frame is longer than any before. Nothing is checked,
//! limited or stoppable here; that is what the subject pays for.

use std::hint::black_box;
use std::path::PathBuf;

use wasmer::sys::Cranelift;
use wasmer::sys::EngineBuilder;
use wasmer::{
    ExternType, Function, Imports, Instance, Memory, Module, Store, Type, TypedFunction, Value,
};

/// A guest on its own.
pub struct Floor {
    store: Store,
    memory: Memory,
    allocate: TypedFunction<u32, u32>,
    process: TypedFunction<(u32, u32), u64>,
    /// Where frames are written, and how long they may be.
    room: (u32, usize),
    answer: Vec<u8>,
}

/// The module's bytes, as `cargo xtask guests` built them.
pub fn module_bytes(module_id: &str) -> Result<Vec<u8>, String> {
    let path = modules_dir().join(format!("{module_id}.wasm"));
    std::fs::read(&path).map_err(|error| {
        format!(
            "cannot read {}: {error}; `cargo xtask guests` builds it",
            path.display()
        )
    })
}

/// Where `cargo xtask guests` puts modules.
pub fn modules_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests"))
}

impl Floor {
    /// Instantiates the module; its imports, all of which it can do without, do nothing.
    pub fn new(module_id: &str) -> Result<Self, String> {
        Self::instantiate(&module_bytes(module_id)?)
            .map_err(|error| format!("{module_id} on wasmer alone: {error}"))
    }

    /// Instantiates a module that is in no file.
    pub fn of(bytes: &[u8]) -> Result<Self, String> {
        Self::instantiate(bytes).map_err(|error| format!("on wasmer alone: {error}"))
    }

    fn instantiate(bytes: &[u8]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut store = Store::new(EngineBuilder::new(Cranelift::default()).engine());
        let module = Module::new(&store, bytes)?;
        let mut imports = Imports::new();
        for import in module.imports() {
            let ExternType::Function(signature) = import.ty() else {
                return Err(format!("imports {}", import.name()).into());
            };
            let results: Vec<Value> = signature.results().iter().map(zero).collect();
            let nothing = Function::new(&mut store, signature, move |_| Ok(results.clone()));
            imports.define(import.module(), import.name(), nothing);
        }
        let instance = Instance::new(&mut store, &module, &imports)?;
        Ok(Self {
            memory: instance.exports.get_memory("memory")?.clone(),
            allocate: instance
                .exports
                .get_typed_function(&store, "etl_alloc_v1")?,
            process: instance
                .exports
                .get_typed_function(&store, "etl_process_v1")?,
            store,
            room: (0, 0),
            answer: Vec::new(),
        })
    }

    /// One call with this frame, and its answer read out.
    pub fn call(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("a frame is under 4 GiB");
        if frame.len() > self.room.1 {
            let pointer = self
                .allocate
                .call(&mut self.store, length)
                .expect("the guest allocates");
            self.room = (pointer, frame.len());
        }
        let pointer = self.room.0;
        self.memory
            .view(&self.store)
            .write(pointer.into(), frame)
            .expect("the buffer lies in the memory");
        let packed = self
            .process
            .call(&mut self.store, pointer, length)
            .expect("the guest answers");
        let (pointer, length) = (packed >> 32, packed & u64::from(u32::MAX));
        self.answer.resize(length as usize, 0);
        self.memory
            .view(&self.store)
            .read(pointer, &mut self.answer)
            .expect("the answer lies in the memory");
        black_box(&mut self.answer);
    }

    /// What the guest answered last; empty where it kept everything.
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }
}

/// What an import answers that does nothing.
fn zero(kind: &Type) -> Value {
    match kind {
        Type::I64 => Value::I64(0),
        Type::F32 => Value::F32(0.0),
        Type::F64 => Value::F64(0.0),
        _ => Value::I32(0),
    }
}
