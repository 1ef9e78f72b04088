//! Planted bugs: known mistakes that the crash suite must find, or it proves nothing.
//!
//! A plant is text: in `file`, `find` stands exactly once and becomes `replace`, which asks `crate::planted("name")`
//! whether to be wrong. The product's own text knows nothing of it. [`write_copies`] applies all plants to copies of the
//! checkout, each copy is built once, and the environment variable `FORELOG_PLANT` chooses which plant is active.
//! Plants whose texts overlap go into different copies.
//!
//! An active plant that is asked for creates the file that `FORELOG_PLANT_REACHED` names. The campaign fails on a plant
//! that no test reaches: nothing can be said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// Where the plants are, below the checkout.
const PLANTS: &str = "tests/plants/plants";

/// What each copy's `src/lib.rs` gets in addition.
const CHOOSER: &str = include_str!("chooser.rs");

/// One change of one place.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// What `FORELOG_PLANT` calls it. Several changes may share a name: they are active together.
    pub name: String,
    /// The file, from the root of the checkout.
    pub file: String,
    /// The right text.
    pub find: String,
    /// The text that chooses between the wrong and the right.
    pub replace: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PlantFile {
    plant: Vec<Plant>,
}

/// A copy of the checkout, on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlantedCopy {
    /// Its root.
    pub root: PathBuf,
    /// The names of the plants in it.
    pub names: BTreeSet<String>,
}

/// Writes the copies of the checkout at `root` that have all its plants in them, below `directory`.
///
/// # Errors
/// Each plant that cannot be applied, and what git or the file system refuses.
pub fn write_copies(root: &Path, directory: &Path) -> Result<Vec<PlantedCopy>, String> {
    let changes = distribute(root, &load(root)?)?;
    let numbered = changes.into_iter().enumerate();
    let write = |(number, changes): (usize, Changes)| {
        let to = directory.join(format!("copy-{number}"));
        changes.write(root, &to)?;
        Ok(PlantedCopy { root: to, names: changes.names })
    };
    numbered.map(write).collect()
}

/// Reads all plants of the checkout at `root`.
///
/// # Errors
/// What cannot be read or is no list of plants, by file.
pub fn load(root: &Path) -> Result<Vec<Plant>, String> {
    let dir = root.join(PLANTS);
    let entries = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut plants = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let file: PlantFile = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        plants.extend(file.plant);
    }
    Ok(plants)
}

/// What one copy has of its own.
#[derive(Debug)]
pub struct Changes {
    /// The names of its plants.
    pub names: BTreeSet<String>,
    /// The changed files, by path from the root.
    files: BTreeMap<String, String>,
}

/// A plant, and the bytes of its file that it replaces.
type Placed<'a> = (&'a Plant, Range<usize>);

/// Distributes `plants` over as few copies of the checkout at `root` as their overlaps allow.
///
/// # Errors
/// Each plant whose text does not stand in its file exactly once, or whose replacement does not choose by its name.
pub fn distribute(root: &Path, plants: &[Plant]) -> Result<Vec<Changes>, String> {
    let mut texts = BTreeMap::new();
    let mut problems = Vec::new();
    let mut places: BTreeMap<&str, Vec<Placed<'_>>> = BTreeMap::new();
    for plant in plants {
        let text = texts.entry(plant.file.as_str()).or_insert_with(|| fs::read_to_string(root.join(&plant.file)));
        match text.as_deref().map_err(ToString::to_string).and_then(|text| place_of(plant, text)) {
            Ok(place) => places.entry(&plant.name).or_default().push((plant, place)),
            Err(problem) => problems.push(format!("{} in {}: {problem}", plant.name, plant.file)),
        }
    }
    problems.extend(places.iter().filter(|(_, changes)| overlap(changes, &[])).map(overlaps_itself));
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let mut groups: Vec<Vec<Placed<'_>>> = Vec::new();
    for changes in places.into_values() {
        match groups.iter_mut().find(|group| !overlap(&changes, group)) {
            Some(group) => group.extend(changes),
            None => groups.push(changes),
        }
    }
    let texts: BTreeMap<&str, String> = texts.into_iter().filter_map(|(file, text)| Some((file, text.ok()?))).collect();
    Ok(groups.into_iter().map(|group| apply(group, &texts)).collect())
}

