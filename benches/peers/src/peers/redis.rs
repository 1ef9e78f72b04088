//! Redis, with its append-only file, over a socket of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Server, first_line, program};
use crate::peer::{Abilities, Kind, Mode, Peer, Put, Result, Session, Setting, Store};

pub const PEER: Peer = Peer {
    name: "redis",
    kind: Kind::Outside,
    package: None,
    sync: Some("appendonly yes, appendfsync always"),
    written: None,
    asynchronous: Some("appendonly yes, appendfsync everysec"),
    can: Abilities { mixed: false, awaited: false, replays: false },
    reads: None,
    advice: "SET (several puts: MSET) over a Unix socket, a connection each thread; no snapshots; a process of its own",
    limited: None,
    installed: || {
        let line = first_line(&found()?, "--version")?;
        Ok(line.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned())
    },
    open: |setting: &Setting| Ok(Box::new(Opened::start(setting)?)),
};

/// In the working directory, which is the one that is measured in: the whole path may be too long for a socket.
const SOCKET: &str = "redis.sock";

fn found() -> Result<PathBuf> {
    Ok(program("redis-server", &[]).ok_or("it is not installed: apt-get install redis-server")?)
}

struct Opened {
    _server: Server,
}

impl Opened {
    fn start(setting: &Setting) -> Result<Self> {
        let always = setting.purpose.mode() == Some(Mode::Sync);
        let mut command = Command::new(found()?);
        command.current_dir(setting.dir).args(["--port", "0", "--unixsocket", SOCKET, "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", if always { "always" } else { "everysec" }]);
        command.args(["--auto-aof-rewrite-percentage", "0", "--logfile", "redis.log"]);
        let server = Server::start(command, libc::SIGKILL, || {
            Client::connect(Path::new(SOCKET)).and_then(Client::ping).is_ok()
        })?;
        Ok(Opened { _server: server })
    }
}

impl Store for Opened {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Client::connect(Path::new(SOCKET))?))
    }

    /// Each command is written to its file before it is answered.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// Speaks Redis's protocol.
struct Client {
    answers: BufReader<UnixStream>,
    command: Vec<u8>,
    answer: String,
}

impl Client {
    fn connect(path: &Path) -> Result<Self> {
        let answers = BufReader::new(UnixStream::connect(path)?);
        Ok(Client { answers, command: Vec::new(), answer: String::new() })
    }

    fn ping(mut self) -> Result<()> {
        self.send(&[b"PING"], "+PONG")
    }

    fn send(&mut self, words: &[&[u8]], expected: &str) -> Result<()> {
        self.command.clear();
        write!(self.command, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.command, "${}\r\n", word.len())?;
            self.command.extend_from_slice(word);
            self.command.extend_from_slice(b"\r\n");
        }
        self.answers.get_mut().write_all(&self.command)?;
        self.answer.clear();
        self.answers.read_line(&mut self.answer)?;
        match self.answer.trim_end() {
            answer if answer == expected => Ok(()),
            answer => Err(format!("Redis answered {answer:?}").into()),
        }
    }
}

impl Session for Client {
    fn commit(&mut self, puts: &[Put], _: Mode) -> Result<()> {
        if let [(key, value)] = puts {
            return self.send(&[b"SET", key, value], "+OK");
        }
        let mut words: Vec<&[u8]> = vec![b"MSET"];
        for (key, value) in puts {
            words.extend([key.as_slice(), value]);
        }
        self.send(&words, "+OK")
    }
}
