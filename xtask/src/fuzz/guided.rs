//! Targets of cargo-fuzz, led by coverage.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Arguments, GUIDED_SECONDS, Outcome, Target, show};
use crate::process;

pub(super) fn run(
    root: &Path,
    target: &Target,
    folder: &str,
    name: &str,
    arguments: &Arguments,
) -> Result<Outcome, String> {
    let there = process::nightly(root)
        .args(["fuzz", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        return Ok(Outcome::Skipped(
            "needs `rustup toolchain install nightly` and `cargo install cargo-fuzz --locked`"
                .to_owned(),
        ));
    }
    let desk = root.join("target/fuzz");
    let (found, log) = (
        desk.join("corpus").join(target.name),
        desk.join(format!("{}.log", target.name)),
    );
    let problem = |error: std::io::Error| format!("cannot write to {}: {error}", desk.display());
    fs::create_dir_all(&found).map_err(problem)?;
    let output = File::create(&log).map_err(problem)?;
    let seconds = arguments.seconds.unwrap_or(GUIDED_SECONDS);
    // The first folder takes what is found, the second is what is committed.
    let mut command = process::nightly(&root.join(folder));
    command.args(["fuzz", "run", "--target-dir"]).arg(&desk);
    command.arg(name).arg(&found);
    let committed = root.join(folder).join("fuzz/corpus").join(name);
    if committed.is_dir() {
        command.arg(committed);
    }
    command
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={}", arguments.seed));
    if let Some(cases) = arguments.cases {
        command.arg(format!("-runs={cases}"));
    }
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(problem)?)
        .stderr(output);
    let start = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", process::shown(&command)))?;
    let status = loop {
        let ended = child
            .try_wait()
            .map_err(|error| format!("cannot wait for `{}`: {error}", process::shown(&command)))?;
        if let Some(status) = ended {
            break status;
        }
        show(&format!("{}: {} s", target.name, start.elapsed().as_secs()));
        std::thread::sleep(Duration::from_millis(200));
    };
    show("");
    let said = String::from_utf8_lossy(&fs::read(&log).map_err(problem)?).into_owned();
    if status.success() {
        let done = said.lines().rev().find(|line| line.starts_with("Done "));
        let done = done.ok_or_else(|| format!("{} ran nothing: see {}", name, log.display()))?;
        return Ok(Outcome::Passed(done.to_owned()));
    }
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        println!("{line}");
    }
    Ok(Outcome::Failed(format!(
        "all that it said is in {}",
        log.display()
    )))
}
