//! Rewrites a vetted module so that it can be stopped, and so that its state can be seen.
//!
//! **Stopping.** A mutable global holds the fuel of the current slice. Every function entry takes the number of its instructions
//! from it, every loop header the number of instructions of the loop's body (inner loops pay for themselves), and instructions
//! that work on a length pay by that length. Where the fuel falls below zero the guest calls one imported function of the host, which
//! looks at the clock: past the deadline it traps, before it answers the next slice. A call that ends within its slice never
//! meets the host, and nothing needs to be written when a call starts.
//!
//! `memory.copy` and `memory.fill` of more than a chunk are done in chunks by two helper functions that are added, so that a
//! single instruction cannot run for longer than a chunk takes.
//!
//! **Seeing**, where an instance is to be put back to an earlier state. Mutable globals and tables get an export under a reserved name. Beside
//! the module's memory stands a second one, the map: one byte for each 4 KiB page, set behind every store, so that what
//! must be copied back is known without looking at the rest. The map is the host's: no instruction of the guest can reach it.
//!
//! It expects a module that `vet` has accepted, and keeps everything else as it is: function indices shift by one behind the
//! imports, nothing else moves. Custom sections go, but for the names, which make traps readable.

use wasm_encoder::reencode::{Error as ReencodeError, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, Instruction as I, MemArg, MemArgTarget,
    MemorySection, MemoryType, Module, NameSection, SectionId, TypeSection, ValType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

/// The module name and name prefix that instrumentation keeps for itself; vetting refuses guests that use it.
pub(crate) const RESERVED: &str = "etl:pool/";

/// The import that a guest calls when its slice is spent: `() -> i64`, the next slice.
pub(crate) const SLICE_SPENT: (&str, &str) = ("etl:pool/", "slice_spent");

/// Changes whenever the rewriting does, so that code that was made by another one is not loaded.
pub(crate) const INSTRUMENT_VERSION: u32 = 1;

/// Fuel of one slice: about as many instructions.
///
/// At one instruction a nanosecond and less the clock is looked at every 50 to 100 µs; where every instruction misses the cache,
/// every 10 ms.
pub(crate) const SLICE: i64 = 100_000;

/// Bytes that one byte of the map stands for, as a power of two.
pub(crate) const PAGE_SHIFT: u32 = 12;

/// The map of a memory of 4 GiB, in pages of WebAssembly. It is zeroed memory that is only there once it is written to.
const MAP_PAGES: u64 = 16;

/// The name under which the map is exported.
pub(crate) const MAP: &str = "etl:pool/map";

/// Bytes that one `memory.copy` or `memory.fill` may work on at a time.
const CHUNK: i32 = 256 << 10;

/// Bytes of bulk memory work that count as one instruction.
const BYTES_PER_FUEL_SHIFT: i32 = 4;

/// What a page of `memory.grow` counts as: it is a system call, and the pages are zeroed when they are first touched.
const FUEL_PER_PAGE: i64 = 1_000;

/// What an element of a bulk table instruction counts as.
const FUEL_PER_ELEMENT: i64 = 4;

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
    /// The global that holds the fuel: the one behind all others.
    fuel: u32,
    /// Whether writes are noted and state is exported.
    seen: bool,
    /// Mutable globals.
    mutable: Vec<u32>,
    tables: u32,
    /// Which sections that may be missing have been written.
    imports_written: bool,
    globals_written: bool,
    /// The defined function whose body comes next.
    next_body: usize,
}

/// Types that are added behind the module's own.
const ADDED_SPENT: u32 = 0;
const ADDED_HELPER: u32 = 1;

