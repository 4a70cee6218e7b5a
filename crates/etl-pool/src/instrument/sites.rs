//! Checks, and the addresses that they load from.
//!
//! A compiler may take two loads from one address for one, where nothing is stored between them. An inner loop would then lose its check to the loop
//! around it, so the check of every loop of a function loads from an address of its own. Those outside of loop headers take turns on as
//! many addresses behind: two that share one are tens of thousands of checks apart.

use wasm_encoder::{Function, Instruction as I, MemArg, MemArgTarget};

use super::LEASH_MEMORY;

/// Loop headers that one function may have.
pub(crate) const SITES: usize = 1 << 16;

/// Bytes of the leash: an address for each loop header, and as many for other checks.
pub(crate) const LEASH_BYTES: usize = 2 * SITES;

/// The checks of one function so far.
#[derive(Default)]
pub(super) struct Sites {
    loops: usize,
    others: usize,
}

impl Sites {
    /// A check in a loop header.
    pub(super) fn in_loop(&mut self, f: &mut Function) {
        touch(f, self.loops);
        self.loops += 1;
    }

    /// A check anywhere else.
    pub(super) fn elsewhere(&mut self, f: &mut Function) {
        touch(f, SITES + self.others % SITES);
        self.others += 1;
    }
}

/// Loads from the leash and drops what was loaded.
fn touch(f: &mut Function, address: usize) {
    f.instruction(&I::I32Const(0))
        .instruction(&I::I32Load8U(MemArg {
            offset: address as u64,
            align: 0,
            target: MemArgTarget::Memory(LEASH_MEMORY),
            ordering: None,
        }))
        .instruction(&I::Drop);
}
