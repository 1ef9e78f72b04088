//! A device that can be stopped.

use std::sync::{Arc, Condvar, Mutex};

use crashkit::{open_on, wait_until};
use forelog::sim::{OpKind, Phase, SimDisk};
use forelog::{Engine, Keyspace, Options};

/// A way to stop the device: while it is closed, syncs of log segments begin and do not end.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// An open gate in the way of the syncs on `disk`.
    pub fn on(disk: &SimDisk) -> Self {
        let gate = Gate::default();
        let pass = gate.clone();
        disk.on_op(move |_, op| {
            let name = op.path.as_os_str().as_encoded_bytes();
            if op.kind == OpKind::Sync && op.phase == Phase::InFlight && name.ends_with(b".log.tmp") {
                let (closed, changed) = &*pass.0;
                drop(changed.wait_while(closed.lock().unwrap(), |closed| *closed).unwrap());
            }
        });
        gate
    }

    pub fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

/// An engine in memory with a gate, that has prepared what it prepares at first, and its keyspace `k`.
pub fn behind_a_gate(options: Options) -> (SimDisk, Gate, Engine, Keyspace) {
    let disk = SimDisk::new();
    let gate = Gate::on(&disk);
    let engine = open_on(&disk, options).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    engine.flush().unwrap();
    wait_until(|| engine.stats().segments_prepared > 0);
    (disk, gate, engine, keyspace)
}
