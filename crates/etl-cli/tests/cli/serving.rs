//! A run with an API that goes on while a test looks at it, with what it says in files of the desk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::Desk;

/// A run of `etl.toml` that reads from its standard input. Its logs are `stdout.log` and `stderr.log`.
pub struct Run {
    pub child: Child,
    /// Where its API is: host and port.
    pub api: String,
    /// Where its metrics are, if they are asked for.
    pub metrics: String,
}

impl Run {
    /// Starts one with these arguments, and waits until it serves.
    pub fn start(desk: &Desk, more: &[&str]) -> Self {
        let mut arguments = vec!["run", "etl.toml", "--from", "-", "--lanes", "1"];
        arguments.extend(["--admin", "127.0.0.1:0"]);
        arguments.extend(more);
        let file = |name: &str| File::create(desk.path(name)).expect("a file");
        let child = desk
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(file("stdout.log"))
            .stderr(file("stderr.log"))
            .spawn()
            .expect("etl starts");
        let mut run = Self {
            child,
            api: String::new(),
            metrics: String::new(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let said = fs::read_to_string(desk.path("stderr.log")).expect("text");
            let find = |before: &str| {
                let mut lines = said.lines();
                let found = lines.find_map(|line| line.strip_prefix(before)?.split_once("://"));
                found.and_then(|(_, rest)| Some(rest.split('/').next()?.to_owned()))
            };
            let metrics = find("etl: metrics at ");
            let is_complete = metrics.is_some() || !more.contains(&"--metrics");
            if let Some(api) = find("etl: API at ").filter(|_| is_complete) {
                (run.api, run.metrics) = (api, metrics.unwrap_or_default());
                return run;
            }
            assert!(Instant::now() < deadline, "it does not serve:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Run {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request; everything that came back.
pub fn ask(address: &str, token: &str, line: &str, kind: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: etl\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .expect("writes");
    stream.write_all(body).expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}
