//! Memories that take little address space.
//!
//! The runtime's own memories reserve over 8 GiB each, so that code needs no checks; about 16,000 fit an address space. One of these takes
//! what it holds, and at most twice that once it has grown. The guest's is compiled with a check of every access against its present length.
//! The map of `instrument` needs no check: the address of every access to it is a 32-bit number shifted right by the size of a page, so it always lies within the
//! bytes that are there.
//!
//! A memory that outgrows its room moves. A small one is copied; a large one has its pages put elsewhere by the system, since copying them would take
//! longer than a guest may run on beyond its deadline.
//!
//! Readable and writable throughout, without guard pages: the system then joins neighbours into one mapping, and the number of mappings, which it
//! limits, does not grow with the number of instances. What lies between a memory's length and its room is zero and out of the guest's reach.

use std::fmt;
use std::ptr::NonNull;

use wasmer::sys::vm::{LinearMemory, VMMemory, VMMemoryDefinition};
use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages};

use super::room::Room;

/// Bytes of a page of WebAssembly, as a power of two.
const WASM_PAGE_SHIFT: u32 = 16;

/// Bytes that are copied together when a memory moves, or left out together where they are zero.
const PIECE: usize = 4 << 10;

/// Bytes from which a memory is moved by the system, where it can do that. What has been moved is a mapping of its own, and there may not be too many of those.
const LARGE: usize = 4 << 20;

pub(super) struct Compact {
    ty: MemoryType,
    style: MemoryStyle,
    size: Pages,
    /// None while there is not one byte.
    room: Option<Room>,
    location: NonNull<VMMemoryDefinition>,
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

// SAFETY: the location is part of the instance that owns this memory, and moves between threads only with it.
unsafe impl Send for Compact {}
// SAFETY: as above; without `&mut` nothing here changes what it points to.
unsafe impl Sync for Compact {}

fn bytes(pages: Pages) -> usize {
    (pages.0 as usize) << WASM_PAGE_SHIFT
}

impl Compact {
    /// A memory of its minimum size.
    ///
    /// # Safety
    /// The location must be valid for as long as the memory that is returned.
    pub(super) unsafe fn memory(
        ty: &MemoryType,
        style: &MemoryStyle,
        location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let room = match bytes(ty.minimum) {
            0 => None,
            length => Some(Room::new(length)?),
        };
        let this = Self {
            ty: *ty,
            style: *style,
            size: ty.minimum,
            room,
            location,
        };
        this.define();
        Ok(VMMemory(Box::new(this)))
    }

    /// Tells the instance where its memory is.
    fn define(&self) {
        let base = self
            .room
            .as_ref()
            .map_or(NonNull::dangling(), Room::base)
            .as_ptr();
        let definition = VMMemoryDefinition {
            base,
            current_length: bytes(self.size),
        };
        // SAFETY: whoever made this memory promised a valid location, which only this memory writes to. No guest runs meanwhile but the one
        // that is growing it, and that one reads it anew afterwards.
        unsafe { self.location.as_ptr().write(definition) };
    }

    /// Moves to a place with room for so many bytes.
    fn move_to(&mut self, capacity: usize) -> Result<(), MemoryError> {
        let length = bytes(self.size);
        if length >= LARGE
            && let Some(room) = &mut self.room
            && room.enlarge(capacity)
        {
            return Ok(());
        }
        let larger = Room::new(capacity)?;
        if let Some(room) = &self.room {
            // SAFETY: both are readable and writable, at least `length` bytes long, and neither is the other. The
            // instance that owns this memory is not running, and no reference into it outlives a call.
            let (from, to) = unsafe {
                (
                    std::slice::from_raw_parts(room.base().as_ptr(), length),
                    std::slice::from_raw_parts_mut(larger.base().as_ptr(), length),
                )
            };
            for (from, to) in from.chunks(PIECE).zip(to.chunks_mut(PIECE)) {
                // What was never written to stays without memory behind it.
                if from.iter().any(|&byte| byte != 0) {
                    to.copy_from_slice(from);
                }
            }
        }
        self.room = Some(larger);
        Ok(())
    }
}

impl LinearMemory for Compact {
    fn ty(&self) -> MemoryType {
        let mut ty = self.ty;
        ty.minimum = self.size;
        ty
    }

    fn size(&self) -> Pages {
        self.size
    }

