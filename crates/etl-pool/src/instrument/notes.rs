//! Notes of what is written: a byte in the map for each page, set behind every store, and one for segments that are dropped.

use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, MemArgTarget};

use super::{DROPPED, MAP_MEMORY, PAGE_SHIFT};

/// Where the map is written to.
const MAP_ARGUMENT: MemArg = MemArg {
    offset: 0,
    align: 0,
    target: MemArgTarget::Memory(MAP_MEMORY),
    ordering: None,
};

/// The last page that the map knows.
const LAST_PAGE: i64 = (1 << (32 - PAGE_SHIFT)) - 1;

/// Notes in the map that the 32-bit word at `address + offset`, or whatever is stored there, has been written.
///
/// Only the first byte's page is noted: whoever reads the map takes the first bytes of the page behind it too. Comes behind the store, so
/// the sum is known not to wrap.
pub(super) fn note(f: &mut Function, address: u32, offset: u64) {
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

/// Notes that a segment is dropped.
pub(super) fn note_drop(f: &mut Function) {
    f.instruction(&I::I32Const(DROPPED as i32))
        .instruction(&I::I32Const(1))
        .instruction(&I::I32Store8(MAP_ARGUMENT));
}

/// Notes a range of bytes; one that wraps or leaves the memory is cut where the memory can end at the latest.
pub(super) fn note_range(f: &mut Function, address: u32, length: u32) {
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
