//! What is known of a module from its bytes: which ABI it speaks, what it imports, exports and needs.

use std::fmt;

/// Which of the two contracts a module fulfils, found by its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// `memory`, `etl_alloc_v1` and `etl_process_v1`: frames of records in, frames of verdicts out.
    V1,
    /// `memory` and `transform`: one value in, one value out.
    Legacy,
}

impl Abi {
    /// `"v1"` or `"legacy"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One import, as the module declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module name, such as `etl`.
    pub module: String,
    /// The field name, such as `log`.
    pub name: String,
    /// Its type in words, such as `(i32, i32) -> i64`.
    pub signature: String,
}

/// One export, as the module declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Its type in words: a function's signature, or `memory`, `table`, `global`.
    pub signature: String,
}

/// What a module's bytes say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Which contract it fulfils; `None` where it is not a module of either.
    pub abi: Option<Abi>,
    /// What it imports, in file order.
    pub imports: Vec<Import>,
    /// What it exports, in file order.
    pub exports: Vec<Export>,
    /// Bytes of linear memory that it starts with.
    pub memory_minimum_bytes: u64,
    /// Bytes of linear memory that it declares as its maximum.
    pub memory_maximum_bytes: Option<u64>,
    /// Bytes that an instance takes on the host beside its linear memory, at the most and roughly: tables, and what the runtime keeps for functions,
    /// globals and exports.
    pub host_bytes: u64,
    /// Functions, not counting imports.
    pub functions: usize,
    /// Whether it can see a clock or random numbers: then the same input may give another output.
    pub nondeterministic: bool,
    /// Whether any instruction can change a table.
    pub changes_tables: bool,
}
