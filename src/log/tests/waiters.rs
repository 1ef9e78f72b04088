//! Who waits, beside a plain map of the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use proptest::prelude::*;

use crate::log::write::waiters::{Slot, Waiter, WaiterId, Waiters};

#[derive(Clone, Debug)]
enum Step {
    /// So far above the durable LSN; whether it is a thread.
    Add(u64, bool),
    /// One of those that ever were.
    Remove(prop::sample::Index),
    /// So much becomes durable.
    Serve(u64),
    End,
    TakeThread,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (1..7_u64, any::<bool>()).prop_map(|(lsn, is_thread)| Step::Add(lsn, is_thread)),
        6 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => (0..4_u64).prop_map(Step::Serve),
        1 => Just(Step::End),
        1 => Just(Step::TakeThread),
    ]
}

proptest! {
    #[test]
    fn waiters_are_a_map(steps in prop::collection::vec(step(), 0..200)) {
        let (mut waiters, mut model) = (Waiters::default(), BTreeMap::<WaiterId, bool>::new());
        let (mut ids, mut durable) = (Vec::new(), 0);
        for step in steps {
            let mut serve = |up_to: u64, model: &mut BTreeMap<WaiterId, bool>| {
                let served = waiters.take_up_to(up_to).into_iter();
                let served: Vec<_> = served.map(|(lsn, waiter)| (lsn, matches!(waiter, Waiter::Thread(_)))).collect();
                let expected = model.iter().filter(|(id, _)| id.lsn() <= up_to).map(|(id, is_thread)| (id.lsn(), *is_thread));
                let expected: Vec<_> = expected.collect();
                model.retain(|id, _| id.lsn() > up_to);
                (served, expected)
            };
            match step {
                Step::Add(above, is_thread) => {
                    let waiter =
                        if is_thread { Waiter::Thread(Arc::<Slot>::default()) } else { Waiter::Task(Waker::noop().clone()) };
                    let id = waiters.add(durable + above, waiter);
                    model.insert(id, is_thread);
                    ids.push(id);
                }
                Step::Remove(index) if !ids.is_empty() => {
                    let id = *index.get(&ids);
                    prop_assert_eq!(waiters.get(id).is_some(), model.contains_key(&id));
                    prop_assert_eq!(waiters.remove(id).is_some(), model.remove(&id).is_some());
                }
                Step::Remove(_) => {}
                Step::Serve(more) => {
                    durable += more;
                    let (served, expected) = serve(durable, &mut model);
                    prop_assert_eq!(served, expected);
                }
                Step::End => {
                    let (served, expected) = serve(u64::MAX, &mut model);
                    prop_assert_eq!(served, expected);
                }
                Step::TakeThread => {
                    let first = model.iter().find(|(_, is_thread)| **is_thread).map(|(id, _)| *id);
                    prop_assert_eq!(waiters.take_thread().is_some(), first.is_some());
                    model.retain(|id, _| Some(*id) != first);
                }
            }
            prop_assert_eq!(waiters.threads(), model.values().filter(|is_thread| **is_thread).count());
        }
    }
}

/// The newcomer went to the queue, which had become empty, and was served before one that had waited in the tree.
#[test]
fn who_waits_for_the_same_is_served_in_the_order_of_coming() {
    let mut waiters = Waiters::default();
    let task = || Waiter::Task(Waker::noop().clone());
    let gone = waiters.add(20, task());
    waiters.add(10, Waiter::Watcher(Arc::default()));
    waiters.remove(gone);
    waiters.add(10, task());
    let served: Vec<_> = waiters.take_up_to(10).into_iter().map(|(_, waiter)| format!("{waiter:?}")).collect();
    assert_eq!(served, ["Watcher", "Task"]);
}
