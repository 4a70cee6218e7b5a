//! Which instructions store to memory, where, and what.

use wasm_encoder::ValType;
use wasmparser::Operator;

/// Offset and type of what an instruction stores, where it stores.
pub(super) fn store(operator: &Operator<'_>) -> Option<(u64, Stored)> {
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
pub(super) enum Stored {
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Stored {
    pub(super) const TYPES: [ValType; 5] = [
        ValType::I32,
        ValType::I64,
        ValType::F32,
        ValType::F64,
        ValType::V128,
    ];
}
