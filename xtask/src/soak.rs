//! `cargo xtask soak`: builds the soak of `etl-tests` in release mode and runs it; what it does and judges is described there.

use std::path::PathBuf;

use crate::process;

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
#[command(
    long_about = "Run for long with faults all along, and account for every record\n\n\
                  Real guests in pipelines of different urgency, while guests trap, loop, lie and never free, modules are replaced and configurations\n\
                  reloaded, good ones and bad ones. The verdict: each record is where it should be, memory stays, latencies do not drift.\n\
                  The exit code is 0 only if all of it holds.",
    after_help = "Examples:\n  cargo xtask soak\n  cargo xtask soak --seconds 86400 --json soak.json"
)]
pub struct Arguments {
    /// How long to run, in seconds
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u64,
    /// Write the samples and the verdict to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let mut command = process::cargo(&process::repository_root());
    command.args(["bench", "--quiet", "--workspace"]);
    command.args(["--bench", "soak", "--", "--seconds"]);
    command.arg(arguments.seconds.to_string());
    if let Some(path) = &arguments.json {
        // cargo starts a benchmark in its package's folder; the user's path is relative to the user's.
        let path = std::path::absolute(path)
            .map_err(|error| format!("cannot tell where {} is: {error}", path.display()))?;
        command.arg("--json").arg(path);
    }
    process::run(&mut command)
}
