//! Places in the address space: mapped, readable and writable, and zero until they are written to.
//!
//! Linux can move one to where there is more room, with all that has been written and without copying it. Elsewhere whoever wants that copies.

use std::ptr::NonNull;

use wasmer::MemoryError;

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::Room;
#[cfg(target_os = "linux")]
pub(super) use linux::Room;

#[cfg(target_os = "linux")]
mod linux {
    use super::{MemoryError, NonNull};

    /// A mapping of its own.
    pub(in super::super) struct Room {
        base: NonNull<u8>,
        length: usize,
    }

    // SAFETY: a mapping belongs to no thread, and this is the only owner of this one.
    unsafe impl Send for Room {}
    // SAFETY: as above; without `&mut` nothing here reads or writes it.
    unsafe impl Sync for Room {}

    impl Room {
        /// So many bytes, whole pages of the system and at least one.
        pub(in super::super) fn new(length: usize) -> Result<Self, MemoryError> {
            // SAFETY: a new mapping, where the system has room for one; nothing that is there already changes.
            let place = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    length,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            match NonNull::new(place.cast()) {
                Some(base) if place != libc::MAP_FAILED => Ok(Self { base, length }),
                _ => Err(MemoryError::Region(
                    std::io::Error::last_os_error().to_string(),
                )),
            }
        }

        pub(in super::super) fn base(&self) -> NonNull<u8> {
            self.base
        }

        pub(in super::super) fn len(&self) -> usize {
            self.length
        }

        /// Becomes as long as that, here or elsewhere, with what is in it. Answers whether it did; if not, nothing has changed.
        pub(in super::super) fn enlarge(&mut self, length: usize) -> bool {
            // SAFETY: the old range is this mapping and nobody refers into it, since `self` is borrowed exclusively and whoever lends out its
            // bytes answers for that; the system picks the new one. Where it fails, it leaves the old one as it was.
            let place = unsafe {
                libc::mremap(
                    self.base.as_ptr().cast(),
                    self.length,
                    length,
                    libc::MREMAP_MAYMOVE,
                )
            };
            match NonNull::new(place.cast()) {
                Some(base) if place != libc::MAP_FAILED => {
                    // What was there is no mapping of ours any more, so nothing of it is given back.
                    (self.base, self.length) = (base, length);
                    true
                }
                _ => false,
            }
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            // SAFETY: this mapping is nobody else's, and goes with its owner.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use region::{Allocation, Protection};

    use super::{MemoryError, NonNull};

    /// An allocation of its own.
    pub(in super::super) struct Room(Allocation);

    impl Room {
        /// So many bytes, whole pages of the system and at least one.
        pub(in super::super) fn new(length: usize) -> Result<Self, MemoryError> {
            region::alloc(length, Protection::READ_WRITE)
                .map(Self)
                .map_err(|error| MemoryError::Region(error.to_string()))
        }

        pub(in super::super) fn base(&self) -> NonNull<u8> {
            NonNull::new(self.0.as_ptr::<u8>().cast_mut()).unwrap_or(NonNull::dangling())
        }

        pub(in super::super) fn len(&self) -> usize {
            self.0.len()
        }

        /// Not here.
        pub(in super::super) fn enlarge(&mut self, _: usize) -> bool {
            false
        }
    }
}
