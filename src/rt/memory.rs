//! Advice about memory, to the operating system and to the processor.

/// Asks for large pages under the memory of `items`, used or not. A refusal only costs speed.
#[cfg(target_os = "linux")]
pub(crate) fn prefer_large_pages<T>(items: &mut Vec<T>) {
    const LARGE: usize = 2 << 20;
    let address = items.as_mut_ptr().addr();
    let start = address.next_multiple_of(LARGE);
    let end = (address + items.capacity() * size_of::<T>()) / LARGE * LARGE;
    if start >= end {
        return;
    }
    // SAFETY: the range lies within memory that the vector owns, and the advice does not change the bytes in it.
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    let _ = unsafe { libc::madvise(items.as_mut_ptr().with_addr(start).cast(), end - start, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_large_pages<T>(_: &mut Vec<T>) {}

/// Drops `items`, after giving the pages under them back to the operating system. An allocator keeps freed memory for
/// its next use, at times hundreds of MiB; it may keep these addresses, but there is no memory behind them.
pub(crate) fn drop_and_give_back<T>(mut items: Vec<T>) {
    items.clear();
    #[cfg(target_os = "linux")]
    give_back(&mut items);
}

#[cfg(target_os = "linux")]
fn give_back<T>(items: &mut Vec<T>) {
    /// Multiples of this are multiples of the page size of every platform.
    const PAGES: usize = 64 << 10;
    let address = items.as_mut_ptr().addr();
    let start = address.next_multiple_of(PAGES);
    let end = (address + items.capacity() * size_of::<T>()) / PAGES * PAGES;
    if start >= end {
        return;
    }
    // SAFETY: the range lies within memory that the vector owns. The vector is empty, so no one reads the range before
    // it is written; the kernel may fill it with zeros.
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    let _ = unsafe { libc::madvise(items.as_mut_ptr().with_addr(start).cast(), end - start, libc::MADV_DONTNEED) };
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
