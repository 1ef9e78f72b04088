//! How large the house is and how it is built, as figures: printed by
//! `cargo test --test layers -- --nocapture figures`. `FORELOG_CHECKOUT=DIR` looks at another checkout instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::source::{SourceFile, circles, files_below, imports, source_files};

fn checkout() -> PathBuf {
    std::env::var_os("FORELOG_CHECKOUT").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn count(files: &[SourceFile], what: &str) -> usize {
    files
        .iter()
        .filter(|file| !file.is_test())
        .map(|file| file.code().filter(|(_, code)| code.contains(what)).count())
        .sum()
}

/// The type with the most methods in `folder`, over all its files: its name and how many.
fn largest_type(files: &[SourceFile], folder: &str) -> (String, usize) {
    let mut methods: BTreeMap<String, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| file.folder() == folder && !file.is_test()) {
        let mut current = None;
        for (_, code) in file.code() {
            if let Some(rest) = code.strip_prefix("impl") {
                current = implementor(rest);
            } else if code.starts_with('}') {
                current = None;
            }
            let is_method = code.starts_with("    ") && !code.starts_with("     ") && code.contains("fn ");
            if let (true, Some(name)) = (is_method, &current) {
                *methods.entry(name.clone()).or_default() += 1;
            }
        }
    }
    methods.into_iter().max_by_key(|(_, count)| *count).unwrap_or_default()
}

/// Whose methods follow: `<K: Key> Lookup<K> for Leaf<K> {` are those of `Leaf`.
fn implementor(head: &str) -> Option<String> {
    let mut depth = 0;
    let after_generics = head.find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0
    });
    let subject = head[after_generics?..].trim_start_matches(['>', ' ']);
    let subject = subject.rsplit(" for ").next().unwrap_or(subject);
    subject.split(['<', ' ', '{']).find(|part| !part.is_empty()).map(str::to_owned)
}

/// How many fields of the type `name` others may reach.
fn public_fields(files: &[SourceFile], folder: &str, name: &str) -> usize {
    let head = format!("struct {name} {{");
    let inside = files.iter().filter(|file| file.folder() == folder);
    let body = inside.filter_map(|file| file.text.split(&head).nth(1)).find_map(|rest| rest.split("\n}").next());
    body.map_or(0, |body| body.lines().filter(|line| line.trim_start().starts_with("pub")).count())
}

fn lines_below(dir: &Path) -> usize {
    files_below(dir).iter().filter_map(|path| std::fs::read_to_string(path).ok()).map(|text| text.lines().count()).sum()
}

#[test]
fn figures() {
    let root = checkout();
    let files = source_files(&root);
    println!("lines of product code without tests, circles, and the type with the most methods:");
    let mut folders: Vec<&str> = files.iter().map(SourceFile::folder).collect();
    folders.sort_unstable();
    folders.dedup();
    let mut sum = 0;
    for folder in folders.iter().filter(|folder| !folder.is_empty()) {
        let product = files.iter().filter(|file| file.folder() == *folder && !file.is_test());
        let lines: usize = product.map(|file| file.text.lines().count()).sum();
        sum += lines;
        let circles = circles(&imports(&files, folder));
        let (name, methods) = largest_type(&files, folder);
        let fields = public_fields(&files, folder, &name);
        println!(
            "  {folder:8} {lines:6} lines, circles {:?}, {name}: {methods} methods, {fields} public fields",
            circles.iter().map(Vec::len).collect::<Vec<_>>()
        );
    }
    println!("  in all   {sum:6} lines");
    println!("files that walk over frames: {}", {
        let walks = |file: &&SourceFile| !file.is_test() && file.code().any(|(_, code)| code.contains(".examine("));
        files.iter().filter(walks).map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ")
    });
    println!("unsafe blocks: {}", count(&files, "unsafe {") + count(&files, "unsafe impl"));
    let tests_inside: usize = files.iter().filter(|file| file.is_test()).map(|file| file.text.lines().count()).sum();
    println!(
        "lines of tests: {} in src, {} in tests, {} in fuzz",
        tests_inside,
        lines_below(&root.join("tests")),
        lines_below(&root.join("fuzz"))
    );
    assert!(sum > 0, "there is no source below {}", root.display());
}
