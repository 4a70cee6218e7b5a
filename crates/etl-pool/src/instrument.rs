//! Rewrites a vetted module so that it can be stopped, and so that its state can be put back.
//!
//! **Stopping.** A second memory, the leash, belongs to the lane. A check loads a byte from it and drops it. While the leash can be read
//! that costs one load that nothing waits for. At the deadline a watchdog makes it inaccessible, and the next load traps. There is a check in the header of
//! every loop, on every way to a function's first call, and every few hundred instructions (`checks`), so there is no way to run for long
//! without one but a single instruction: `memory.copy`, `memory.fill` and `memory.init` of more than a chunk are done in chunks (`bulk`). What those on
//! tables work on is bounded by the caps. A short loop gets one check for several rounds (`rounds`).
//!
//! **Seeing**, where an instance is to be put back to an earlier state. Mutable globals and tables get an export under a reserved name.
//! A third memory is the map: one byte for each 4 KiB page of the guest's, set behind every store, so that what must be copied back
//! is known without looking at the rest. One more byte is set where a segment is dropped, which nothing can put back.
//!
//! Both added memories are the host's: no instruction of the guest can reach them, because it was validated as a module with one.
//! It expects a module that `vet` has accepted, and keeps everything else as it is: what is added comes last, so no index moves.
//! Custom sections go, but for the names, which make traps readable.

mod body;
mod bulk;
mod checks;
mod headroom;
mod notes;
mod rounds;
mod sites;
mod stored;

use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, FunctionSection, MemorySection, MemoryType, Module,
    NameSection, TypeSection, ValType,
};
use wasmparser::{FunctionBody, Parser, Payload, TypeRef};

use body::Body;
use bulk::Bulk;
pub(crate) use sites::{LEASH_BYTES, SITES};

/// The module name and name prefix that instrumentation keeps for itself; vetting refuses guests that use it.
pub(crate) const RESERVED: &str = "etl:pool/";

/// Changes whenever the rewriting does, so that code that was made by another one is not loaded.
pub(crate) const INSTRUMENT_VERSION: u32 = 6;

/// Bytes that one byte of the map stands for, as a power of two.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// The byte of the map, behind those that stand for pages, that says whether a segment was dropped.
pub(crate) const DROPPED: usize = 1 << (32 - PAGE_SHIFT);

/// The map of a memory of 4 GiB, in pages of WebAssembly. It is zeroed memory that is only there once it is written to.
const MAP_PAGES: u64 = (DROPPED as u64 >> 16) + 1;

/// The name under which the map is exported.
pub(crate) const MAP: &str = "etl:pool/map";

/// Rewrites a module that has been vetted; `seen` is whether its state has to be put back later.
///
/// # Errors
/// What the encoder refuses: nothing that has passed vetting, as far as is known.
pub(crate) fn instrument(bytes: &[u8], seen: bool) -> std::result::Result<Vec<u8>, String> {
    let mut rewriter = Rewriter::new(bytes, seen).map_err(|error| error.to_string())?;
    let mut module = Module::new();
    rewriter
        .parse_core_module(&mut module, Parser::new(0), bytes)
        .map_err(|error| error.to_string())?;
    Ok(module.finish())
}

/// The name under which a mutable global is exported.
pub(crate) fn global_name(index: usize) -> String {
    format!("{RESERVED}global/{index}")
}

/// The name under which a table is exported.
pub(crate) fn table_name(index: usize) -> String {
    format!("{RESERVED}table/{index}")
}

struct Rewriter {
    /// Parameters of each type, for the index of the first local.
    parameters: Vec<u32>,
    /// The type of each defined function.
    defined: Vec<u32>,
    imported_functions: u32,
    globals: u32,
    /// Whether writes are noted and state is exported.
    seen: bool,
    /// Mutable globals.
    mutable: Vec<u32>,
    tables: u32,
    /// Data segments that are longer than a chunk and may be named by instructions, each with its length, in their order.
    long_segments: Vec<(u32, u32)>,
    /// The defined function whose body comes next.
    next_body: usize,
}

