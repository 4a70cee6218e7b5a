//! `cargo xtask miri`: runs the tests of `etl-filter` in an interpreter that knows what undefined behaviour is.
//!
//! The crate forbids `unsafe`; what this looks at is how it uses the libraries below it, whose `unsafe` runs on its inputs. Miri is some thousand
//! times slower than the machine, so the tests do less under it (`cfg!(miri)`). All of them took two hours (2026-11-26);
//! name a few (`--lib`, `--test NAME`) where patience is short.

use std::process::Stdio;
use std::time::Instant;

use crate::process;

/// Options of `cargo xtask miri`.
#[derive(clap::Args)]
#[command(
    long_about = "Run the tests of etl-filter in Miri, which finds undefined behaviour\n\n\
                  Needs `rustup toolchain install nightly --component miri,rust-src`. Arguments go to `cargo miri test` as they are;\n\
                  without any, the unit tests and every test program of the crate are run.",
    after_help = "Examples:\n  cargo xtask miri\n  cargo xtask miri --lib\n  cargo xtask miri --test oracle"
)]
pub struct Arguments {
    /// Given to `cargo miri test`
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    let is_there = process::nightly(&root)
        .args(["miri", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_there {
        return Err(
            "Miri needs `rustup toolchain install nightly --component miri,rust-src`".to_owned(),
        );
    }
    let start = Instant::now();
    let mut command = process::nightly(&root);
    command.args(["miri", "test", "-p", "etl-filter", "--all-features"]);
    if arguments.arguments.is_empty() {
        command.args(["--lib", "--tests"]);
    }
    command.args(&arguments.arguments);
    // The tests read their corpora and the clock.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    process::run(&mut command)?;
    eprintln!(
        "Miri found nothing ({:.0} s)",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
