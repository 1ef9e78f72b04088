//! `import`: from pipes, and what is refused before anything is made.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use forelog::Engine;
use serde_json::Value;

use crate::common::{Scratch, contents, forelog, import, on, printed, refused, run};

fn rows(db: &Path) -> Vec<String> {
    printed(&mut on("scan", db, &["--keyspace", "rows"])).lines().map(str::to_owned).collect()
}

const TWO: &[u8] = b"id,name\n1,a\n2,b\n";
const TWO_ROWS: [&str; 2] = ["1\t{\"id\":\"1\",\"name\":\"a\"}", "2\t{\"id\":\"2\",\"name\":\"b\"}"];

/// Starts a command whose standard input is a pipe, and writes `bytes` there.
fn fed(command: &mut Command, bytes: &[u8]) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses early does not read the rest.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child
}

fn end(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The file was read twice: from a FIFO the second reading waited for ever, and other pipes were "empty".
#[test]
fn a_pipe_is_imported_like_a_file() {
    let scratch = Scratch::new("pipes");
    for (name, file) in [("dash", "-"), ("stdin", "/dev/stdin")] {
        let db = scratch.path(name);
        let (code, stdout, stderr) = end(fed(&mut import(&db, Path::new(file), &["--batch", "2"]), TWO));
        assert_eq!((code, &*stderr), (0, ""), "{stdout}");
        assert!(stdout.starts_with("imported 2 rows"), "{stdout}");
        assert_eq!(rows(&db), TWO_ROWS);
    }
    let (db, fifo) = (scratch.path("fifo-db"), scratch.path("fifo"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let command = import(&db, &fifo, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    OpenOptions::new().write(true).open(&fifo).unwrap().write_all(TWO).unwrap();
    let (code, _, stderr) = end(command);
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(rows(&db), TWO_ROWS);
    // Process substitution: `<(..)` of a shell.
    let db = scratch.path("substituted");
    let line = "\"$0\" import --db \"$1\" --keyspace rows --key id <(printf 'id,name\\n1,a\\n2,b\\n')";
    let output = Command::new("bash").arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_forelog")).arg(&db).output();
    let Ok(output) = output else { return eprintln!("skipped: no bash here") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(rows(&db), TWO_ROWS);
}

/// What comes through a pipe has no name, so its contents say whether it is the same again.
#[test]
fn a_pipe_is_known_again_by_its_contents() {
    let scratch = Scratch::new("pipe-again");
    let db = scratch.path("db");
    let run_with = |more: &[&str], bytes: &[u8]| end(fed(&mut import(&db, Path::new("-"), more), bytes));
    assert!(run_with(&[], TWO).1.starts_with("imported 2 rows"));
    assert!(run_with(&[], TWO).1.starts_with("already imported"));
    let (code, stdout, stderr) = run_with(&["--json"], b"id,name\n3,c\n");
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["imported"], 1);
    assert_eq!(rows(&db).len(), 3);

    // A file that comes as a descriptor has no name either.
    for (text, count) in [("id,name\n4,d\n", 4), ("id,name\n5,e\n", 5)] {
        let file = fs::File::open(scratch.write("file", text)).unwrap();
        printed(import(&db, Path::new("/dev/stdin"), &[]).stdin(file));
        assert_eq!(rows(&db).len(), count);
    }

    // Killed, and begun again with the same.
    let db = scratch.path("killed");
    let many: String = (0..400).fold("id,name\n".to_owned(), |text, row| text + &format!("{row},x\n"));
    let mut child = fed(&mut import(&db, Path::new("-"), &["--acks"]), many.as_bytes());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(20).count(), 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, stdout, stderr) = end(fed(&mut import(&db, Path::new("-"), &["--json"]), many.as_bytes()));
    assert_eq!((code, &*stderr), (0, ""));
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    let (resumed, imported) = (summary["resumed_at"].as_u64().unwrap(), summary["imported"].as_u64().unwrap());
    assert!(resumed >= 20 && resumed + imported == 400, "{summary}");
    assert_eq!(rows(&db).len(), 400);
}

#[test]
fn a_pipe_that_is_refused_makes_no_database_and_leaves_no_file() {
    let scratch = Scratch::new("bad-pipes");
    let temporary = scratch.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let (db, stdin) = (scratch.path("db"), Path::new("-"));
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (b"id,name\n1,a\n1,b\n", "key '1' is in row 1 already"),
        (b"id,name\n1,\"a\n", "never closed"),
    ] {
        let (code, _, stderr) = end(fed(import(&db, stdin, &[]).env("TMPDIR", &temporary), bytes));
        assert!(code == 1 && stderr.contains("standard input") && stderr.contains(what), "{stderr}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{what}");
    }
    // It needs a place to keep what a pipe brings, and says which.
    let nowhere = scratch.path("nowhere");
    let (code, _, stderr) = end(fed(import(&db, stdin, &[]).env("TMPDIR", &nowhere), TWO));
    assert!(code == 1 && stderr.contains("nowhere") && stderr.contains("TMPDIR"), "{stderr}");
    assert!(!db.exists());
    let (code, _, stderr) = end(fed(import(&db, stdin, &[]).env("TMPDIR", &temporary), TWO));
    assert_eq!((code, &*stderr), (0, ""));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// A row over a limit was found in the second reading: the rows before it stayed, and the advice to run the same
/// command again could not be followed. A keyspace's bad name was found when its database was there.
#[test]
fn what_is_over_a_limit_is_refused_before_anything_is_made() {
    let scratch = Scratch::new("limits");
    let (long, control) = ("k".repeat(70_000), "\u{1}".repeat(12 << 20));
    let cases = [
        ("key", format!("id,name\n1,a\n{long},b\n"), "row 2 (line 3)", "65535"),
        ("value", format!("id,name\n1,a\n2,\"{control}\"\n"), "row 2 (line 3)", "67108864"),
    ];
    let existing = scratch.path("existing");
    let engine = Engine::open(&existing).unwrap();
    engine.close().unwrap();
    let before = contents(&existing);
    for (name, text, place, what) in &cases {
        let file = scratch.write(name, text);
        for db in [existing.clone(), scratch.path("new/below")] {
            for more in [&[][..], &["--batch", "10", "--lenient"]] {
                let error = refused(&mut import(&db, &file, more));
                assert!(error.contains(place) && error.contains(what) && !error.contains("goes on"), "{error}");
            }
        }
    }
    let file = scratch.write("good", TWO);
    for name in [String::new(), "n".repeat(256)] {
        for db in [existing.clone(), scratch.path("new/below")] {
            let mut command = forelog();
            command.args(["import", "--key", "id", "--keyspace", &name, "--db"]).arg(&db).arg(&file);
            let error = refused(&mut command);
            assert!(error.contains("1 to 255 bytes"), "{error}");
        }
    }
    assert!(!scratch.path("new").exists());
    assert_eq!(contents(&existing), before);
}

/// A batch over the limit of a transaction was refused after the batches before it were committed.
#[test]
fn a_batch_is_never_larger_than_a_transaction_may_be() {
    let scratch = Scratch::new("large-batch");
    let db = scratch.path("db");
    // Each takes 48 MiB as a JSON string.
    let value = "\u{1}".repeat(8 << 20);
    let text = (0..6).fold("id,name\n".to_owned(), |text, row| text + &format!("{row},{value}\n"));
    let file = scratch.write("large.csv", text);
    let summary = printed(&mut import(&db, &file, &["--batch", "10", "--mode", "async", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&summary).unwrap()["imported"], 6);
}

/// What a strict import guessed, and a lenient one took in silence.
#[test]
fn what_looks_like_no_row_is_refused_or_passed_over_and_never_a_row() {
    let scratch = Scratch::new("more-guesses");
    let db = scratch.path("db");
    let strict: [(&str, &[u8], &str, &str); 11] = [
        ("blank-key", b"id,name\n1,a\n  ,b\n", "row 2 (line 3)", "no key"),
        ("nbsp-key", "id,name\n1,a\n\u{a0}\u{a0},b\n".as_bytes(), "row 2 (line 3)", "no key"),
        ("zero-width-key", "id,name\n1,a\n\u{200b},b\n".as_bytes(), "row 2 (line 3)", "no key"),
        ("mark-key", "name,id\na,1\nb,\u{feff}\n".as_bytes(), "row 2 (line 3)", "no key"),
        ("quoted-blank-key", b"id,name\n1,a\n\" \t\",b\n", "row 2 (line 3)", "no key"),
        ("blank-row", b"id\n1\n  \n", "row 2 (line 3)", "no key"),
        ("joined", "id,name\n1,a\n\u{feff}id,name\n2,b\n".as_bytes(), "row 2 (line 3)", "byte order mark"),
        ("joined-plain", b"id,name\n1,a\nid,name\n2,b\n", "row 2 (line 3)", "header"),
        ("ctrl-z", b"id,name\n1,a\n\x1a", "row 2 (line 3)", "Ctrl-Z"),
        ("ctrl-z-behind", b"id,name\n1,a\x1a", "row 1 (line 2)", "Ctrl-Z"),
        ("padding", b"id\n1\n\0\0\0", "row 2 (line 3)", "NUL"),
    ];
    for (name, content, place, what) in strict {
        let error = refused(&mut import(&db, &scratch.write(name, content), &[]));
        assert!(error.contains(name) && error.contains(place) && error.contains(what), "{name}: {error}");
    }
    let lenient: [(&str, &[u8], &str, &str); 4] = [
        ("open", b"id,name\n1,\"unterminated\n2,b\n3,\"c\"\n", "row 1 (line 2)", "never closed"),
        ("open-carriage", b"id,name\r1,\"unterminated\r2,b\r3,\"c\"\r", "row 1", "never closed"),
        ("blank-key", b"id,name\n1,a\n \0,b\n", "row 2 (line 3)", "no key"),
        ("zero-width-key", "id,name\n1,a\n\u{200b},b\n".as_bytes(), "row 2 (line 3)", "no key"),
    ];
    for (name, content, place, what) in lenient {
        let error = refused(&mut import(&db, &scratch.write(name, content), &["--lenient"]));
        assert!(error.contains(name) && error.contains(place) && error.contains(what), "{name}: {error}");
    }
    assert!(!db.exists());
    let file = scratch.write("empty-rows", "id,name\n1,a\n   \n\u{a0},\t\n2,b\n\u{feff}\n\0\0\0\n\x1a");
    let summary: Value = serde_json::from_str(&printed(&mut import(&db, &file, &["--lenient", "--json"]))).unwrap();
    assert_eq!((&summary["rows"], &summary["empty_rows"]), (&2.into(), &5.into()));
    assert_eq!(rows(&db), TWO_ROWS);
}

/// Names and keys from a file, and names from the command line, reached the terminal as they were.
#[test]
fn no_control_character_of_the_input_reaches_the_terminal() {
    let scratch = Scratch::new("control");
    let db = scratch.path("db");
    let is_clean = |text: &str| text.chars().all(|char| char == '\n' || char == '\t' || !char.is_control());
    let evil = "\u{1b}[31m\u{9b}2J\u{7f}";
    let duplicate = scratch.write("duplicate", format!("id,\"n{evil}\"\nk{evil},1\nk{evil},2\n"));
    let column = scratch.write("column", format!("\"{evil}\",name\n1,2\n"));
    for file in [&duplicate, &column] {
        let error = refused(&mut import(&db, file, &[]));
        assert!(is_clean(&error) && error.contains("\\u{1b}[31m\\u{9b}2J\\u{7f}"), "{error:?}");
    }
    let file = scratch.write(&format!("f{evil}.csv"), format!("id,name\nk{evil},v{evil}\n"));
    let in_keyspace = |command: &str, more: &[&str]| {
        let mut command = on(command, &db, &["--keyspace", &format!("ks{evil}")]);
        command.args(more);
        command
    };
    let mut command = in_keyspace("import", &["--key", "id"]);
    let said = printed(command.arg(&file));
    assert!(is_clean(&said) && said.contains("ks\\u{1b}"), "{said:?}");
    for more in [&[][..], &["--json"]] {
        let shown = printed(&mut in_keyspace("scan", more));
        assert!(is_clean(&shown), "{shown:?}");
        if !more.is_empty() {
            let line: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(line["key"], format!("k{evil}"));
            assert_eq!(line["value"]["name"], format!("v{evil}"));
        }
    }
    let error = refused(&mut on("scan", &db, &["--keyspace", "none"]));
    assert!(is_clean(&error) && error.contains("ks\\u{1b}"), "{error:?}");
    let (code, _, wrong) = run(import(&db, &file, &["--batch", evil]).env("CLICOLOR_FORCE", "1"));
    assert!(code == 2 && is_clean(&wrong) && wrong.contains("--batch"), "{wrong:?}");
    let (_, shown, _) = run(&mut on("salvage", &db, &["--to", scratch.path(&format!("to{evil}")).to_str().unwrap()]));
    assert!(is_clean(&shown), "{shown:?}");
}

/// With the least memory, about 57,000 keys are in memory, and the rest goes through a temporary file.
#[test]
fn a_key_that_comes_twice_is_told_in_the_same_words_however_many_rows_there_are() {
    let scratch = Scratch::new("many-keys");
    let temporary = scratch.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let (db, least) = (scratch.path("db"), ["--memory", "16MiB", "--mode", "written", "--batch", "5000"]);
    let text = |rows: u64, again: &[(u64, &str)]| {
        (1..=rows).fold("name,id\n".to_owned(), |text, row| {
            let key = again.iter().find(|(at, _)| *at == row).map_or(format!("k{row}"), |(_, key)| (*key).to_owned());
            text + &format!("x,{key}\n")
        })
    };
    for rows in [50_000, 150_000] {
        let again = [(40_000, "k30"), (rows - 1, "k7"), (rows, "k29999")];
        for (again, said) in [
            (&again[..], "row 40000 (line 40001): the key 'k30' is in row 30 already"),
            (&again[1..], &format!("row {} (line {rows}): the key 'k7' is in row 7 already", rows - 1)),
        ] {
            let file = scratch.write("twice.csv", text(rows, again));
            let error = refused(import(&db, &file, &least).env("TMPDIR", &temporary));
            assert!(error.ends_with(&format!("{said}: a key column must tell all rows apart\n")), "{error}");
            // The same from a pipe, which is kept beside it.
            let piped = fs::read(&file).unwrap();
            let (code, _, stderr) = end(fed(import(&db, Path::new("-"), &least).env("TMPDIR", &temporary), &piped));
            assert!(code == 1 && stderr.contains(said), "{stderr}");
        }
        assert!(!db.exists() && fs::read_dir(&temporary).unwrap().next().is_none());
    }
    let file = scratch.write("whole.csv", text(150_000, &[]));
    let summary = printed(import(&db, &file, &least).arg("--json").env("TMPDIR", &temporary));
    assert_eq!(serde_json::from_str::<Value>(&summary).unwrap()["imported"], 150_000);
    assert_eq!(rows(&db).len(), 150_000);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn without_room_for_a_temporary_file_it_says_what_to_do() {
    let scratch = Scratch::new("no-room");
    let db = scratch.path("db");
    let text = (0..150_000).fold("id\n".to_owned(), |text, row| text + &format!("k{row}\n"));
    let file = scratch.write("many.csv", text);
    let nowhere = scratch.path("nowhere");
    let missing = refused(import(&db, &file, &["--memory", "16MiB"]).env("TMPDIR", &nowhere));
    assert!(missing.contains("nowhere") && missing.contains("24 bytes for each row"), "{missing}");
    assert!(missing.contains("Set TMPDIR to a directory with room"), "{missing}");
    let line = "ulimit -f 1; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.arg("-c").arg(line).arg(env!("CARGO_BIN_EXE_forelog")).args(["import", "--memory", "16MiB"]);
    command.args(["--keyspace", "rows", "--key", "id", "--db"]).arg(&db).arg(&file).env("TMPDIR", &scratch.0);
    let full = refused(&mut command);
    assert!(full.contains("24 bytes for each row") && full.contains("ulimit -f"), "{full}");
    assert!(!db.exists());
}

#[test]
fn a_memory_that_the_engine_refuses_is_refused_before_anything_is_read_or_made() {
    let scratch = Scratch::new("memory");
    let db = scratch.path("db");
    let not_read = scratch.path("not-there.csv");
    let error = refused(&mut import(&db, &not_read, &["--memory", "1MiB"]));
    assert!(error.contains("memory_bytes is 1048576: choose 16777216 or more"), "{error}");
    for (command, more) in [("compact", &[][..]), ("backup", &["--to", "elsewhere"])] {
        let error = refused(on(command, &db, more).args(["--memory", "5"]));
        assert!(error.contains("memory_bytes is 5"), "{error}");
    }
    for wrong in ["lots", "1.5GiB", "", "-1"] {
        let (code, _, stderr) = run(&mut import(&db, &not_read, &[&format!("--memory={wrong}")]));
        assert!(code == 2 && stderr.contains("--memory") && stderr.contains("256MiB"), "{stderr}");
    }
    assert!(!db.exists());
    let file = scratch.write("two.csv", TWO);
    printed(&mut import(&db, &file, &["--memory", "16mib"]));
    printed(&mut on("compact", &db, &["--memory", "17MiB"]));
    assert_eq!(rows(&db), TWO_ROWS);
}
