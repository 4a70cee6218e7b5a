//! The benchmark scenarios: `cargo xtask bench` builds this in release mode and forwards its options.
//!
//! A scenario is a file here with a `run` function over a [`Bench`]; the harness, and what its figures mean, is `etl_tests::bench`. The guests are
//! the modules in `target/guests`, which `cargo xtask bench` builds first.

#![forbid(unsafe_code)]

mod conditions;
mod engine;
mod filter;
mod floor;
mod overshoot;
mod own_lanes;
mod pipelines;
mod pool;
mod single_module;
mod workload;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use etl_tests::bench::Bench;
use etl_tests::bench::document::{self, Circumstances};
use etl_tests::bench::report::{self, Style};

/// A scenario: its name, and what runs it.
type Scenario = (&'static str, fn(&mut Bench) -> Result<(), String>);

const SCENARIOS: &[Scenario] = &[
    ("pass_through", pipelines::pass_through),
    ("single_module", single_module::run),
    ("three_stage", pipelines::three_stage),
    (
        "conditional_three_stage",
        pipelines::conditional_three_stage,
    ),
    ("thousand_pipelines", pipelines::thousand_pipelines),
    ("async_batch", own_lanes::async_batch),
    ("latency", own_lanes::latency),
    ("overload", own_lanes::overload),
    ("filter_uncached", filter::uncached),
    ("filter_cached", filter::cached),
    ("conditions_three_fields", conditions::run),
    ("interrupt_overhead", pool::interrupt_overhead),
    ("interrupt_overshoot", overshoot::run),
    ("isolation_record", pool::isolation_record),
    ("warm_start", pool::warm_start),
    ("instances_50k", pool::instances_50k),
];

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
    /// Run the subjects alone, for a profiler
    #[arg(long)]
    without_floor: bool,
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
    let wanted = options.scenario.as_deref().unwrap_or_default();
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|(name, _)| name.contains(wanted))
        .collect();
    if scenarios.is_empty() {
        let known: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no scenario is called `{wanted}`; there are: {}",
            known.join(", ")
        ));
    }
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
    print!("{}", report::heading(&circumstances, style));
    let mut bench = Bench::new(Duration::from_secs(options.seconds.into()));
    if options.without_floor {
        bench = bench.without_floor();
    }
    for (name, run) in scenarios {
        let before = bench.rows().len();
        bench.start(name);
        run(&mut bench).map_err(|error| format!("{name}: {error}"))?;
        for row in &bench.rows()[before..] {
            print!("{}", report::row(row, &earlier, style));
        }
    }
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", document::write(&circumstances, bench.rows()));
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
