//! The identity of the process. A handle that crossed `fork()` shares files, locks and LSNs with its parent's handle,
//! and would overwrite the parent's log.
//!
//! On Linux the generation is in a page that the kernel clears in every child (`MADV_WIPEONFORK`). A child finds zero
//! there, even after a bare clone(2), and draws the next number. A check costs two loads. Without such a page a handler
//! of `pthread_atfork` counts; it sees every child that libc makes. A child that shares its parent's memory (vfork,
//! `CLONE_VM`) is the same process to both methods.

#[cfg(unix)]
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// The highest generation that this process or an ancestor has drawn.
static DRAWN: AtomicU64 = AtomicU64::new(1);

#[cfg(target_os = "linux")]
mod page {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU64;

    static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();

    /// The word that is zero in a child; `None` if the kernel does not offer such memory.
    pub(super) fn word() -> Option<&'static AtomicU64> {
        PAGE.get().copied().flatten()
    }

    pub(super) fn make(generation: u64) -> bool {
        PAGE.get_or_init(|| {
            let word = map()?;
            word.store(generation, std::sync::atomic::Ordering::Relaxed);
            Some(word)
        });
        word().is_some()
    }

    fn map() -> Option<&'static AtomicU64> {
        const LENGTH: usize = 4096;
        // SAFETY: a new private mapping at an address that the kernel chooses touches no memory of this process.
        #[expect(unsafe_code, reason = "the standard library does not offer the call")]
        let page = unsafe {
            let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), LENGTH, rights, kind, -1, 0)
        };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: only this function knows the mapping. If the kernel takes the advice, the mapping stays for ever, so
        // the reference may; it is aligned to a page, zeroed by the kernel, and accessed only as an atomic. Otherwise
        // it is unmapped before any other code sees it.
        #[expect(unsafe_code, reason = "the standard library does not offer the call")]
        unsafe {
            if libc::madvise(page, LENGTH, libc::MADV_WIPEONFORK) == 0 {
                return Some(&*page.cast::<AtomicU64>());
            }
            libc::munmap(page, LENGTH);
        }
        None
    }
}

/// The generation of this process. A handle stores it when it is made, and compares it at each use.
pub(crate) fn generation() -> u64 {
    #[cfg(target_os = "linux")]
    if let Some(word) = page::word() {
        return match word.load(Ordering::Relaxed) {
            0 => draw(word),
            generation => generation,
        };
    }
    DRAWN.load(Ordering::Relaxed)
}

/// Whether a handle of the generation `made_in` was made in this process.
pub(crate) fn is_current(made_in: u64) -> bool {
    made_in == generation()
}

/// The first check in a child: draws a generation that no ancestor has had.
#[cfg(target_os = "linux")]
#[cold]
fn draw(word: &AtomicU64) -> u64 {
    // Drawn before it is stored: if this process forks in between, its child draws a higher one.
    let next = DRAWN.fetch_add(1, Ordering::Relaxed) + 1;
    match word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(others) => others,
    }
}

/// Starts watching for forks. Must be called before the first handle is made.
pub(crate) fn watch_forks() {
    #[cfg(unix)]
    {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            #[cfg(target_os = "linux")]
            if page::make(DRAWN.load(Ordering::Relaxed)) {
                return;
            }
            extern "C" fn in_child() {
                DRAWN.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the handler only touches an atomic, which is allowed between fork and exec.
            #[expect(unsafe_code, reason = "pthread_atfork has no safe binding")]
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
    }
}