impl Rewriter {
    /// Counts what the rewriting needs to know before it starts.
    fn new(bytes: &[u8], seen: bool) -> wasmparser::Result<Self> {
        let mut this = Self {
            parameters: Vec::new(),
            defined: Vec::new(),
            imported_functions: 0,
            fuel: 0,
            seen,
            mutable: Vec::new(),
            tables: 0,
            imports_written: false,
            globals_written: false,
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
                                this.imported_functions += 1
                            }
                            TypeRef::Global(_) => this.fuel += 1,
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
                            this.mutable.push(this.fuel);
                        }
                        this.fuel += 1;
                    }
                }
                Payload::TableSection(section) => this.tables = section.count(),
                _ => {}
            }
        }
        Ok(this)
    }

    /// The imported function that is called when the slice is spent.
    fn spent(&self) -> u32 {
        self.imported_functions
    }

    fn copy_helper(&self) -> u32 {
        self.imported_functions + 1 + self.defined.len() as u32
    }

    fn fill_helper(&self) -> u32 {
        self.copy_helper() + 1
    }

    fn added_type(&self, which: u32) -> u32 {
        self.parameters.len() as u32 + which
    }

    fn write_import(&mut self, imports: &mut ImportSection) {
        let (module, name) = SLICE_SPENT;
        imports.import(
            module,
            name,
            wasm_encoder::EntityType::Function(self.added_type(ADDED_SPENT)),
        );
        self.imports_written = true;
    }

    fn write_global(&mut self, globals: &mut GlobalSection) {
        let ty = GlobalType {
            val_type: ValType::I64,
            mutable: true,
            shared: false,
        };
        globals.global(ty, &ConstExpr::i64_const(SLICE));
        self.globals_written = true;
    }

    /// Asks the host for the next slice if the fuel is below zero.
    fn check(&self, function: &mut Function) {
        function
            .instruction(&I::GlobalGet(self.fuel))
            .instruction(&I::I64Const(0))
            .instruction(&I::I64LtS)
            .instruction(&I::If(BlockType::Empty))
            .instruction(&I::Call(self.spent()))
            .instruction(&I::GlobalSet(self.fuel))
            .instruction(&I::End);
    }

    /// Takes a constant amount of fuel, then checks.
    fn charge(&self, function: &mut Function, amount: i64) {
        function
            .instruction(&I::GlobalGet(self.fuel))
            .instruction(&I::I64Const(amount))
            .instruction(&I::I64Sub)
            .instruction(&I::GlobalSet(self.fuel));
        self.check(function);
    }

    /// Takes fuel by a length that is in a local, `per_unit` for each, then checks.
    fn charge_length(&self, function: &mut Function, length: u32, per_unit: i64) {
        function
            .instruction(&I::GlobalGet(self.fuel))
            .instruction(&I::LocalGet(length))
            .instruction(&I::I64ExtendI32U)
            .instruction(&I::I64Const(per_unit))
            .instruction(&I::I64Mul)
            .instruction(&I::I64Sub)
            .instruction(&I::GlobalSet(self.fuel));
        self.check(function);
    }

    /// Takes fuel by the bytes that a local counts, then checks.
    fn charge_bytes(&self, function: &mut Function, bytes: u32) {
        function
            .instruction(&I::GlobalGet(self.fuel))
            .instruction(&I::LocalGet(bytes))
            .instruction(&I::I32Const(BYTES_PER_FUEL_SHIFT))
            .instruction(&I::I32ShrU)
            .instruction(&I::I64ExtendI32U)
            .instruction(&I::I64Sub)
            .instruction(&I::GlobalSet(self.fuel));
        self.check(function);
    }

    /// `(destination, source or value, length)`: `memory.copy` or `memory.fill` in chunks.
    fn helper(&self, bulk: &Bulk) -> Function {
        const DESTINATION: u32 = 0;
        const SOURCE: u32 = 1;
        const LENGTH: u32 = 2;
        let mut f = Function::new([]);
        self.charge_bytes_up_to_chunk(&mut f, LENGTH);
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
            self.charge(&mut f, i64::from(CHUNK >> BYTES_PER_FUEL_SHIFT));
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
        self.charge(&mut f, i64::from(CHUNK >> BYTES_PER_FUEL_SHIFT));
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
            .instruction(&I::MemoryFill(1))
            .instruction(&I::End);
    }

    /// The helper's entry: a short operation pays for its bytes, a long one pays chunk by chunk later.
    fn charge_bytes_up_to_chunk(&self, f: &mut Function, length: u32) {
        f.instruction(&I::LocalGet(length))
            .instruction(&I::I32Const(CHUNK))
            .instruction(&I::I32LeU)
            .instruction(&I::If(BlockType::Empty));
        self.charge_bytes(f, length);
        f.instruction(&I::End);
    }
}

