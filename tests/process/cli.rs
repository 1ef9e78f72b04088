//! The command line as its users meet it: the real program, killed, resumed, and fed with bad input.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use forelog::Engine;
use serde_json::{Map, Value};

use crate::common::{Scratch, contents, forelog, import, on, printed, refused, run};

/// Key and row of every line that `scan --json` prints. It tells if the database was not closed, and nothing else.
fn scan(db: &Path) -> Vec<(String, String)> {
    let (code, lines, said) = run(&mut on("scan", db, &["--keyspace", "rows", "--json"]));
    let crashed = printed(&mut on("verify", db, &["--json"])).contains("\"closed\":false");
    assert_eq!((code, said.lines().count(), said.contains("not closed")), (0, usize::from(crashed), crashed), "{said}");
    let entry = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["key"].as_str().unwrap().to_owned(), line["value"].to_string())
    };
    lines.lines().map(entry).collect()
}

/// Key and row of the file's first `count` rows, in key order.
fn expected(file: &Path, count: usize) -> Vec<(String, String)> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let header = reader.headers().unwrap().clone();
    let entry = |record: csv::StringRecord| {
        let object: Map<_, _> =
            header.iter().zip(&record).map(|(name, field)| (name.to_owned(), Value::from(field))).collect();
        (object["id"].as_str().unwrap().to_owned(), Value::Object(object).to_string())
    };
    let mut entries: Vec<_> = reader.records().take(count).map(|record| entry(record.unwrap())).collect();
    entries.sort();
    entries
}

/// A file with all that makes CSV difficult; its keys are in no order.
fn generate(path: &Path, rows: usize) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    writer.write_record(["name", "id", "note, quoted", "größe"]).unwrap();
    for row in 0..rows {
        let id = (row * 7_919 + 13) % 1_000_003;
        let note = ["", "plain", "with, comma", "with \"quotes\"", "two\nlines", "日本語 ✓", "\\ and \t"][row % 7];
        writer.write_record([&*format!("row {row}"), &*id.to_string(), note, &*(row * row).to_string()]).unwrap();
    }
    writer.flush().unwrap();
}

