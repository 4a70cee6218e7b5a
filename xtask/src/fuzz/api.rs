//! The API of a running engine, asked for all that its OpenAPI document allows and much that it does not, by schemathesis.
//!
//! A run that waits for records is started with an API on a free port; schemathesis, from PyPI in an environment of its own below `target`, reads
//! the document from the server and generates requests, in the role that may do everything. Whatever answers with a 5xx, or in another way than
//! the document says, is a failure; so is a server that is not well afterwards, or whose audit log does not verify.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Arguments, Outcome, executable, show};
use crate::{guests, process};

/// The version that is installed where none is there.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What an answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// How many requests of generated content each operation gets, unless it is said.
const CASES: u64 = 100;

/// The server has so long to say where it is, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline with a module that copies, so that there is something to ask for.
const CONFIGURATION: &str = r#"
[[modules]]
id = "bench-copy"
path = "modules/bench-copy.wasm"

[[pipelines]]
pipeline_id = "orders"
stages = [{ priority = 0, modules = [{ module_id = "bench-copy" }] }]
"#;

/// Runs the target.
pub(super) fn run(root: &Path, arguments: &Arguments) -> Result<Outcome, String> {
    let schemathesis = match installed(root) {
        Ok(program) => program,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let mut command = process::cargo(root);
    // As the tests of the program build it, so that it is there already.
    command.args(["test", "--no-run", "--workspace", "--test", "cli"]);
    let etl = executable(&mut command, "etl")?;
    guests::build(root, &["bench-copy".to_owned()])?;
    let desk = root.join("target/fuzz/api");
    let problem = |error: std::io::Error| format!("cannot write to {}: {error}", desk.display());
    match fs::remove_dir_all(&desk) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(problem(error)),
        _ => fs::create_dir_all(desk.join("modules")).map_err(problem)?,
    }
    fs::copy(
        root.join("target/guests/bench-copy.wasm"),
        desk.join("modules/bench-copy.wasm"),
    )
    .map_err(problem)?;
    fs::write(desk.join("etl.toml"), CONFIGURATION).map_err(problem)?;
    let server = Server::start(&etl, &desk)?;
    let create = "admin token create --role admin --name schemathesis";
    let token = process::output(etl_at(&etl, &desk).args(create.split(' ')))?;

    let start = Instant::now();
    let log = root.join("target/fuzz/api.log");
    let output = File::create(&log).map_err(problem)?;
    let mut command = Command::new(schemathesis);
    command
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", server.address))
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", token.trim()))
        .args(["--checks", CHECKS, "--no-color", "--continue-on-failure"])
        .args(["--generation-with-security-parameters", "false"])
        .args(["--generation-database", "none", "--request-timeout", "60"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .arg("--max-examples")
        .arg(arguments.cases.unwrap_or(CASES).to_string())
        .arg("--seed")
        .arg(arguments.seed.to_string());
    if let Some(seconds) = arguments.seconds {
        command.arg("--max-time").arg(seconds.to_string());
    }
    command
        .current_dir(&desk)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(problem)?)
        .stderr(output);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start schemathesis: {error}"))?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        show(&format!("api: {} s", start.elapsed().as_secs()));
        std::thread::sleep(Duration::from_millis(200));
    };
    show("");
    let said = String::from_utf8_lossy(&fs::read(&log).map_err(problem)?).into_owned();
    let is_well = server.is_well();
    let complaints = server.end()?;
    let verified = etl_at(&etl, &desk)
        .args(["audit", "verify"])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let wrong = match (status.success(), is_well, verified) {
        (true, true, true) if complaints.is_empty() => {
            let counts = said.lines().rev().find(|line| line.contains("generated"));
            let counts = counts.map_or("every operation asked", |line| {
                line.trim_matches(|character: char| !character.is_ascii_alphanumeric())
            });
            return Ok(Outcome::Passed(format!(
                "{counts} in {:.0} s: no 5xx, and every answer as the document says",
                start.elapsed().as_secs_f64()
            )));
        }
        (_, false, _) => "the server does not answer any more".to_owned(),
        (_, _, false) => "the audit log does not verify".to_owned(),
        (true, ..) => format!("the server complained: {complaints}"),
        (false, ..) => format!("schemathesis: {status}"),
    };
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines[lines.len().saturating_sub(120)..] {
        println!("{line}");
    }
    Ok(Outcome::Failed(format!(
        "{wrong}; all that was said is in {}; again: cargo xtask fuzz --only api --seed {}",
        log.display(),
        arguments.seed
    )))
}

/// The program: `SCHEMATHESIS`, or one that is installed below `target` first. An error is why it cannot be had, and what to do.
fn installed(root: &Path) -> Result<PathBuf, String> {
    if let Some(program) = std::env::var_os("SCHEMATHESIS") {
        return Ok(program.into());
    }
    let venv = root.join("target/schemathesis/venv");
    let program = venv.join("bin/schemathesis");
    if program.is_file() {
        return Ok(program);
    }
    let made = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let is_made = made(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && made(Command::new(venv.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            SCHEMATHESIS,
        ]));
    if is_made {
        Ok(program)
    } else {
        Err(format!(
            "needs `{SCHEMATHESIS}`, for which python3 with venv and PyPI are needed; or name the program in SCHEMATHESIS"
        ))
    }
}

fn etl_at(etl: &Path, desk: &Path) -> Command {
    let mut command = Command::new(etl);
    command.current_dir(desk);
    command
}

/// A run with an API.
struct Server {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Server {
    fn start(etl: &Path, desk: &Path) -> Result<Self, String> {
        let log = desk.join("etl.log");
        let file = File::create(&log)
            .map_err(|error| format!("cannot write to {}: {error}", log.display()))?;
        let child = etl_at(etl, desk)
            .args(["run", "etl.toml", "--create", "--lanes", "1"])
            .args(["--from", "embedded:data?topics=in&follow"])
            .args(["--to", "embedded:data?prefix=out."])
            .args(["--admin", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("cannot start etl: {error}"))?;
        let mut server = Self {
            child,
            address: String::new(),
            log,
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let said = server.said();
            let mut lines = said.lines();
            let found = lines.find_map(|line| line.strip_prefix("etl: API at http://"));
            if let Some(address) = found.and_then(|rest| rest.strip_suffix("/api/v1")) {
                server.address = address.to_owned();
                return Ok(server);
            }
            let has_ended = server.child.try_wait().is_ok_and(|ended| ended.is_some());
            if has_ended || Instant::now() > until {
                return Err(format!("the server does not start:\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn is_well(&self) -> bool {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: etl\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Ends it in good order. Answers what it complained of itself.
    fn end(mut self) -> Result<String, String> {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        asked.map_err(|error| format!("cannot end the server: {error}"))?;
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > until {
                return Ok("it does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = self.said();
        let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
        Ok(said.lines().filter(bad).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
