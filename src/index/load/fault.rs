//! For tests and models: makes one of the loader's threads panic.

use std::cell::Cell;

std::thread_local! {
    /// How many bundles the next worker sorts before it panics.
    static NEXT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes the worker of the next load on this thread panic after it has sorted `bundles`.
#[cfg_attr(not(shuttle), expect(unreachable_pub, reason = "a door for the models"))]
pub fn load_dies_after(bundles: usize) {
    NEXT.set(Some(bundles));
}

#[cfg(test)]
std::thread_local! {
    /// How often loads on this thread have asked a keyspace for its size.
    static LOOKS: Cell<usize> = const { Cell::new(0) };
    /// The part at which the next merge panics.
    static PART: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes the builder of a part panic at the next merge on this thread.
#[cfg(test)]
pub(crate) fn build_dies_at(part: usize) {
    PART.set(Some(part));
}

#[cfg(test)]
pub(super) fn looked_at(keyspaces: usize) {
    LOOKS.set(LOOKS.get() + keyspaces);
}

/// How often loads on this thread have asked a keyspace for its size.
#[cfg(test)]
pub(crate) fn looks() -> usize {
    LOOKS.get()
}

#[cfg(test)]
pub(super) fn part_that_dies() -> Option<usize> {
    PART.take()
}

/// The fault of one worker.
pub(super) struct Fault(Option<usize>);

impl Fault {
    /// Takes the fault that was set for the next worker.
    pub(super) fn take() -> Self {
        Fault(NEXT.take())
    }

    /// Panics, or returns true, if this is the chosen bundle. Shuttle's threads are coroutines of one thread, which
    /// cannot unwind while others go on: under shuttle the caller must end the worker, which drops what a panic would
    /// drop.
    pub(super) fn strikes(&mut self) -> bool {
        match &mut self.0 {
            None => false,
            Some(0) if cfg!(shuttle) => true,
            // Without the panic hook, whose message would fill the output.
            Some(0) => std::panic::resume_unwind(Box::new("on purpose")),
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}
