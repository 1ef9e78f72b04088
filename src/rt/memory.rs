//! Advice about memory, to the operating system and to the processor.

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Global};

/// The size of a large page: 2 MiB on x86-64, and on 64-bit ARM with pages of 4 KiB.
pub(crate) const LARGE: usize = 2 << 20;

/// A vector that, once it has about 2 MiB, begins at a large page and lies in large pages wherever it is used. Where nothing
/// was stored yet, there is no memory behind its addresses.
pub(crate) type LargeVec<T> = allocator_api2::vec::Vec<T, LargePages>;

/// The allocator of a [`LargeVec`].
///
/// The operating system puts a large page only under addresses that have no page yet, and allocators reuse addresses.
/// So a large allocation first gives back the pages that its addresses have.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct LargePages;

impl LargePages {
    /// Whether an allocation fills most of a large page.
    fn is_large(layout: Layout) -> bool {
        layout.size() > LARGE / 8 * 7
    }

    /// From the begin of a large page to the end of one, so that the last one is large, too.
    fn aligned(layout: Layout) -> Result<Layout, AllocError> {
        match Self::is_large(layout) {
            true => layout.align_to(LARGE).map(|layout| layout.pad_to_align()).map_err(|_| AllocError),
            false => Ok(layout),
        }
    }
}

// SAFETY: all memory is that of `Global`, which is asked with the same larger alignment for both calls, since that
// depends on the layout alone.
#[expect(unsafe_code, reason = "a vector on a stable compiler has no safe way to a larger alignment")]
unsafe impl Allocator for LargePages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = Global.allocate(Self::aligned(layout)?)?;
        #[cfg(target_os = "linux")]
        if Self::is_large(layout) {
            // SAFETY: the block is nobody's yet, so no byte in it has a meaning.
            unsafe { advise(block, GIVEN_BACK, libc::MADV_DONTNEED) };
            // SAFETY: as above.
            unsafe { advise(block, BASE, libc::MADV_HUGEPAGE) };
        }
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let Ok(aligned) = Self::aligned(layout) else { return };
        #[cfg(target_os = "linux")]
        if Self::is_large(layout) {
            let bytes = NonNull::slice_from_raw_parts(block, aligned.size());
            // SAFETY: the caller gives up the block, so no byte in it has a meaning any more.
            unsafe { advise(bytes, GIVEN_BACK, libc::MADV_DONTNEED) };
        }
        // SAFETY: the caller promises that the block was allocated here with this layout.
        unsafe { Global.deallocate(block, aligned) };
    }
}

/// Asks for large pages under the memory of `items`, used or not. A refusal only costs speed.
pub(crate) fn prefer_large_pages<T>(items: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    advise_on(items, LARGE, libc::MADV_HUGEPAGE);
    #[cfg(not(target_os = "linux"))]
    let _ = items;
}

/// Has the operating system put memory under the pages of `items` in one call. Without it, each page interrupts the
/// thread at its first write. A refusal (Linux before 5.14, or pages larger than 4 KiB) only costs speed.
pub(crate) fn populate<T>(items: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    advise_on(items, BASE, libc::MADV_POPULATE_WRITE);
    #[cfg(not(target_os = "linux"))]
    let _ = items;
}

/// Drops `items`, after giving the pages under them back to the operating system. An allocator keeps freed memory for
/// its next use, at times hundreds of MiB; it may keep these addresses, but there is no memory behind them.
pub(crate) fn drop_and_give_back<T>(mut items: Vec<T>) {
    items.clear();
    #[cfg(target_os = "linux")]
    advise_on(&mut items, GIVEN_BACK, libc::MADV_DONTNEED);
}

/// Gives back the large pages that lie wholly behind the last item.
pub(crate) fn give_back_unused<T>(items: &mut LargeVec<T>) {
    let unused = items.spare_capacity_mut();
    let memory = NonNull::slice_from_raw_parts(NonNull::from(&mut *unused).cast(), size_of_val(unused));
    // SAFETY: the vector owns this memory, and no item lies in it.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    unsafe {
        advise(memory, LARGE, libc::MADV_DONTNEED);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Multiples of 64 KiB are multiples of the page size of every platform.
#[cfg(target_os = "linux")]
const GIVEN_BACK: usize = 64 << 10;

/// The smallest page of most platforms; where it is larger, advice for multiples of this size may be refused.
#[cfg(target_os = "linux")]
const BASE: usize = 4 << 10;

/// [`advise`] for the memory of `items`, used or not. The advice may replace bytes by zeros only if the vector is empty.
#[cfg(target_os = "linux")]
fn advise_on<T>(items: &mut Vec<T>, page: usize, advice: libc::c_int) {
    debug_assert!(items.is_empty() || advice != libc::MADV_DONTNEED);
    let Some(start) = NonNull::new(items.as_mut_ptr()) else { return };
    let memory = NonNull::slice_from_raw_parts(start.cast(), items.capacity() * size_of::<T>());
    // SAFETY: the vector owns this memory. If the advice may replace bytes, the vector is empty, so no one reads a byte
    // before it is written.
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    unsafe {
        advise(memory, page, advice);
    }
}

/// Gives the operating system `advice` about the pages of `page` bytes that lie wholly in `memory`. A refusal only costs
/// speed or memory.
///
/// # Safety
/// `memory` is allocated. If the advice may replace bytes, no byte in it has a meaning.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
unsafe fn advise(memory: NonNull<[u8]>, page: usize, advice: libc::c_int) {
    let address = memory.addr().get();
    let start = address.next_multiple_of(page);
    let end = (address + memory.len()) / page * page;
    if start >= end {
        return;
    }
    // SAFETY: the range lies within memory that is allocated, and the caller answers for what is in it.
    let _ = unsafe { libc::madvise(memory.cast::<u8>().as_ptr().with_addr(start).cast(), end - start, advice) };
}

/// Prefetches the memory of `item`.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(item: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        let start = std::ptr::from_ref(item).cast::<i8>();
        for offset in (0..size_of_val(item)).step_by(LINE) {
            // SAFETY: a prefetch reads nothing, whatever the address.
            #[expect(unsafe_code, reason = "an instruction without a safe wrapper")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = item;
}

#[cfg(test)]
mod tests;
