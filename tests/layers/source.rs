//! The source as text: its files, what is code in them, and which module names which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One file below `src`, by its path from there.
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// The lines of code with their numbers, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Whether only tests see it.
    pub(crate) fn is_test(&self) -> bool {
        let name = &self.name;
        name.contains("/tests/") || name.ends_with("_tests.rs") || name.ends_with("/tests.rs")
    }

    /// The first folder below `src`.
    pub(crate) fn folder(&self) -> &str {
        self.name.split_once('/').map_or("", |(folder, _)| folder)
    }

    /// Every function with more than one line: where it begins, its name, and how many lines it has.
    pub(crate) fn functions(&self) -> Vec<(usize, String, usize)> {
        let mut found = Vec::new();
        let mut open: Vec<(usize, String, usize)> = Vec::new();
        for (line, code) in self.code() {
            let indent = code.len() - code.trim_start().len();
            if let Some((_, rest)) = code.split_once("fn ")
                && !code.trim_end().ends_with('}')
                && let Some(name) = rest.split(['(', '<']).next().filter(|name| !name.is_empty())
            {
                open.push((line, name.to_owned(), indent));
            }
            // rustfmt closes a function where its head began.
            if code.trim() == "}"
                && let Some((begin, name, _)) = open.pop_if(|(_, _, begin)| *begin == indent)
            {
                found.push((begin, name, line - begin + 1));
            }
        }
        found
    }

    /// Its place in the tree of modules: `log/mod.rs` and `log.rs` are both `log`.
    fn module(&self) -> Vec<String> {
        let stem = self.name.trim_end_matches(".rs");
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        stem.split('/').map(str::to_owned).collect()
    }
}

pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(root) else { return files };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All files below `src` of the checkout at `root`.
pub(crate) fn source_files(root: &Path) -> Vec<SourceFile> {
    let src = root.join("src");
    let read = |path: PathBuf| SourceFile {
        name: path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).expect("a source file"),
    };
    files_below(&src).into_iter().map(read).collect()
}

/// Every path that a text of Rust names, `use` trees written out: `use super::{a::A, b}` names `super::a::A` and `super::b`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        let begins = matches!(tokens[position].as_str(), "super" | "crate" | "self");
        if begins && tokens.get(position + 1).is_some_and(|next| next == "::") {
            position = tree(&tokens, position, &mut Vec::new(), &mut found);
        } else {
            position += 1;
        }
    }
    found
}

/// Reads one path or `use` tree from `position`; returns where it ends.
fn tree(tokens: &[String], mut position: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    loop {
        match tokens.get(position).map(String::as_str) {
            Some("{") => {
                position += 1;
                while position < tokens.len() && tokens[position] != "}" {
                    position =
                        if tokens[position] == "," { position + 1 } else { tree(tokens, position, prefix, found) };
                }
                prefix.truncate(depth);
                return position + 1;
            }
            Some(name) if name.chars().all(|c| c.is_alphanumeric() || c == '_') => prefix.push(name.to_owned()),
            _ => {}
        }
        position += 1;
        if tokens.get(position).is_none_or(|next| next != "::") {
            found.push(prefix.clone());
            prefix.truncate(depth);
            // A rename of the last name.
            return if tokens.get(position).is_some_and(|next| next == "as") { position + 2 } else { position };
        }
        position += 1;
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let mut word = String::new();
        let mut rest = code.chars().peekable();
        while let Some(c) = rest.next() {
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                tokens.push(std::mem::take(&mut word));
            }
            if c == ':' && rest.peek() == Some(&':') {
                rest.next();
                tokens.push("::".into());
            } else if !c.is_whitespace() {
                tokens.push(c.into());
            }
        }
        if !word.is_empty() {
            tokens.push(word);
        }
    }
    tokens
}

/// Which file of `folder` names which other one. A module's own parents are left out: they only list their parts, and
/// a name that a parent hands on counts as its owner's.
pub(crate) fn imports(files: &[SourceFile], folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let inside = || files.iter().filter(|file| file.folder() == folder && !file.is_test());
    let modules: BTreeMap<Vec<String>, &str> = inside().map(|file| (file.module(), file.name.as_str())).collect();
    let handed_on: BTreeMap<Vec<String>, Vec<String>> = inside().flat_map(|file| handed_on(file, &modules)).collect();
    let mut imports = BTreeMap::new();
    for file in inside() {
        let own = file.module();
        let mut named = BTreeSet::new();
        for path in paths(&file.text) {
            let mut path = absolute(&own, &path);
            if let Some(owner) = (1..=path.len()).find_map(|length| handed_on.get(&path[..length])) {
                path.clone_from(owner);
            }
            let target = (1..=path.len()).rev().find_map(|length| modules.get_key_value(&path[..length]));
            if let Some((module, name)) = target
                && !own.starts_with(module)
                && !module.starts_with(&own)
            {
                named.insert((*name).to_owned());
            }
        }
        imports.insert(file.name.clone(), named);
    }
    imports
}

fn absolute(own: &[String], path: &[String]) -> Vec<String> {
    let supers = path.iter().take_while(|name| *name == "super").count();
    match path.first().map(String::as_str) {
        Some("super") => {
            let kept = own.len().saturating_sub(supers);
            own[..kept].iter().chain(&path[supers..]).cloned().collect()
        }
        Some("self") => own.iter().chain(&path[1..]).cloned().collect(),
        _ => path[1..].to_vec(),
    }
}

/// The names that a module hands on from its parts: `pub use append::Place` in `log` makes `log::Place` `log::append`'s.
fn handed_on(file: &SourceFile, modules: &BTreeMap<Vec<String>, &str>) -> Vec<(Vec<String>, Vec<String>)> {
    let own = file.module();
    let mut found = Vec::new();
    for statement in file.text.split(';') {
        let Some((before, tree)) = statement.split_once("use ") else { continue };
        if !before.trim_end().ends_with(')') && !before.trim_end().ends_with("pub") {
            continue;
        }
        for path in paths(&format!("self::{tree}")) {
            let owner = absolute(&own, &path);
            let is_part = (own.len() + 1..owner.len()).any(|length| modules.contains_key(&owner[..length]));
            if let (true, Some(name)) = (is_part, path.last()) {
                let alias = own.iter().cloned().chain([name.clone()]).collect();
                found.push((alias, owner));
            }
        }
    }
    found
}

/// The circles among `imports`: sets of files each of which leads to each other one.
pub(crate) fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(imports, file))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (file, targets) in &reach {
        let circle: Vec<String> =
            targets.iter().filter(|other| reach[**other].contains(file)).map(|other| (*other).to_owned()).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reached<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        for target in imports.get(file).into_iter().flatten() {
            if seen.insert(target.as_str()) {
                next.push(target);
            }
        }
    }
    seen
}
