//! Which process this is: a handle that crossed `fork()` shares files, locks and LSNs with its parent, and would
//! write over them.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the forks between the first ancestor that asked and this process.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The generation of this process. A handle remembers it when it is made and compares it when it is used.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Starts counting forks. To be called before the first handle is made.
pub(crate) fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(unix)]
        {
            extern "C" fn in_child() {
                GENERATION.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the handler only touches an atomic, which is allowed between fork and exec.
            #[expect(unsafe_code, reason = "pthread_atfork has no safe binding")]
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        }
    });
}