/// Where the map is written to.
const MAP_ARGUMENT: MemArg = MemArg {
    offset: 0,
    align: 0,
    target: MemArgTarget::Memory(1),
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

/// Instructions that belong to the function itself and to each of its loops, inner loops not counted.
struct Costs {
    entry: i64,
    /// In the order in which the loops open.
    loops: Vec<i64>,
    uses_lengths: bool,
    stores: bool,
}

fn costs(body: &FunctionBody<'_>) -> wasmparser::Result<Costs> {
    let mut costs = Costs {
        entry: 1,
        loops: Vec::new(),
        uses_lengths: false,
        stores: false,
    };
    // For each open block, the loop that pays for what is in it.
    let mut payers: Vec<Option<usize>> = vec![None];
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let operator = reader.read()?;
        let payer = payers.last().copied().flatten();
        match payer {
            Some(index) => costs.loops[index] += 1,
            None => costs.entry += 1,
        }
        match operator {
            Operator::Loop { .. } => {
                payers.push(Some(costs.loops.len()));
                costs.loops.push(1);
            }
            Operator::Block { .. } | Operator::If { .. } => payers.push(payer),
            Operator::End => {
                payers.pop();
            }
            ref other => {
                costs.uses_lengths |= length_cost(other).is_some();
                costs.stores |= store(other).is_some();
            }
        }
    }
    Ok(costs)
}

/// Offset and type of what an instruction stores, where it stores.
fn store(operator: &Operator<'_>) -> Option<(u64, Stored)> {
    let (argument, stored) = match *operator {
        Operator::I32Store { memarg }
        | Operator::I32Store8 { memarg }
        | Operator::I32Store16 { memarg } => (memarg, Stored::I32),
        Operator::I64Store { memarg }
        | Operator::I64Store8 { memarg }
        | Operator::I64Store16 { memarg }
        | Operator::I64Store32 { memarg } => (memarg, Stored::I64),
        Operator::F32Store { memarg } => (memarg, Stored::F32),
        Operator::F64Store { memarg } => (memarg, Stored::F64),
        Operator::V128Store { memarg }
        | Operator::V128Store8Lane { memarg, .. }
        | Operator::V128Store16Lane { memarg, .. }
        | Operator::V128Store32Lane { memarg, .. }
        | Operator::V128Store64Lane { memarg, .. } => (memarg, Stored::V128),
        _ => return None,
    };
    Some((argument.offset, stored))
}

