//! Caps on the size and shape of a module, checked before the compiler sees it.
//!
//! A small file can make a compiler run for minutes or take gigabytes, so what a module may contain is bounded first. The defaults
//! leave room for everything a normal toolchain makes of a few megabytes of source; `docs/decisions.md` has what large programs come to, and
//! what a function at each cap costs.

use std::time::Duration;

/// What a module may contain at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of the whole file.
    pub module_bytes: usize,
    /// Types.
    pub types: usize,
    /// Parameters and results of all types together: for each type the compiler makes code that passes them on.
    pub type_values: usize,
    /// Imports.
    pub imports: usize,
    /// Functions, not counting imports.
    pub functions: usize,
    /// Bytes of one function's body.
    pub body_bytes: usize,
    /// Parameters and locals of one function.
    pub locals: usize,
    /// Nesting of blocks inside one function.
    pub nesting: usize,
    /// Loops in one function.
    pub loops: usize,
    /// Instructions of one function that open blocks or leave them, and those on many bytes of memory three times: the rewriting makes blocks of them.
    pub branches: usize,
    /// Values that the blocks of one function take and leave, and that its branches carry, all together.
    pub block_values: usize,
    /// Values that the calls of one function take and leave, all together.
    pub call_values: usize,
    /// Pairs of a block and a local that is used in it, at any depth, in one function. Each may become a value of its own.
    pub joins: usize,
    /// For each local of one function its pairs as above, squared, all together: the compiler's time for putting the values of one local together
    /// grows like that.
    pub join_squares: usize,
    /// For each local of one function how many blocks and branches come before its last use, all together: the compiler keeps a place for each, also
    /// where nothing in them uses the local.
    pub kept: usize,
    /// Targets of all `br_table` instructions of one function together.
    pub branch_targets: usize,
    /// Globals.
    pub globals: usize,
    /// Exports.
    pub exports: usize,
    /// Tables.
    pub tables: usize,
    /// Elements of one table, at the start and ever.
    pub table_elements: u32,
    /// Element segments, and elements in all of them together.
    pub elements: usize,
    /// Data segments.
    pub data_segments: usize,
    /// How long compiling may take. It is looked at between functions, so it takes as long as one more of them at the most.
    pub compile_time: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            module_bytes: 32 << 20,
            types: 10_000,
            type_values: 50_000,
            imports: 1_000,
            functions: 50_000,
            body_bytes: 512 << 10,
            locals: 5_000,
            nesting: 512,
            loops: 3_000,
            branches: 25_000,
            block_values: 12_000,
            call_values: 100_000,
            joins: 60_000,
            join_squares: 150_000_000,
            kept: 4_000_000,
            branch_targets: 50_000,
            globals: 10_000,
            exports: 10_000,
            tables: 16,
            table_elements: 100_000,
            elements: 200_000,
            data_segments: 50_000,
            compile_time: Duration::from_secs(60),
        }
    }
}
