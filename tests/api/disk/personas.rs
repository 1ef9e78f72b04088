//! The simulated disk: what file systems add to what may be lost, directories, and a sync that lies.

use forelog::sim::{AtomKind, NameOrder, Persona};

use super::*;

fn persona(name: &str) -> Persona {
    *Persona::ALL.iter().find(|persona| persona.name == name).expect("listed")
}

/// What may be there after a power loss on such a file system, by all choices of atoms.
fn states_on(crash: &CrashPoint, name: &str) -> BTreeSet<Vec<(PathBuf, Vec<u8>)>> {
    let atoms = crash.atoms(Granularity::Page);
    assert!(atoms <= 12, "{atoms} atoms are too many to try all choices");
    let choice = |bits: u32| Loss::AllBut((0..atoms).map(|atom| bits >> atom & 1 == 1).collect());
    (0..1 << atoms).map(|bits| crash.power_loss_on(&persona(name), &choice(bits), Granularity::Page).files()).collect()
}

fn names(states: &BTreeSet<Vec<(PathBuf, Vec<u8>)>>) -> BTreeSet<String> {
    let of = |files: &Vec<(PathBuf, Vec<u8>)>| {
        files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    states.iter().map(of).collect()
}

#[test]
fn a_directory_that_was_not_synced_takes_along_what_is_in_it() {
    let disk = SimDisk::new();
    let a = disk.child("a".as_ref(), Access::Create).unwrap();
    let b = a.child("b".as_ref(), Access::Create).unwrap();
    let file = create(&*b, "f");
    write_all_at(&*file, b"kept", 0).unwrap();
    file.sync_all().unwrap();
    for dir in [b, a] {
        dir.sync().unwrap();
        assert_eq!(lose_all(&disk).files(), [], "the name of a is not durable");
    }
    disk.sync().unwrap();
    assert_eq!(lose_all(&disk).read_file("a/b/f").unwrap(), b"kept");
    assert!(lose_all(&disk).open_dir("a".as_ref()).unwrap().list().unwrap().contains(&"b".into()));
}

#[test]
fn names_land_in_the_order_that_the_file_system_keeps() {
    let disk = SimDisk::new();
    create(&disk, "x");
    create(&disk, "y");
    disk.rename("x".as_ref(), "z".as_ref()).unwrap();
    let crash = disk.crash_point();
    assert_eq!(crash.pending(Granularity::Page).iter().filter(|atom| atom.kind == AtomKind::Name).count(), 3);
    let set = |of: &[&str]| of.iter().map(|names| (*names).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(&states_on(&crash, "xfs")), set(&["", "x", "x y", "y z"]));
    assert_eq!(names(&states_on(&crash, "btrfs")), set(&["", "x", "y", "x y", "z", "y z"]));
    assert_eq!(names(&states_on(&crash, "posix-min")), set(&["", "x", "y", "x y", "z", "y z"]));
    assert_eq!(persona("xfs").names, NameOrder::Journal);
}

#[test]
fn a_length_lands_with_zeros_with_garbage_or_with_its_data() {
    let (disk, file) = with_file(b"");
    write_all_at(&*file, &[b'n'; 100], 0).unwrap();
    let contents = |name| -> BTreeSet<Vec<u8>> {
        states_on(&disk.crash_point(), name).into_iter().map(|files| files[0].1.clone()).collect()
    };
    assert_eq!(contents("posix-min"), BTreeSet::from([vec![], vec![0; 100], vec![b'n'; 100]]));
    assert_eq!(contents("ext4-ordered"), BTreeSet::from([vec![], vec![b'n'; 100]]));
    let stale = contents("ext4-writeback");
    assert_eq!(stale.len(), 3);
    assert!(stale.iter().any(|bytes| bytes.len() == 100 && *bytes != vec![0; 100] && *bytes != vec![b'n'; 100]));
}

#[test]
fn a_page_of_a_copy_on_write_file_system_is_never_torn() {
    let (disk, file) = with_file(&[b'o'; 8192]);
    write_all_at(&*file, &[b'n'; 8192], 0).unwrap();
    let losses = (0..64).map(Loss::Seeded);
    let states: BTreeSet<_> = losses
        .map(|loss| disk.crash_point().power_loss_on(&persona("btrfs"), &loss, Granularity::Word).read_file("f").ok())
        .collect();
    let whole = |a, b| fill(&[(a, 4096), (b, 4096)]);
    assert_eq!(states, BTreeSet::from([whole(b'o', b'o'), whole(b'o', b'n'), whole(b'n', b'o'), whole(b'n', b'n')]));
}

#[test]
fn a_sync_that_lies_is_made_good_by_the_next_one() {
    let (disk, file) = with_file(b"old");
    disk.lie_once(1);
    write_all_at(&*file, b"one", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"one", "an honest one");
    write_all_at(&*file, b"two", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"one", "it lied");
    file.sync_data().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"two");
}