fn place_of(plant: &Plant, text: &str) -> Result<Range<usize>, String> {
    if plant.find.is_empty() {
        return Err("it has no text to find".into());
    }
    let mut places = text.match_indices(&plant.find);
    let (start, _) = places.next().ok_or("its text is not there: the code has moved on, so the plant must follow")?;
    if places.next().is_some() {
        return Err("its text stands there more than once: take in a line that tells the places apart".into());
    }
    if !plant.replace.contains(&format!("crate::planted(\"{}\")", plant.name)) {
        return Err("its replacement does not ask crate::planted() for its name".into());
    }
    Ok(start..start + plant.find.len())
}

/// Whether two of `changes`, or one of them and one of `others`, replace the same bytes.
fn overlap(changes: &[Placed<'_>], others: &[Placed<'_>]) -> bool {
    changes.iter().enumerate().any(|(index, (plant, place))| {
        let mut rest = changes[index + 1..].iter().chain(others);
        rest.any(|(other, taken)| other.file == plant.file && taken.start < place.end && place.start < taken.end)
    })
}

fn overlaps_itself((name, _): (&&str, &Vec<Placed<'_>>)) -> String {
    format!("{name}: two of its changes overlap")
}

fn apply(mut group: Vec<Placed<'_>>, texts: &BTreeMap<&str, String>) -> Changes {
    let names = group.iter().map(|(plant, _)| plant.name.clone()).collect();
    // From the end of each file to its beginning, so that the places before stay where they are.
    group.sort_by_key(|(_, place)| std::cmp::Reverse(place.start));
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (plant, place) in group {
        let text = files.entry(plant.file.clone()).or_insert_with(|| texts[plant.file.as_str()].clone());
        text.replace_range(place, &plant.replace);
    }
    Changes { names, files }
}

impl Changes {
    /// Makes `to` a copy of the checkout at `root`: every file that git does not ignore, the versions of the dependencies,
    /// the plants, and the function that chooses among them. A file that is there with its content is left alone, so that
    /// a build begins where the last one ended. What else is there is removed: cargo would refuse two files for a module.
    ///
    /// # Errors
    /// What git or the file system refuses.
    pub fn write(&self, root: &Path, to: &Path) -> Result<(), String> {
        let mut names = tracked(root)?;
        names.insert("Cargo.lock".into());
        for name in &names {
            let failed = |error: io::Error| format!("{name}: {error}");
            let mut bytes = match (self.files.get(name), fs::read(root.join(name))) {
                (Some(text), _) => text.clone().into_bytes(),
                (None, Ok(bytes)) => bytes,
                // Tracked, and removed from the work tree; or nothing was built yet that would have made Cargo.lock.
                (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                (None, Err(error)) => return Err(failed(error)),
            };
            if name == "src/lib.rs" {
                bytes.extend_from_slice(CHOOSER.as_bytes());
            }
            let path = to.join(name);
            if fs::read(&path).is_ok_and(|there| there == bytes) {
                continue;
            }
            let parent = path.parent().expect("below the copy's root");
            fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes)).map_err(failed)?;
        }
        let is_stale = |path: &Path| {
            let name = path.strip_prefix(to).expect("below the copy's root");
            !name.to_str().is_some_and(|name| names.contains(name) && root.join(name).exists())
        };
        remove_stale(to, &is_stale).map_err(|error| format!("{}: {error}", to.display()))
    }
}

/// The files of the checkout at `root` that git does not ignore.
fn tracked(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().map_err(|error| format!("git ls-files: {error}"))?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Removes the files below `dir` that are stale.
fn remove_stale(dir: &Path, is_stale: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_stale(&entry.path(), is_stale)?;
        } else if is_stale(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
