//! The benchmark scenarios: `cargo xtask bench` builds this in release mode and forwards its options.
//!
//! A scenario is a file here with a `run` function over a [`Bench`]; the harness, and what its figures mean, is `etl_tests::bench`. The guests are
//! the modules in `target/guests`, which `cargo xtask bench` builds first.

#![forbid(unsafe_code)]

mod admin_load;
mod budget;
mod catalogue;
mod comparison;
mod conditions;
mod counted;
mod engine;
mod examples;
mod filter;
mod floor;
mod growth;
mod naive;
mod overshoot;
mod own_lanes;
mod pipelines;
mod pool;
mod resident;
mod single_module;
mod wasmtime;
mod workload;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use catalogue::{SCENARIOS, Scenario};
use clap::Parser;
use etl_tests::bench::Bench;
use etl_tests::bench::compare;
use etl_tests::bench::document::{self, Circumstances};
use etl_tests::bench::pin::Pinned;
use etl_tests::bench::report::{self, Style};

/// The options that `cargo xtask bench` forwards.
#[derive(Parser)]
struct Options {
    /// Run only the scenarios whose name contains this
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Time for each variant, in seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u32,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show each result beside that of an earlier --json file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Say which scenarios there are
    #[arg(long)]
    list: bool,
    /// Run the subjects alone, for a profiler
    #[arg(long)]
    without_floor: bool,
    /// Do the work of this name for a counter of instructions, or say which there is
    #[arg(long, hide = true, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    counted: Option<String>,
    /// How often
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    rounds: u64,
    /// Be the process whose memory is measured
    #[arg(long, hide = true, value_name = "KIND")]
    resident: Option<resident::Kind>,
    /// Of how much
    #[arg(long, hide = true, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Be the process that fills the cache of a configuration
    #[arg(long, hide = true, value_name = "TOML")]
    fill_cache: Option<String>,
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Some(name) = &options.counted {
        return counted::run(name, options.rounds);
    }
    if let Some(kind) = options.resident {
        return resident::child(kind, options.count);
    }
    if let Some(configuration) = &options.fill_cache {
        return resident::fill(configuration);
    }
    if options.list {
        for scenario in SCENARIOS {
            println!("{:<24} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let scenarios = chosen(options.scenario.as_deref().unwrap_or_default())?;
    let earlier = match &options.compare {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            document::read(&text)
                .map_err(|error| format!("cannot compare with {}: {error}", path.display()))?
        }
        None => Vec::new(),
    };

    let style = Style {
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let circumstances = Circumstances::now();
    let pinned = Pinned::here().map(|pinned| pinned.processor().to_owned());
    print!("{}", report::heading(&circumstances, &pinned, style));
    let mut bench = Bench::new(Duration::from_secs(options.seconds.into()));
    if options.without_floor {
        bench = bench.without_floor();
    }
    for scenario in scenarios {
        let before = bench.rows().len();
        bench.start(scenario.name, scenario.pin);
        (scenario.run)(&mut bench).map_err(|error| format!("{}: {error}", scenario.name))?;
        for row in &bench.rows()[before..] {
            print!("{}", report::row(row, &earlier, style));
        }
    }
    print!("{}", report::table(bench.rows(), style));
    if let Some(path) = &options.compare {
        println!("\ncompared with {}", path.display());
        print!("{}", compare::summary(bench.rows(), &earlier));
    }
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", document::write(&circumstances, bench.rows()));
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The scenario of this name, or else those whose names contain it.
fn chosen(wanted: &str) -> Result<Vec<&'static Scenario>, String> {
    let named = |is: &dyn Fn(&str) -> bool| -> Vec<&'static Scenario> {
        SCENARIOS.iter().filter(|one| is(one.name)).collect()
    };
    let mut found = named(&|name| name == wanted);
    if found.is_empty() {
        found = named(&|name| name.contains(wanted));
    }
    if found.is_empty() {
        let known: Vec<&str> = SCENARIOS.iter().map(|one| one.name).collect();
        return Err(format!(
            "no scenario is called `{wanted}`; there are: {}",
            known.join(", ")
        ));
    }
    Ok(found)
}
