//! Rewrites a vetted module so that it can be stopped, and so that its state can be put back.
//!
//! **Stopping.** A second memory, the leash, is a page that belongs to the lane. Every loop header, and the entry of every function that
//! calls another, loads a word from it and drops it. While the page can be read that costs one load that nothing waits for. At the
//! deadline a watchdog makes the page inaccessible, and the next load traps. A guest that runs for long must pass a loop header or call, so
//! there is no other way to run for long but a single instruction: `memory.copy` and `memory.fill` of more than a chunk are done in
//! chunks by two helper functions that are added. What other bulk instructions work on is bounded by the caps.
//!
//! **Seeing**, where an instance is to be put back to an earlier state. Mutable globals and tables get an export under a reserved name.
//! A third memory is the map: one byte for each 4 KiB page of the guest's, set behind every store, so that what must be copied back
//! is known without looking at the rest.
//!
//! Both added memories are the host's: no instruction of the guest can reach them, because it was validated as a module with one.
//! It expects a module that `vet` has accepted, and keeps everything else as it is: what is added comes last, so no index moves.
//! Custom sections go, but for the names, which make traps readable.

mod stored;

use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction as I,
    MemArg, MemArgTarget, MemorySection, MemoryType, Module, NameSection, TypeSection, ValType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

use stored::{Stored, store};

/// The module name and name prefix that instrumentation keeps for itself; vetting refuses guests that use it.
pub(crate) const RESERVED: &str = "etl:pool/";

/// Changes whenever the rewriting does, so that code that was made by another one is not loaded.
pub(crate) const INSTRUMENT_VERSION: u32 = 3;

/// Bytes that one byte of the map stands for, as a power of two.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// The map of a memory of 4 GiB, in pages of WebAssembly. It is zeroed memory that is only there once it is written to.
const MAP_PAGES: u64 = 16;

/// The name under which the map is exported.
pub(crate) const MAP: &str = "etl:pool/map";

