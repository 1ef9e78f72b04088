//! Tells whoever keeps the memory of reads that there is something to do for it.

use std::fmt;

use crate::rt::sync::OnceLock;

type Told = Box<dyn Fn() + Send + Sync>;

/// It rings on the thread that has read. Until somebody listens it does nothing.
#[derive(Default)]
pub(crate) struct Bell(OnceLock<Told>);

impl Bell {
    /// Says what happens when it rings. Later calls have no effect.
    pub(crate) fn set_told(&self, told: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(told));
    }

    pub(super) fn is_heard(&self) -> bool {
        self.0.get().is_some()
    }

    pub(super) fn ring(&self) {
        if let Some(told) = self.0.get() {
            told();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("is_heard", &self.is_heard()).finish()
    }
}
