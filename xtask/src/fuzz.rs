//! `cargo xtask fuzz`: the long run of what the ordinary tests do for a moment.
//!
//! Four sorts of target, all in one table. A *compared* one is a property test that goes from seed to seed: this chore builds it, most in release
//! mode, and tells it through the environment how much to do (`tests/support/effort.rs` of `etl-filter` is the other side). A *guided* one is a target
//! of cargo-fuzz, led by coverage, which wants a nightly compiler; where that is missing it is skipped, with how to get it. What a guided run
//! finds worth keeping goes to `target/fuzz/corpus`, so that a run changes nothing that is committed. An *interleaved* one runs threads in many orders
//! of their steps. A *described* one is a running server, asked by schemathesis for what its own document says of it.

mod api;
mod guided;
mod interleaved;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{generator, process};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(
    long_about = "Compare what is fast with what is plain, and feed what reads bytes with any bytes, for as long as you like\n\n\
                  Without options every target does its usual number of cases, ten million comparisons of rules among them; the guided\n\
                  ones run for a minute each and need cargo-fuzz and a nightly compiler; `api` needs python3, and schemathesis from PyPI, which\n\
                  it puts below target/. The exit code is 1 if any case failed.",
    after_help = "Examples:\n  cargo xtask fuzz --list\n  cargo xtask fuzz --only rules --seconds 600\n  \
                  cargo xtask fuzz --only rules --seed 4711 --cases 1    # the case that failed, again"
)]
pub struct Arguments {
    /// Run this target; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Time for each target, in seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Cases for each target; stops at whichever of cases and seconds comes first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cases: Option<u64>,
    /// Where to start: the same seed gives the same cases
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Name the targets and stop
    #[arg(long)]
    list: bool,
}

/// Something to be fuzzed. A new one is a line in [`TARGETS`].
struct Target {
    name: &'static str,
    about: &'static str,
    how: How,
}

