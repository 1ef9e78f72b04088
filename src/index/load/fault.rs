//! For tests and models: one of the loader's threads dies of a panic.

use std::cell::Cell;

std::thread_local! {
    /// How many bundles are sorted before the one that the next worker dies of.
    static NEXT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has the worker of the next load on this thread die when it has sorted `bundles`.
#[cfg_attr(not(shuttle), expect(unreachable_pub, reason = "a door for the models"))]
pub fn load_dies_after(bundles: usize) {
    NEXT.set(Some(bundles));
}

#[cfg(test)]
std::thread_local! {
    /// Which part the next merge dies of.
    static PART: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has the builder of a part die at the next merge on this thread.
#[cfg(test)]
pub(crate) fn build_dies_at(part: usize) {
    PART.set(Some(part));
}

#[cfg(test)]
pub(super) fn part_that_dies() -> Option<usize> {
    PART.take()
}

/// What befalls one worker.
pub(super) struct Fault(Option<usize>);

impl Fault {
    /// That of the next worker, for this one.
    pub(super) fn take() -> Self {
        Fault(NEXT.take())
    }

    /// Panics if it is time. Shuttle's threads are coroutines of one thread, which cannot unwind with others left to
    /// run: there it says that the worker is to end, which drops what a panic would drop.
    pub(super) fn strikes(&mut self) -> bool {
        match &mut self.0 {
            None => false,
            Some(0) if cfg!(shuttle) => true,
            // Without the panic hook, which would fill the output.
            Some(0) => std::panic::resume_unwind(Box::new("on purpose")),
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}
