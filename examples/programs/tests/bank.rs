//! The bank, as its clients meet it: over a socket, with requests that are wrong, slow or cut, and with its process killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A directory that is gone at the end of the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bank-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(dir: &Dir) -> Self {
        Self::start_at(dir, "127.0.0.1:0")
    }

    fn start_at(dir: &Dir, address: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bank"))
            .args(["--listen", address, "--db"])
            .arg(dir.0.join("db"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("it says where it is").to_owned();
        Server { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends a request and returns the status and the body of the answer.
    fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        // One that is refused early may be cut off.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(&format!("GET {path} HTTP/1.1\r\nhost: bank\r\nconnection: close\r\n\r\n"));
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let (status, body) = self.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: bank\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ));
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn transfer(&self, commit: &str, key: Option<&str>, amount: u32) -> Value {
        let headers = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let body = json!({ "from": "alice", "to": "bob", "amount": amount }).to_string();
        let (status, answer) = self.post(&format!("/transfer?commit={commit}"), &headers, &body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn balance(&self, name: &str) -> i64 {
        self.get(&format!("/account/{name}")).1["balance"].as_i64().unwrap()
    }

    fn outcome(&self, answer: &Value) -> String {
        self.get(&format!("/outcome/{}", answer["token"].as_str().unwrap())).1["outcome"].as_str().unwrap().to_owned()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In each mode, and what became of it after the process was killed: `sync` and `written` are there, and of the others what the tokens say.
#[test]
fn transfers_and_what_became_of_them() {
    let dir = Dir::new("transfers");
    let server = Server::start(&dir);
    let answers: Vec<Value> =
        ["sync", "written", "async", "within:5ms", "within=5ms"].map(|mode| server.transfer(mode, None, 1)).into();
    assert_eq!(answers[0]["durable"], true);
    assert_eq!(answers[0]["result"], json!({ "moved": { "from": 99, "to": 101 } }));
    assert_eq!((server.balance("alice"), server.balance("bob")), (95, 105));
    let last = server.transfer("within:3600s", None, 1);
    server.kill();
    let server = Server::start(&dir);
    for answer in &answers[..2] {
        assert_eq!(server.outcome(answer), "durable");
    }
    let lost = answers.iter().chain([&last]).filter(|answer| server.outcome(answer) == "lost").count();
    assert_eq!(server.balance("alice"), 94 + i64::try_from(lost).unwrap(), "what is lost was not done");
}

#[test]
fn a_transfer_with_a_key_is_done_once() {
    let dir = Dir::new("once");
    let server = Server::start(&dir);
    let first = server.transfer("sync", Some("k1"), 5);
    let again = server.transfer("sync", Some("k1"), 5);
    assert_eq!((&first["repeated"], &again["repeated"]), (&json!(false), &json!(true)));
    assert_eq!((&first["result"], &first["token"]), (&again["result"], &again["token"]));
    assert_eq!(server.balance("alice"), 95);
    // What is refused is an answer, too, and stays one.
    assert_eq!(server.transfer("async", Some("k2"), 1_000)["result"]["refused"], "there is too little");
    server.kill();
    let server = Server::start(&dir);
    assert_eq!(server.transfer("sync", Some("k1"), 5)["token"], first["token"]);
    assert_eq!(server.balance("alice"), 95);
}

/// Each gets an answer that says what is wrong, and the next client is served.
#[test]
fn what_is_wrong_is_refused() {
    let dir = Dir::new("wrong");
    let server = Server::start(&dir);
    let good = json!({ "from": "a", "to": "b", "amount": 1 }).to_string();
    let large = json!({ "from": "a".repeat(10_000), "to": "b", "amount": 1 }).to_string();
    let long = json!({ "from": "a".repeat(100), "to": "b", "amount": 1 }).to_string();
    let key = format!("idempotency-key: {}\r\n", "k".repeat(2_000));
    for (path, headers, body, expected) in [
        ("/transfer?commit=fast", "", good.as_str(), 400),
        ("/transfer?commit=within:5", "", &good, 400),
        ("/transfer", key.as_str(), &good, 400),
        ("/transfer", "", "{", 400),
        ("/transfer", "", r#"{"from":"a","to":"b"}"#, 422),
        ("/transfer", "", r#"{"from":"a","to":"b","amount":-1}"#, 422),
        ("/transfer", "", r#"{"from":"a","to":"b","amount":1,"also":1}"#, 422),
        ("/transfer", "", &large, 413),
        ("/nothing", "", &good, 404),
    ] {
        let (status, answer) = server.post(path, headers, body);
        assert_eq!(status, expected, "{path} {headers} {answer}");
    }
    let (status, answer) = server.post("/transfer", "", &long);
    assert_eq!((status, &answer["result"]["refused"]), (200, &json!("a name has 1 to 64 bytes")));
    assert_eq!(server.get("/outcome/nonsense").0, 400);
    assert_eq!(server.get("/events?token=nonsense").0, 400);
    assert_eq!(server.get("/transfer").0, 405);
    // No request at all, half of one, and one that is longer than it says.
    for part in
        ["", "GET /acc", "POST /transfer HTTP/1.1\r\nhost: b\r\ncontent-length: 100\r\n\r\n{", "\0\x01\x02\r\n\r\n"]
    {
        let mut stream = server.connect();
        stream.write_all(part.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(server.balance("alice"), 100);
}

/// One that sends a byte and then nothing, beside others.
#[test]
fn a_slow_client_holds_up_nobody() {
    let dir = Dir::new("slow");
    let server = Server::start(&dir);
    let slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"P").unwrap();
            stream
        })
        .collect();
    assert_eq!(server.transfer("sync", None, 1)["durable"], true);
    drop(slow);
}

/// Watermarks, and the fate of a commit that is not durable for long; also to a client that names a token of another database.
#[test]
fn events_tell_watermarks_and_outcomes() {
    let dir = Dir::new("events");
    let server = Server::start(&dir);
    let token = server.transfer("within:300ms", None, 1)["token"].as_str().unwrap().to_owned();
    let mut stream = server.connect();
    write!(stream, "GET /events?token={token} HTTP/1.1\r\nhost: bank\r\n\r\n").unwrap();
    let (mut statuses, mut reader) = (0, BufReader::new(stream));
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it goes on");
        match line.trim() {
            "event: status" => statuses += 1,
            "event: outcome" => break,
            _ => {}
        }
    }
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(line.trim().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(told, json!({ "token": token, "outcome": "durable" }));
    assert!(statuses > 0);
}

/// A browser without a window, which is spoken to by two pipes: messages of JSON, each with a zero byte behind it.
struct Browser {
    process: Child,
    input: File,
    output: BufReader<File>,
    number: u64,
    session: Option<String>,
}

impl Browser {
    /// `None` if none is installed.
    fn start(dir: &Dir) -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let is_installed = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
        let name = names.iter().find(is_installed)?;
        let [to, from] = ["to", "from"].map(|name| dir.0.join(name));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // The descriptors 3 and 4 are what it reads and writes.
        let command = format!(
            "exec {name} --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={} about:blank 3<{} 4>{}",
            dir.0.join("profile").display(),
            to.display(),
            from.display()
        );
        let process = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).spawn().unwrap();
        // In the order in which the shell opens them.
        let input = File::options().write(true).open(to).unwrap();
        let output = BufReader::new(File::open(from).unwrap());
        Some(Browser { process, input, output, number: 0, session: None })
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            assert!(self.output.read_until(0, &mut bytes).unwrap() > 0, "the browser has gone");
            let answer: Value = serde_json::from_slice(&bytes[..bytes.len() - 1]).unwrap();
            if answer["id"] == self.number {
                return answer["result"].clone();
            }
        }
    }

    fn open(&mut self, address: &str) {
        let target = self.call("Target.createTarget", &json!({ "url": address }))["targetId"].clone();
        let attached = self.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        self.session = attached["sessionId"].as_str().map(str::to_owned);
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", &json!({ "expression": expression }))["result"]["value"].clone()
    }

    /// Waits until the page shows a text.
    fn wait_for(&mut self, text: &str) {
        for _ in 0..400 {
            let shown = self.evaluate("document.body.innerText");
            if shown.as_str().is_some_and(|shown| shown.contains(text)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the page does not show {text:?}: {}", self.evaluate("document.body.innerText"));
    }

    /// Leaves a picture where `BANK_PICTURES` says, if it does.
    fn picture(&mut self, name: &str, width: u32) {
        let Some(dir) = std::env::var_os("BANK_PICTURES") else { return };
        let size = json!({ "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        std::fs::write(Path::new(&dir).join(format!("{name}-{width}.png.base64")), taken["data"].as_str().unwrap())
            .unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The page shows where the watermark is, what a crash would take, and what a crash has taken.
#[test]
fn the_page_shows_the_watermark_and_the_fates() {
    let dir = Dir::new("page");
    let Some(mut browser) = Browser::start(&dir) else { return println!("skipped: no Chromium is installed") };
    let server = Server::start(&dir);
    browser.open(&format!("http://{}/", server.address));
    browser.wait_for("A crash now would take nothing");
    let click = |mode: &str| format!("document.querySelector('[data-mode=\"{mode}\"]').click()");
    browser.evaluate(&click("sync"));
    browser.wait_for("ms\tdurable");
    // A second in which a crash would take it.
    browser.evaluate(&click("within:1s"));
    browser.wait_for("A crash now would take 1 commit ");
    browser.wait_for("pending");
    for width in [1000, 400] {
        browser.picture("at-risk", width);
    }
    browser.wait_for("A crash now would take nothing");
    // The server dies with one at risk, and comes back where it was: the page asks for its fate.
    browser.evaluate(&click("within:1s"));
    browser.wait_for("ms\tpending");
    let address = server.address.clone();
    server.kill();
    browser.wait_for("The server is gone");
    let _server = Server::start_at(&dir, &address);
    browser.wait_for("ms\tlost");
    browser.picture("lost", 1000);
}
