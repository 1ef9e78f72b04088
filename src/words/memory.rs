//! Advice to the operating system about memory.

/// Asks for large pages under the memory of `items`, used or not. A refusal costs nothing but speed.
#[cfg(target_os = "linux")]
pub(crate) fn prefer_large_pages<T>(items: &mut Vec<T>) {
    const LARGE: usize = 2 << 20;
    let address = items.as_mut_ptr().addr();
    let start = address.next_multiple_of(LARGE);
    let end = (address + items.capacity() * size_of::<T>()) / LARGE * LARGE;
    if start >= end {
        return;
    }
    // SAFETY: the range lies within memory that the vector owns, and the advice changes nothing of what is in it.
    #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
    let _ = unsafe { libc::madvise(items.as_mut_ptr().with_addr(start).cast(), end - start, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_large_pages<T>(_: &mut Vec<T>) {}
