//! A run that serves its API or its metrics and goes on while a test looks at it: what it says goes through pipes, or into files of the desk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Desk;

/// What the variable `NAME` is; never to be seen.
pub const CANARY: &str = "canary-77f0";

/// How a run says where it serves.
const API: &str = "etl: API at ";
const METRICS: &str = "etl: metrics at ";

/// Host and port, where a line says them: `etl: API at http://HOST:PORT/api/v1`.
fn address(line: &str, before: &str) -> Option<String> {
    let (_, rest) = line.strip_prefix(before)?.split_once("://")?;
    Some(rest.trim_end().split('/').next()?.to_owned())
}

/// One that a test talks to through pipes.
pub struct Running {
    pub child: Child,
    pub stdin: ChildStdin,
    pub stdout: BufReader<ChildStdout>,
    pub stderr: BufReader<std::process::ChildStderr>,
    /// Where it serves: host and port.
    pub address: String,
}

impl Running {
    pub fn start(desk: &Desk, more: &[&str]) -> Self {
        let mut run = vec![
            "run", "etl.toml", "--from", "-", "--to", "-", "--lanes", "1",
        ];
        run.extend(["--admin", "127.0.0.1:0", "--log", "trace"]);
        run.extend(more);
        Self::spawn(desk.command(&run))
    }

    /// From the topic `in` of a folder to another one of it, whose name begins with `out.`, until it is told to end.
    pub fn following(desk: &Desk) -> Self {
        let mut run = vec!["run", "etl.toml", "--lanes", "1", "--admin", "127.0.0.1:0"];
        run.extend(["--from", "embedded:data?topics=in&follow"]);
        run.extend(["--to", "embedded:data?prefix=out."]);
        Self::spawn(desk.command(&run))
    }

    /// Waits until it serves its API.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_until(command, API)
    }

    /// Waits until it serves its metrics.
    pub fn with_metrics(command: Command) -> Self {
        Self::spawn_until(command, METRICS)
    }

    fn spawn_until(mut command: Command, before: &str) -> Self {
        let mut child = command
            .env("NAME", CANARY)
            .stdin(Stdio::piped())
            .spawn()
            .expect("etl starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("a line"), 0, "it ended");
            if let Some(address) = address(&line, before) {
                break address;
            }
        };
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")),
            stderr,
            child,
            address,
        }
    }

    /// Ends it as a power failure would, without asking.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Gives it a record line, and reads the next one that comes out.
    pub fn send(&mut self, record: &str) -> String {
        writeln!(self.stdin, "{record}").expect("writes");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line
    }

    /// The status and the body of an answer.
    pub fn ask(
        &self,
        token: &str,
        method: &str,
        target: &str,
        body: Option<&str>,
    ) -> (u16, String) {
        let content = body.map(|body| ("application/json", body.as_bytes()));
        let answer = ask(&self.address, token, &format!("{method} {target}"), content);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    #[track_caller]
    pub fn json(&self, token: &str, method: &str, target: &str, body: Option<&str>) -> Value {
        let (status, text) = self.ask(token, method, target, body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Ends the input, and reads what it still says.
    pub fn end(mut self) -> (String, String) {
        drop(self.stdin);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).expect("text");
        self.stderr.read_to_string(&mut stderr).expect("text");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{stderr}");
        (stdout, stderr)
    }
}

/// One of `etl.toml` that reads from its standard input. Its logs are `stdout.log` and `stderr.log`.
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
            let find = |before: &str| said.lines().find_map(|line| address(line, before));
            let metrics = find(METRICS);
            let is_complete = metrics.is_some() || !more.contains(&"--metrics");
            if let Some(api) = find(API).filter(|_| is_complete) {
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

/// One request with a media type and a body, by somebody or, without a token, by nobody; everything that came back.
pub fn ask(address: &str, token: &str, line: &str, content: Option<(&str, &[u8])>) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    let mut head = format!("{line} HTTP/1.1\r\nhost: etl\r\nconnection: close\r\n");
    if !token.is_empty() {
        head += &format!("authorization: Bearer {token}\r\n");
    }
    if let Some((kind, body)) = content {
        let length = body.len();
        head += &format!("content-type: {kind}\r\ncontent-length: {length}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).expect("writes");
    let (_, body) = content.unwrap_or_default();
    stream.write_all(body).expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}
