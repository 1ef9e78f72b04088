//! The one kind of guard for threads: what a panic leaves behind is contained, and its death is told.
//!
//! A panic carries a payload of any type, and a payload's drop is code of whoever panicked: it may panic as well. Were
//! it left to `JoinHandle`, the process would abort.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sync::{self, Thread};

/// What a panic said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Panicked {
    pub(crate) message: String,
}

/// Runs `action`, which may be a user's code, and lets no panic of it pass. The panic hook has reported it.
pub(crate) fn contain<T>(action: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(action)).map_err(dispose)
}

/// Drops a payload. If its drop panics, the payload of that second panic is leaked: it may panic for ever.
fn dispose(payload: Box<dyn Any + Send>) -> Panicked {
    let text = payload.downcast_ref::<String>().cloned();
    let message = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _leaked = ManuallyDrop::new(second);
    }
    Panicked { message: message.unwrap_or_else(|| "a payload that is no text".to_owned()) }
}

/// Starts a background thread called `name`. If `body` panics, the thread's last act is `died`.
pub(crate) fn spawn_guarded(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    died: impl FnOnce(&Panicked) + Send + 'static,
) -> std::io::Result<Thread> {
    sync::spawn(name, move || {
        if cfg!(any(loom, shuttle)) {
            // A model checker ends an execution by a panic, and must see the panics that it is there to find.
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
