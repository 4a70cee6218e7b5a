//! Looks at a module before the compiler does.
//!
//! One pass over the bytes: each section is capped, then validated with the accepted features only, then read for what the pool
//! needs to know. Every problem that can be named is collected, so that `inspect` shows them all; a module with any problem is
//! not loaded. Refused: threads, exceptions, 64-bit memories, several memories, garbage-collected types, tail calls, imports that
//! are not offered, exports that are missing or have another type, and names that the instrumentation reserves for itself.

mod body;

use wasmparser::{
    ExternalKind, FuncType, FuncValidatorAllocations, Parser, Payload, TableType, TypeRef, ValType,
    ValidPayload, Validator, WasmFeatures,
};

use crate::caps::Caps;
use crate::error::{PoolError, PoolErrorKind};
use crate::facts::{Abi, Export, Facts, Import};
use crate::instrument::RESERVED;
use crate::offer;

/// Facts, and everything that speaks against loading the module.
#[derive(Debug)]
pub(crate) struct Vetted {
    pub(crate) facts: Facts,
    pub(crate) problems: Vec<PoolError>,
}

/// The proposals that guests may use.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::EXTENDED_CONST
}

/// Reads and checks a module.
pub(crate) fn vet(bytes: &[u8], caps: &Caps) -> Vetted {
    let mut vetting = Vetting {
        caps,
        facts: Facts::default(),
        problems: Vec::new(),
        types: Vec::new(),
        type_values: 0,
        functions: Vec::new(),
        elements: 0,
        tables: Vec::new(),
        globals: 0,
        grows_tables: false,
        function_exports: Vec::new(),
        memory_exported: false,
    };
    if let Err(problem) = vetting.read(bytes) {
        vetting.problems.push(problem);
        return Vetted {
            facts: vetting.facts,
            problems: vetting.problems,
        };
    }
    vetting.check_exports();
    vetting.facts.host_bytes = vetting.host_bytes();
    Vetted {
        facts: vetting.facts,
        problems: vetting.problems,
    }
}

/// What a kind of module exports: name, parameters, results, and whether it must.
type Contract = (&'static str, &'static [ValType], &'static [ValType], bool);

struct Vetting<'a> {
    caps: &'a Caps,
    facts: Facts,
    problems: Vec<PoolError>,
    types: Vec<FuncType>,
    /// Parameters and results of them all.
    type_values: usize,
    /// The type of every function, imports first.
    functions: Vec<u32>,
    elements: usize,
    tables: Vec<TableType>,
    globals: u64,
    grows_tables: bool,
    function_exports: Vec<(String, u32)>,
    memory_exported: bool,
}

fn invalid(error: wasmparser::BinaryReaderError) -> PoolError {
    PoolError::new(
        PoolErrorKind::Invalid,
        format!("is not an acceptable WebAssembly module: {error}"),
    )
}

/// A count that must not be more than its cap.
fn within(what: &str, count: usize, cap: usize) -> Result<(), PoolError> {
    if count <= cap {
        return Ok(());
    }
    Err(PoolError::new(
        PoolErrorKind::TooLarge,
        format!("has {count} {what}, more than the {cap} allowed"),
    ))
}

