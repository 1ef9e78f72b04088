//! Limits of the operating system, as a shell sets them: open files, the length of files, address space.
//!
//! A command does its work, or says in one line what it met and what to do. Nothing that was acknowledged is lost, and what was not
//! done is done by the same command once the limit is gone.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use forelog::Engine;

use crate::common::{Scratch, forelog, import, on, printed, run};

/// No command here takes a hundredth of it.
const FOR_EVER: Duration = Duration::from_secs(180);

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// It did its work.
    fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// It failed, and said in one line what to do.
    fn has_told(&self, next: &str) -> bool {
        self.code == Some(1) && self.says(next)
    }

    fn says(&self, next: &str) -> bool {
        self.stderr.starts_with("forelog: ") && self.stderr.lines().count() == 1 && self.stderr.contains(next)
    }
}

/// Runs a command in a shell behind `limits`. One that does not end by itself is killed, and the test fails.
fn behind(limits: &str, command: &Command) -> Ended {
    let line = format!("ulimit -c 0; {limits} && exec \"$0\" \"$@\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).arg(command.get_program()).args(command.get_args()).env_remove("RUST_BACKTRACE");
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut out, mut err) = (String::new(), String::new());
    let status = scope(|scope| {
        scope.spawn(|| stdout.read_to_string(&mut out).unwrap());
        scope.spawn(|| stderr.read_to_string(&mut err).unwrap());
        let begin = Instant::now();
        loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() > FOR_EVER => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    panic!("{limits}: {command:?} waits for ever");
                }
                None => sleep(Duration::from_millis(1)),
            }
        }
    });
    Ended { code: status.code(), signal: status.signal(), stdout: out, stderr: err }
}

/// Whether a command may end like this behind these limits.
type Allowed<'a> = &'a dyn Fn(&str, &Ended) -> bool;

/// Whether what a command has told is right.
type Told<'a> = &'a dyn Fn(&str) -> bool;

/// Runs a command; returns how it ended, which must be allowed.
fn checked(limits: &str, command: &Command, allowed: Allowed<'_>) -> Ended {
    let ended = behind(limits, command);
    assert!(allowed(limits, &ended), "{limits}: {command:?}: {ended:?}");
    ended
}

fn check_sound(db: &Path) {
    let (code, stdout, stderr) = run(&mut on("verify", db, &[]));
    assert!(code == 0 && stdout.starts_with("sound: "), "{stdout}{stderr}");
}

/// A file of rows, and what `scan` prints of each. Neighbours in the file are far from each other in the order of the keys, so
/// that each checkpoint has keys of all parts, and merges have work.
struct Rows {
    file: PathBuf,
    lines: Vec<String>,
}

impl Rows {
    const COUNT: usize = 4_000;
    const BATCH: usize = 80;

    fn new(scratch: &Scratch) -> Self {
        let ids = (0..Rows::COUNT).map(|row| row * 7_919 % Rows::COUNT);
        let rows: Vec<_> = ids.map(|id| (format!("k{id:06}"), format!("{id:06}").repeat(200))).collect();
        let text = rows.iter().fold("id,note\n".to_owned(), |text, (key, note)| text + &format!("{key},{note}\n"));
        let line = |(key, note): &(String, String)| format!("{key}\t{{\"id\":\"{key}\",\"note\":\"{note}\"}}\n");
        Rows { file: scratch.write("rows.csv", text), lines: rows.iter().map(line).collect() }
    }

    /// With the least memory: five checkpoints, and merges.
    fn import(&self, db: &Path) -> Command {
        let batch = Rows::BATCH.to_string();
        import(db, &self.file, &["--memory", "16MiB", "--mode", "written", "--acks", "--batch", &batch])
    }

    /// How many rows are in the database. They are the first ones of the file, and whole.
    fn in_database(&self, db: &Path) -> usize {
        let (code, stdout, stderr) = run(&mut on("scan", db, &["--keyspace", "rows"]));
        let is_empty = ["there is no forelog database", "there is no keyspace"].iter().any(|why| stderr.contains(why));
        assert!(code == 0 || is_empty, "{stderr}");
        let count = stdout.lines().count();
        let mut expected: Vec<&str> = self.lines[..count].iter().map(|line| &**line).collect();
        expected.sort_unstable();
        assert!(expected.concat() == stdout, "{count} rows, and not the first ones");
        count
    }

