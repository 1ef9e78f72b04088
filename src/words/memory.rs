//! Advice about memory, to the operating system and to the processor.

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

/// Has the operating system give the memory of `items`, used or not, as long as `goes_on` says so: whoever writes there
/// later does not wait for it. A refusal costs nothing but speed.
#[cfg(target_os = "linux")]
pub(crate) fn populate<T>(items: &mut Vec<T>, goes_on: impl Fn() -> bool) {
    const STEP: usize = 2 << 20;
    let address = items.as_mut_ptr().addr();
    let end = (address + items.capacity() * size_of::<T>()) / STEP * STEP;
    let mut at = address.next_multiple_of(STEP);
    while at < end && goes_on() {
        // SAFETY: the step lies within memory that the vector owns, and nothing of what is in it is changed.
        #[expect(unsafe_code, reason = "no safe wrapper is among the dependencies")]
        let refused =
            unsafe { libc::madvise(items.as_mut_ptr().with_addr(at).cast(), STEP, libc::MADV_POPULATE_WRITE) };
        if refused != 0 {
            return;
        }
        at += STEP;
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn populate<T>(_: &mut Vec<T>, _: impl Fn() -> bool) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_large_pages<T>(_: &mut Vec<T>) {}

/// Has the memory of `item` come to the cache, and waits for none of it.
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
