//! `outcome`: what became of a commit, asked of a database that is open, that was killed, and that was opened since.

use std::fs;
use std::time::Duration;

use forelog::{CommitMode, Engine, Outcome, ReadOnlyOptions, Token};

use crate::common::{Scratch, contents, on, printed, refused, run};
use crate::reading::traits;

#[test]
fn the_command_says_what_the_engine_will_say() {
    let scratch = Scratch::new("outcome");
    let (open, db) = (scratch.path("open"), scratch.path("db"));
    let engine = Engine::open(&open).unwrap();
    let rows = engine.create_keyspace("rows").unwrap();
    let commit = |key: &str, mode| -> Token {
        let mut batch = engine.batch().unwrap();
        batch.put(&rows, key, "1").unwrap();
        batch.commit_with(mode).unwrap().token()
    };
    let late = CommitMode::Within(Duration::from_millis(900));
    // The first is proven durable; the second is in the kernel's hands; the third in memory alone.
    let tokens =
        [("a", CommitMode::Sync), ("b", CommitMode::Written), ("c", late)].map(|(key, mode)| commit(key, mode));
    let asked = |db, token: &Token| run(&mut on("outcome", db, &[&token.to_string()]));
    // Beside the writer. The last two may have become durable by now.
    assert_eq!(asked(&open, &tokens[0]).1, "durable\n");
    for token in &tokens[1..] {
        let (code, word, stderr) = asked(&open, token);
        assert!(
            code == 0 && ["pending\n", "durable\n"].contains(&&*word) && stderr.contains("open in a program"),
            "{word}{stderr}"
        );
    }
    // As a kill leaves it.
    fs::create_dir(&db).unwrap();
    for (name, bytes) in contents(&open) {
        fs::write(db.join(name), bytes).unwrap();
    }
    engine.close().unwrap();
    assert!(tokens.iter().all(|token| asked(&open, token).1 == "durable\n"), "closed");
    let before = traits(&db);
    let words = tokens.map(|token| asked(&db, &token).1);
    assert_eq!(traits(&db), before, "it changes nothing");
    assert!(words[0] == "durable\n" && words[1] != "lost\n", "{words:?}");
    // What it has said the open says, too; pending is what the open has kept.
    let engine = Engine::open(&db).unwrap();
    for (token, word) in tokens.iter().zip(&words) {
        let outcome = engine.outcome(token).unwrap();
        assert!(
            *word == format!("{outcome}\n") || (word == "pending\n" && outcome == Outcome::Durable),
            "{word} {outcome}"
        );
    }
    // The newest of a life that goes on: that it is durable nothing on disk may prove yet.
    let rows = engine.open_keyspace("rows").unwrap();
    let mut batch = engine.batch().unwrap();
    batch.put(&rows, "d", "1").unwrap();
    let newest = batch.commit_with(CommitMode::Sync).unwrap().token();
    assert!(["durable\n", "pending\n"].contains(&&*asked(&db, &newest).1));
    let seen = ReadOnlyOptions::new().beside_a_writer(true).open(&db).unwrap();
    assert!(tokens.iter().all(|token| seen.outcome(token) == engine.outcome(token).unwrap()));
    engine.close().unwrap();
    let json = printed(&mut on("outcome", &db, &["--json", &newest.to_string()]));
    assert!(json.contains(r#""outcome":"durable""#) && json.contains(&newest.lsn.get().to_string()), "{json}");
    // Of another database, and no token at all.
    let other = Engine::open(scratch.path("other")).unwrap();
    other.create_keyspace("k").unwrap();
    other.close().unwrap();
    assert_eq!(asked(&scratch.path("other"), &newest).1, "foreign\n");
    let error = refused(&mut on("outcome", &db, &["forelog-1"]));
    assert!(error.contains("is not a token"), "{error}");
}