impl Vetting<'_> {
    /// The part that stops at the first problem, because what follows could not be trusted.
    fn read(&mut self, bytes: &[u8]) -> Result<(), PoolError> {
        within("bytes", bytes.len(), self.caps.module_bytes)?;
        if !bytes.starts_with(b"\0asm") {
            return Err(PoolError::new(
                PoolErrorKind::Invalid,
                "is not a WebAssembly module: it does not start with \\0asm",
            ));
        }
        let mut validator = Validator::new_with_features(features());
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(invalid)?;
            self.cap_section(&payload)?;
            let valid = validator.payload(&payload).map_err(invalid)?;
            if let ValidPayload::Func(function, body) = valid {
                allocations = self.body(function, &body, allocations)?;
                continue;
            }
            self.section(payload).map_err(invalid)?;
        }
        Ok(())
    }

    /// Before a section is validated: how much of it there is.
    fn cap_section(&self, payload: &Payload<'_>) -> Result<(), PoolError> {
        let caps = self.caps;
        match payload {
            Payload::TypeSection(section) => within("types", section.count() as usize, caps.types),
            Payload::ImportSection(section) => {
                within("imports", section.count() as usize, caps.imports)
            }
            Payload::FunctionSection(section) => {
                within("functions", section.count() as usize, caps.functions)
            }
            Payload::TableSection(section) => {
                within("tables", section.count() as usize, caps.tables)
            }
            Payload::GlobalSection(section) => {
                within("globals", section.count() as usize, caps.globals)
            }
            Payload::ExportSection(section) => {
                within("exports", section.count() as usize, caps.exports)
            }
            Payload::ElementSection(section) => {
                within("element segments", section.count() as usize, caps.elements)
            }
            Payload::DataSection(section) => within(
                "data segments",
                section.count() as usize,
                caps.data_segments,
            ),
            _ => Ok(()),
        }
    }

    /// After a section is validated: what it says.
    fn section(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group?.into_types() {
                        // Only function types pass validation with the features above.
                        let ty = ty.unwrap_func().clone();
                        self.type_values += ty.params().len() + ty.results().len();
                        self.types.push(ty);
                    }
                }
                let cap = self.caps.type_values;
                let counted = within("parameters and results of types", self.type_values, cap);
                self.problems.extend(counted.err());
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.import(import?);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let ty = table?.ty;
                    if ty.initial > u64::from(self.caps.table_elements) {
                        self.problem(
                            PoolErrorKind::Memory,
                            format!(
                                "table of {} elements, more than the {} allowed",
                                ty.initial, self.caps.table_elements
                            ),
                        );
                    }
                    self.tables.push(ty);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    self.facts.memory_minimum_bytes = memory.initial << 16;
                    self.facts.memory_maximum_bytes = memory.maximum.map(|pages| pages << 16);
                }
            }
            Payload::GlobalSection(section) => self.globals = section.count().into(),
            Payload::ExportSection(section) => {
                for export in section {
                    self.export(&export?);
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    self.elements += match element?.items {
                        wasmparser::ElementItems::Functions(items) => items.count() as usize,
                        wasmparser::ElementItems::Expressions(_, items) => items.count() as usize,
                    };
                }
                if let Err(problem) = within("elements", self.elements, self.caps.elements) {
                    self.problems.push(problem);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn problem(&mut self, kind: PoolErrorKind, message: String) {
        self.problems.push(PoolError::new(kind, message));
    }

    fn import(&mut self, import: wasmparser::Import<'_>) {
        let (module, name) = (import.module, import.name);
        let signature = match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                let ty = self.types[ty as usize].clone();
                match offer::find(module, name) {
                    None => self.problem(
                        PoolErrorKind::Imports,
                        format!(
                            "imports {module}.{name}, which is not offered; offered are {}",
                            offer::summary()
                        ),
                    ),
                    Some(offer) if ty.params() != offer.params || ty.results() != offer.results => {
                        self.problem(
                            PoolErrorKind::Imports,
                            format!(
                                "imports {module}.{name} as {}, which is offered as {}",
                                signature_of(&ty),
                                signature(offer.params, offer.results)
                            ),
                        );
                    }
                    Some(offer) => self.facts.nondeterministic |= offer.is_nondeterministic(),
                }
                signature_of(&ty)
            }
            other => {
                let what = kind_of(other);
                self.problem(
                    PoolErrorKind::Imports,
                    format!(
                        "imports the {what} {module}.{name}, which is not offered; offered are {}",
                        offer::summary()
                    ),
                );
                what.to_owned()
            }
        };
        self.facts.imports.push(Import {
            module: module.to_owned(),
            name: name.to_owned(),
            signature,
        });
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) {
        if export.name.starts_with(RESERVED) {
            self.problem(
                PoolErrorKind::Exports,
                format!(
                    "exports {:?}; names that start with {RESERVED:?} are reserved",
                    export.name
                ),
            );
        }
        let signature = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                self.function_exports
                    .push((export.name.to_owned(), export.index));
                self.function_type(export.index)
                    .map_or_else(|| "function".to_owned(), signature_of)
            }
            ExternalKind::Memory => {
                self.memory_exported |= export.name == etl_abi::names::MEMORY;
                "memory".to_owned()
            }
            ExternalKind::Table => "table".to_owned(),
            ExternalKind::Global => "global".to_owned(),
            ExternalKind::Tag => "tag".to_owned(),
        };
        self.facts.exports.push(Export {
            name: export.name.to_owned(),
            signature,
        });
    }

    fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types
            .get(*self.functions.get(index as usize)? as usize)
    }

    /// What an instance takes on the host: sizes of the runtime's own structures, rounded up.
    fn host_bytes(&self) -> u64 {
        const INSTANCE: u64 = 4 << 10;
        const FUNCTION: u64 = 48;
        const GLOBAL: u64 = 64;
        const EXPORT: u64 = 256;
        const ELEMENT: u64 = 8;
        // A table that cannot grow is there a second time, with what is called behind each element.
        const FIXED_ELEMENT: u64 = 40;
        let limit = u64::from(self.caps.table_elements);
        let tables = self.tables.iter().map(|table| {
            let most = table.maximum.unwrap_or(u64::MAX).min(limit);
            if table.maximum == Some(table.initial) {
                table.initial.saturating_mul(FIXED_ELEMENT)
            } else if self.grows_tables {
                most.max(table.initial).saturating_mul(ELEMENT)
            } else {
                table.initial.saturating_mul(ELEMENT)
            }
        });
        let exports = self.facts.exports.iter();
        INSTANCE
            + self.functions.len() as u64 * FUNCTION
            + self.globals * GLOBAL
            + exports
                .map(|export| EXPORT + export.name.len() as u64)
                .sum::<u64>()
            + self.elements as u64 * ELEMENT
            + tables.fold(0, u64::saturating_add)
    }

    /// Whether the module is one of either ABI.
    fn check_exports(&mut self) {
        use ValType::{I32, I64};
        use etl_abi::names;

        let has = |name: &str| {
            self.function_exports
                .iter()
                .any(|(export, _)| export == name)
        };
        let (abi, contract): (Abi, &[Contract]) = if has(names::PROCESS) {
            (
                Abi::V1,
                &[
                    (names::ALLOC, &[I32], &[I32], true),
                    (names::PROCESS, &[I32, I32], &[I64], true),
                    (names::INIT, &[I32, I32], &[I64], false),
                    (names::INITIALIZE, &[], &[], false),
                ],
            )
        } else if has("transform") {
            (
                Abi::Legacy,
                &[
                    ("transform", &[I32, I32], &[I32], true),
                    ("allocate", &[I32], &[I32], false),
                    ("deallocate", &[I32], &[], false),
                    (names::INITIALIZE, &[], &[], false),
                ],
            )
        } else {
            self.problem(
                PoolErrorKind::Exports,
                format!(
                    "exports neither {} (version 1) nor transform (legacy), so it is not a module for this host",
                    names::PROCESS
                ),
            );
            return;
        };
        let mut complete = self.memory_exported;
        if !complete {
            self.problem(
                PoolErrorKind::Exports,
                format!("does not export its memory as {:?}", names::MEMORY),
            );
        }
        for &(name, params, results, required) in contract {
            let found = self
                .function_exports
                .iter()
                .find(|(export, _)| export == name);
            let wanted = signature(params, results);
            match found.and_then(|&(_, index)| self.function_type(index)) {
                Some(ty) if ty.params() == params && ty.results() == results => {}
                Some(ty) => {
                    let message =
                        format!("exports {name} as {}, expected {wanted}", signature_of(ty));
                    self.problem(PoolErrorKind::Exports, message);
                    complete = false;
                }
                None if required => {
                    self.problem(
                        PoolErrorKind::Exports,
                        format!("does not export {name}: {wanted}"),
                    );
                    complete = false;
                }
                None => {}
            }
        }
        if complete {
            self.facts.abi = Some(abi);
        }
    }
}

fn kind_of(ty: TypeRef) -> &'static str {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

fn signature_of(ty: &FuncType) -> String {
    signature(ty.params(), ty.results())
}

fn signature(params: &[ValType], results: &[ValType]) -> String {
    let list = |types: &[ValType]| {
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    match results {
        [] => format!("({})", list(params)),
        [one] => format!("({}) -> {one}", list(params)),
        many => format!("({}) -> ({})", list(params), list(many)),
    }
}
