//! Directories in a directory get a name that is free: the same on every disk. And what a crash leaves of it.

use forelog::sim::Persona;
use forelog::unstable::disk::MemoryDisk;
use forelog::unstable::disk::{DirCall, FileId, Layer, Layered};

use super::*;

fn rename(dir: &dyn Dir, from: &str, to: &str) -> Result<(), io::ErrorKind> {
    dir.rename_child(from.as_ref(), to.as_ref()).map_err(|error| error.kind())
}

/// Sees each call, and nothing else.
#[derive(Clone, Default, Debug)]
struct Watch(Arc<Mutex<Vec<String>>>);

impl Layer for Watch {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{call:?}"));
        Ok(())
    }
}

fn watched() -> (Layered<dyn Dir, Watch>, Watch) {
    let watch = Watch::default();
    (Layered::new(Arc::new(SimDisk::new()), watch.clone()), watch)
}

#[test]
fn a_layer_sees_it() {
    let (dir, watch) = watched();
    rename(&dir, "a", "b").unwrap_err();
    assert_eq!(*watch.0.lock().unwrap(), ["RenameChild(\"a\", \"b\")"]);
}

/// An empty directory on each disk.
fn everywhere(test: impl Fn(&dyn Dir)) {
    test(&SimDisk::new());
    test(&FailStop::new(Arc::new(SimDisk::new())));
    test(&watched().0);
    test(&*MemoryDisk::new().open_dir("".as_ref()).unwrap());
    let scratch = crashkit::TempDir::new("children");
    test(&*OsDisk.open_dir(scratch.path()).unwrap());
}

#[test]
fn a_directory_is_renamed_to_a_free_name_and_handles_of_it_go_along() {
    everywhere(|dir| {
        let child = dir.child("a".as_ref(), Access::Create).unwrap();
        write_all_at(&*create(&*child, "f"), b"kept", 0).unwrap();
        let id: FileId = child.id().unwrap();
        rename(dir, "a", "b").unwrap();
        assert_eq!(dir.list().unwrap(), ["b"]);
        let moved = dir.child("b".as_ref(), Access::Read).unwrap();
        assert_eq!((child.id().unwrap(), moved.id().unwrap()), (id, id));
        create(&*child, "g");
        assert!(moved.open("g".as_ref(), Access::Read).is_ok());
        let mut bytes = [0; 4];
        read_exact_at(&*moved.open("f".as_ref(), Access::Read).unwrap(), &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"kept");
        // The old name is another directory's now.
        let new = dir.child("a".as_ref(), Access::Create).unwrap();
        assert_ne!(new.id().unwrap(), id);
        assert!(new.list().unwrap().is_empty());
    });
}

#[test]
fn nothing_is_replaced_and_nothing_but_a_directory_is_renamed() {
    everywhere(|dir| {
        for name in ["a", "empty"] {
            dir.child(name.as_ref(), Access::Create).unwrap();
        }
        create(dir, "file");
        assert_eq!(rename(dir, "a", "empty"), Err(io::ErrorKind::AlreadyExists), "{dir:?}");
        assert_eq!(rename(dir, "a", "file"), Err(io::ErrorKind::AlreadyExists), "{dir:?}");
        assert_eq!(rename(dir, "none", "b"), Err(io::ErrorKind::NotFound), "{dir:?}");
        assert_eq!(rename(dir, "file", "b"), Err(io::ErrorKind::NotADirectory), "{dir:?}");
        for name in ["", "..", "a/b"] {
            assert_eq!(rename(dir, "a", name), Err(io::ErrorKind::InvalidInput), "{dir:?}");
            assert_eq!(rename(dir, name, "b"), Err(io::ErrorKind::InvalidInput), "{dir:?}");
        }
        let mut names = dir.list().unwrap();
        names.sort();
        assert_eq!(names, ["a", "empty", "file"], "{dir:?}");
    });
}

#[cfg(unix)]
#[test]
fn a_link_to_a_directory_is_no_directory() {
    let scratch = crashkit::TempDir::new("children");
    let dir = OsDisk.open_dir(scratch.path()).unwrap();
    dir.child("a".as_ref(), Access::Create).unwrap();
    std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", scratch.path().join("loose")).unwrap();
    assert_eq!(rename(&*dir, "link", "b"), Err(io::ErrorKind::NotADirectory));
    assert_eq!(rename(&*dir, "a", "loose"), Err(io::ErrorKind::AlreadyExists));
}