/// Bytes that one `memory.copy` or `memory.fill` may work on at a time.
const CHUNK: i32 = 256 << 10;

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
            next_body: 0,
        };
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

    /// The type of both helpers: the one behind the module's own.
    fn helper_type(&self) -> u32 {
        self.parameters.len() as u32
    }

    /// `(destination, source or value, length)`: `memory.copy` or `memory.fill` in chunks.
    fn helper(&self, bulk: &Bulk) -> Function {
        const DESTINATION: u32 = 0;
        const SOURCE: u32 = 1;
        const LENGTH: u32 = 2;
        let mut f = Function::new([]);
        let mut site = 0;
        if self.seen {
            // Before the write: a write that traps after this leaves pages noted that did not change, which costs a copy and no more.
            self.note_range(&mut f, DESTINATION, LENGTH);
        }
        // Short, or out of bounds (which must trap before anything is written): one instruction.
        f.instruction(&I::LocalGet(LENGTH))
            .instruction(&I::I32Const(CHUNK))
            .instruction(&I::I32LeU);
        bulk.out_of_bounds(&mut f, DESTINATION, LENGTH);
        f.instruction(&I::I32Or);
        if matches!(bulk, Bulk::Copy) {
            bulk.out_of_bounds(&mut f, SOURCE, LENGTH);
            f.instruction(&I::I32Or);
        }
        f.instruction(&I::If(BlockType::Empty));
        bulk.whole(&mut f, DESTINATION, SOURCE, LENGTH);
        f.instruction(&I::Return).instruction(&I::End);

        if matches!(bulk, Bulk::Copy) {
            // A copy upwards starts at its end, so that a source that it overlaps is read before it is overwritten.
            f.instruction(&I::LocalGet(DESTINATION))
                .instruction(&I::LocalGet(SOURCE))
                .instruction(&I::I32GtU)
                .instruction(&I::If(BlockType::Empty))
                .instruction(&I::Loop(BlockType::Empty));
            touch(&mut f, &mut site);
            f.instruction(&I::LocalGet(LENGTH))
                .instruction(&I::I32Const(CHUNK))
                .instruction(&I::I32Sub)
                .instruction(&I::LocalSet(LENGTH));
            for address in [DESTINATION, SOURCE] {
                f.instruction(&I::LocalGet(address))
                    .instruction(&I::LocalGet(LENGTH))
                    .instruction(&I::I32Add);
            }
            f.instruction(&I::I32Const(CHUNK));
            bulk.instruction(&mut f);
            f.instruction(&I::LocalGet(LENGTH))
                .instruction(&I::I32Const(CHUNK))
                .instruction(&I::I32GtU)
                .instruction(&I::BrIf(0))
                .instruction(&I::End);
            bulk.whole(&mut f, DESTINATION, SOURCE, LENGTH);
            f.instruction(&I::Return).instruction(&I::End);
        }

        f.instruction(&I::Loop(BlockType::Empty));
        touch(&mut f, &mut site);
        f.instruction(&I::LocalGet(DESTINATION))
            .instruction(&I::LocalGet(SOURCE))
            .instruction(&I::I32Const(CHUNK));
        bulk.instruction(&mut f);
        let advanced: &[u32] = if matches!(bulk, Bulk::Copy) {
            &[DESTINATION, SOURCE]
        } else {
            &[DESTINATION]
        };
        for &address in advanced {
            f.instruction(&I::LocalGet(address))
                .instruction(&I::I32Const(CHUNK))
                .instruction(&I::I32Add)
                .instruction(&I::LocalSet(address));
        }
        f.instruction(&I::LocalGet(LENGTH))
            .instruction(&I::I32Const(CHUNK))
            .instruction(&I::I32Sub)
            .instruction(&I::LocalTee(LENGTH))
            .instruction(&I::I32Const(CHUNK))
            .instruction(&I::I32GtU)
            .instruction(&I::BrIf(0))
            .instruction(&I::End);
        bulk.whole(&mut f, DESTINATION, SOURCE, LENGTH);
        f.instruction(&I::End);
        f
    }

    /// A short `memory.copy` or `memory.fill` where it stands, a long one by the helper; always by the helper where writes are noted.
    fn bulk(&self, f: &mut Function, bulk: &Bulk, operands: [u32; 3]) {
        let helper = match bulk {
            Bulk::Copy => self.copy_helper(),
            Bulk::Fill => self.fill_helper(),
        };
        if self.seen {
            f.instruction(&I::Call(helper));
            return;
        }
        let [destination, source, length] = operands;
        keep(f, operands);
        f.instruction(&I::Drop)
            .instruction(&I::Drop)
            .instruction(&I::Drop);
        f.instruction(&I::LocalGet(length))
            .instruction(&I::I32Const(CHUNK))
            .instruction(&I::I32LeU)
            .instruction(&I::If(BlockType::Empty));
        bulk.whole(f, destination, source, length);
        f.instruction(&I::Else)
            .instruction(&I::LocalGet(destination))
            .instruction(&I::LocalGet(source))
            .instruction(&I::LocalGet(length))
            .instruction(&I::Call(helper))
            .instruction(&I::End);
    }

    /// Notes in the map that the 32-bit word at `address + offset`, or whatever is stored there, has been written.
    ///
    /// Only the first byte's page is noted: whoever reads the map takes the first bytes of the page behind it too. Comes behind the store, so
    /// the sum is known not to wrap.
    fn note(&self, f: &mut Function, address: u32, offset: u64) {
        f.instruction(&I::LocalGet(address));
        if offset > 0 {
            f.instruction(&I::I32Const((offset as u32).cast_signed()))
                .instruction(&I::I32Add);
        }
        f.instruction(&I::I32Const(PAGE_SHIFT as i32))
            .instruction(&I::I32ShrU)
            .instruction(&I::I32Const(1))
            .instruction(&I::I32Store8(MAP_ARGUMENT));
    }

    /// Notes a range of bytes; one that wraps or leaves the memory is cut where the memory can end at the latest.
    fn note_range(&self, f: &mut Function, address: u32, length: u32) {
        // pages = ((address % PAGE) + length + PAGE - 1) / PAGE, at most to the end of the map
        f.instruction(&I::LocalGet(length))
            .instruction(&I::If(BlockType::Empty));
        f.instruction(&I::LocalGet(address))
            .instruction(&I::I32Const(PAGE_SHIFT as i32))
            .instruction(&I::I32ShrU)
            .instruction(&I::I32Const(1));
        let pages_through_end = |f: &mut Function| {
            f.instruction(&I::LocalGet(address))
                .instruction(&I::I64ExtendI32U)
                .instruction(&I::LocalGet(length))
                .instruction(&I::I64ExtendI32U)
                .instruction(&I::I64Add)
                .instruction(&I::I64Const(1))
                .instruction(&I::I64Sub)
                .instruction(&I::I64Const(i64::from(PAGE_SHIFT)))
                .instruction(&I::I64ShrU);
        };
        // min(last page, last of the map) - first page + 1
        pages_through_end(f);
        f.instruction(&I::I64Const(LAST_PAGE));
        pages_through_end(f);
        f.instruction(&I::I64Const(LAST_PAGE))
            .instruction(&I::I64LtU)
            .instruction(&I::Select)
            .instruction(&I::I32WrapI64)
            .instruction(&I::LocalGet(address))
            .instruction(&I::I32Const(PAGE_SHIFT as i32))
            .instruction(&I::I32ShrU)
            .instruction(&I::I32Sub)
            .instruction(&I::I32Const(1))
            .instruction(&I::I32Add)
            .instruction(&I::MemoryFill(MAP_MEMORY))
            .instruction(&I::End);
    }
}

/// Puts the three operands on the stack into locals as well.
fn keep(f: &mut Function, [first, second, third]: [u32; 3]) {
    f.instruction(&I::LocalSet(third))
        .instruction(&I::LocalSet(second))
        .instruction(&I::LocalTee(first))
        .instruction(&I::LocalGet(second))
        .instruction(&I::LocalGet(third));
}

