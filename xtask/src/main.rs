//! The project's own chores, as one program: `cargo xtask <chore>`.
//!
//! Each chore is a file of this folder and says in its header what it does. The program knows cargo, git and the file system, and
//! nothing of the crates it looks after: it depends on none of them, so that it builds in seconds and runs when they do not compile.

#![forbid(unsafe_code)]

mod bench;
mod chaos;
mod demo;
mod fuzz;
mod generator;
mod guard;
mod guests;
mod layers;
mod memcheck;
mod metadata;
mod miri;
mod plot;
mod process;
mod profile;
mod soak;
mod test;
mod tidy;
mod violation;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's own chores",
    after_help = "New here? `cargo xtask demo` shows what this is; `cargo xtask test` builds the guest modules and runs every test; it needs nothing but rustup.\n\
                  Before a commit: `cargo fmt`, `cargo xtask tidy`, `cargo xtask layers`, `cargo xtask test`. CI runs `.ci/run`, which is these and the lints.",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run real records through real modules and show what became of them
    Demo(demo::Arguments),
    /// Build every guest module to target/guests/<module_id>.wasm
    Guests(guests::Arguments),
    /// Build the guest modules, then run every test of the workspace
    Test(test::Arguments),
    /// Run the benchmark scenarios, each beside its floor
    Bench(bench::Arguments),
    /// Say where the time of a scenario goes: a flame graph, or counts of instructions
    Profile(profile::Arguments),
    /// Draw what the bench measured: cost against what grows
    Plot(plot::Arguments),
    /// Compare with the plain definitions, and feed any bytes, for long
    Fuzz(fuzz::Arguments),
    /// Run the tests of etl-filter in Miri, which finds undefined behaviour
    Miri(miri::Arguments),
    /// Run the tests of etl-pool in Valgrind, which looks at every access to memory
    Memcheck(memcheck::Arguments),
    /// Run for long with faults all along, and account for every record
    Soak(soak::Arguments),
    /// Kill workers in mid-stream, and account for every record
    Chaos(chaos::Arguments),
    /// Check what rustfmt and clippy do not: headers, markers, links, file sizes
    Tidy(tidy::Arguments),
    /// Check who may depend on whom, and where wasmer and unsafe may appear
    Layers(layers::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Demo(arguments) => demo::run(&arguments),
        Chore::Guests(arguments) => guests::run(&arguments),
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Profile(arguments) => profile::run(&arguments),
        Chore::Plot(arguments) => plot::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Miri(arguments) => miri::run(&arguments),
        Chore::Memcheck(arguments) => memcheck::run(&arguments),
        Chore::Soak(arguments) => soak::run(&arguments),
        Chore::Chaos(arguments) => chaos::run(&arguments),
        Chore::Tidy(arguments) => tidy::run(&arguments),
        Chore::Layers(arguments) => layers::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