/// What is in the directories after each choice of what lands.
fn states(disk: &SimDisk, persona: &Persona) -> BTreeSet<String> {
    let crash = disk.crash_point();
    let atoms = crash.atoms(Granularity::Page);
    let choice = |bits: u32| Loss::AllBut((0..atoms).map(|atom| bits >> atom & 1 == 1).collect());
    let names = |image: SimDisk| {
        let paths = image.files().into_iter().map(|(path, _)| path.display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    };
    (0..1 << atoms).map(|bits| names(crash.power_loss_on(persona, &choice(bits), Granularity::Page))).collect()
}

fn set<const N: usize>(of: [&str; N]) -> BTreeSet<String> {
    of.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_rename_is_durable_with_the_directory_that_it_is_in_and_the_contents_follow() {
    let disk = SimDisk::new();
    disk.write_file("a/f", b"").unwrap();
    disk.write_file("a/g", b"").unwrap();
    let child = disk.child("a".as_ref(), Access::Read).unwrap();
    rename(&disk, "a", "b").unwrap();
    for persona in &Persona::ALL {
        assert_eq!(states(&disk, persona), set(["a/f a/g", "b/f b/g"]), "{}", persona.name);
    }
    // What changes in it changes under either name.
    child.remove("f".as_ref()).unwrap();
    create(&*child, "h");
    let all = ["f g", "g", "f g h", "g h"];
    let under =
        |dir: &str| all.map(|names| names.split(' ').map(|name| format!("{dir}/{name}")).collect::<Vec<_>>().join(" "));
    assert_eq!(states(&disk, &Persona::ALL[0]), under("a").into_iter().chain(under("b")).collect());
    child.sync().unwrap();
    assert_eq!(states(&disk, &Persona::ALL[0]), set(["a/g a/h", "b/g b/h"]), "its own name is not in it");
    disk.sync().unwrap();
    assert_eq!(states(&disk, &Persona::ALL[0]), set(["b/g b/h"]));
}

/// The medium keeps the directory where it was, whatever comes to its name in the cache.
#[test]
fn a_rename_whose_sync_failed_leaves_the_directory_under_its_old_name() {
    let disk = SimDisk::new();
    disk.write_file("a/f", b"").unwrap();
    disk.write_file("a/g", b"").unwrap();
    rename(&disk, "a", "b").unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir), FaultKind::SyncFails { pages: Pages::KeepNew }));
    disk.sync().unwrap_err();
    let disk = disk.crash_point().process_kill();
    let child = disk.child("b".as_ref(), Access::Read).expect("the cache has the new name");
    child.remove("f".as_ref()).unwrap();
    assert_eq!(states(&disk, &Persona::ALL[0]), set(["a/f a/g", "a/g"]));
    // Another directory of the old name takes the place of the first, and none of its contents.
    let new = disk.child("a".as_ref(), Access::Create).unwrap();
    create(&*new, "f");
    new.sync().unwrap();
    child.sync().unwrap();
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("a/g"), vec![])]);
    disk.sync().unwrap();
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("a/f"), vec![])]);
    assert_eq!(disk.files().len(), 2);
}

#[test]
fn the_latch_judges_it_as_a_rename_of_a_file() {
    for (errno, is_final) in [(1, false), (2, false), (17, false), (28, false), (EIO, true), (19, true)] {
        let disk = SimDisk::new();
        disk.make_dir("a").unwrap();
        let stop = FailStop::new(Arc::new(disk.clone()));
        disk.inject(Fault::once(OpSelector::of(OpKind::Rename), FaultKind::Errno(errno)));
        rename(&stop, "a", "b").unwrap_err();
        assert_eq!(stop.failure().is_some(), is_final, "{errno}");
        let before = disk.ops();
        assert_eq!(rename(&stop, "a", "b").is_err(), is_final, "{errno}");
        assert_eq!(disk.ops() == before, is_final, "{errno}: nothing reaches the disk any more");
    }
}