    /// Imports behind `limits`, and then without what is left. Returns how the first one ended. It may be done without tables, and
    /// then says what to do: `next`.
    fn check_import(&self, db: &Path, (limits, next): (&str, &str), allowed: Allowed<'_>) -> Ended {
        let ended = checked(limits, &self.import(db), allowed);
        let acknowledged = ended.stdout.lines().rev().find_map(|line| line.parse().ok()).unwrap_or(0);
        if db.join("HISTORY").exists() {
            check_sound(db);
        }
        let found = self.in_database(db);
        assert!(found >= acknowledged && found.is_multiple_of(Rows::BATCH), "{limits}: {found} rows, {ended:?}");
        if ended.is_done() {
            assert_eq!((acknowledged, found), (Rows::COUNT, Rows::COUNT), "{limits}");
            assert!(ended.says(next) || ended.stderr.is_empty(), "{limits}: {ended:?}");
        } else {
            printed(&mut self.import(db));
            assert_eq!(self.in_database(db), Rows::COUNT, "{limits}");
        }
        ended
    }

    /// Runs each other command behind each of `limits`, the strictest first, on a database with all rows. What fails is done again
    /// behind the next one. Returns how many have done their work.
    fn check_others(&self, db: &Path, limits: &[String], allowed: Allowed<'_>) -> usize {
        printed(&mut self.import(db));
        let mut sorted: Vec<&str> = self.lines.iter().map(|line| &**line).collect();
        sorted.sort_unstable();
        let (all, entries) = (sorted.concat(), format!("\"name\":\"rows\",\"entries\":{},", Rows::COUNT));
        let keyspace = ["--keyspace", "rows"];
        let readers: [(Command, Told<'_>); 4] = [
            (on("scan", db, &keyspace), &|told| told == all),
            (on("get", db, &[&keyspace[..], &["k000777"]].concat()), &|told| {
                sorted[777].ends_with(&format!("\t{told}"))
            }),
            (on("info", db, &["--json"]), &|told| told.contains(&entries)),
            (on("verify", db, &[]), &|told| told.starts_with("sound: ")),
        ];
        let (mut backups, mut done) = (0, 0);
        for limits in limits {
            for (reader, is_right) in &readers {
                let ended = checked(limits, reader, allowed);
                assert!(!ended.is_done() || is_right(&ended.stdout), "{limits}: {reader:?}: {}", ended.stdout);
                done += usize::from(ended.is_done());
            }
            let to = db.with_extension(format!("backup-{backups}"));
            let backup = on("backup", db, &["--memory", "16MiB", "--to", to.to_str().unwrap()]);
            if checked(limits, &backup, allowed).is_done() {
                check_sound(&to);
                (backups, done) = (backups + 1, done + 1);
            }
            done += usize::from(checked(limits, &on("compact", db, &["--memory", "16MiB"]), allowed).is_done());
            check_sound(db);
        }
        assert_eq!(self.in_database(db), Rows::COUNT);
        // The first one that was made is what each failed one before it has left, gone on with.
        assert!(backups > 0);
        assert_eq!(self.in_database(&db.with_extension("backup-0")), Rows::COUNT);
        done
    }
}

#[test]
fn with_few_open_files_a_command_works_or_says_which_limit_to_raise() {
    const NEXT: &str = "ulimit -n";
    let scratch = Scratch::new("few-files");
    let rows = Rows::new(&scratch);
    let allowed = |_: &str, ended: &Ended| ended.is_done() || ended.has_told(NEXT);
    let limits = |files: usize| format!("{NEXT} {files}");
    // The dynamic loader needs a file.
    let db = scratch.path("rising");
    let refused = |files: &usize| !checked(&limits(*files), &rows.import(&db), &allowed).is_done();
    assert!([4, 6, 8, 10].iter().filter(|files| refused(files)).count() > 1);
    let mut without_tables = 0;
    for files in [13, 14, 15, 16, 24] {
        let ended = rows.check_import(&scratch.path(&format!("db-{files}")), (&limits(files), NEXT), &allowed);
        assert!(ended.is_done() || files < 24, "{ended:?}");
        without_tables += usize::from(ended.is_done() && ended.says(NEXT));
    }
    assert!(without_tables > 0);
    let all = [4, 6, 8, 10, 13, 16, 64].map(limits);
    let done = rows.check_others(&scratch.path("db"), &all, &allowed);
    assert!(done >= 6 && done < 6 * all.len(), "{done} of {}", all.len());
}

/// The signal that comes with such a write ended the process, and nothing was said.
#[test]
fn where_files_may_not_be_long_a_command_works_or_says_which_limit_to_raise() {
    const NEXT: &str = "ulimit -f";
    let scratch = Scratch::new("short-files");
    let rows = Rows::new(&scratch);
    // In blocks of 512 bytes.
    let limits = |blocks: usize| format!("{NEXT} {blocks}");
    let allowed = |_: &str, ended: &Ended| ended.is_done() || ended.has_told(NEXT);
    let (mut done, mut without_tables) = (0, 0);
    for blocks in [0, 8, 128, 1024, 2048] {
        let ended = rows.check_import(&scratch.path(&format!("db-{blocks}")), (&limits(blocks), NEXT), &allowed);
        done += usize::from(ended.is_done());
        without_tables += usize::from(ended.is_done() && ended.says(NEXT));
    }
    assert!((1..5).contains(&done) && without_tables > 0, "{done} done, {without_tables} of them without tables");
    let all = [0, 128, 20_000].map(limits);
    let done = rows.check_others(&scratch.path("db"), &all, &allowed);
    assert!((6..6 * all.len()).contains(&done), "{done}");
    // A process that was started with the signal ignored, as by `trap '' XFSZ`, does the same.
    let ignored = format!("trap '' XFSZ; {}", limits(8));
    assert!(checked(&ignored, &rows.import(&scratch.path("db-ignored")), &allowed).has_told(NEXT));
}

/// A thread that was not to be had was a panic in some commands.
#[test]
fn without_threads_a_command_works_or_says_which_limit_to_raise() {
    const NEXT: &str = "ulimit -u";
    // No address space has room for such a stack. Of threads themselves the superuser has no limit.
    const NONE: &str = "export RUST_MIN_STACK=1152921504606846976";
    let scratch = Scratch::new("no-threads");
    let rows = Rows::new(&scratch);
    let allowed = |_: &str, ended: &Ended| ended.is_done() || ended.has_told(NEXT);
    let ended = rows.check_import(&scratch.path("db-0"), (NONE, NEXT), &allowed);
    assert!(ended.has_told(NEXT), "{ended:?}");
    let done = rows.check_others(&scratch.path("db"), &[NONE, "true"].map(str::to_owned), &allowed);
    assert!(done >= 10, "{done}");
    let trial = scratch.path("trial");
    std::fs::create_dir(&trial).unwrap();
    let ended = behind(NONE, forelog().args(["trial", "--seconds", "1", "--dir"]).arg(&trial));
    assert!(ended.code == Some(4) && ended.says(NEXT), "{ended:?}");
    assert_eq!(std::fs::read_dir(&trial).unwrap().count(), 0);
}

/// The allocator ends a process that gets no memory. With four times the memory that the engine is to use, no command comes to that.
/// One of glibc sets 64 MiB of addresses aside for each thread, unless it is told not to.
#[test]
fn with_little_address_space_a_command_works_or_ends_and_loses_nothing() {
    const SIGABRT: i32 = 6;
    const ENOUGH: u64 = 64;
    let scratch = Scratch::new("little-space");
    let rows = Rows::new(&scratch);
    let limits = |mib: u64| format!("export MALLOC_ARENA_MAX=1; ulimit -v {}", mib << 10);
    // With less it is not loaded, or not begun.
    let least = (2..).find(|mib| behind(&limits(*mib), forelog().arg("--version")).is_done()).unwrap();
    assert!(least < 48, "{least} MiB");
    let allowed = |behind: &str, ended: &Ended| {
        let is_refused = ended.signal == Some(SIGABRT) && ended.stderr.contains("memory allocation of");
        ended.is_done() || (behind != limits(ENOUGH) && (is_refused || ended.has_told("ulimit -v")))
    };
    for mib in [least + 1, least + 6, ENOUGH] {
        rows.check_import(&scratch.path(&format!("db-{mib}")), (&limits(mib), "ulimit -v"), &allowed);
    }
    let db = scratch.path("db");
    let all = [least, least + 4, least + 9, ENOUGH].map(limits);
    let done = rows.check_others(&db, &all, &allowed);
    assert!(done >= 6, "{done}");
    // A thread that is not to be had was a panic.
    (least..least + 14)
        .step_by(2)
        .for_each(|mib| drop(checked(&limits(mib), &on("compact", &db, &["--memory", "16MiB"]), &allowed)));
    check_sound(&db);
}

/// What tells the test of this name that it is the process behind the limit.
const LIMITED: &str = "FORELOG_TEST_LIMITED";

/// No test of its own: the other process.
#[test]
fn the_limited_one() {
    if std::env::var_os(LIMITED).is_some() {
        println!("may use {} bytes", Engine::in_memory().unwrap().memory_stats().limit);
    }
}

/// Half of what the machine has was more than there was to be had.
#[cfg(target_os = "linux")]
#[test]
fn without_a_choice_an_engine_uses_half_of_what_the_process_may_have() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "limits::the_limited_one", "--nocapture"]);
    for limit in ["ulimit -v", "ulimit -d"] {
        let ended = behind(&format!("export {LIMITED}=1; {limit} {}", 1 << 20), &command);
        let told = ended.stdout.lines().find_map(|line| line.split_once("may use ")?.1.strip_suffix(" bytes"));
        let bytes: u64 = told.unwrap_or_else(|| panic!("{limit}: {ended:?}")).parse().unwrap();
        assert!(bytes <= 512 << 20, "{limit}: {bytes}");
    }
}
