//! `cargo xtask bench`: builds the benchmark of `etl-tests` in release mode and runs it; what it prints is described there.

use std::path::{Path, PathBuf};

use crate::{guests, process};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(
    long_about = "Run the benchmark scenarios, each beside its floor\n\n\
                  The floor of a scenario is a loop that does the least that could do the same work: for a module, the same guest called\n\
                  with the same bytes through wasmer alone. Both run in turns in one process, so their ratio holds on a noisy machine\n\
                  where neither figure does. Close other programs first: the report says when the machine was too noisy to judge.",
    after_help = "Examples:\n  cargo xtask bench --scenario single_module --seconds 10\n  \
                  cargo xtask bench --json before.json    # then change something, and\n  cargo xtask bench --compare before.json"
)]
pub struct Arguments {
    /// Run only the scenarios whose name contains this
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Time for each scenario, in seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u32,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show each result beside that of an earlier --json file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    guests::build(&root, &[])?;
    let mut command = process::cargo(&root);
    command.args([
        "bench",
        "--quiet",
        "--workspace",
        "--bench",
        "scenarios",
        "--",
    ]);
    if let Some(name) = &arguments.scenario {
        command.args(["--scenario", name]);
    }
    command.args(["--seconds", &arguments.seconds.to_string()]);
    // cargo starts a benchmark in its package's folder; the user's paths are relative to the user's.
    for (option, path) in [
        ("--json", &arguments.json),
        ("--compare", &arguments.compare),
    ] {
        if let Some(path) = path {
            command.arg(option).arg(absolute(path)?);
        }
    }
    process::run(&mut command)
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path)
        .map_err(|error| format!("cannot tell where {} is: {error}", path.display()))
}
