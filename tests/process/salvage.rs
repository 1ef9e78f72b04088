//! `forelog salvage` on a database with a hole.

use crashkit::TempDir;
use forelog::Engine;

#[test]
fn the_command_says_what_is_missing() {
    let dir = TempDir::new("salvage");
    let db = dir.join("db");
    let engine = Engine::open(&db).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    for key in ["one", "two", "three"] {
        let mut batch = engine.batch().unwrap();
        batch.put(&keys, key, "value").unwrap();
        batch.commit().unwrap();
    }
    engine.close().unwrap();
    let segment = db.join("0000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let two = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[two] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let run = |to: &str, json: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forelog"));
        command.args(["salvage", "--db"]).arg(&db).arg("--to").arg(dir.join(to));
        let output = if json { command.arg("--json") } else { &mut command }.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text, _) = run("text", false);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("saved 3 commits"), "{text}");
    assert!(text.contains("0000000000000000.log") && text.contains("bit rot"), "{text}");
    let (code, text, _) = run("json", true);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &found["order"], &found["commits"]), (Some(1), &"holes".into(), &3.into()));
    let (code, _, error) = run("json", false);
    assert!(code == Some(1) && error.contains("is not empty"), "{error}");
}
