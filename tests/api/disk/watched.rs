//! The simulated disk sees the operations that a real device gets: see `watched_operations`.

use crashkit::{by_file, watched_operations, watched_work};

use super::*;

#[test]
fn the_simulated_disk_sees_what_a_real_device_gets() {
    let disk = SimDisk::new();
    disk.make_dir("mount/db").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let operations = Arc::clone(&seen);
    disk.on_op(move |_, op| {
        let name = op.path.file_name().unwrap_or_default().to_string_lossy();
        let told = match op.kind {
            OpKind::Write => format!("Write {name} {} {}", op.offset, op.length),
            OpKind::SetLen => format!("SetLen {name} {}", op.offset),
            OpKind::Lock | OpKind::CreateDir => return,
            kind => format!("{kind:?} {name}"),
        };
        if op.phase == Phase::Before {
            operations.lock().unwrap().push(told);
        }
    });
    watched_work(Arc::new(disk), "mount/db".as_ref()).unwrap();
    let operations = seen.lock().unwrap();
    assert_eq!(
        by_file(operations.iter().map(String::as_str)),
        watched_operations(),
        "if the engine does other things than it did, write them to watched.txt:\n{}",
        operations.join("\n")
    );
}