/// The type on top of the stack when something is stored, and the scratch local that holds it meanwhile.
#[derive(Clone, Copy)]
enum Stored {
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Stored {
    const TYPES: [ValType; 5] = [
        ValType::I32,
        ValType::I64,
        ValType::F32,
        ValType::F64,
        ValType::V128,
    ];
}

/// Fuel for each unit of the length that is on top of the stack before the instruction, where it has one.
fn length_cost(operator: &Operator<'_>) -> Option<i64> {
    match operator {
        Operator::MemoryGrow { .. } => Some(FUEL_PER_PAGE),
        // By the byte, and dearer than copying within memory: it is rare.
        Operator::MemoryInit { .. } => Some(1),
        Operator::TableGrow { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. } => Some(FUEL_PER_ELEMENT),
        _ => None,
    }
}

type Result<T = ()> = std::result::Result<T, ReencodeError<std::convert::Infallible>>;

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32> {
        Ok(if index < self.imported_functions {
            index
        } else {
            index + 1
        })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], [ValType::I64]);
        types
            .ty()
            .function([ValType::I32, ValType::I32, ValType::I32], []);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result {
        utils::parse_import_section(self, imports, section)?;
        self.write_import(imports);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.added_type(ADDED_HELPER));
        functions.function(self.added_type(ADDED_HELPER));
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result {
        utils::parse_memory_section(self, memories, section)?;
        if self.seen {
            memories.memory(MemoryType {
                minimum: MAP_PAGES,
                maximum: Some(MAP_PAGES),
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result {
        utils::parse_global_section(self, globals, section)?;
        self.write_global(globals);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result {
        utils::parse_export_section(self, exports, section)?;
        if self.seen {
            exports.export(MAP, ExportKind::Memory, 1);
            for (name, &index) in self.mutable.iter().enumerate() {
                exports.export(&global_name(name), ExportKind::Global, index);
            }
            for index in 0..self.tables {
                exports.export(&table_name(index as usize), ExportKind::Table, index);
            }
        }
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result {
        // A module that loads has functions and exports, so both of these sections have a later one to come before.
        let Some(before) = before else { return Ok(()) };
        if !self.imports_written && !matches!(before, SectionId::Type | SectionId::Import) {
            let mut imports = ImportSection::new();
            self.write_import(&mut imports);
            module.section(&imports);
        }
        let behind_globals = matches!(
            before,
            SectionId::Export
                | SectionId::Start
                | SectionId::Element
                | SectionId::DataCount
                | SectionId::Code
                | SectionId::Data
        );
        if !self.globals_written && behind_globals {
            let mut globals = GlobalSection::new();
            self.write_global(&mut globals);
            module.section(&globals);
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
        let costs = costs(&body)?;
        let ty = self.defined[self.next_body] as usize;
        self.next_body += 1;
        let mut locals = Vec::new();
        let mut scratch = self.parameters[ty];
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            scratch += count;
            locals.push((count, self.val_type(ty)?));
        }
        // Behind the function's own locals: one for a length or address, one for each type that may be stored.
        let notes = self.seen && (costs.stores || costs.uses_lengths);
        if costs.uses_lengths || notes {
            locals.push((1, ValType::I32));
        }
        let values = scratch + 1;
        if notes {
            locals.extend(Stored::TYPES.map(|ty| (1, ty)));
        }
        let mut function = Function::new(locals);
        self.charge(&mut function, costs.entry);
        let mut loops = costs.loops.iter();
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            let stored = if self.seen { store(&operator) } else { None };
            match operator {
                Operator::MemoryCopy { .. } => {
                    function.instruction(&I::Call(self.copy_helper()));
                }
                Operator::MemoryFill { .. } => {
                    function.instruction(&I::Call(self.fill_helper()));
                }
                Operator::Loop { .. } => {
                    function.instruction(&self.instruction(operator)?);
                    if let Some(&cost) = loops.next() {
                        self.charge(&mut function, cost);
                    }
                }
                Operator::MemoryInit { .. } if self.seen => {
                    let (length, source, destination) = (scratch, values, values + 1);
                    function
                        .instruction(&I::LocalSet(length))
                        .instruction(&I::LocalSet(source))
                        .instruction(&I::I64ExtendI32U)
                        .instruction(&I::LocalTee(destination))
                        .instruction(&I::I32WrapI64)
                        .instruction(&I::LocalGet(source))
                        .instruction(&I::LocalGet(length))
                        .instruction(&self.instruction(operator)?);
                    // The address moves to where the range is noted from; the source is not needed any more.
                    function
                        .instruction(&I::LocalGet(destination))
                        .instruction(&I::I32WrapI64)
                        .instruction(&I::LocalSet(source));
                    self.note_range(&mut function, source, length);
                    self.charge_length(&mut function, length, 1);
                }
                other => {
                    if let Some((offset, ty)) = stored {
                        let value = values + ty as u32;
                        function
                            .instruction(&I::LocalSet(value))
                            .instruction(&I::LocalTee(scratch))
                            .instruction(&I::LocalGet(value))
                            .instruction(&self.instruction(other)?);
                        self.note(&mut function, scratch, offset);
                    } else if let Some(per_unit) = length_cost(&other) {
                        function.instruction(&I::LocalTee(scratch));
                        function.instruction(&self.instruction(other)?);
                        self.charge_length(&mut function, scratch, per_unit);
                    } else {
                        function.instruction(&self.instruction(other)?);
                    }
                }
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