enum How {
    /// A property test that goes from seed to seed.
    Compared {
        package: &'static str,
        features: &'static str,
        mode: Mode,
        /// The test program, and the test in it.
        test: [&'static str; 2],
        /// How much is done unless it is said, and what is counted.
        cases: u64,
        unit: &'static str,
    },
    /// Unit tests of a crate whose locks and threads are those of `shuttle` where the feature of that name is on.
    Interleaved {
        package: &'static str,
        /// The module that they are in.
        module: &'static str,
        /// How many orders each of them is run in, by each scheduler.
        orders: u64,
    },
    /// A server and its OpenAPI document.
    Described,
    /// A target of cargo-fuzz in a crate's `fuzz` folder.
    Guided {
        folder: &'static str,
        target: &'static str,
    },
}

/// How a property test is built.
#[derive(Clone, Copy)]
enum Mode {
    Release,
    /// As in the ordinary tests, so that it is built already: for the pool, where nearly all time goes into code that is optimised there too.
    AsTested,
}

const GUIDED_SECONDS: u64 = 60;

const TARGETS: &[Target] = &[
    Target {
        name: "rules",
        about: "sets of topic rules against a naive matcher: all kinds, cases, negations, trees, hostile topics",
        how: How::Compared {
            package: "etl-filter",
            features: "",
            mode: Mode::Release,
            test: ["oracle", "the_engine_agrees_with_the_oracle"],
            cases: 10_000_000,
            unit: "comparisons",
        },
    },
    Target {
        name: "conditions",
        about: "conditions against a slow evaluator on serde_json: payloads sound, cut off, garbled, with names twice",
        how: How::Compared {
            package: "etl-filter",
            features: "conditions",
            mode: Mode::Release,
            test: [
                "condition_oracle",
                "conditions_agree_with_the_slow_evaluator",
            ],
            cases: 100_000,
            unit: "payloads",
        },
    },
    Target {
        name: "frames",
        about: "any bytes, and damaged frames, as requests and responses of the guest boundary",
        how: How::Compared {
            package: "etl-abi",
            features: "",
            mode: Mode::Release,
            test: ["properties", "any_bytes_are_a_value_or_an_error"],
            cases: 1_000_000,
            unit: "frames",
        },
    },
    Target {
        name: "modules",
        about: "generated modules, loaded and called by the pool, against an interpreter",
        how: How::Compared {
            package: "etl-pool",
            features: "",
            mode: Mode::AsTested,
            test: ["generated", "generated_modules_do_what_an_interpreter_says"],
            cases: 100_000,
            unit: "modules",
        },
    },
    Target {
        name: "interleavings",
        about: "the queue, its lanes and reloads in many orders of their steps",
        how: How::Interleaved {
            package: "etl-orchestrator",
            module: "interleavings",
            orders: 3_000,
        },
    },
    Target {
        name: "api",
        about: "the API of a running engine, asked for what its OpenAPI document allows and what it does not",
        how: How::Described,
    },
    Target {
        name: "guided-patterns",
        about: "patterns of every kind: read or refused with their place",
        how: How::Guided {
            folder: "crates/etl-filter",
            target: "patterns",
        },
    },
    Target {
        name: "guided-matching",
        about: "rules and a topic, against the naive matcher",
        how: How::Guided {
            folder: "crates/etl-filter",
            target: "matching",
        },
    },
    Target {
        name: "guided-conditions",
        about: "a path and a payload: answers agree with one another, JSON is what serde_json takes for it",
        how: How::Guided {
            folder: "crates/etl-filter",
            target: "conditions",
        },
    },
    Target {
        name: "guided-frames",
        about: "bytes as requests and responses of the guest boundary",
        how: How::Guided {
            folder: "crates/etl-abi",
            target: "frames",
        },
    },
];

/// What became of a target that did not fail to start.
enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        for target in TARGETS {
            println!("{:<18} {}", target.name, target.about);
        }
        return Ok(());
    }
    let root = process::repository_root();
    let wanted = chosen(&arguments.only)?;
    let mut failed = Vec::new();
    for target in wanted {
        let outcome = match target.how {
            How::Compared { .. } => compared(&root, target, arguments)?,
            How::Interleaved {
                package,
                module,
                orders,
            } => interleaved::run(&root, package, module, orders, arguments)?,
            How::Described => api::run(&root, arguments)?,
            How::Guided {
                folder,
                target: name,
            } => guided::run(&root, target, folder, name, arguments)?,
        };
        match outcome {
            Outcome::Passed(what) => println!("{:<18} {what}", target.name),
            Outcome::Failed(what) => {
                println!("{:<18} FAILED: {what}", target.name);
                failed.push(target.name);
            }
            // Who asks for it by name wants to know that it did not run.
            Outcome::Skipped(why) if !arguments.only.is_empty() => {
                return Err(format!("{} cannot run: {why}", target.name));
            }
            Outcome::Skipped(why) => println!("{:<18} skipped: {why}", target.name),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Target>, String> {
    let known = |name: &String| TARGETS.iter().any(|target| target.name == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        return Err(format!(
            "no target is called `{unknown}`; there are: {}",
            names.join(", ")
        ));
    }
    Ok(TARGETS
        .iter()
        .filter(|target| only.is_empty() || only.iter().any(|name| name == target.name))
        .collect())
}

fn compared(root: &Path, target: &Target, arguments: &Arguments) -> Result<Outcome, String> {
    let How::Compared {
        package,
        features,
        mode,
        test: [program, function],
        cases,
        unit,
    } = target.how
    else {
        return Err(format!("{} is not a property test", target.name));
    };
    if package == "etl-pool" {
        generator::build(root)?;
    }
    let executable = build(root, package, features, mode, program)?;
    let mut command = Command::new(executable);
    command
        .args([function, "--exact", "--nocapture"])
        .current_dir(root)
        .env("ETL_FUZZ_PROGRESS", "1")
        .env("ETL_FUZZ_SEED", arguments.seed.to_string());
    let limit = match (arguments.cases, arguments.seconds) {
        (Some(cases), _) => Some(cases),
        (None, Some(_)) => None,
        (None, None) => Some(cases),
    };
    for (name, value) in [
        ("ETL_FUZZ_CASES", limit),
        ("ETL_FUZZ_SECONDS", arguments.seconds),
    ] {
        match value {
            Some(value) => command.env(name, value.to_string()),
            None => command.env_remove(name),
        };
    }
    let start = Instant::now();
    let mut report = Report::default();
    let mut said = Vec::new();
    let status = process::each_line(&mut command, |line| {
        let line = String::from_utf8_lossy(line);
        if report.read(&line) {
            let of = limit.map_or(String::new(), |limit| format!(" of {}", grouped(limit)));
            show(&format!(
                "{}: {}{of} {unit}, {} s",
                target.name,
                grouped(report.done),
                start.elapsed().as_secs()
            ));
        } else {
            said.push(line.into_owned());
        }
    })?;
    show("");
    if status.success() && report.finished {
        return Ok(Outcome::Passed(format!(
            "{} {unit} in {:.0} s, {}: no difference",
            grouped(report.done),
            start.elapsed().as_secs_f64(),
            report.seeds
        )));
    }
    if status.success() {
        return Err(format!(
            "{}: `{program}` has no test `{function}` that goes from seed to seed",
            target.name
        ));
    }
    for line in said {
        println!("{line}");
    }
    Ok(Outcome::Failed(match report.culprit {
        Some(seed) => format!(
            "seed {seed}; again: cargo xtask fuzz --only {} --seed {seed} --cases 1",
            target.name
        ),
        None => format!("{status}"),
    }))
}

/// Builds the test program and says where it is.
fn build(
    root: &Path,
    package: &str,
    features: &str,
    mode: Mode,
    program: &str,
) -> Result<PathBuf, String> {
    let mut command = process::cargo(root);
    command.args(["test", "--no-run", "--test", program]);
    match mode {
        Mode::Release => command.args(["--release", "--package", package, "--features", features]),
        Mode::AsTested => command.arg("--workspace"),
    };
    executable(&mut command, program)
}

/// Has cargo build, and says where the program is that was built for a target.
fn executable(command: &mut Command, target: &str) -> Result<PathBuf, String> {
    let messages = process::cargo_messages(command)?;
    messages
        .iter()
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str())
        .map(PathBuf::from)
        .ok_or_else(|| format!("`{}` built no program", process::shown(command)))
}

/// What a property test said of itself.
#[derive(Default)]
struct Report {
    done: u64,
    seeds: String,
    finished: bool,
    culprit: Option<u64>,
}

impl Report {
    /// Takes a line; whether it was meant for this program.
    fn read(&mut self, line: &str) -> bool {
        // libtest writes the name of a test without a line's end before what the test says.
        let Some((_, said)) = line.split_once("fuzz: ") else {
            return false;
        };
        if let Some(done) = said.strip_prefix("done ") {
            let (done, seeds) = done.split_once(", ").unwrap_or((done, ""));
            self.done = done.parse().unwrap_or(self.done);
            self.finished = !seeds.is_empty();
            seeds.clone_into(&mut self.seeds);
        } else if let Some(seed) = said.strip_prefix("seed ") {
            self.culprit = seed.split(' ').next().and_then(|seed| seed.parse().ok());
        }
        true
    }
}

/// Writes over the line of progress, on a terminal.
fn show(line: &str) {
    let mut error = std::io::stderr();
    if error.is_terminal() {
        // Progress that cannot be shown is not worth stopping for.
        let _ = write!(error, "\r\x1b[K{line}");
    }
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_unique_and_an_unknown_one_is_told_the_others() {
        for (place, target) in TARGETS.iter().enumerate() {
            assert!(
                TARGETS[..place]
                    .iter()
                    .all(|other| other.name != target.name)
            );
        }
        let error = chosen(&["rule".to_owned()]).err().expect("unknown");
        assert!(
            error.contains("`rule`") && error.contains("rules, conditions"),
            "{error}"
        );
        assert_eq!(chosen(&["rules".to_owned()]).expect("known").len(), 1);
    }

    #[test]
    fn every_target_is_where_the_table_says() {
        let root = process::repository_root();
        for target in TARGETS {
            let source = match target.how {
                How::Compared {
                    package,
                    test: [program, function],
                    ..
                } => {
                    let tests = root.join("crates").join(package).join("tests");
                    let text = fs::read_to_string(tests.join(format!("{program}.rs")))
                        .or_else(|_| fs::read_to_string(tests.join(program).join("main.rs")))
                        .unwrap_or_default();
                    assert!(
                        text.contains(&format!("fn {function}()")),
                        "{}",
                        target.name
                    );
                    continue;
                }
                How::Interleaved {
                    package, module, ..
                } => root
                    .join("crates")
                    .join(package)
                    .join(format!("src/{module}.rs")),
                How::Described => root.join("xtask/src/fuzz/api.rs"),
                How::Guided { folder, target } => root
                    .join(folder)
                    .join("fuzz/fuzz_targets")
                    .join(format!("{target}.rs")),
            };
            assert!(source.is_file(), "{}", source.display());
        }
    }

    #[test]
    fn what_a_test_says_is_understood() {
        let mut report = Report::default();
        assert!(!report.read("running 1 test"));
        assert!(report.read("test the_engine ... fuzz: done 1200"));
        assert_eq!((report.done, report.finished), (1200, false));
        assert!(report.read("fuzz: seed 17 fails"));
        assert_eq!(report.culprit, Some(17));
        assert!(report.read("fuzz: done 2400, seeds 1 to 8"));
        assert_eq!(
            (report.done, report.finished, &*report.seeds),
            (2400, true, "seeds 1 to 8")
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 10_000_000].map(grouped),
            ["0", "999", "1,000", "10,000,000"]
        );
    }
}
