//! Limits and accounts for what an instance may have.
//!
//! The runtime asks [`GuestTunables`] for every memory and table of an instance. Tables get the limit as their maximum, so that
//! growing beyond it fails as it does for any table. A memory is the runtime's own or a `compact` one, wrapped: the wrapper takes every byte
//! from the budget of all instances before it is there, refuses growth beyond the limit, and notes the refusal, so that a trap that
//! follows can be told as what it is.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use wasmer::sys::vm::{LinearMemory, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition};
use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages, TableStyle, TableType};

use super::super::{MemoryLayout, Setup};
use super::compact::Compact;
use super::leash::{self, Leash};
use crate::budget::{Account, MemoryBudget};
use crate::facts::Facts;
use crate::guest::CallState;

/// How a memory is compiled for. The guest's is told from the host's own by having no maximum, see `instrument`.
fn style(layout: MemoryLayout, memory: &MemoryType) -> MemoryStyle {
    match layout {
        MemoryLayout::Compact if memory.maximum.is_none() => MemoryStyle::Dynamic {
            offset_guard_size: 0,
        },
        MemoryLayout::Compact | MemoryLayout::Reserved => MemoryStyle::Static,
    }
}

/// What modules are compiled with. Makes nothing.
pub(super) struct CompilingTunables(pub(super) MemoryLayout);

impl Tunables for CompilingTunables {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        style(self.0, memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        BaseTunables::new().table_style(table)
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::Generic(NOTHING.to_owned()))
    }

    unsafe fn create_vm_memory(
        &self,
        _: &MemoryType,
        _: &MemoryStyle,
        _: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::Generic(NOTHING.to_owned()))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err(NOTHING.to_owned())
    }

    unsafe fn create_vm_table(
        &self,
        _: &TableType,
        _: &TableStyle,
        _: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        Err(NOTHING.to_owned())
    }
}

/// Why an instance is not made for want of memory.
pub(super) const USED_UP: &str = "the memory of all instances together is used up";

const NOTHING: &str = "an engine that only compiles has no instances";

/// Where an instance says where its memory is. Null until the memory is made, and where it is not the instance that holds the definition.
pub(super) type Location = AtomicPtr<VMMemoryDefinition>;

/// What one instance is made with.
pub(super) struct GuestTunables {
    layout: MemoryLayout,
    memory_limit: u64,
    table_elements: u32,
    budget: Arc<MemoryBudget>,
    state: Arc<CallState>,
    leash: Arc<Leash>,
    /// Where the instance says where its memory is, once there is one.
    location: Arc<Location>,
    /// Memories made so far. In the order of `instrument`: the guest's, the leash, the map.
    memories: AtomicU32,
}

impl GuestTunables {
    pub(super) fn new(
        layout: MemoryLayout,
        setup: &Setup,
        facts: &Facts,
        state: &Arc<CallState>,
        leash: &Arc<Leash>,
        location: &Arc<Location>,
    ) -> Self {
        // Rewriting has taken the module's own maximum away.
        let own = facts.memory_maximum_bytes.unwrap_or(u64::MAX);
        Self {
            layout,
            memory_limit: setup.memory_limit_bytes.min(own),
            table_elements: setup.table_elements,
            budget: Arc::clone(&setup.guest.memory),
            state: Arc::clone(state),
            leash: Arc::clone(leash),
            location: Arc::clone(location),
            memories: AtomicU32::new(0),
        }
    }

    /// The operating system has no more: what an operator can do about it.
    fn refused(&self, error: &MemoryError) -> MemoryError {
        let cure = match self.layout {
            MemoryLayout::Reserved => {
                "an instance reserves 8 GiB of address space; a max_pool_size over 10,000 makes instances compact, `ulimit -v` and \
                 vm.max_map_count (two mappings an instance) may be the limit"
            }
            MemoryLayout::Compact => {
                "the machine's memory, `ulimit -v` or vm.max_map_count may be the limit"
            }
        };
        MemoryError::Generic(format!("the system refuses more memory ({error}): {cure}"))
    }