impl Rewriter {
    /// Counts what the rewriting needs to know before it starts.
    fn new(bytes: &[u8], seen: bool) -> wasmparser::Result<Self> {
        let mut this = Self {
            parameters: Vec::new(),
            defined: Vec::new(),
            imported_functions: 0,
            globals: 0,
            seen,
            mutable: Vec::new(),
            tables: 0,
            long_segments: Vec::new(),
            next_body: 0,
        };
        let mut counted = false;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group?.into_types() {
                            this.parameters.push(ty.unwrap_func().params().len() as u32);
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                                this.imported_functions += 1;
                            }
                            TypeRef::Global(_) => this.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    this.defined = section.into_iter().collect::<wasmparser::Result<_>>()?;
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        if global?.ty.mutable {
                            this.mutable.push(this.globals);
                        }
                        this.globals += 1;
                    }
                }
                Payload::TableSection(section) => this.tables = section.count(),
                Payload::DataCountSection { .. } => counted = true,
                // Without a count no instruction can name a segment.
                Payload::DataSection(section) if counted => {
                    for (index, segment) in section.into_iter().enumerate() {
                        let length = segment?.data.len() as u32;
                        if length > bulk::CHUNK.cast_unsigned() {
                            this.long_segments.push((index as u32, length));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(this)
    }

    fn copy_helper(&self) -> u32 {
        self.imported_functions + self.defined.len() as u32
    }

    fn fill_helper(&self) -> u32 {
        self.copy_helper() + 1
    }

    /// What fills memory from a segment in chunks, where the segment is longer than one.
    fn init_helper(&self, segment: u32) -> Option<(Bulk, u32)> {
        let place = self
            .long_segments
            .binary_search_by_key(&segment, |&(index, _)| index)
            .ok()?;
        let (_, length) = self.long_segments[place];
        Some((
            Bulk::Init { segment, length },
            self.fill_helper() + 1 + place as u32,
        ))
    }

    /// The type of these helpers: the one behind the module's own.
    fn helper_type(&self) -> u32 {
        self.parameters.len() as u32
    }

    /// The first of the functions of `headroom`.
    fn headroom_helper(&self) -> u32 {
        self.fill_helper() + 1 + self.long_segments.len() as u32
    }
}

/// The guest's memory is the first, and its only one.
const LEASH_MEMORY: u32 = 1;
const MAP_MEMORY: u32 = 2;

type Result<T = ()> = std::result::Result<T, ReencodeError<std::convert::Infallible>>;

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result {
        utils::parse_type_section(self, types, section)?;
        types
            .ty()
            .function([ValType::I32, ValType::I32, ValType::I32], []);
        for parameters in headroom::TYPES {
            types.ty().function(parameters.iter().copied(), []);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result {
        utils::parse_function_section(self, functions, section)?;
        for _ in 0..2 + self.long_segments.len() {
            functions.function(self.helper_type());
        }
        for (ty, _) in headroom::TYPES.iter().enumerate() {
            functions.function(self.helper_type() + 1 + ty as u32);
        }
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result {
        for memory in section {
            // The host bounds its growth; it alone is without a maximum, and the engine tells it by that from those that are added.
            memories.memory(MemoryType {
                maximum: None,
                ..self.memory_type(memory?)?
            });
        }
        let fixed = |pages| MemoryType {
            minimum: pages,
            maximum: Some(pages),
            memory64: false,
            shared: false,
            page_size_log2: None,
        };
        memories.memory(fixed((LEASH_BYTES >> 16) as u64));
        if self.seen {
            memories.memory(fixed(MAP_PAGES));
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result {
        utils::parse_export_section(self, exports, section)?;
        if self.seen {
            exports.export(MAP, ExportKind::Memory, MAP_MEMORY);
            for (name, &index) in self.mutable.iter().enumerate() {
                exports.export(&global_name(name), ExportKind::Global, index);
            }
            for index in 0..self.tables {
                exports.export(&table_name(index as usize), ExportKind::Table, index);
            }
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result {
        utils::parse_code_section(self, code, section)?;
        code.function(&bulk::helper(&Bulk::Copy, self.seen));
        code.function(&bulk::helper(&Bulk::Fill, self.seen));
        for &(segment, length) in &self.long_segments {
            code.function(&bulk::helper(&Bulk::Init { segment, length }, self.seen));
        }
        for function in headroom::functions(self.headroom_helper()) {
            code.function(&function);
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result {
        let ty = self.defined[self.next_body] as usize;
        self.next_body += 1;
        code.function(&Body::rewrite(self, self.parameters[ty], &body)?);
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result {
        if let wasmparser::KnownCustom::Name(reader) = section.as_known() {
            // Names are for people alone: where they are malformed, they are left out.
            let names: Result<NameSection> = self.custom_name_section(reader);
            if let Ok(names) = names {
                module.section(&names);
            }
        }
        Ok(())
    }
}
