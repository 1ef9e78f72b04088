//! Advice about memory, to the operating system and to the processor.

/// Asks for large pages under the memory of `items`, used or not. A refusal only costs speed.
pub(crate) fn prefer_large_pages<T>(items: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    advise(items, 2 << 20, libc::MADV_HUGEPAGE);
    #[cfg(not(target_os = "linux"))]
    let _ = items;
}

/// Has the operating system put memory under the pages of `items` in one call. Without it, each page interrupts the
/// thread at its first write. A refusal (Linux before 5.14, or pages larger than 4 KiB) only costs speed.
pub(crate) fn populate<T>(items: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    advise(items, 4 << 10, libc::MADV_POPULATE_WRITE);
    #[cfg(not(target_os = "linux"))]
    let _ = items;
}

/// Drops `items`, after giving the pages under them back to the operating system. An allocator keeps freed memory for
/// its next use, at times hundreds of MiB; it may keep these addresses, but there is no memory behind them.
pub(crate) fn drop_and_give_back<T>(mut items: Vec<T>) {
    items.clear();
    // Multiples of 64 KiB are multiples of the page size of every platform.
    #[cfg(target_os = "linux")]
    advise(&mut items, 64 << 10, libc::MADV_DONTNEED);
}

/// Gives the operating system `advice` about the pages of `page` bytes that lie wholly in the memory of `items`. The
/// advice may replace bytes by zeros only if the vector is empty.
#[cfg(target_os = "linux")]
fn advise<T>(items: &mut Vec<T>, page: usize, advice: libc::c_int) {
    debug_assert!(items.is_empty() || advice != libc::MADV_DONTNEED);
    let address = items.as_mut_ptr().addr();
    let start = address.next_multiple_of(page);
    let end = (address + items.capacity() * size_of::<T>()) / page * page;
    if start >= end {
        return;
    }
    // SAFETY: the range lies within memory that the vector owns. MADV_HUGEPAGE and MADV_POPULATE_WRITE do not change the
    // bytes in it. MADV_DONTNEED may, but then the vector is empty, so no one reads the range before it is written.
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    let _ = unsafe { libc::madvise(items.as_mut_ptr().with_addr(start).cast(), end - start, advice) };
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
