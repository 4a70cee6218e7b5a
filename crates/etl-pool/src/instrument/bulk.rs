//! `memory.copy`, `memory.fill` and `memory.init` in chunks, with a check between them.
//!
//! One such instruction can work on all of a memory. A short one stays where it stands; a long one is done by a function that is added to the
//! module: one that copies, one that fills, and one for each data segment that is longer than a chunk.
//!
//! A copy or fill that is out of bounds traps here and not in the runtime, for the reason that `headroom` gives. A short one is known to be within bounds
//! when its last bytes can be loaded, which costs next to nothing, since it works on them anyway.

use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, MemArgTarget};

use super::notes::note_range;
use super::sites::Sites;

/// Bytes that one instruction may work on at a time.
pub(super) const CHUNK: i32 = 256 << 10;

/// The instructions that are split into chunks.
pub(super) enum Bulk {
    Copy,
    Fill,
    /// From a data segment of so many bytes, as long as nobody has dropped it.
    Init {
        segment: u32,
        length: u32,
    },
}

impl Bulk {
    fn instruction(&self, f: &mut Function) {
        match self {
            Self::Copy => f.instruction(&I::MemoryCopy {
                src_mem: 0,
                dst_mem: 0,
            }),
            Self::Fill => f.instruction(&I::MemoryFill(0)),
            Self::Init { segment, .. } => f.instruction(&I::MemoryInit {
                mem: 0,
                data_index: *segment,
            }),
        };
    }

    fn whole(&self, f: &mut Function, destination: u32, source: u32, length: u32) {
        f.instruction(&I::LocalGet(destination))
            .instruction(&I::LocalGet(source))
            .instruction(&I::LocalGet(length));
        self.instruction(f);
    }

    /// Leaves 1 where what is read from is left. A segment that was dropped has nothing any more, and the first chunk traps.
    fn source_out_of_bounds(&self, f: &mut Function, source: u32, length: u32) {
        match self {
            Self::Copy => beyond_memory(f, source, length),
            Self::Fill => {
                f.instruction(&I::I32Const(0));
            }
            Self::Init { length: most, .. } => {
                end(f, source, length);
                f.instruction(&I::I64Const(i64::from(*most)))
                    .instruction(&I::I64GtU);
            }
        }
    }

    /// Whether the second operand is an address that moves along.
    fn has_source(&self) -> bool {
        !matches!(self, Self::Fill)
    }
}

/// Leaves `address + length`, in 64 bits.
fn end(f: &mut Function, address: u32, length: u32) {
    f.instruction(&I::LocalGet(address))
        .instruction(&I::I64ExtendI32U)
        .instruction(&I::LocalGet(length))
        .instruction(&I::I64ExtendI32U)
        .instruction(&I::I64Add);
}

/// Leaves 1 where `address + length` is beyond the memory.
fn beyond_memory(f: &mut Function, address: u32, length: u32) {
    end(f, address, length);
    f.instruction(&I::MemorySize(0))
        .instruction(&I::I64ExtendI32U)
        .instruction(&I::I64Const(16))
        .instruction(&I::I64Shl)
        .instruction(&I::I64GtU);
}

/// Loads a byte, and drops it: traps where there is none.
fn touch(f: &mut Function, offset: u32) {
    f.instruction(&I::I32Load8U(MemArg {
        offset: offset.into(),
        align: 0,
        target: MemArgTarget::Memory(0),
        ordering: None,
    }))
    .instruction(&I::Drop);
}

/// Traps as an access outside the memory.
fn trap(f: &mut Function) {
    f.instruction(&I::I32Const(-1));
    touch(f, u32::MAX);
}