    fn limited_table(&self, ty: &TableType) -> Result<TableType, String> {
        if ty.minimum > self.table_elements {
            return Err(format!(
                "a table of {} elements, more than the {} allowed",
                ty.minimum, self.table_elements
            ));
        }
        let mut limited = *ty;
        limited.maximum = Some(
            ty.maximum
                .map_or(self.table_elements, |own| own.min(self.table_elements)),
        );
        Ok(limited)
    }

    /// Takes the memory's first bytes from the budget, then lets `make` reserve and map it.
    fn limited_memory(
        &self,
        ty: &MemoryType,
        make: impl FnOnce(&MemoryType) -> Result<VMMemory, MemoryError>,
    ) -> Result<VMMemory, MemoryError> {
        let minimum = ty.minimum.bytes().0 as u64;
        if minimum > self.memory_limit {
            return Err(MemoryError::Generic(format!(
                "{minimum} bytes of memory at the start, more than the {} allowed",
                self.memory_limit
            )));
        }
        let account = Account::open(&self.budget, minimum)
            .ok_or_else(|| MemoryError::Generic(USED_UP.to_owned()))?;
        Ok(VMMemory(Box::new(Limited {
            inner: make(ty).map_err(|error| self.refused(&error))?,
            limit: self.memory_limit,
            account,
            state: Arc::clone(&self.state),
        })))
    }
}

impl Tunables for GuestTunables {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        style(self.layout, memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        BaseTunables::new().table_style(table)
    }

    fn create_host_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
    ) -> Result<VMMemory, MemoryError> {
        self.limited_memory(ty, |ty| VMMemory::new(ty, style))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        vm_definition_location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let index = self.memories.fetch_add(1, Ordering::Relaxed);
        if index == 0 {
            self.location
                .store(vm_definition_location.as_ptr(), Ordering::Relaxed);
        }
        if index == 1 {
            // SAFETY: the caller promises that the location is valid for as long as the memory.
            return Ok(unsafe { leash::memory(&self.leash, vm_definition_location) });
        }
        if index > 1 {
            // The map: the host's own, and as small as what the guest has written, a byte for each page.
            // SAFETY: as below. Code for it makes no checks, and needs none: see `compact`.
            return unsafe { Compact::memory(ty, style, vm_definition_location) }
                .map_err(|error| self.refused(&error));
        }
        self.limited_memory(ty, |ty| {
            // SAFETY: the caller promises that the location is valid for as long as the memory; it is handed on unchanged. The code was
            // compiled for this style, which the artifact carries: with checks for a compact memory, without for a reserved one.
            unsafe {
                match style {
                    MemoryStyle::Dynamic { .. } => {
                        Compact::memory(ty, style, vm_definition_location)
                    }
                    MemoryStyle::Static => {
                        VMMemory::from_definition(ty, style, vm_definition_location)
                    }
                }
            }
        })
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        VMTable::new(&self.limited_table(ty)?, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        vm_definition_location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        let limited = self.limited_table(ty)?;
        // SAFETY: as for memories: the caller's promise about the location is handed on.
        unsafe { VMTable::from_definition(&limited, style, vm_definition_location) }
    }
}

/// The runtime's memory, with a limit.
#[derive(Debug)]
struct Limited {
    inner: VMMemory,
    limit: u64,
    account: Account,
    state: Arc<CallState>,
}

impl LinearMemory for Limited {
    fn ty(&self) -> MemoryType {
        self.inner.ty()
    }

    fn size(&self) -> Pages {
        self.inner.size()
    }

    fn style(&self) -> MemoryStyle {
        self.inner.style()
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.inner.size();
        let refused = MemoryError::CouldNotGrow {
            current,
            attempted_delta: delta,
        };
        let bytes = u64::from(delta.0) << 16;
        let wanted = (u64::from(current.0) << 16) + bytes;
        if wanted > self.limit || !self.account.take(bytes) {
            self.state.refuse_memory();
            return Err(refused);
        }
        self.inner.grow(delta).inspect_err(|_| {
            self.account.give(bytes);
            self.state.refuse_memory();
        })
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.inner.vmmemory()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}
