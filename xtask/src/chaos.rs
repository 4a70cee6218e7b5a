//! `cargo xtask chaos`: workers are killed (`kill -9`) in mid-stream, at random moments, and every record is accounted for.
//!
//! For each backend: records with numbers are sent, workers run one after the other and are killed, until nothing is left to do; then what came out is read
//! and compared with what was sent. Nothing is asked of a worker that it could have remembered wrongly: only what is at the end of the line counts.

mod backend;
mod ledger;
mod nats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{demo, guests, process};
use backend::Backend;
use ledger::{Ledger, Verdict};

/// Options of `cargo xtask chaos`.
#[derive(clap::Args)]
#[command(
    long_about = "Kill workers in mid-stream, at random moments, and account for every record\n\n\
                  Numbered records go through `etl run` while its process is killed (kill -9) again and again. At the end what came out is compared\n\
                  with what was sent: nothing may be missing; nothing may come twice where outputs and position are one transaction; otherwise at most\n\
                  what was in flight may. Where there is a nats-server, one is started, and killed and paused too.\n\
                  The exit code is 0 only if all of it holds.",
    after_help = "Examples:\n  cargo xtask chaos\n  cargo xtask chaos --records 100000 --kills 10 --only embedded\n  cargo xtask chaos --seed 4711"
)]
pub struct Arguments {
    /// Records in all, shared between the backends
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    records: u64,
    /// Kills in all, shared between the backends
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: u64,
    /// Records in flight in a worker, at most
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    in_flight: u64,
    /// Where the random moments start from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only backends whose name begins so
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// One module for every record: it copies the value without its last byte, so that nothing passes unseen.
const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "copy"
[[pipelines.stages]]
priority = 0
[[pipelines.stages.modules]]
module_id = "bench-copy"
"#;

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    guests::build(&root, &[])?;
    let program = demo::build_program(&root)?;
    let folder = root.join("target/chaos");
    // What an earlier run left would be taken for this one's.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let configuration = folder.join("etl.toml");
    fs::write(&configuration, CONFIGURATION)
        .map_err(|error| format!("cannot write {}: {error}", configuration.display()))?;
    let mut backends = backend::all(&program, &folder);
    if let Some(only) = &arguments.only {
        backends.retain(|backend| backend.name().starts_with(only.as_str()));
    }
    let share = backends.len().max(1) as u64;
    let setup = Setup {
        program,
        modules: root.join("target/guests"),
        configuration,
        records: arguments.records.div_ceil(share),
        kills: arguments.kills.div_ceil(share),
        in_flight: arguments.in_flight,
    };
    let mut random = Random(arguments.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut failed = Vec::new();
    for mut backend in backends {
        let verdict = setup.run(&mut *backend, &mut random)?;
        println!("{}: {verdict}", backend.name());
        if !verdict.holds(backend.exactly_once(), backend.in_order()) {
            failed.push(backend.name());
        }
    }
    match &failed[..] {
        [] => Ok(()),
        failed => Err(format!("the promise is broken: {}", failed.join(", "))),
    }
}

struct Setup {
    program: PathBuf,
    modules: PathBuf,
    configuration: PathBuf,
    records: u64,
    kills: u64,
    in_flight: u64,
}

/// Ends its process however this ends.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Setup {
    fn run(&self, backend: &mut dyn Backend, random: &mut Random) -> Result<Verdict, String> {
        let begun = Instant::now();
        backend.prepare()?;
        let mut sent = 0;
        let mut kills = 0;
        // What a worker does in a second, start included; learnt while it goes.
        let mut pace = 50_000.0_f64;
        while sent < self.records || kills < self.kills {
            // Where the work was done before there were enough kills, there is more of it.
            let more = if sent == 0 {
                self.records
            } else {
                self.records.div_ceil(10)
            };
            eprintln!("{}: sending {more} records", backend.name());
            backend.send(sent, more)?;
            sent += more;
            loop {
                let before = backend.arrived()?;
                let goal = self.records as f64 / (self.kills.max(1) as f64 * 1.3);
                let life = (goal / pace).clamp(0.02, 20.0) * (0.2 + 1.6 * random.unit());
                let born = Instant::now();
                if self.live(backend, Duration::from_secs_f64(life), random)? {
                    break;
                }
                kills += 1;
                let done = backend.arrived()?.saturating_sub(before);
                pace = 0.8 * pace + 0.2 * (done as f64 / born.elapsed().as_secs_f64()).max(1_000.0);
                if kills % 10 == 0 {
                    eprintln!(
                        "{}: {kills} kills, {} of {sent} arrived",
                        backend.name(),
                        before + done
                    );
                }
            }
        }
        let mut ledger = Ledger::new(sent, self.in_flight);
        backend.received(&mut |line| ledger.take(line))?;
        Ok(ledger.verdict(kills, begun.elapsed()))
    }

    /// One worker. `true`: it finished by itself, because there was no more.
    fn live(
        &self,
        backend: &mut dyn Backend,
        life: Duration,
        random: &mut Random,
    ) -> Result<bool, String> {
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .arg(&self.configuration)
            .arg("--modules")
            .arg(&self.modules)
            .args(backend.arguments())
            .args(["--in-flight", &self.in_flight.to_string(), "--quiet"])
            .stdin(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", process::shown(&command)))?;
        let mut worker = Worker(child);
        let until = Instant::now() + life;
        let disturbed_at = Instant::now() + life.mul_f64(random.unit());
        let mut disturbed = false;
        while Instant::now() < until {
            let ended = worker.0.try_wait().map_err(|error| error.to_string())?;
            match ended {
                Some(status) if status.success() => return Ok(true),
                // What it runs on went before it had begun: it says so, and ends.
                Some(_) if disturbed => return Ok(false),
                Some(status) => {
                    return Err(format!("`{}` failed ({status})", process::shown(&command)));
                }
                None if !disturbed && Instant::now() >= disturbed_at => {
                    disturbed = true;
                    backend.disturb(random)?;
                }
                None if backend.is_drained()? => return Ok(true),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Ok(false)
    }
}

/// Small, and the same on every machine.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The URL of a folder of topics, and its folder made anew.
fn folder_url(folder: &Path, settings: &str) -> String {
    format!("embedded:{}{settings}", folder.display())
}
