//! `forelog backup` and `forelog restore`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use forelog::{Checkpoints, Engine, Options, Outcome};
use serde_json::Value;

use crate::common::{Scratch, forelog, import, on, printed, refused};

fn restore(from: &Path, to: &Path) -> std::process::Command {
    let mut command = forelog();
    command.arg("restore").arg("--from").arg(from).arg("--to").arg(to);
    command
}

fn json(command: &mut std::process::Command) -> Value {
    serde_json::from_str(&printed(command.arg("--json"))).unwrap()
}

fn rows(db: &Path) -> String {
    printed(&mut on("scan", db, &["--keyspace", "rows"]))
}

#[test]
fn a_database_is_backed_up_against_an_earlier_backup_and_restored() {
    let scratch = Scratch::new("backup");
    let (db, one, two, back) = (scratch.path("db"), scratch.path("one"), scratch.path("two"), scratch.path("back"));
    let lines: String = (0..2000).map(|id| format!("{id},{}\n", "x".repeat(40))).collect();
    printed(&mut import(&db, &scratch.write("a.csv", format!("id,note\n{lines}")), &[]));
    let told = printed(&mut on("backup", &db, &["--to", one.to_str().unwrap()]));
    assert!(told.starts_with("backed up up to LSN") && told.contains("0 B there already"), "{told}");
    let before = rows(&db);
    assert!(before.lines().count() == 2000 && rows(&one) == before);

    printed(&mut import(&db, &scratch.write("b.csv", "id,note\n5000,new\n"), &[]));
    let (to, against) = (two.to_str().unwrap(), one.to_str().unwrap());
    let second = json(&mut on("backup", &db, &["--to", to, "--against", against]));
    assert!(second["bytes_reused"].as_u64() > second["bytes_copied"].as_u64(), "{second}");
    let links = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().metadata().unwrap().nlink();
    assert!(fs::read_dir(one.join("table")).unwrap().map(links).any(|links| links == 2));

    // What is there is not replaced, and who has it open is asked to do it himself.
    assert!(refused(&mut restore(&two, &db)).contains("not empty"));
    let engine = Engine::open(&db).unwrap();
    assert!(refused(&mut on("backup", &db, &["--to", back.to_str().unwrap()])).contains("is open already"));
    engine.close().unwrap();
    assert!(!back.exists());

    let restored = json(&mut restore(&two, &back));
    assert_eq!(restored["lsn"], second["lsn"]);
    assert!(rows(&back) == rows(&db) && rows(&back).lines().count() == 2001);
    assert!(printed(&mut on("verify", &back, &[])).starts_with("sound"));
    assert!(printed(&mut on("verify", &two, &[])).starts_with("sound"));

    // To a commit behind it, by the log that the database has retained.
    let engine = Options::new().checkpoints(Checkpoints::OnRequest).open(&db).unwrap();
    let keys = engine.open_keyspace("rows").unwrap();
    let tokens = ["one", "two"].map(|value| {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, "at", value).unwrap();
        batch.commit().unwrap().token()
    });
    engine.close().unwrap();
    let moment = scratch.path("moment");
    let at = tokens[0].to_string();
    assert!(refused(restore(&two, &moment).args(["--at", &at])).contains("give the database that has the log"));
    assert!(!moment.exists());
    let restored = json(restore(&two, &moment).args(["--at", &at, "--log", db.to_str().unwrap()]));
    assert_eq!(restored["lsn"], tokens[0].lsn.get());
    assert_eq!(Engine::read_only(&moment).unwrap().get("rows", "at").unwrap().unwrap(), b"one");
    let engine = Engine::open(&moment).unwrap();
    assert_eq!(tokens.map(|token| engine.outcome(&token).unwrap()), [Outcome::Durable, Outcome::Lost]);
    engine.close().unwrap();

    // Damage in a backup is told, and not restored.
    let entries = fs::read_dir(two.join("table")).unwrap().map(|entry| entry.unwrap().path());
    let run = entries.filter(|path| path.extension().is_some_and(|kind| kind == "run")).max().unwrap();
    let mut bytes = fs::read(&run).unwrap();
    bytes[700] ^= 1;
    fs::write(&run, bytes).unwrap();
    let error = refused(&mut restore(&two, &scratch.path("third")));
    assert!(error.contains(run.to_str().unwrap()) && error.contains("unfinished"), "{error}");
    assert!(refused(&mut on("scan", &scratch.path("third"), &["--keyspace", "rows"])).contains("unfinished copy"));
}
