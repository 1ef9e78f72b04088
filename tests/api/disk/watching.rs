//! The simulated disk: watching and damaging it.

use super::*;

#[test]
fn observer_takes_crash_points_before_and_during_operations() {
    let disk = SimDisk::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.on_op(move |disk, op| {
        let (all, none) = (keep_all(disk).read_file("f").ok(), lose_all(disk).read_file("f").ok());
        log.lock().unwrap().push((op.number, op.kind, op.phase, all, none));
    });
    let file = create(&disk, "f");
    disk.sync().unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    file.read_at(&mut [0], 0).unwrap();
    file.sync_data().unwrap();
    let (empty, full) = (Some(vec![]), Some(b"x".to_vec()));
    let expected = [
        (0, OpKind::Create, Phase::Before, None, None),
        (1, OpKind::SyncDir, Phase::Before, empty.clone(), None),
        (1, OpKind::SyncDir, Phase::InFlight, empty.clone(), None),
        (2, OpKind::Write, Phase::Before, empty.clone(), empty.clone()),
        (4, OpKind::Sync, Phase::Before, full.clone(), empty.clone()),
        (4, OpKind::Sync, Phase::InFlight, full, empty),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn seeds_decide_everything() {
    let crash = |seed| {
        let disk = sim::run(seed, || {
            let disk = SimDisk::new();
            disk.set_sync_latency(Duration::from_micros(100));
            let clients = (0..3_u8).map(|client| {
                let disk = disk.clone();
                sim::start("client", move || {
                    let file = create(&disk, client.to_string());
                    for n in 0..8_u8 {
                        write_all_at(&*file, &[client * 16 + n; 700], u64::from(n) * 700).unwrap();
                        if n == client {
                            file.sync_all().unwrap();
                            disk.sync().unwrap();
                        }
                    }
                })
            });
            let clients = clients.collect::<Vec<_>>();
            sim::sleep(Duration::from_micros(60));
            let crash = disk.crash_point();
            clients.into_iter().for_each(sim::Simulated::join);
            crash
        });
        disk.power_loss(&Loss::Seeded(seed), Granularity::Word).image_hash()
    };
    let hashes: Vec<u64> = (0..20).map(crash).collect();
    assert_eq!(hashes, (0..20).map(crash).collect::<Vec<_>>());
    assert!(hashes.iter().collect::<BTreeSet<_>>().len() > 15, "{hashes:x?}");
}

#[test]
fn seeded_losses_reach_every_state() {
    let (disk, file) = with_file(&[b'o'; 1536]);
    write_all_at(&*file, &[b'n'; 1536], 0).unwrap();
    let crash = disk.crash_point();
    let states = (0..500).map(|seed| crash.power_loss(&Loss::Seeded(seed), Granularity::Sector).image_hash());
    assert_eq!(states.collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn media_faults_hit_what_is_durable() {
    let (disk, _) = with_file(b"0123456789");
    let clean = disk.image_hash();
    disk.flip_bit("f", 9).unwrap();
    assert_ne!(disk.image_hash(), clean);
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"0323456789");
    disk.flip_bit("f", 9).unwrap();
    assert_eq!(disk.image_hash(), clean);
    disk.overwrite("f", 8, b"xy").unwrap();
    disk.overwrite("f", 9, b"xy").unwrap_err();
    disk.flip_bit("f", 80).unwrap_err();
    disk.truncate("f", 9).unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"01234567x");
    let file = disk.open("f".as_ref(), Access::Write).unwrap();
    write_all_at(&*file, b"zz", 7).unwrap();
    disk.truncate("f", 2).unwrap();
    file.sync_all().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"01\0\0\0\0\0zz", "what is pending lands on what is left");
    disk.delete("f").unwrap();
    assert!(keep_all(&disk).files().is_empty());
}

#[test]
fn hash_tells_apart_what_only_the_cache_holds() {
    let (disk, file) = with_file(b"old");
    let durable = disk.image_hash();
    write_all_at(&*file, b"new", 0).unwrap();
    assert_ne!(disk.image_hash(), durable);
    write_all_at(&*file, b"old", 0).unwrap();
    assert_eq!(disk.image_hash(), durable);
    assert_eq!(lose_all(&disk).image_hash(), durable);
}
