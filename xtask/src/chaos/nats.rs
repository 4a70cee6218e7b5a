//! Streams of a nats-server of the chore's own, which is killed and paused too.
//!
//! A partition is a subject here. What was in hand when a worker or the server died comes again behind what follows it, so order is not asked for; message ids
//! keep what is written again from being stored again, so nothing may come twice.

use std::cell::Cell;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Random;
use super::backend::{Backend, feed};
use super::ledger::Place;
use crate::process;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_secs(1);

/// Longer than a worker waits for an answer.
const PAUSE: Duration = Duration::from_secs(6);

pub struct Nats {
    program: PathBuf,
    server: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Option<Child>,
    sent: u64,
    looked: Cell<Option<Instant>>,
}

impl Nats {
    /// `None`: there is no nats-server on this machine.
    pub fn new(program: &Path, folder: &Path) -> Option<Self> {
        let server =
            std::env::var_os("NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from);
        let answers = Command::new(&server)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        answers.is_ok_and(|status| status.success()).then(|| Self {
            program: program.to_owned(),
            server,
            folder: folder.join("nats"),
            port: 0,
            running: None,
            sent: 0,
            looked: Cell::default(),
        })
    }

    fn url(&self, rest: &str) -> String {
        format!("nats://127.0.0.1:{}/{rest}", self.port)
    }

    fn from(&self) -> String {
        self.url("IN?subject=in.>&ack-wait=2s")
    }

    fn to(&self) -> String {
        self.url("OUT?prefix=out")
    }

    fn start(&mut self) -> Result<(), String> {
        let failed =
            |error: std::io::Error| format!("cannot start {}: {error}", self.server.display());
        let child = Command::new(&self.server)
            .args([
                "-js",
                "-a",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-sd",
            ])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        self.running = Some(child);
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > until {
                return Err(format!("{} does not start", self.server.display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let Some(child) = &self.running else {
            return Ok(());
        };
        process::output(Command::new("kill").args([signal, &child.id().to_string()])).map(drop)
    }

    fn etl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }

    fn stored(&self) -> Result<u64, String> {
        let topics = process::output(&mut self.etl(&["topics", &self.to(), "--json"]))?;
        let topics = topics
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(topics.filter_map(|topic| topic["records"].as_u64()).sum())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Backend for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn exactly_once(&self) -> bool {
        true
    }

    fn in_order(&self) -> bool {
        false
    }

    fn prepare(&mut self) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        self.port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        drop(listener);
        self.start()?;
        // A worker makes its stream; it is asked for before one runs.
        process::output(&mut self.etl(&["topics", &self.to(), "--create", "none"])).map(drop)
    }

    fn send(&mut self, first: u64, count: u64) -> Result<(), String> {
        let url = self.from();
        let mut command = self.etl(&["send", "--to", &url, "--create"]);
        feed(&mut command, first..first + count, Place::Topic)?;
        self.sent = first + count;
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        ["--from", &self.from(), "--to", &self.to(), "--create"]
            .map(str::to_owned)
            .to_vec()
    }

    fn arrived(&mut self) -> Result<u64, String> {
        self.stored()
    }

    fn is_drained(&self) -> Result<bool, String> {
        let now = Instant::now();
        if self.looked.get().is_some_and(|looked| now - looked < LOOK) {
            return Ok(false);
        }
        self.looked.set(Some(now));
        Ok(self.stored()? >= self.sent)
    }

    fn disturb(&mut self, random: &mut Random) -> Result<(), String> {
        match random.unit() {
            part if part < 0.06 => {
                self.kill();
                self.start()
            }
            part if part < 0.08 => {
                self.signal("-STOP")?;
                std::thread::sleep(PAUSE);
                self.signal("-CONT")
            }
            _ => Ok(()),
        }
    }

    fn received(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let mut command = self.etl(&["tail", &self.to()]);
        let status = process::each_line(&mut command, each)?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("`{}` failed ({status})", process::shown(&command))),
        }
    }
}