    fn style(&self) -> MemoryStyle {
        self.style
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let before = self.size;
        let most = self.ty.maximum.unwrap_or(Pages::max_value());
        let wanted = before
            .checked_add(delta)
            .filter(|&wanted| wanted <= most)
            .ok_or(MemoryError::CouldNotGrow {
                current: before,
                attempted_delta: delta,
            })?;
        let room = self.room.as_ref().map_or(0, Room::len);
        if bytes(wanted) > room {
            // Twice as much each time, so that growing page by page does not copy everything for every page.
            let capacity = bytes(wanted).max((2 * room).min(bytes(most)));
            self.move_to(capacity)?;
        }
        self.size = wanted;
        self.define();
        Ok(before)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.location
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory beside a definition that outlives it.
    fn with_memory(
        minimum: u32,
        maximum: Option<u32>,
        test: impl FnOnce(&mut VMMemory, NonNull<VMMemoryDefinition>),
    ) {
        let mut definition = VMMemoryDefinition {
            base: std::ptr::null_mut(),
            current_length: 1,
        };
        let location = NonNull::from(&mut definition);
        let ty = MemoryType::new(minimum, maximum, false);
        let style = MemoryStyle::Dynamic {
            offset_guard_size: 0,
        };
        // SAFETY: the definition lives longer than the memory.
        let mut memory = unsafe { Compact::memory(&ty, &style, location) }.unwrap();
        test(&mut memory, location);
    }

    /// The bytes, as a guest would see them.
    fn contents(location: NonNull<VMMemoryDefinition>) -> &'static mut [u8] {
        // SAFETY: the definition and what it names live until the end of the test, which uses one slice at a time.
        unsafe {
            let definition = location.as_ref();
            std::slice::from_raw_parts_mut(definition.base, definition.current_length)
        }
    }

    #[test]
    fn what_was_written_moves_along() {
        with_memory(1, Some(40), |memory, location| {
            assert_eq!(contents(location).len(), 1 << 16);
            contents(location)[0] = 1;
            contents(location)[PIECE * 3 - 1] = 2;
            contents(location)[(1 << 16) - 1] = 3;
            for pages in 1..40_u32 {
                assert_eq!(memory.grow(Pages(1)).unwrap(), Pages(pages));
                let contents = contents(location);
                assert_eq!(contents.len(), (pages as usize + 1) << 16);
                assert_eq!(
                    [
                        contents[0],
                        contents[PIECE * 3 - 1],
                        contents[(1 << 16) - 1]
                    ],
                    [1, 2, 3]
                );
                assert!(contents[1 << 16..].iter().all(|&byte| byte == 0));
            }
            assert!(memory.grow(Pages(1)).is_err(), "beyond its maximum");
            assert_eq!(memory.size(), Pages(40));
            assert_eq!(memory.ty().minimum, Pages(40));
        });
    }

    #[test]
    fn a_large_memory_moves_whole() {
        let pages = (LARGE >> WASM_PAGE_SHIFT) as u32;
        with_memory(pages, None, |memory, location| {
            for place in (0..LARGE).step_by(PIECE) {
                contents(location)[place] = (place / PIECE) as u8;
            }
            contents(location)[LARGE - 1] = 7;
            for _ in 0..3 {
                let before = memory.size();
                memory.grow(before).unwrap();
                let contents = contents(location);
                assert!(
                    (0..LARGE)
                        .step_by(PIECE)
                        .all(|place| contents[place] == (place / PIECE) as u8)
                );
                assert_eq!(contents[LARGE - 1], 7);
                assert!(contents[LARGE..].iter().all(|&byte| byte == 0));
                *contents.last_mut().unwrap() = 0;
            }
        });
    }

    #[test]
    fn nothing_at_all_can_grow_too() {
        with_memory(0, None, |memory, location| {
            assert!(contents(location).is_empty());
            assert_eq!(memory.grow(Pages(0)).unwrap(), Pages(0));
            assert_eq!(memory.grow(Pages(2)).unwrap(), Pages(0));
            assert_eq!(contents(location), &[0; 2 << 16][..]);
            assert!(memory.grow(Pages(u32::MAX)).is_err(), "a sum that wraps");
            assert!(memory.grow(Pages(65_535)).is_err(), "more than 4 GiB");
        });
    }
}
