//! Plants are applied where they belong, apart where they overlap, and refused where the text has moved on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use forelog_plants::{Plant, distribute};

const TEXT: &str = "fn one() -> u8 {\n    1\n}\n\nfn two() -> u8 {\n    let x = 1;\n    x + 1\n}\n";

/// A checkout of its own with one source file.
fn checkout(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("forelog-plants-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("src")).unwrap();
    fs::write(root.join("src/lib.rs"), TEXT).unwrap();
    let git = Command::new("git").current_dir(&root).args(["init", "-q"]).status().unwrap();
    assert!(git.success());
    root
}

fn plant(name: &str, find: &str) -> Plant {
    let replace = format!("if crate::planted(\"{name}\") {{ 9 }} else {{ {find} }}");
    Plant { name: name.into(), file: "src/lib.rs".into(), find: find.into(), replace }
}

#[test]
fn plants_that_overlap_go_into_different_copies() {
    let root = checkout("overlap");
    let plants = [plant("a", "x + 1"), plant("b", "    1\n"), plant("c", "let x = 1;\n    x + 1")];
    let copies = distribute(&root, &plants).unwrap();
    let names: Vec<Vec<&str>> = copies.iter().map(|copy| copy.names.iter().map(String::as_str).collect()).collect();
    assert_eq!(names, [vec!["a", "b"], vec!["c"]]);

    copies[0].write(&root, &root.join("copy")).unwrap();
    let text = fs::read_to_string(root.join("copy/src/lib.rs")).unwrap();
    assert!(text.contains("planted(\"a\")") && text.contains("planted(\"b\")") && text.contains("pub fn planted("));
    assert!(text.starts_with("fn one() -> u8 {\nif crate::planted"), "{text}");
    assert_eq!(fs::read_to_string(root.join("src/lib.rs")).unwrap(), TEXT, "the checkout stays as it is");
    fs::remove_dir_all(root).unwrap();
}

/// Cargo refuses `two.rs` beside `two/mod.rs`, and a build begins anew where a file has a new time.
#[test]
fn a_copy_follows_its_checkout() {
    let root = checkout("follows");
    fs::write(root.join("src/two.rs"), "").unwrap();
    let copies = distribute(&root, &[plant("a", "x + 1")]).unwrap();
    let to = root.join("target/copy");
    fs::write(root.join(".gitignore"), "target\nCargo.lock\n").unwrap();
    fs::write(root.join("Cargo.lock"), "versions").unwrap();
    copies[0].write(&root, &to).unwrap();
    assert_eq!(fs::read_to_string(to.join("Cargo.lock")).unwrap(), "versions", "it builds what the checkout builds");
    let written = fs::metadata(to.join("src/lib.rs")).unwrap().modified().unwrap();

    fs::create_dir(root.join("src/two")).unwrap();
    fs::rename(root.join("src/two.rs"), root.join("src/two/mod.rs")).unwrap();
    copies[0].write(&root, &to).unwrap();
    assert!(to.join("src/two/mod.rs").exists() && !to.join("src/two.rs").exists());
    assert_eq!(fs::metadata(to.join("src/lib.rs")).unwrap().modified().unwrap(), written, "written once");
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn changes_of_one_name_go_together() {
    let root = checkout("together");
    let plants = [plant("a", "x + 1"), plant("b", "let x = 1;\n    x + 1"), plant("b", "    1\n")];
    let copies = distribute(&root, &plants).unwrap();
    let names: Vec<Vec<&str>> = copies.iter().map(|copy| copy.names.iter().map(String::as_str).collect()).collect();
    assert_eq!(names, [vec!["a"], vec!["b"]]);
    let refused = distribute(&root, &[plant("c", "x + 1"), plant("c", "let x = 1;\n    x + 1")]).unwrap_err();
    assert!(refused.contains("c: two of its changes overlap"), "{refused}");
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_plant_that_has_lost_its_place_is_refused_by_name() {
    let root = checkout("lost");
    let refused = |plant: Plant| distribute(&root, &[plant]).unwrap_err();
    assert!(refused(plant("gone", "x + 2")).contains("gone in src/lib.rs: its text is not there"));
    assert!(refused(plant("twice", "-> u8 {")).contains("more than once"));
    assert!(refused(plant("nothing", "")).contains("no text to find"));
    let silent = Plant { replace: "9".into(), ..plant("silent", "x + 1") };
    assert!(refused(silent).contains("does not ask crate::planted()"));
    let elsewhere = Plant { file: "src/none.rs".into(), ..plant("elsewhere", "x") };
    assert!(refused(elsewhere).contains("elsewhere in src/none.rs"));
    fs::remove_dir_all(root).unwrap();
}