fn seed() -> u64 {
    let seed = std::env::var("FORELOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("FORELOG_SEED={seed}");
    seed
}

/// Imports, and kills the process after `acks` further acknowledgements. Returns how many rows were acknowledged in the
/// end, and whether the import had ended before the signal came.
fn import_and_kill(db: &Path, file: &Path, mode: &str, acks: usize) -> (usize, bool) {
    let mut child = import(db, file, &["--mode", mode, "--acks"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap().parse().ok());
    let seen: Vec<Option<usize>> = lines.by_ref().take(acks).collect();
    child.kill().unwrap();
    let ended = child.wait().unwrap().success();
    // What was in the pipe was acknowledged, too. An import that ends has a summary as its last line.
    (seen.into_iter().chain(lines).flatten().last().unwrap_or(0), ended)
}

/// Killed again and again until it is through, the import never loses, skips or repeats a row.
fn killed_import_keeps_a_prefix_and_resumes(mode: &str, rows: usize) {
    let scratch = Scratch::new(mode);
    let (db, file) = (scratch.path("db"), scratch.path("rows.csv"));
    generate(&file, rows);
    let mut random = seed();
    let mut kills = 0;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Up to an eighth of the rows at a time.
        let acks = 1 + usize::from(random.to_le_bytes()[7]) * rows / 2048;
        let (acknowledged, ended) = import_and_kill(&db, &file, mode, acks);
        if ended {
            break;
        }
        kills += 1;
        let before = contents(&db);
        printed(&mut on("verify", &db, &[]));
        assert_eq!(contents(&db), before, "verify changed the database");
        let kept = scan(&db);
        assert_eq!(kept, expected(&file, kept.len()), "not the file's first {} rows", kept.len());
        if mode != "async" {
            assert!(kept.len() >= acknowledged, "{acknowledged} rows acknowledged in mode {mode}, {} kept", kept.len());
        }
        if kills == 12 {
            let summary = printed(&mut import(&db, &file, &["--mode", mode, "--json"]));
            let summary: Value = serde_json::from_str(&summary).unwrap();
            assert_eq!(summary["resumed_at"], kept.len());
            assert_eq!(summary["imported"], rows - kept.len());
            break;
        }
    }
    println!("{kills} kills");
    assert!(kills > 0, "no kill hit a running import");
    assert_eq!(scan(&db), expected(&file, usize::MAX));

    let before = contents(&db);
    assert!(printed(&mut import(&db, &file, &[])).starts_with("already imported"));
    assert_eq!(contents(&db), before, "a finished import changed the database");
    assert!(printed(&mut on("verify", &db, &[])).starts_with("sound: "));
}

#[test]
fn import_killed_in_sync_mode_loses_nothing_acknowledged_and_resumes() {
    killed_import_keeps_a_prefix_and_resumes("sync", 600);
}

#[test]
fn import_killed_in_written_mode_loses_nothing_acknowledged_and_resumes() {
    killed_import_keeps_a_prefix_and_resumes("written", 4_000);
}

#[test]
fn import_killed_in_async_mode_keeps_a_prefix_and_resumes() {
    killed_import_keeps_a_prefix_and_resumes("async", 8_000);
}

#[test]
fn import_in_batches_gives_the_same_contents() {
    let scratch = Scratch::new("batches");
    let file = scratch.path("rows.csv");
    generate(&file, 250);
    for batch in ["1", "7", "250", "1000"] {
        let db = scratch.path(&format!("db-{batch}"));
        printed(&mut import(&db, &file, &["--mode", "written", "--batch", batch]));
        assert_eq!(scan(&db), expected(&file, usize::MAX), "batches of {batch}");
    }
}

#[test]
fn a_bad_file_is_refused_before_anything_is_imported() {
    let scratch = Scratch::new("bad-files");
    let cases: [(&str, &[u8], &[&str]); 9] = [
        ("no-column", b"a,b\n1,2\n", &["no column is called 'id'", "a, b"]),
        ("ragged", b"id,b\n1,2\n3\n4,5\n", &["row 2 (line 3)", "1 fields where the header has 2"]),
        ("too-long", b"id,b\n1,2,3\n", &["row 1 (line 2)", "3 fields where the header has 2"]),
        ("not-utf-8", b"id,b\n1,2\n3,\xff\n", &["row 2 (line 3)", "field 2 is not UTF-8"]),
        ("header-not-utf-8", b"id,\xff\n1,2\n", &["header", "not UTF-8"]),
        ("duplicate", b"id,b\n1,2\n2,2\n1,3\n", &["row 3 (line 4)", "key '1' is in row 1 already"]),
        ("same-columns", b"id,b,b\n1,2,3\n", &["two columns are called 'b'"]),
        ("empty", b"", &["is empty"]),
        ("blank", b"\n\n", &["is empty"]),
    ];
    for (name, content, expected) in cases {
        let file = scratch.write(name, content);
        let error = refused(&mut import(&scratch.path("db"), &file, &[]));
        assert!(error.contains(name) && expected.iter().all(|part| error.contains(part)), "{name}: {error}");
    }
    let missing = refused(&mut import(&scratch.path("db"), &scratch.path("missing"), &[]));
    assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
    let directory = refused(&mut import(&scratch.path("db"), &scratch.0, &[]));
    assert!(directory.contains("directory"), "{directory}");
    assert!(!scratch.path("db").exists(), "a bad file created a database");
}

#[test]
fn a_file_that_changed_since_is_refused_and_a_foreign_key_is_not_overwritten() {
    let scratch = Scratch::new("changed");
    let db = scratch.path("db");
    let file = scratch.write("a.csv", "id,v\n1,one\n2,two\n");
    printed(&mut import(&db, &file, &[]));
    scratch.write("a.csv", "id,v\n1,one\n2,TWO\n");
    let error = refused(&mut import(&db, &file, &[]));
    assert!(error.contains("has changed since 2 of its rows were imported"), "{error}");
    scratch.write("a.csv", "id,v\n1,one\n2,two\n");
    let mut other_key = forelog();
    other_key.args(["import", "--keyspace", "rows", "--key", "v", "--db"]).arg(&db).arg(&file);
    assert!(refused(&mut other_key).contains("begun with the key column 'id', not 'v'"));

    let other = scratch.write("b.csv", "id,v\n0,zero\n2,second\n3,three\n");
    let error = refused(&mut import(&db, &other, &[]));
    assert!(error.contains("row 2") && error.contains("'2'") && error.contains("--replace"), "{error}");
    assert_eq!(scan(&db).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["0", "1", "2"]);
    let summary: Value = serde_json::from_str(&printed(&mut import(&db, &other, &["--replace", "--json"]))).unwrap();
    assert_eq!((&summary["resumed_at"], &summary["imported"]), (&Value::from(1), &Value::from(2)));
    let rows = scan(&db);
    assert_eq!(rows[2], ("2".into(), r#"{"id":"2","v":"second"}"#.into()));
    assert_eq!(rows.len(), 4);
}

#[test]
fn a_database_that_cannot_be_is_refused() {
    let scratch = Scratch::new("bad-databases");
    let file = scratch.write("a.csv", "id\n1\n");
    let error = refused(&mut import(&file, &file, &[]));
    assert!(error.contains("a.csv is a file"), "{error}");
    for command in ["scan", "dump", "verify"] {
        let more: &[&str] = if command == "scan" { &["--keyspace", "rows"] } else { &[] };
        let error = refused(&mut on(command, &scratch.path("nowhere"), more));
        assert!(error.contains("nowhere: No such file"), "{error}");
        assert!(!scratch.path("nowhere").exists(), "{command} created a directory");
    }
    let mut progress = forelog();
    progress.args(["import", "--keyspace", "forelog.import", "--key", "id", "--db"]).arg(scratch.path("db")).arg(&file);
    assert!(refused(&mut progress).contains("choose another"));

    let engine = Engine::open(scratch.path("db")).unwrap();
    assert!(refused(&mut import(&scratch.path("db"), &file, &[])).contains("open already"));
    engine.close().unwrap();
    let error = refused(&mut on("scan", &scratch.path("db"), &["--keyspace", "rows"]));
    assert!(error.contains("no keyspace 'rows'"), "{error}");
    assert_eq!(run(&mut import(&scratch.path("db"), &file, &["--batch", "0"])).0, 2);
    assert_eq!(run(forelog().arg("export")).0, 2);
}

#[test]
fn scan_selects_by_prefix_range_and_limit_and_shows_any_bytes() {
    let scratch = Scratch::new("scan");
    let db = scratch.path("db");
    let engine = Engine::open(&db).unwrap();
    let rows = engine.create_keyspace("rows").unwrap();
    let mut transaction = engine.begin().unwrap();
    for (key, value) in
        [(&b"a1"[..], &b"tab\tline\n"[..]), (b"a2", b"{\"n\": 1.00}"), (b"b", b"[1]"), (b"\xfe", b"\xff")]
    {
        transaction.put(&rows, key, value).unwrap();
    }
    transaction.commit().unwrap();
    engine.close().unwrap();

    let text = |more: &[&str]| printed(on("scan", &db, &["--keyspace", "rows"]).args(more));
    assert_eq!(text(&[]), "a1\ttab\\tline\\n\na2\t{\"n\": 1.00}\nb\t[1]\n\\xfe\t\\xff\n");
    assert_eq!(text(&["--prefix", "a", "--limit", "1"]), "a1\ttab\\tline\\n\n");
    assert_eq!(text(&["--from", "a2", "--to", "b"]), "a2\t{\"n\": 1.00}\n");
    assert_eq!(text(&["--from", "z", "--to", "a"]), "");
    assert_eq!(
        text(&["--json"]),
        "{\"key\":\"a1\",\"value\":\"tab\\tline\\n\"}\n{\"key\":\"a2\",\"value\":{\"n\": 1.00}}\n\
         {\"key\":\"b\",\"value\":\"[1]\"}\n{\"key\":{\"hex\":\"fe\"},\"value\":{\"hex\":\"ff\"}}\n"
    );
}

#[test]
fn damage_is_named_by_segment_and_lsn_and_nothing_is_changed() {
    let scratch = Scratch::new("damage");
    let (db, file) = (scratch.path("db"), scratch.path("rows.csv"));
    generate(&file, 300);
    printed(&mut import(&db, &file, &["--mode", "written"]));
    let dumped = printed(&mut on("dump", &db, &["--json"]));
    let frames: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(frames.len() > 300 && frames.iter().all(|frame| frame["state"] == "valid"));
    assert_eq!(printed(&mut on("dump", &db, &[])).lines().count(), frames.len());

    let frame = &frames[20];
    let segment = frame["segment"].as_str().unwrap();
    let (position, lsn) = (frame["position"].as_u64().unwrap(), frame["lsn"].as_u64().unwrap());
    let mut bytes = fs::read(db.join(segment)).unwrap();
    // The first segment begins at LSN 0: positions are offsets.
    bytes[usize::try_from(lsn).unwrap() - 20] ^= 1;
    fs::write(db.join(segment), bytes).unwrap();

    let before = contents(&db);
    let error = refused(&mut on("verify", &db, &[]));
    assert!(error.contains(segment) && error.contains(&format!("LSN {position:#x}")), "{error}");
    let (code, stdout, _) = run(&mut on("verify", &db, &["--json"]));
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &found["sound"]), (1, &Value::Bool(false)));
    assert_eq!((&found["damage"]["segment"], &found["damage"]["lsn"]), (&frame["segment"], &frame["position"]));
    let error = refused(&mut on("scan", &db, &["--keyspace", "rows"]));
    assert!(error.contains(segment) && error.contains(&format!("LSN {position:#x}")), "{error}");
    let dumped = printed(&mut on("dump", &db, &[]));
    let line = dumped.lines().nth(20).unwrap();
    assert!(line.starts_with(&format!("{segment}  {position:#x}..")) && line.ends_with("payload rotten"), "{line}");
    assert_eq!(dumped.lines().filter(|line| line.ends_with("  valid")).count(), frames.len() - 1);
    assert_eq!(contents(&db), before, "looking at damage changed the database");
}

#[test]
fn verify_at_a_rate_finds_the_same_and_refuses_one_that_never_ends() {
    let scratch = Scratch::new("verify-rate");
    let (db, file) = (scratch.path("db"), scratch.path("rows.csv"));
    generate(&file, 300);
    printed(&mut import(&db, &file, &["--mode", "written"]));
    let at_once = printed(&mut on("verify", &db, &["--json"]));
    assert_eq!(printed(&mut on("verify", &db, &["--json", "--rate", "64"])), at_once);
    for rate in ["0", "fast"] {
        let (code, stdout, stderr) = run(&mut on("verify", &db, &["--rate", rate]));
        assert_eq!((code, &*stdout), (2, ""), "{stderr}");
        assert!(stderr.contains("--rate <MIB_PER_S>") && stderr.contains(rate), "{stderr}");
    }
}

#[test]
fn dump_of_a_small_log_reads_as_documented() {
    let scratch = Scratch::new("dump");
    let (db, file) = (scratch.path("db"), scratch.write("a.csv", "id\n1\n"));
    printed(&mut import(&db, &file, &[]));
    let dumped = printed(&mut on("dump", &db, &[]));
    // Two keyspaces are created, the row comes with the progress, and the end of the file is noted.
    let golden = "\
0000000000000000.log  0x200..0x228              Full           8 B  durable 0x0           valid
0000000000000000.log  0x228..0x260              Full          18 B  durable 0x228         valid
0000000000000000.log  0x260..0x2e8              Full          99 B  durable 0x260         valid
0000000000000000.log  0x2e8..0x360              Full          83 B  durable 0x2e8         valid
";
    assert_eq!(dumped, golden);
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let scratch = Scratch::new("pipe");
    let (db, file) = (scratch.path("db"), scratch.path("rows.csv"));
    generate(&file, 5_000);
    printed(&mut import(&db, &file, &["--mode", "written", "--batch", "5000"]));
    let mut child =
        on("scan", &db, &["--keyspace", "rows"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and the pipe is closed
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_bench_draws_its_latencies_and_leaves_nothing() {
    let scratch = Scratch::new("bench");
    let args = ["bench", "--seconds", "1", "--mode", "within:2ms", "--threads", "2", "--dir"];
    let text = printed(forelog().args(args).arg(&scratch.0));
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    assert!(text.contains("within:2ms") && text.contains("raw limit") && text.contains('#'), "{text}");
    let json: Value = serde_json::from_str(&printed(forelog().args(args).arg(&scratch.0).arg("--json"))).unwrap();
    let counts = json["histogram"].as_array().unwrap().iter().map(|row| row["count"].as_u64().unwrap());
    assert!(counts.sum::<u64>() > 0 && json["figures"]["per_second"].as_f64() > Some(0.0), "{json}");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    let (code, _, stderr) = run(forelog().args(["bench", "--dir"]).arg(scratch.path("missing")));
    assert!(code == 4 && stderr.contains("missing"), "{code} {stderr}");
}

#[test]
fn shells_and_readers_of_manuals_are_served() {
    for shell in ["bash", "zsh", "fish"] {
        let text = printed(forelog().args(["completions", shell]));
        assert!(text.contains("salvage") && !text.contains("trial-child"), "{shell}");
    }
    let scratch = Scratch::new("manual");
    printed(forelog().arg("manual").arg(&scratch.0));
    let page = fs::read_to_string(scratch.path("forelog-import.1")).unwrap();
    assert!(page.contains("keyspace"), "{page}");
    let error = refused(forelog().arg("manual").arg(scratch.path("missing")));
    assert!(error.contains("missing"), "{error}");
}

/// For people: no line is longer than a terminal, what "lost" means is said, and the end is advice. What could not be run is no broken promise.
#[test]
fn trial_fits_a_terminal_and_ends_with_advice() {
    let scratch = Scratch::new("trial-text");
    let text = printed(forelog().args(["trial", "--seconds", "1", "--dir"]).arg(&scratch.0));
    // The first line has the path.
    let longest = text.lines().skip(1).max_by_key(|line| line.chars().count()).unwrap();
    assert!(longest.chars().count() < 80, "{longest}");
    for said in ["Lost are commits", "On this disk:", "- Sync if", "- Written if", "- Async if"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(text.matches("kept").count() >= 4, "{text}");
    let (code, _, stderr) = run(forelog().args(["trial", "--dir"]).arg(scratch.path("missing")));
    assert!(code == 4 && stderr.contains("missing"), "{code} {stderr}");
}

#[test]
fn trial_measures_every_mode_breaks_nothing_and_cleans_up() {
    let scratch = Scratch::new("trial");
    let kept = scratch.write("kept", "as it was");
    let (code, stdout, stderr) = run(forelog().args(["trial", "--seconds", "1", "--json", "--dir"]).arg(&scratch.0));
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["broken"], false);
    assert!(report["raw"]["pwrite_fdatasync"]["per_second"].as_f64().unwrap() > 0.0);
    let names = |list: &str| -> Vec<String> {
        report[list].as_array().unwrap().iter().map(|entry| entry["mode"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("modes"), ["Sync", "Sync", "Written", "Async", "Within(5 ms)"]);
    assert_eq!(names("kills"), ["Sync", "Written", "Async", "Within(5 ms)"]);
    for kill in report["kills"].as_array().unwrap() {
        assert!(kill["acknowledged"].as_u64() > Some(0) && kill["tokens_asked"].as_u64() > Some(0), "{kill}");
        assert!(kill["lost"].as_u64() <= kill["lost_allowed"].as_u64(), "{kill}");
    }
    let left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [kept]);
}
