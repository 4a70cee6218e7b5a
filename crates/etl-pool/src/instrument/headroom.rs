//! Room on the stack for what the runtime does on it.
//!
//! The runtime has functions of its own for some instructions, and they run on the guest's stack. That would be no matter, were it not for their
//! traps: for one it takes a picture of the stack, under a lock that all threads share. A guest that runs out of stack in the middle of that is
//! stopped there, the lock stays taken, and every later trap on another thread waits for ever.
//!
//! So in front of such an instruction stands a call of a function that needs more stack than the runtime does. Where there is not so much left,
//! the guest runs out of it there, in its own code. Its frame is made large by a call with a great many parameters: room for them is part of it, and the
//! compiler touches each page of that before anything else. The call itself is never made.

use wasm_encoder::{BlockType, Function, Instruction as I, ValType};
use wasmparser::Operator;

/// What is never called takes 4 KiB of parameters.
const WIDE: &[ValType] = &[ValType::V128; 256];

/// Frames inside one another: 48 KiB together. A picture of the stack takes a few, in a developer's build too.
const FRAMES: i32 = 12;

/// The parameters of each function that is added, in their order.
pub(super) const TYPES: [&[ValType]; 3] = [&[], &[ValType::I32], WIDE];

/// Whether the runtime may trap in a function of its own for this instruction. `memory.copy` and `memory.fill` are seen to in `bulk`. What grows
/// something or drops a segment runs on the host's stack.
fn is_needed(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Unreachable
            | Operator::MemoryInit { .. }
            | Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
    )
}

/// Sees to it that there is enough for an instruction. `first` is the first function that is added.
pub(super) fn before(f: &mut Function, operator: &Operator<'_>, first: u32) {
    if is_needed(operator) {
        f.instruction(&I::Call(first));
    }
}

/// The functions that are added.
pub(super) fn functions(first: u32) -> [Function; TYPES.len()] {
    let (frame, wide) = (first + 1, first + 2);
    let mut ask = Function::new([]);
    ask.instruction(&I::I32Const(FRAMES))
        .instruction(&I::Call(frame))
        .instruction(&I::End);
    let mut empty = Function::new([]);
    empty.instruction(&I::End);
    [ask, frames(frame, wide), empty]
}

/// `(frames)`: so many of them inside one another.
fn frames(own: u32, wide: u32) -> Function {
    const LEFT: u32 = 0;
    const NONE: u32 = 1;
    let mut f = Function::new([(1, ValType::V128)]);
    // Never so, which the compiler does not know.
    f.instruction(&I::LocalGet(LEFT))
        .instruction(&I::I32Eqz)
        .instruction(&I::If(BlockType::Empty));
    for _ in WIDE {
        f.instruction(&I::LocalGet(NONE));
    }
    f.instruction(&I::Call(wide)).instruction(&I::End);
    f.instruction(&I::LocalGet(LEFT))
        .instruction(&I::I32Const(1))
        .instruction(&I::I32GtU)
        .instruction(&I::If(BlockType::Empty))
        .instruction(&I::LocalGet(LEFT))
        .instruction(&I::I32Const(1))
        .instruction(&I::I32Sub)
        .instruction(&I::Call(own))
        .instruction(&I::End)
        .instruction(&I::End);
    f
}