/// `(destination, source or value, length)`: the instruction in chunks.
pub(super) fn helper(bulk: &Bulk, seen: bool) -> Function {
    const DESTINATION: u32 = 0;
    const SOURCE: u32 = 1;
    const LENGTH: u32 = 2;
    let mut f = Function::new([]);
    let mut sites = Sites::default();
    if seen {
        // Before the write: a write that traps after this leaves pages noted that did not change, which costs a copy and no more.
        note_range(&mut f, DESTINATION, LENGTH);
    }
    // Out of bounds must trap before anything is written.
    beyond_memory(&mut f, DESTINATION, LENGTH);
    bulk.source_out_of_bounds(&mut f, SOURCE, LENGTH);
    f.instruction(&I::I32Or);
    f.instruction(&I::If(BlockType::Empty));
    trap(&mut f);
    f.instruction(&I::End);
    f.instruction(&I::LocalGet(LENGTH))
        .instruction(&I::I32Const(CHUNK))
        .instruction(&I::I32LeU)
        .instruction(&I::If(BlockType::Empty));
    bulk.whole(&mut f, DESTINATION, SOURCE, LENGTH);
    f.instruction(&I::Return).instruction(&I::End);

    if matches!(bulk, Bulk::Copy) {
        // A copy upwards starts at its end, so that a source that it overlaps is read before it is overwritten.
        f.instruction(&I::LocalGet(DESTINATION))
            .instruction(&I::LocalGet(SOURCE))
            .instruction(&I::I32GtU)
            .instruction(&I::If(BlockType::Empty))
            .instruction(&I::Loop(BlockType::Empty));
        sites.in_loop(&mut f);
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
    sites.in_loop(&mut f);
    f.instruction(&I::LocalGet(DESTINATION))
        .instruction(&I::LocalGet(SOURCE))
        .instruction(&I::I32Const(CHUNK));
    bulk.instruction(&mut f);
    let advanced: &[u32] = if bulk.has_source() {
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

/// A short instruction where it stands, if it is within bounds; any other by the helper. Always by the helper where writes are noted.
pub(super) fn in_chunks(
    f: &mut Function,
    bulk: &Bulk,
    helper: u32,
    seen: bool,
    operands: [u32; 3],
) {
    if seen {
        f.instruction(&I::Call(helper));
        return;
    }
    let [destination, source, length] = operands;
    f.instruction(&I::LocalSet(length))
        .instruction(&I::LocalSet(source))
        .instruction(&I::LocalSet(destination));
    // Between one byte and a chunk, and no range beyond 4 GiB, where the address of its last byte would be a low one.
    f.instruction(&I::LocalGet(length))
        .instruction(&I::I32Const(1))
        .instruction(&I::I32Sub)
        .instruction(&I::I32Const(CHUNK))
        .instruction(&I::I32LtU);
    let ranges = &[destination, source][..if matches!(bulk, Bulk::Copy) { 2 } else { 1 }];
    for &start in ranges {
        last(f, start, length);
        f.instruction(&I::LocalGet(start))
            .instruction(&I::I32GeU)
            .instruction(&I::I32And);
    }
    f.instruction(&I::If(BlockType::Empty));
    for &start in ranges {
        last(f, start, length);
        touch(f, 0);
    }
    bulk.whole(f, destination, source, length);
    f.instruction(&I::Else)
        .instruction(&I::LocalGet(destination))
        .instruction(&I::LocalGet(source))
        .instruction(&I::LocalGet(length))
        .instruction(&I::Call(helper))
        .instruction(&I::End);
}

/// Leaves the address of the last byte of a range.
fn last(f: &mut Function, start: u32, length: u32) {
    f.instruction(&I::LocalGet(start))
        .instruction(&I::LocalGet(length))
        .instruction(&I::I32Add)
        .instruction(&I::I32Const(1))
        .instruction(&I::I32Sub);
}

/// Puts the three operands on the stack into locals as well.
pub(super) fn keep(f: &mut Function, [first, second, third]: [u32; 3]) {
    f.instruction(&I::LocalSet(third))
        .instruction(&I::LocalSet(second))
        .instruction(&I::LocalTee(first))
        .instruction(&I::LocalGet(second))
        .instruction(&I::LocalGet(third));
}