/// Loads from the leash, for the first time in a function or the `site`th.
///
/// Each place loads from an address of its own. A compiler may take two loads from one address for one, where nothing is stored between
/// them, and then an inner loop would lose its check to the loop around it.
fn touch(function: &mut Function, site: &mut u32) {
    function
        .instruction(&I::I32Const(0))
        .instruction(&I::I32Load8U(MemArg {
            offset: u64::from(*site),
            align: 0,
            target: MemArgTarget::Memory(LEASH_MEMORY),
            ordering: None,
        }))
        .instruction(&I::Drop);
    *site += 1;
}

/// Checks that one function may have: so many addresses has the leash.
pub(crate) const SITES: usize = 1 << 16;

/// The guest's memory is the first, and its only one.
const LEASH_MEMORY: u32 = 1;
const MAP_MEMORY: u32 = 2;

/// Where the map is written to.
const MAP_ARGUMENT: MemArg = MemArg {
    offset: 0,
    align: 0,
    target: MemArgTarget::Memory(MAP_MEMORY),
    ordering: None,
};

/// The last page that the map knows.
const LAST_PAGE: i64 = (1 << (32 - PAGE_SHIFT)) - 1;

/// The two instructions that are split into chunks.
enum Bulk {
    Copy,
    Fill,
}

impl Bulk {
    fn instruction(&self, f: &mut Function) {
        match self {
            Self::Copy => f.instruction(&I::MemoryCopy {
                src_mem: 0,
                dst_mem: 0,
            }),
            Self::Fill => f.instruction(&I::MemoryFill(0)),
        };
    }

    fn whole(&self, f: &mut Function, destination: u32, source: u32, length: u32) {
        f.instruction(&I::LocalGet(destination))
            .instruction(&I::LocalGet(source))
            .instruction(&I::LocalGet(length));
        self.instruction(f);
    }

    /// Leaves 1 where `address + length` is beyond the memory.
    fn out_of_bounds(&self, f: &mut Function, address: u32, length: u32) {
        f.instruction(&I::LocalGet(address))
            .instruction(&I::I64ExtendI32U)
            .instruction(&I::LocalGet(length))
            .instruction(&I::I64ExtendI32U)
            .instruction(&I::I64Add)
            .instruction(&I::MemorySize(0))
            .instruction(&I::I64ExtendI32U)
            .instruction(&I::I64Const(16))
            .instruction(&I::I64Shl)
            .instruction(&I::I64GtU);
    }
}

/// What a function contains that matters here.
#[derive(Default)]
struct Contents {
    calls: bool,
    /// `memory.copy`, `memory.fill` or `memory.init`: their operands need locals.
    bulk: bool,
    stores: bool,
}

fn contents(body: &FunctionBody<'_>) -> wasmparser::Result<Contents> {
    let mut contents = Contents::default();
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        match reader.read()? {
            Operator::Call { .. } | Operator::CallIndirect { .. } => contents.calls = true,
            Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. } => {
                contents.bulk = true;
            }
            ref other => contents.stores |= store(other).is_some(),
        }
    }
    Ok(contents)
}

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
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.helper_type());
        functions.function(self.helper_type());
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
        memories.memory(fixed(1));
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
        code.function(&self.helper(&Bulk::Copy));
        code.function(&self.helper(&Bulk::Fill));
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Result {
        let contents = contents(&body)?;
        let ty = self.defined[self.next_body] as usize;
        self.next_body += 1;
        let mut locals = Vec::new();
        // Behind the function's own locals: three for the operands of a bulk instruction, then one for an address and one for each
        // type that may be stored.
        let mut first = self.parameters[ty];
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            first += count;
            locals.push((count, self.val_type(ty)?));
        }
        let operands = [first, first + 1, first + 2];
        if contents.bulk {
            locals.push((3, ValType::I32));
            first += 3;
        }
        let (address, values) = (first, first + 1);
        if self.seen && contents.stores {
            locals.push((1, ValType::I32));
            locals.extend(Stored::TYPES.map(|ty| (1, ty)));
        }
        let mut function = Function::new(locals);
        let mut site = 0;
        if contents.calls {
            touch(&mut function, &mut site);
        }
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            match operator {
                Operator::MemoryCopy { .. } => self.bulk(&mut function, &Bulk::Copy, operands),
                Operator::MemoryFill { .. } => self.bulk(&mut function, &Bulk::Fill, operands),
                Operator::Loop { .. } => {
                    function.instruction(&self.instruction(operator)?);
                    touch(&mut function, &mut site);
                }
                Operator::MemoryInit { .. } if self.seen => {
                    keep(&mut function, operands);
                    function.instruction(&self.instruction(operator)?);
                    self.note_range(&mut function, operands[0], operands[2]);
                }
                other => match store(&other).filter(|_| self.seen) {
                    Some((offset, ty)) => {
                        let value = values + ty as u32;
                        function
                            .instruction(&I::LocalSet(value))
                            .instruction(&I::LocalTee(address))
                            .instruction(&I::LocalGet(value))
                            .instruction(&self.instruction(other)?);
                        self.note(&mut function, address, offset);
                    }
                    None => {
                        function.instruction(&self.instruction(other)?);
                    }
                },
            }
        }
        code.function(&function);
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
