//! The state of an instance just after its initialisation, and the way back to it.
//!
//! The rewritten code notes every page that it writes to (see `instrument`); the host notes its own writes in the same map. Going back
//! copies those pages from what was kept, or zeroes them, and sets the mutable globals again. Tables are put back only where the
//! module has an instruction that can change one. An instance whose memory or tables have grown cannot go back: they do not shrink. Nor can one that
//! has dropped a segment since (`data.drop`, `elem.drop`): the runtime keeps no copy. Nor one whose tables could have changed and are so large that a
//! new instance costs less than putting them back.
//!
//! What is kept are the pages that were not zero, so a guest with a stack of 1 MiB that it never used costs nothing for it. It counts as memory of the
//! instance, and looking for it ends at the deadline, as what the guest does itself.

use std::sync::Arc;
use std::time::Instant;

use wasmer::{Global, Memory, MemoryView, Store, Table, Value};

use super::memory::USED_UP;
use crate::budget::{Account, MemoryBudget};
use crate::error::{CallError, FailureKind};
use crate::facts::Facts;
use crate::instrument::{DROPPED, MAP, PAGE_SHIFT, global_name, table_name};

const PAGE: usize = 1 << PAGE_SHIFT;

/// Pages that are looked at between two looks at the clock: 1 MiB.
const STEP: usize = 256;

/// Bytes of the map that are there once anything is noted: a page for a small memory's, and the one of what was dropped.
const NOTES: u64 = 8 << 10;

/// Elements of all tables together that are put back: at about 20 ns each.
const ELEMENTS: usize = 1 << 14;

/// Bytes of the next page that a store to the last bytes of a noted page can have reached.
const REACH: usize = 16;

/// What an instance goes back to.
pub(super) struct Snapshot {
    map: Memory,
    size: usize,
    /// For each page its place in `kept`, one more than the index; 0 is a page of zeros.
    places: Vec<u32>,
    kept: Vec<[u8; PAGE]>,
    globals: Vec<(Global, Value)>,
    tables: Vec<(Table, Vec<Value>)>,
    /// For what is kept.
    _account: Account,
}

/// Notes a range that the host has written.
pub(super) fn note(map: &MemoryView<'_>, pointer: usize, length: usize) {
    if length == 0 {
        return;
    }
    for page in pointer >> PAGE_SHIFT..=(pointer + length - 1) >> PAGE_SHIFT {
        // The map covers 4 GiB, and so every range within a memory.
        let noted = map.write_u8(page as u64, 1);
        debug_assert!(noted.is_ok(), "page {page} is beyond the map");
    }
}

impl Snapshot {
    /// Keeps the state as it is now. `None` where going back to it would cost more than a new instance.
    pub(super) fn take(
        store: &mut Store,
        exports: &wasmer::Exports,
        memory: &Memory,
        facts: &Facts,
        budget: &Arc<MemoryBudget>,
        deadline: Instant,
    ) -> Result<Option<Self>, CallError> {
        let map = exports
            .get_memory(MAP)
            .map_err(|error| CallError::new(FailureKind::InvalidOutput, error.to_string()))?
            .clone();
        let used_up = || CallError::new(FailureKind::PoolExhausted, USED_UP);
        let mut account = Account::open(budget, NOTES).ok_or_else(used_up)?;
        let mut globals = Vec::new();
        while let Ok(global) = exports.get_global(&global_name(globals.len())) {
            let value = global.get(store);
            globals.push((global.clone(), value));
        }
        let mut tables = Vec::new();
        if facts.changes_tables {
            let mut left = ELEMENTS;
            while let Ok(table) = exports.get_table(&table_name(tables.len())) {
                let table = table.clone();
                match left.checked_sub(table.size(store) as usize) {
                    Some(rest) => left = rest,
                    None => return Ok(None),
                }
                let elements = (0..table.size(store))
                    .filter_map(|index| table.get(store, index))
                    .collect();
                tables.push((table, elements));
            }
        }
        let view = memory.view(store);
        // SAFETY: the instance has just been made and is not running; the two memories are different ones.
        let (memory, noted) = (unsafe { view.data_unchecked_mut() }, map.view(store));
        let (pages, _) = memory.as_chunks::<PAGE>();
        let mut places = Vec::with_capacity(pages.len());
        let mut kept = Vec::new();
        for step in pages.chunks(STEP) {
            if Instant::now() >= deadline {
                return Err(CallError::new(
                    FailureKind::Timeout,
                    "the state to go back to could not be kept before the deadline",
                ));
            }
            let before = kept.len();
            for page in step {
                if page.iter().all(|&byte| byte == 0) {
                    places.push(0);
                } else {
                    kept.push(*page);
                    places.push(kept.len() as u32);
                }
            }
            if !account.take(((kept.len() - before) * PAGE) as u64) {
                return Err(used_up());
            }
        }
        kept.shrink_to_fit();
        let size = memory.len();
        // SAFETY: as above.
        let noted = unsafe { noted.data_unchecked_mut() };
        noted[..places.len()].fill(0);
        noted[DROPPED] = 0;
        Ok(Some(Self {
            map,
            size,
            places,
            kept,
            globals,
            tables,
            _account: account,
        }))
    }

    /// The map, for the host's own writes.
    pub(super) fn map(&self) -> &Memory {
        &self.map
    }

    /// Goes back. `false` where that is not possible.
    pub(super) fn restore(&self, store: &mut Store, memory: &Memory) -> bool {
        let (view, map) = (memory.view(store), self.map.view(store));
        // SAFETY: no guest code runs while the store is borrowed here, and these are two memories with one slice of each.
        let (memory, map) = unsafe { (view.data_unchecked_mut(), map.data_unchecked_mut()) };
        if memory.len() != self.size || map[DROPPED] != 0 {
            return false;
        }
        let map = &mut map[..self.places.len()];
        let mut page = 0;
        // A memory is whole WebAssembly pages, 16 bytes of map each: nothing is left over.
        for group in map.as_chunks_mut::<8>().0 {
            if u64::from_ne_bytes(*group) != 0 {
                for (index, noted) in group.iter_mut().enumerate() {
                    if std::mem::take(noted) != 0 {
                        self.restore_page(memory, page + index, PAGE);
                        self.restore_page(memory, page + index + 1, REACH);
                    }
                }
            }
            page += group.len();
        }
        for (global, value) in &self.globals {
            if global.set(store, value.clone()).is_err() {
                return false;
            }
        }
        for (table, elements) in &self.tables {
            if table.size(store) as usize != elements.len() {
                return false;
            }
            for (index, element) in elements.iter().enumerate() {
                if table.set(store, index as u32, element.clone()).is_err() {
                    return false;
                }
            }
        }
        true
    }

    #[inline]
    fn restore_page(&self, memory: &mut [u8], page: usize, length: usize) {
        let Some(&place) = self.places.get(page) else {
            return;
        };
        let target = &mut memory[page << PAGE_SHIFT..][..length];
        match self.kept.get((place as usize).wrapping_sub(1)) {
            Some(kept) => target.copy_from_slice(&kept[..length]),
            None => target.fill(0),
        }
    }
}
