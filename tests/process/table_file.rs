//! `dump --file` and `verify --file`: one file of the tables on its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Scratch, forelog, printed, refused, run};

/// A list of three keyspaces, as its page has it (`src/format/table/tests/golden.rs`), under the number 6.
const KEYSPACES: &str = "666f72656b6579739ad204cc0100000000000000000000000000000000000000000102030405060708090a0b0c0d0e0f\
    060000000000000009000000000000000020000000000000030000000000000000ffeeddccbbaa990800000003000000\
    010000000500000000020000000000000000000000000000757365727302000000030000005802000000000000401f00\
    00000000006f6c64070000000200000000200000000000000000000000000000c3a9";

fn keyspaces() -> Vec<u8> {
    let digits: Vec<u8> = KEYSPACES.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn on_file(command: &str, file: &Path, more: &[&str]) -> Command {
    let mut forelog = forelog();
    forelog.arg(command).arg("--file").arg(file).args(more);
    forelog
}

#[test]
fn a_file_of_the_tables_is_verified_and_dumped() {
    let scratch = Scratch::new("table-file");
    let file = scratch.path("0000000000000006.keys");
    fs::write(&file, keyspaces()).unwrap();
    let sound = printed(&mut on_file("verify", &file, &[]));
    assert!(sound.starts_with("sound: keyspaces ") && sound.contains(" next_id=8 count=3"), "{sound}");
    let sound: Value = serde_json::from_str(&printed(&mut on_file("verify", &file, &["--json"]))).unwrap();
    assert_eq!((&sound["sound"], &sound["file"]["number"]), (&true.into(), &6.into()));
    let lines = printed(&mut on_file("dump", &file, &[]));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[2], "keyspace id=2 name=old created=0x258 dropped=0x1f40");
    let line: Value =
        serde_json::from_str(printed(&mut on_file("dump", &file, &["--json"])).lines().nth(3).unwrap()).unwrap();
    assert_eq!((&line["what"], &line["name"]), (&"keyspace".into(), &"é".into()));
    assert_eq!(fs::read(&file).unwrap(), keyspaces(), "nothing is changed");
}

#[test]
fn what_is_no_sound_file_of_the_tables_is_told() {
    let scratch = Scratch::new("table-file-bad");
    let file = scratch.path("0000000000000006.keys");
    for command in ["verify", "dump"] {
        for at in [0, 40, 100] {
            let mut bytes = keyspaces();
            bytes[at] ^= 1;
            fs::write(&file, &bytes).unwrap();
            let told = refused(&mut on_file(command, &file, &[]));
            let expected = if at == 0 { "is no MANIFEST, no file of keyspaces and no run" } else { "is damaged" };
            assert!(told.contains(expected) && told.contains("0000000000000006.keys"), "{command} {at}: {told}");
        }
        // Under another number it is another file.
        let other = scratch.path("0000000000000007.keys");
        fs::write(&other, keyspaces()).unwrap();
        let told = refused(&mut on_file(command, &other, &[]));
        assert!(told.contains("is damaged at byte 48"), "{told}");
        let told = refused(&mut on_file(command, &scratch.path("absent"), &[]));
        assert!(told.contains("cannot open") && told.contains("absent"), "{told}");
        let told = refused(&mut on_file(command, &scratch.path(""), &[]));
        assert!(told.contains("cannot open") || told.contains("cannot read"), "{told}");
        for wrong in [&["--db", "x"][..], &["--file", "y"]] {
            let (code, ..) = run(on_file(command, &file, &[]).args(wrong));
            assert_eq!(code, 2, "{wrong:?}");
        }
        let (code, ..) = run(forelog().arg(command));
        assert_eq!(code, 2, "one of the two is needed");
    }
}
