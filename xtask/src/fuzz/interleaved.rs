//! Threads in many orders of their steps: unit tests whose locks, atomics and threads are those of `shuttle`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{Arguments, Outcome, executable, grouped, show};
use crate::process;

/// Runs a few orders at a time, until there are as many as were wanted or the time is over.
pub(super) fn run(
    root: &Path,
    package: &str,
    module: &str,
    orders: u64,
    arguments: &Arguments,
) -> Result<Outcome, String> {
    const AT_A_TIME: u64 = 500;
    let mut command = process::cargo(root);
    command.args(["test", "--no-run", "--workspace", "--lib", "--features"]);
    command.arg(format!("{package}/shuttle"));
    let name = package.replace('-', "_");
    let executable = executable(&mut command, &name)?;
    let limit = match (arguments.cases, arguments.seconds) {
        (Some(cases), _) => cases,
        (None, Some(_)) => u64::MAX,
        (None, None) => orders,
    };
    let start = Instant::now();
    let mut done = 0;
    let mut seed = arguments.seed;
    while done < limit
        && arguments
            .seconds
            .is_none_or(|seconds| start.elapsed().as_secs() < seconds)
    {
        let now = AT_A_TIME.min(limit - done);
        let output = Command::new(&executable)
            .args([module, "--nocapture"])
            .current_dir(root)
            .env("ETL_INTERLEAVINGS", now.to_string())
            .env("SHUTTLE_RANDOM_SEED", seed.to_string())
            .output()
            .map_err(|error| format!("cannot start {}: {error}", executable.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            println!("{said}{}", String::from_utf8_lossy(&output.stderr));
            return Ok(Outcome::Failed(format!(
                "seed {seed}, {}; again: cargo xtask fuzz --only {module} --seed {seed} --cases {now}",
                output.status
            )));
        }
        if said.contains("running 0 tests") {
            return Err(format!("{package} has no tests in `{module}`"));
        }
        done += now;
        seed = seed.wrapping_add(1);
        show(&format!(
            "{module}: {} orders, {} s",
            grouped(done),
            start.elapsed().as_secs()
        ));
    }
    show("");
    Ok(Outcome::Passed(format!(
        "{} orders of each test by each of two schedulers in {:.0} s: nothing lost, doubled or stuck",
        grouped(done),
        start.elapsed().as_secs_f64()
    )))
}
