//! `cargo xtask bench`: builds the benchmark of `etl-tests` in release mode and runs it; what it prints is described there. With `--guard` it runs the
//! short set of [`crate::guard`] instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{guard, guests, process};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(
    long_about = "Run the benchmark scenarios, each beside its floor\n\n\
                  The floor of a scenario is a loop that does the least that could do the same work: for a module, the same guest called\n\
                  with the same bytes through wasmer alone. Both run in turns in one process, so their ratio holds on a noisy machine\n\
                  where neither figure does. Close other programs first: the report says when the machine was too noisy to judge.\n\n\
                  --guard runs a short set instead, as ratios and as counts of instructions, and fails when one is a quarter worse than\n\
                  docs/record/guard.json says. docs/performance.md explains what the figures mean.",
    after_help = "Examples:\n  cargo xtask bench --list\n  cargo xtask bench --scenario single_module --seconds 10\n  \
                  cargo xtask bench --scenario growth       # every scenario of that group\n  \
                  cargo xtask bench --scenario comparison   # builds wasmtime first\n  \
                  cargo xtask bench --json before.json    # then change something, and\n  cargo xtask bench --compare before.json\n  \
                  cargo xtask bench --guard               # has anything become a quarter slower?\n  \
                  cargo xtask bench --guard --record      # what is measured now is what counts"
)]
pub struct Arguments {
    /// Run only the scenario of this name, or those whose names contain it
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Time for each variant, in seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u32,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show each result beside that of an earlier --json file, and name what is worse than noise
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Say which scenarios there are
    #[arg(long)]
    list: bool,
    /// Compare a short set with docs/record/guard.json; fail where something is a quarter worse
    #[arg(long, conflicts_with_all = ["scenario", "seconds", "json", "compare", "list"])]
    guard: bool,
    /// With --guard: write what is measured to docs/record/guard.json
    #[arg(long, requires = "guard")]
    record: bool,
    /// cargo's profile to build with: `dev` saves the optimised build where the tests were built anyway
    #[arg(long, value_name = "PROFILE", default_value = "release", value_parser = ["release", "dev"])]
    profile: String,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    if arguments.guard {
        return guard::run(&root, &arguments.profile, arguments.record);
    }
    if !arguments.list {
        guests::build(&root, &[])?;
    }
    let wanted = arguments.scenario.as_deref().unwrap_or_default();
    match wanted {
        WASMTIME => build_wasmtime(&root)?,
        // Only one of the ways that are compared.
        "comparison" => {
            if let Err(problem) = build_wasmtime(&root) {
                eprintln!("skipped: wasmtime: {problem}");
            }
        }
        _ => {}
    }
    let mut command = Command::new(program(&root, &arguments.profile)?);
    if arguments.list {
        command.arg("--list");
    }
    if let Some(name) = &arguments.scenario {
        command.args(["--scenario", name]);
    }
    command.args(["--seconds", &arguments.seconds.to_string()]);
    for (option, path) in [
        ("--json", &arguments.json),
        ("--compare", &arguments.compare),
    ] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    process::run(&mut command)
}

/// Builds the scenarios and returns their program.
pub fn program(root: &Path, profile: &str) -> Result<PathBuf, String> {
    let mut command = process::cargo(root);
    // With the whole workspace, so that libraries have the features that tests and program have, and are built once for all.
    command.args(["bench", "--quiet", "--no-run", "--workspace"]);
    command.args(["--profile", profile, "--bench", "scenarios"]);
    let messages = process::cargo_messages(&mut command)?;
    messages
        .iter()
        .filter(|message| message["target"]["name"] == "scenarios")
        .find_map(|message| message["executable"].as_str())
        .map(PathBuf::from)
        .ok_or_else(|| "cargo built no program of the scenarios".to_owned())
}

/// The scenario that measures beside another engine, and the package of that engine's side.
const WASMTIME: &str = "wasmtime";

/// Builds it: minutes, so only where it is asked for by name, and in a folder of its own.
fn build_wasmtime(root: &Path) -> Result<(), String> {
    eprintln!("building another engine, which takes minutes the first time");
    let mut command = process::cargo(&root.join("tests").join(WASMTIME));
    command
        .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
        .arg(root.join("target").join(WASMTIME));
    command
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    process::run(&mut command)
}
