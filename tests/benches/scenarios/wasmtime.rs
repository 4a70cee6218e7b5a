//! `wasmtime`: the same guests through the pool and through wasmtime, in turns.
//!
//! wasmtime runs in a program of its own (`tests/wasmtime`), because the workspace has one engine. It makes calls when it is told how many, and is started
//! for each variant; a turn is so many calls that a line over a pipe does not count. `cargo xtask bench --scenario wasmtime` builds it; without it
//! there is nothing to measure.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_orchestrator::View;
use etl_pool::{InstanceOptions, Isolation, ModuleSource, Pool, PoolOptions, Template};
use etl_tests::bench::{Bench, Target};

use crate::{floor, pool, workload};

const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/wasmtime/release/etl-wasmtime"
);

/// Name, whether a call starts from the first state, calls in a turn, and the guest.
type Variant = (&'static str, bool, usize, fn() -> Result<Vec<u8>, String>);

const VARIANTS: [Variant; 3] = [
    ("a call that copies 256 bytes", false, 2_000, || {
        floor::module_bytes(workload::MODULE)
    }),
    (
        "four pages written, from the first state",
        true,
        500,
        || pool::kernel("", pool::FOUR_PAGES),
    ),
    ("a loop over bytes that can be stopped", false, 50, || {
        let (_, fields, work) = pool::KERNELS[0];
        pool::kernel(fields, work)
    }),
];

/// Runs the scenario.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    if !is_built() {
        println!("skipped: wasmtime: `cargo xtask bench --scenario wasmtime` builds what it needs");
        return Ok(());
    }
    let pool = Pool::new(PoolOptions::default()).map_err(|error| error.to_string())?;
    let records = workload::records(1);
    let views = [View::new(Arc::clone(&records[0]))];
    for (name, fresh, calls, guest) in VARIANTS {
        let bytes = guest()?;
        let mut other = Other::start(&bytes, &workload::frame(&records), fresh)?;
        let source = ModuleSource {
            id: "guest",
            bytes: &bytes,
            expected_sha256: None,
        };
        let isolation = if fresh {
            Isolation::Record
        } else {
            Isolation::Instance
        };
        let options = InstanceOptions {
            isolation,
            ..InstanceOptions::default()
        };
        let template = pool
            .load(source)
            .and_then(|module| Template::new(module, options))
            .map_err(|error| error.to_string())?;
        let mut shelves = pool.shelves();
        let ours = || {
            let deadline = Instant::now() + Duration::from_secs(5);
            for _ in 0..calls {
                black_box(
                    shelves
                        .call(&template, black_box(&views), deadline)
                        .expect("the guest answers"),
                );
            }
        };
        bench.against_floor(name, calls, Target::default(), ours, || other.turn(calls));
        bench.floor_is("wasmtime");
    }
    Ok(())
}

/// Whether the other program is there.
pub fn is_built() -> bool {
    Path::new(PROGRAM).exists()
}

/// wasmtime with a guest, in a process of its own.
pub struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _files: tempfile::TempDir,
}

impl Other {
    /// Starts it with a module and the frame that it is called with; `fresh` makes a new instance for each call.
    pub fn start(module: &[u8], frame: &[u8], fresh: bool) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("wasmtime cannot be started: {error}");
        let files = tempfile::tempdir().map_err(problem)?;
        let paths = ["module", "frame"].map(|name| files.path().join(name));
        for (path, bytes) in paths.iter().zip([module, frame]) {
            std::fs::write(path, bytes).map_err(problem)?;
        }
        let mut child = Command::new(PROGRAM)
            .args(&paths)
            .arg(if fresh { "fresh" } else { "call" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(problem)?;
        Ok(Self {
            input: child.stdin.take().ok_or("it has no input")?,
            output: BufReader::new(child.stdout.take().ok_or("it has no output")?),
            child,
            _files: files,
        })
    }

    /// So many calls.
    pub fn turn(&mut self, calls: usize) {
        let mut line = String::new();
        writeln!(self.input, "{calls}").expect("wasmtime listens");
        self.output.read_line(&mut line).expect("wasmtime answers");
        assert_eq!(line, "\n", "wasmtime has ended");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
