//! The guard of every thread: it contains a panic, and reports the death of the thread.
//!
//! A panic has a payload of any type, and dropping the payload runs code of the panicking program, which may panic as
//! well. If that were left to `JoinHandle`, the process would abort.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sync::{self, Thread};

/// The message of a panic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Panicked {
    pub(crate) message: String,
}

/// Runs `action`, which may be a user's code, and contains its panic. The panic hook has reported it.
pub(crate) fn contain<T>(action: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(action)).map_err(dispose)
}

/// Drops a payload. If the drop panics, the payload of that second panic is leaked: its drop may panic again, for ever.
fn dispose(payload: Box<dyn Any + Send>) -> Panicked {
    let text = payload.downcast_ref::<String>().cloned();
    let message = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _leaked = ManuallyDrop::new(second);
    }
    Panicked { message: message.unwrap_or_else(|| "a payload that is no text".to_owned()) }
}

/// Starts a background thread called `name`. If `body` panics, the thread calls `died` as its last act.
pub(crate) fn spawn_guarded(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    died: impl FnOnce(&Panicked) + Send + 'static,
) -> std::io::Result<Thread> {
    sync::spawn(name, move || {
        if cfg!(any(loom, shuttle)) {
            // A model checker ends an execution by a panic, and must see the panics that it looks for.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
                died(&Panicked { message: "under a model checker".to_owned() });
                std::panic::resume_unwind(payload);
            }
            return;
        }
        if let Err(panicked) = contain(body) {
            let _ = contain(|| died(&panicked));
        }
    })
}
